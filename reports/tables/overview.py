"""The report of a run or suite on one screen; the whole report (`run_report`, `suite_report`) has all else.

Of a run: a table for each task and stage, by its main protocol. Of a suite: a row for each setting and schedule, then
the numbers of those that fit. Numbers, marks and warnings are those of the whole report.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from instructedit.benchmark.results.records import Measure, Protocol, RunFile, RunSummary
from instructedit.benchmark.results.suite_results import SuiteGroup, SuiteSummary

from ..render.report import Block, Cell, Report, Table
from .captions import DAGGER
from .columns import Column
from .health import health_lines, warned
from .run_facts import grouped, left_out, warnings
from .scores import Scores, staged_scores
from .sources import group_of
from .suite_comparisons import VERDICTS, verdict

_MAIN: tuple[Protocol, ...] = ("edit_success", "teacher_forced_exact")
"""Protocols of a task's one table, for each measure the first one that it has."""
SAME = "°"
"""Follows a number that is not shown to differ from the unedited model's."""
_SHORT: dict[Measure, str] = {
    "reliability": "Rel.",
    "generalization": "Gen.",
    "portability": "Port.",
    "locality": "Loc.",
    "fluency": "Flu.",
}
"""Heads of the tables of a suite, two of which fit 120 columns side by side."""
_ABREAST = 2
_SCREEN = 38
"""Lines of the facts, runs and numbers of a suite at 120 columns; heads, legend and pointers add some 15."""


def run_overview(run: RunFile, summary: RunSummary) -> Report:
    """Return a run on one screen."""
    blocks, group = [], group_of(run, summary)
    for task in run.spec.tasks:
        staged = staged_scores(group, task)
        tables = tuple(_table(scores, suffix.removeprefix(", ")) for _, suffix, scores in staged if _main(scores))
        if tables:
            blocks.append(Block(task, tables, notes=tuple(health_lines(group, task))))
    legend = f"Percent with 95 % intervals: {_legend(blocks)} Pairs, other protocols and how to read them: --full."
    header = (*facts(run), *_failed(summary))
    return Report(f"Run {run.digest}", warnings(run, summary), header, tuple(blocks), (legend,))


def suite_overview(summary: SuiteSummary) -> Report:
    """Return a suite on one screen: its runs, and the numbers of as many settings as fit, of the last stage."""
    groups = summary.groups
    header = tuple(_shared(groups))
    room = _SCREEN - len(header) - len(groups)
    tables: list[Table] = []
    for group in groups:
        own = [
            _table(scores, f"{group.label}: {task}{suffix}", short=True)
            for task in group.run.spec.tasks
            for scores, suffix in _last(group, task)
        ]
        lines = -(-(len(tables) + len(own)) // _ABREAST) * (4 + len(group.run.spec.editors))
        if lines > room or any(table.rows != (tables or own)[0].rows for table in own):
            break
        tables += own
    blocks = [Block("Runs", (_runs(groups),)), *([Block("Numbers", tuple(tables), beside=True)] if tables else [])]
    legend = "Best: the rows that are best, or not shown to be worse, in most columns (measures of all tasks)."
    if "Against MEND" in str(blocks[0].tables[0].heads):
        legend += " Against MEND: comparisons in which InstructEdit is shown to be better, worse, neither."
    if tables:
        legend += f" Numbers: percent, {_legend(blocks)} Intervals, pairs, other protocols and stages: --full."
    return Report(f"Suite {summary.name}", summary.warnings, header, tuple(blocks), (legend,))


def _legend(blocks: Sequence[Block]) -> str:
    """Return how to read the tables: what occurs in them."""
    heads = " ".join(head for block in blocks for table in block.tables for head in table.heads)
    success = ", ES: SERAC's edit success" if " ES" in heads else ""
    derived = f"; {DAGGER} prompts by a rule" if DAGGER in heads else ""
    return (
        f"exact match under teacher forcing{success}. * best, or not shown to be worse than the best (=: tied); "
        f"_ second; {SAME} not shown to differ from the unedited model{derived}."
    )


def facts(run: RunFile) -> Iterator[tuple[str, str]]:
    """Yield the model, the data, the setting, and what is left out, a line each."""
    spec, origin = run.spec, run.provenance
    yield "Model", f"{origin.model}, {origin.model_type}, {origin.parameters / 1e6:,.1f} M parameters, {spec.dtype}"
    counts = (f"{data.task} {min(data.cases, spec.limit or data.cases):,} of {data.cases:,}" for data in run.data)
    yield "Cases", f"{', '.join(counts)} ({', '.join(dict.fromkeys(data.source for data in run.data))})"
    yield "Setting", f"{spec.setting}, {spec.schedule} edits, split {spec.split}, seed {spec.seed}"
    if spec.chat:
        yield "Context", spec.chat.name
    yield from left_out(run)


def _failed(summary: RunSummary) -> Iterator[tuple[str, str]]:
    under = "failed under "
    for task, found in summary.counts.items():
        if failed := [f"{words.removeprefix(under)} {found[words]}" for words in found if words.startswith(under)]:
            yield "Failed", f"{task}: {', '.join(failed)}"


def _shared(groups: Sequence[SuiteGroup]) -> Iterator[tuple[str, str]]:
    """Yield the facts of a suite but its settings, each once, and the rows whose edits have a warning."""
    found = dict.fromkeys(fact for group in groups for fact in facts(group.run) if fact[0] != "Setting")
    for word in ("Model", "Cases", "Context", "Left out"):
        yield from (fact for fact in found if fact[0] == word)
    flags = grouped((flag, row) for group in groups for row, flag in warned(group))
    yield "Health", "; ".join(f"{flag}: {', '.join(rows)}" for flag, rows in flags.items()) or "no warning"


def _runs(groups: Sequence[SuiteGroup]) -> Table:
    """Return a row for each setting and schedule: cases, best editors, InstructEdit against MEND, warnings, run."""
    lines = [dict(_about(group)) for group in groups]
    heads = list(dict.fromkeys(head for line in lines for head in line))
    cells = tuple(tuple(Cell(line[head]) if head in line else None for head in heads) for line in lines)
    return Table("", "Setting", tuple(heads), tuple(group.label for group in groups), cells)


def _about(group: SuiteGroup) -> Iterator[tuple[str, str]]:
    spec = group.run.spec
    found = [scores for task in spec.tasks for scores, _ in _last(group, task)]
    counts = {mean.n for scores in found for (column, _), mean in scores.means.items() if column in _main(scores)}
    low, high = min(counts, default=0), max(counts, default=0)
    yield "Schedule", spec.schedule
    yield "Seeds", ", ".join(map(str, group.seeds))
    yield "n", f"{low}" if low == high else f"{low} to {high}"
    columns = [scores.marks(column).of for scores in found for column in _main(scores)]
    first = Counter(row for of in columns for row, mark in of.items() if mark.rank == 1)
    best = [row for row, count in first.items() if count == max(first.values())]
    yield "Best in most columns", f"{', '.join(best)} ({first[best[0]]} of {len(columns)})" if best else "none shown"
    asked = [verdict(one) for one in group.comparisons if one.question == "mend" and one.protocol in _MAIN]
    if asked:
        yield "Against MEND\n> / < / =", " / ".join(str(asked.count(word)) for word in VERDICTS.values())
    if failed := sum(count for of_task in group.failed.values() for count in of_task.values()):
        yield "Failed", f"{failed:,}"
    yield "Warnings", f"{len({row for row, _ in warned(group)})} of {len(spec.editors)} rows"
    yield "Run", group.digests[0] if len(group.digests) == 1 else f"{len(group.digests)} runs"


def _last(group: SuiteGroup, task: str) -> Iterator[tuple[Scores, str]]:
    """Yield the numbers of the last stage of a task, if it has main columns, with what the stage adds to titles."""
    for _, suffix, scores in list(staged_scores(group, task))[-1:]:
        if _main(scores):
            yield scores, suffix


def _main(scores: Scores) -> list[Column]:
    return main_columns(scores.columns())


def main_columns(columns: Sequence[Column]) -> list[Column]:
    """Return the columns of a task's main table: each measure by edit success if it has it, else by exact match."""
    found: list[Column] = []
    for protocol in _MAIN:
        taken = {(column.measure, column.derived) for column in found}
        own = [column for column in columns if column.protocol == protocol]
        found += [column for column in own if (column.measure, column.derived) not in taken]
    return sorted(found, key=Column.order)


def _table(scores: Scores, title: str, *, short: bool = False) -> Table:
    """Return the table of the main protocol, with numbers that are not shown to differ from the first control marked.

    A short one has no intervals, short heads, and no line on columns in which too many rows tie.
    """
    columns = _main(scores)
    heads = {column: column.head for column in columns}
    if short:
        heads = {c: head.replace(c.measure.capitalize(), _SHORT[c.measure]) for c, head in heads.items()}
    table = scores.table(title, heads)
    control = next(iter(scores.controls), None)

    def cell(found: Cell, column: Column, row: str) -> Cell:
        same = control and scores.decision(column, row, control) == "tie"
        shown = replace(found, value=found.value + (SAME if same else ""), interval=_whole(found.interval))
        return replace(shown, interval="", note="") if short else shown

    lines = tuple(
        tuple(found and cell(found, column, row) for column, found in zip(columns, line, strict=True))
        for row, line in zip(scores.rows, table.cells, strict=True)
    )
    return replace(table, cells=lines, note="" if short else table.note)


def _whole(interval: str) -> str:
    """Return an interval in whole percent, outwards, so that it is never narrower than it is; else its words."""
    if not interval.startswith("["):
        return "" if interval == "by definition" else interval
    low, high = (float(end) for end in interval.strip("[]").split(","))
    return f"[{low // 1:.0f}, {-(-high // 1):.0f}]"
