"""The pages of the leaderboard. Texts of submissions reach them through templates that escape everything."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean, mode
from typing import Any

from instructedit.benchmark.results.records import RunSpec, digest_of

from .. import site
from ..catalogue import MEASURES as QUESTIONS
from ..render.html import environment
from ..tables.captions import DAGGER, PROTOCOLS, intervals
from ..tables.columns import SECTIONS, deviation, interval
from .archive import MANIFEST, document
from .entries import Board, Entry
from .findings import short
from .names import data_name, method_name, model_name, options, task_name
from .overview import MEASURES, Page, groups_of, pages_of, place_of
from .ranks import Line
from .validate import Verdict

SHOWN = 500
"""Maximum number of findings on the page of refused submissions; their total is given."""
MARKS = {"earlier": "earlier version", "control": "control"}
"""Of kinds of lines; that a submission is contradicted is one of its badges."""
_SITE = Path(site.__path__[0])


def pages(
    tables: Mapping[Board, Sequence[Line]], accepted: Sequence[Verdict], refused: Sequence[Verdict]
) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of each file of the site."""
    for asset in ("style.css", "fold.js", "table.js"):
        yield f"assets/{asset}", (_SITE / "assets" / asset).read_bytes()
    # In titles and attributes, which hold no elements, a control character is shown as its escape.
    templates = environment(
        Path(__file__).parent / "templates",
        _SITE / "templates",
        plain=short,
        task=task_name,
        method=method_name,
        options=options,
        badges=badges,
        trained_on=trained_on,
        rank=rank_words,
    )
    templates.globals.update(
        **{"contradicted": [own for own in accepted if own.contradictions], "dagger": DAGGER},
        **{"questions": QUESTIONS, "measures": MEASURES, "marks": MARKS, "address": address},
    )

    def page(template: str, root: str, **values: Any) -> bytes:
        return templates.get_template(template).render(root=root, page=None, **values).encode()

    newest = sorted(accepted, key=lambda submission: (submission.date, submission.id), reverse=True)
    found = pages_of(tables)
    groups = [(group, _facts(group.pages[0])) for group in groups_of(found)]
    places = [(one[0], _facts(one)) for one in found]
    yield "index.html", page("board.html", "", groups=groups, places=places, accepted=newest, refused=refused)
    for one in found:
        place, of_task = one
        name = f"tasks/{address(place)}"
        rows, sections = _rows(of_task), list(_sections(of_task))
        methods = intervals(line.interval.method for lines in of_task.values() for line in lines)
        values = {"facts": _facts(one), "place": place, "rows": rows, "sections": sections}
        yield f"{name}.html", page("task.html", "../", **values, intervals=" ".join(methods))
        yield f"{name}.json", _data(of_task)
    for submission in accepted:
        assert submission.manifest is not None
        home = f"submissions/{submission.id}"
        versions = [other for other in newest if other.author == submission.author]
        runs = [(run, submission.runs[run.digest]) for run in submission.manifest.runs]
        yield (
            f"{home}/index.html",
            page("submission.html", "../../", submission=submission, versions=versions, runs=runs),
        )
        yield f"{home}/{MANIFEST}", document(submission.archive, MANIFEST)
        for digest in submission.runs:
            yield f"{home}/{digest}.json", document(submission.archive, f"runs/{digest}/run.json")
    yield "refused.html", page("refused.html", "", refused=refused, shown=SHOWN)


def address(board: Board) -> str:
    """Return the name of the page of a table, without its ending."""
    return hashlib.sha256(json.dumps(place_of(board)).encode()).hexdigest()[:12]


def badges(submission: Verdict) -> list[tuple[str, str]]:
    """Return what is known of a submission's numbers, as words and a sentence each."""
    found = [("recomputed", "Every mean, interval and comparison was computed again from the submitted answers.")]
    if submission.contradictions:
        found.append(("contradicted", " ".join(submission.contradictions)))
    if (rerun := submission.rerun) is None:
        found.append(("unverified", "Nobody has run a part of it again: the answers themselves are as submitted."))
    else:
        found.append(("re-run by the maintainer" if rerun.agrees else "re-run, differs", str(rerun)))
    return found


def _facts(page: Page) -> dict[str, Any]:
    """Return the names of what the entries of a page have in common."""
    place, tables = page
    runs = [line.entry.run for lines in tables.values() for line in lines]
    if place.schedule == "single":
        edits = "one edit at a time"
    elif place.schedule == "batch":
        edits = f"joint edits of {place.batch_size}" if place.batch_size else "one joint edit"
    else:
        edits = f"edits in sequence, scored {place.stage}"
    return {
        "place": place,
        "model": model_name(runs),
        "size": f"{runs[0].provenance.model_type}, {runs[0].provenance.parameters:,} parameters, {place.dtype}",
        "data": data_name(runs[0], place.task),
        "edits": edits,
        "cases": f"split {place.split}, " + (f"at most {place.limit} cases a task" if place.limit else "all cases"),
        "chat": f"context {json.loads(place.chat)['name']}" if place.chat else "",
        "files": json.loads(place.data),
        "edited": json.loads(place.edited or "{}"),
    }


def _sections(tables: Mapping[Board, Sequence[Line]]) -> Iterator[dict[str, Any]]:
    """Yield the tables of a task by protocol: title, explanation, heads, and a row of cells for each entry."""
    for title, protocols in SECTIONS:
        boards = [board for board in tables if board.protocol in protocols]
        if not boards:
            continue
        twice = len({board.column for board in boards}) < len(boards)
        sizes = {board: mode(len(line.cases) for line in tables[board]) for board in boards}
        ranked = {board: sum(line.rank is not None for line in tables[board]) for board in boards}
        cells: dict[tuple[str, ...], dict[Board, dict[str, Any]]] = defaultdict(dict)
        for board in boards:
            for line in tables[board]:
                cells[line.entry.key][board] = _cell(board, line, sizes[board], ranked[board])
        yield {
            "title": title,
            "main": bool({"teacher_forced_exact", "edit_success"} & {*protocols}),
            "notes": [text for protocol, text in PROTOCOLS.items() if protocol in {board.protocol for board in boards}],
            "heads": [(b, b.column.head, f"n={sizes[b]}" + (f", {b.decoding}" if twice else "")) for b in boards],
            "decoding": "" if twice else next((board.decoding for board in boards if board.decoding), ""),
            "lines": [(key, [own.get(board) for board in boards]) for key, own in cells.items()],
        }


def _cell(board: Board, line: Line, size: int, ranked: int) -> dict[str, Any]:
    entry, column, seeds = line.entry, board.column, sorted(line.entry.seeds)
    ends = interval(column, line.interval.low, line.interval.high, method=line.interval.method)
    means = [fmean(entry.seeds[seed].values[case] for case in line.cases) for seed in seeds]
    own, untrained = rank_words(line.rank), rank_words(line.rank_untrained)
    words = (
        f"rank {own}" + (f" / {untrained}" if untrained and untrained != own else "") if own else "",
        f"n={len(line.cases)}" if len(line.cases) != size else "",
        f"{entry.failed} failed" if entry.failed else "",
    )
    return {
        "line": line,
        "tag": "strong" if line.rank and line.rank[0] == 1 and line.rank[1] < ranked else "span",
        "value": column.number(line.interval.mean),
        "interval": " ".join(filter(None, (ends, deviation(column, means)))),
        "words": ", ".join(filter(None, words)),
    }


def _rows(tables: Mapping[Board, Sequence[Line]]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return what all tables of a task say of an entry apart from its numbers, by its key."""
    lines: dict[tuple[str, ...], Line] = {}
    for line in chain.from_iterable(tables.values()):
        lines.setdefault(line.entry.key, line)
    apart = _apart([line.entry for line in lines.values()])
    return {
        key: {"entry": line.entry, "kind": line.kind, "number": number, "apart": apart[key]}
        for number, (key, line) in enumerate(lines.items())
    }


def trained_on(entry: Entry, task: str) -> str:
    """Return the other tasks that an entry was trained on."""
    if (training := entry.row.training) is not None:
        return ", ".join(task_name(other) for other in training.tasks if other != task)
    return "unknown" if entry.exposure == "unknown" else "nothing"


def _apart(entries: Iterable[Entry]) -> dict[tuple[str, ...], str]:
    """Return what distinguishes entries of one submission and row, by key; empty for a row with one entry."""
    alike: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        alike[entry.submission.id, entry.row.name].append(entry)
    found: dict[tuple[str, ...], str] = {}
    for group in alike.values():
        specs = [entry.run.spec for entry in group]
        fields = (name for name in RunSpec.model_fields if name not in ("seed", "editors"))
        differ = [name for name in fields if len({repr(getattr(spec, name)) for spec in specs}) > 1]
        for entry, spec in zip(group, specs, strict=True):
            words = ", ".join(f"{name} {getattr(spec, name)}" for name in differ)
            found[entry.key] = "" if len(group) == 1 else words or f"options {digest_of(entry.row)}"
    return found


def _data(tables: Mapping[Board, Sequence[Line]]) -> bytes:
    """Return the numbers of a task with all digits."""
    found = [{"table": board._asdict(), "rows": [_numbers(line) for line in lines]} for board, lines in tables.items()]
    return (json.dumps(found, indent=1) + "\n").encode()


def _numbers(line: Line) -> dict[str, Any]:
    entry, seeds = line.entry, sorted(line.entry.seeds)
    return {
        "row": entry.row.name,
        "method": entry.row.method,
        "submission": entry.submission.id,
        "kind": line.kind,
        "rank": line.rank,
        "rank_untrained": line.rank_untrained,
        "mean": line.interval.mean,
        "low": line.interval.low,
        "high": line.interval.high,
        "n": len(line.cases),
        "failed": entry.failed,
        "seeds": seeds,
        "runs": [entry.seeds[seed].run for seed in seeds],
        "trained_on_task": entry.exposure,
        "flag": entry.flag,
        "flag_sentence": entry.flag_sentence,
    }


def rank_words(rank: tuple[int, int] | None) -> str:
    """Return an interval of ranks; empty for none."""
    if rank is None:
        return ""
    return f"{rank[0]}" if rank[0] == rank[1] else f"{rank[0]}\N{EN DASH}{rank[1]}"
