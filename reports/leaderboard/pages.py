"""The pages of the leaderboard. Texts of submissions reach them through templates that escape everything."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from statistics import fmean
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from instructedit.benchmark.results.records import RunFile, RunSpec, digest_of

from ..site.pages import shown
from ..tables.captions import DAGGER, PROTOCOLS, intervals
from ..tables.columns import deviation, interval
from .archive import MANIFEST, document
from .entries import Board, Entry, Submission
from .findings import short
from .manifest import RunEntry
from .ranks import Line
from .validate import Verdict

SHOWN = 500
"""Findings of a refused submission that its page shows; their number is told."""


class Fact(NamedTuple):
    """A word and its value; `code` for digests."""

    word: str
    value: str
    code: bool = False


class Row(NamedTuple):
    """A line of a table as its page shows it."""

    line: Line
    value: str
    interval: str
    rank: str
    rank_untrained: str
    trained_on: str
    seeds: str
    kind: str
    date: str
    runs: tuple[str, ...]
    apart: str
    again: tuple[tuple[int, str], ...]


class TableLink(NamedTuple):
    """A table as the first page lists it."""

    id: str
    board: Board
    measure: str
    name: str
    protocol: str
    stage: str
    data: str
    model: str
    ranked: int
    first: str


def pages(
    tables: Mapping[Board, Sequence[Line]], accepted: Sequence[Submission], refused: Sequence[Verdict]
) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of each file of the site."""
    shared = resources.files("instructedit.reports.site") / "assets"
    for asset in ("style.css", "table.js"):
        yield f"assets/{asset}", (shared / asset).read_bytes()
    templates = Environment(
        loader=FileSystemLoader(str(resources.files("instructedit.reports.leaderboard") / "templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

    # In titles and attributes, which hold no elements, a control character is shown as its escape.
    templates.filters.update(shown=shown, plain=short)

    def page(template: str, root: str, **values: Any) -> bytes:
        return templates.get_template(template).render(root=root, **values).encode()

    ordered = sorted(tables, key=_order)
    links = [_link(board, tables[board]) for board in ordered]
    yield "index.html", page("index.html", "", links=links, accepted=_versions(accepted), refused=refused)
    for board, link in zip(ordered, links, strict=True):
        apart = _apart([line.entry for line in tables[board]])
        facts, rows = _facts(board), [_row(board, line, apart.get(id(line.entry), "")) for line in tables[board]]
        note, made = PROTOCOLS[board.protocol], " ".join(intervals(line.interval.method for line in tables[board]))
        yield (
            f"tables/{link.id}.html",
            page("table.html", "../", link=link, facts=facts, rows=rows, note=note, intervals=made),
        )
        yield f"tables/{link.id}.json", _data(board, rows)
    for submission in accepted:
        place = f"submissions/{submission.id}"
        versions = [other for other in _versions(accepted) if other.author == submission.author]
        runs = [(run, _run_facts(run, submission.runs[run.digest])) for run in submission.manifest.runs]
        yield (
            f"{place}/index.html",
            page("submission.html", "../../", submission=submission, versions=versions, runs=runs),
        )
        yield f"{place}/{MANIFEST}", document(submission.archive, MANIFEST)
        for digest in submission.runs:
            yield f"{place}/{digest}.json", document(submission.archive, f"runs/{digest}/run.json")
    yield "refused.html", page("refused.html", "", refused=refused, shown=SHOWN)


def _versions(accepted: Sequence[Submission]) -> list[Submission]:
    """Return the submissions, the newest first."""
    return sorted(accepted, key=lambda submission: (submission.date, submission.id), reverse=True)


def _order(board: Board) -> tuple[Any, ...]:
    return (
        board.task,
        board.data,
        board.model,
        board.schedule != "single",
        board.schedule,
        board.stage,
        board.column.order(),
        *(str(value) for value in board),
    )


def _link(board: Board, lines: Sequence[Line]) -> TableLink:
    first = [line.entry for line in lines if line.rank and line.rank[0] == 1]
    return TableLink(
        id=hashlib.sha256(json.dumps(board).encode()).hexdigest()[:12],
        board=board,
        measure=f"{board.measure.capitalize()}{DAGGER if board.derived else ''}",
        name=board.column.head,
        protocol=board.protocol,
        stage=board.stage if board.schedule == "sequential" else board.schedule,
        data=hashlib.sha256(board.data.encode()).hexdigest()[:8],
        model=board.model[:8],
        ranked=sum(line.kind == "current" for line in lines),
        first=first[0].row.name if len(first) == 1 else f"{len(first)} tie" if first else "not ranked",
    )


def _facts(board: Board) -> list[Fact]:
    files = json.loads(board.data)
    edited = json.loads(board.edited) if board.edited else {}
    return [
        Fact("Task", f"{board.task}, reader version {board.reader}"),
        *(Fact("Data", f"{name}, sha256 {digest}", True) for name, digest in sorted(files.items())),
        Fact("Cases", f"split {board.split}, " + ("all" if board.limit is None else f"at most {board.limit}")),
        Fact("Model", f"fingerprint {board.model}, {board.dtype}", True),
        Fact("Tokenizer", f"fingerprint {board.tokenizer}", True),
        Fact(
            "Schedule", f"{board.schedule}, scored {board.stage}" if board.schedule == "sequential" else board.schedule
        ),
        *([Fact("Edited together", ", ".join(sorted(edited)))] if edited else []),
        *([Fact("Edits of a batch", str(board.batch_size))] if board.batch_size else []),
        *([Fact("Decoding", board.decoding)] if board.decoding else []),
    ]


def _apart(entries: Sequence[Entry]) -> dict[int, str]:
    """Return what tells entries of one submission and row apart, by `id`; nothing for a row with one entry."""
    alike: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        alike[entry.submission.id, entry.row.name].append(entry)
    found = {}
    for group in alike.values():
        specs = [entry.submission.runs[entry.runs[min(entry.runs)]].spec for entry in group] if len(group) > 1 else []
        differ = [
            field
            for field in RunSpec.model_fields
            if field not in ("seed", "editors")
            and any(getattr(spec, field) != getattr(specs[0], field) for spec in specs)
        ]
        for entry, spec in zip(group, specs, strict=False):
            words = [f"{field} {getattr(spec, field)}" for field in differ]
            found[id(entry)] = ", ".join(words) or f"options {digest_of(entry.row)}"
    return found


def _row(board: Board, line: Line, apart: str) -> Row:
    entry, column = line.entry, board.column
    training = entry.row.training
    seeds = sorted(entry.runs)
    ends = interval(column, line.interval.low, line.interval.high, method=line.interval.method)
    shared = set[str].intersection(*(set(values) for values in entry.values.values()))
    means = [fmean(entry.values[seed][case] for case in sorted(shared)) for seed in seeds]
    return Row(
        line=line,
        value=column.number(line.mean),
        interval=" ".join(filter(None, (ends, deviation(column, means)))),
        rank=_rank(line.rank),
        rank_untrained=_rank(line.rank_untrained),
        trained_on=", ".join(training.tasks) if training else "unknown" if entry.exposure == "unknown" else "nothing",
        seeds=", ".join(map(str, seeds)),
        kind={"current": "current", "earlier": "earlier version", "control": "control"}[line.kind],
        date=entry.submission.date.date().isoformat(),
        runs=tuple(entry.runs[seed] for seed in seeds),
        apart=apart,
        again=tuple((seed, run) for seed in seeds for run in entry.again.get(seed, ())),
    )


def _data(board: Board, rows: Sequence[Row]) -> bytes:
    """Return a table's numbers with all digits."""
    lines = [
        {
            "row": row.line.entry.row.name,
            "submission": row.line.entry.submission.id,
            "kind": row.kind,
            "rank": row.line.rank,
            "rank_untrained": row.line.rank_untrained,
            "mean": row.line.mean,
            "low": row.line.interval.low,
            "high": row.line.interval.high,
            "n": row.line.n,
            "failed": row.line.entry.failed,
            "seeds": sorted(row.line.entry.runs),
            "runs": row.runs,
            "trained_on_task": row.line.entry.exposure,
            "flag": row.line.entry.flag,
            "flag_sentence": row.line.entry.flag_sentence,
        }
        for row in rows
    ]
    return (json.dumps({"table": board._asdict(), "rows": lines}, indent=1) + "\n").encode()


def _rank(rank: tuple[int, int] | None) -> str:
    if rank is None:
        return ""
    return f"{rank[0]}" if rank[0] == rank[1] else f"{rank[0]}\N{EN DASH}{rank[1]}"


def _run_facts(entry: RunEntry, run: RunFile) -> list[Fact]:
    origin = run.provenance
    return [
        Fact("Setting", f"{entry.setting}, schedule {entry.schedule}, split {entry.split}, seed {entry.seed}"),
        Fact("Begun", entry.started),
        *(
            Fact(f"Data of {task}", ", ".join(f"{name} sha256 {digest}" for name, digest in files.items()), True)
            for task, files in entry.data.items()
        ),
        Fact("Model", f"{origin.model_type}, {origin.parameters:,} parameters, fingerprint {entry.model_fingerprint}"),
        *(
            Fact(
                f"Trained: {row.row}",
                f"on {', '.join(row.tasks)}; training data {row.data}; checkpoint {row.checkpoint}; "
                f"weights {'unknown' if row.weights is None else 'sha256 ' + row.weights}",
                True,
            )
            for row in entry.trained
        ),
        *(
            Fact(
                f"Base pass of {task}",
                f"{base.cases} cases; answers {base.answers or 'none'}; scores {base.scores or 'none'}",
                True,
            )
            for task, base in entry.base.items()
        ),
        Fact("Time", f"{entry.edit_seconds:,.0f} s for edits, {entry.score_seconds:,.0f} s for scores"),
        Fact("Peak memory", _memory(entry.memory)),
        *([] if entry.device_memory is None else [Fact("Peak memory of cards", _memory(entry.device_memory))]),
        Fact("Device", entry.device),
        Fact("Versions", ", ".join(f"{name} {version}" for name, version in entry.versions.items())),
    ]


def _memory(count: int | None) -> str:
    return "unknown" if count is None else f"{count / 2**30:.2f} GiB"
