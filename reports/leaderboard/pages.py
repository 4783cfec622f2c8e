"""The pages of the leaderboard. Texts of submissions reach them through templates that escape everything."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from instructedit.benchmark.results.records import RunSpec, digest_of

from .. import site
from ..site.escape import environment
from ..tables.captions import DAGGER, PROTOCOLS, intervals
from ..tables.columns import deviation, interval
from .archive import MANIFEST, document
from .entries import Board, Entry
from .findings import short
from .ranks import Line
from .validate import Verdict

SHOWN = 500
"""Maximum number of findings on the page of refused submissions; their total is given."""
_KINDS = {"current": "current", "earlier": "earlier version", "control": "control"}


def pages(
    tables: Mapping[Board, Sequence[Line]], accepted: Sequence[Verdict], refused: Sequence[Verdict]
) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of each file of the site."""
    for asset in ("style.css", "table.js"):
        yield f"assets/{asset}", (Path(site.__path__[0]) / "assets" / asset).read_bytes()
    # In titles and attributes, which hold no elements, a control character is shown as its escape.
    templates = environment(Path(__file__).parent / "templates", plain=short)

    def page(template: str, root: str, **values: Any) -> bytes:
        return templates.get_template(template).render(root=root, **values).encode()

    newest = sorted(accepted, key=lambda submission: (submission.date, submission.id), reverse=True)
    ordered = sorted(tables, key=_order)
    links = [_link(board, tables[board]) for board in ordered]
    yield "index.html", page("index.html", "", links=links, accepted=newest, refused=refused)
    for board, link in zip(ordered, links, strict=True):
        apart = _apart([line.entry for line in tables[board]])
        rows = [_row(board, line, apart[id(line.entry)]) for line in tables[board]]
        yield (
            f"tables/{link['id']}.html",
            page(
                "table.html",
                "../",
                link=link,
                files=json.loads(board.data),
                edited=json.loads(board.edited or "{}"),
                rows=rows,
                note=PROTOCOLS[board.protocol],
                intervals=" ".join(intervals(line.interval.method for line in tables[board])),
            ),
        )
        yield f"tables/{link['id']}.json", _data(board, rows)
    for submission in accepted:
        assert submission.archive is not None
        assert submission.manifest is not None
        place = f"submissions/{submission.id}"
        versions = [other for other in newest if other.author == submission.author]
        runs = [(run, submission.runs[run.digest].provenance) for run in submission.manifest.runs]
        yield (
            f"{place}/index.html",
            page("submission.html", "../../", submission=submission, versions=versions, runs=runs),
        )
        yield f"{place}/{MANIFEST}", document(submission.archive, MANIFEST)
        for digest in submission.runs:
            yield f"{place}/{digest}.json", document(submission.archive, f"runs/{digest}/run.json")
    yield "refused.html", page("refused.html", "", refused=refused, shown=SHOWN)


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


def _link(board: Board, lines: Sequence[Line]) -> dict[str, Any]:
    """Return a table as the first page lists it."""
    first = [line.entry for line in lines if line.rank and line.rank[0] == 1]
    return {
        "id": hashlib.sha256(json.dumps(board).encode()).hexdigest()[:12],
        "board": board,
        "measure": f"{board.measure.capitalize()}{DAGGER if board.derived else ''}",
        "name": board.column.head,
        "protocol": board.protocol,
        "stage": board.stage if board.schedule == "sequential" else board.schedule,
        "data": hashlib.sha256(board.data.encode()).hexdigest()[:8],
        "model": board.model[:8],
        "ranked": sum(line.kind == "current" for line in lines),
        "first": first[0].row.name if len(first) == 1 else f"{len(first)} tie" if first else "not ranked",
    }


def _apart(entries: Sequence[Entry]) -> dict[int, str]:
    """Return what distinguishes entries of one submission and row, by `id`; empty for a row with one entry."""
    alike: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        alike[entry.submission.id, entry.row.name].append(entry)
    found = {id(entry): "" for entry in entries}
    for group in alike.values():
        if len(group) == 1:
            continue
        specs = [entry.submission.runs[entry.seeds[min(entry.seeds)].run].spec for entry in group]
        fields = set(RunSpec.model_fields) - {"seed", "editors"}
        differ = [f for f in RunSpec.model_fields if f in fields and len({repr(getattr(s, f)) for s in specs}) > 1]
        for entry, spec in zip(group, specs, strict=True):
            words = ", ".join(f"{name} {getattr(spec, name)}" for name in differ)
            found[id(entry)] = words or f"options {digest_of(entry.row)}"
    return found


def _row(board: Board, line: Line, apart: str) -> dict[str, Any]:
    """Return a line of a table as its page shows it."""
    entry, column = line.entry, board.column
    training, seeds = entry.row.training, sorted(entry.seeds)
    ends = interval(column, line.interval.low, line.interval.high, method=line.interval.method)
    means = [fmean(entry.seeds[seed].values[case] for case in line.cases) for seed in seeds]
    return {
        "line": line,
        "n": len(line.cases),
        "value": column.number(line.interval.mean),
        "interval": " ".join(filter(None, (ends, deviation(column, means)))),
        "rank": _rank(line.rank),
        "rank_untrained": _rank(line.rank_untrained),
        "trained_on": ", ".join(training.tasks)
        if training
        else "unknown"
        if entry.exposure == "unknown"
        else "nothing",
        "seeds": seeds,
        "kind": _KINDS[line.kind],
        "date": entry.submission.date.date().isoformat(),
        "runs": [entry.seeds[seed].run for seed in seeds],
        "apart": apart,
        "again": [(seed, run) for seed in seeds for run in entry.again.get(seed, ())],
    }


def _data(board: Board, rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return a table's numbers with all digits."""
    found = []
    for row in rows:
        line: Line = row["line"]
        found.append(
            {
                "row": line.entry.row.name,
                "submission": line.entry.submission.id,
                "kind": row["kind"],
                "rank": line.rank,
                "rank_untrained": line.rank_untrained,
                "mean": line.interval.mean,
                "low": line.interval.low,
                "high": line.interval.high,
                "n": row["n"],
                "failed": line.entry.failed,
                "seeds": row["seeds"],
                "runs": row["runs"],
                "trained_on_task": line.entry.exposure,
                "flag": line.entry.flag,
                "flag_sentence": line.entry.flag_sentence,
            }
        )
    return (json.dumps({"table": board._asdict(), "rows": found}, indent=1) + "\n").encode()


def _rank(rank: tuple[int, int] | None) -> str:
    if rank is None:
        return ""
    return f"{rank[0]}" if rank[0] == rank[1] else f"{rank[0]}\N{EN DASH}{rank[1]}"
