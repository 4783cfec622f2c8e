"""The report of a run or suite on one screen: a table for each task and stage, by its main protocol, and nothing else.

The numbers, marks and lines on health are those of the whole report (`run_report`, `suite_report`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from instructedit.benchmark.results.records import Protocol, RunFile, RunSummary
from instructedit.benchmark.results.suite_results import SuiteGroup, SuiteSummary

from ..render.report import Block, Report, Table
from .captions import DAGGER
from .columns import Column, stages
from .health import health_lines
from .run_facts import left_out, warnings
from .scores import Scores, score_table, scores_of
from .suite_comparisons import against_mend, seeds_of
from .suite_report import suite_report

_MAIN: tuple[Protocol, ...] = ("edit_success", "teacher_forced_exact")
"""Protocols of a task's one table, for each measure the first one that it has."""
SAME = "°"
"""Follows a number that is not shown to differ from the unedited model's."""


def _legend(blocks: Sequence[Block]) -> str:
    """Return how to read the tables: what occurs in them."""
    heads = " ".join(head for block in blocks for table in block.tables for head in table.heads)
    success = ", ES: SERAC's edit success" if " ES" in heads else ""
    derived = f"; {DAGGER} prompts by a rule" if DAGGER in heads else ""
    return (
        f"Percent with 95 % intervals: exact match under teacher forcing{success}. * best, or not shown to be worse "
        f"than the best (=: tied); _ second; {SAME} not shown to differ from the unedited model{derived}. "
        "Pairs, other protocols and how to read them: --full, or the files below."
    )


def run_overview(run: RunFile, summary: RunSummary) -> Report:
    """Return a run on one screen."""
    blocks = tuple(_blocks(run, summary))
    return Report(
        f"Run {run.digest}",
        warnings(run, summary),
        tuple(facts(run, summary)),
        blocks,
        (_legend(blocks),),
    )


def suite_overview(summary: SuiteSummary) -> Report:
    """Return a suite on one screen: its verdicts in words, then a table for each setting, task and stage.

    Tables of many trainings or descriptions of one editor, which the whole report compares, are left to it.
    """
    verdicts = [Block(block.heading, (), text=block.text) for block in against_mend(summary.groups) if block.text]
    details = {block.heading for block in suite_report(summary).blocks if block.detail}
    found = (block for group in summary.groups for block in _blocks(group.run, group))
    blocks = [block for block in found if block.heading not in details]
    shared = dict.fromkeys(fact for group in summary.groups for fact in facts(group.run, group))
    return Report(f"Suite {summary.name}", summary.warnings, tuple(shared), (*verdicts, *blocks), (_legend(blocks),))


def facts(run: RunFile, numbers: RunSummary | SuiteGroup) -> Iterator[tuple[str, str]]:
    """Yield the model, the data, the setting, and what is left out or failed, a line each."""
    group = numbers if isinstance(numbers, SuiteGroup) else None
    spec, origin = run.spec, run.provenance
    yield "Model", f"{origin.model}, {origin.model_type}, {origin.parameters / 1e6:,.1f} M parameters, {spec.dtype}"
    counts = (f"{data.task} {min(data.cases, spec.limit or data.cases):,} of {data.cases:,}" for data in run.data)
    yield "Cases", f"{', '.join(counts)} ({', '.join(dict.fromkeys(data.source for data in run.data))})"
    seeds = f"seed {spec.seed}" if group is None else seeds_of(group)
    label = spec.setting if group is None or group.label == spec.setting else f"{group.label} ({spec.setting})"
    yield "Setting", f"{label}, {spec.schedule} edits, split {spec.split}, {seeds}"
    if spec.chat:
        yield "Context", spec.chat.name
    yield from left_out(run)
    under = "failed under " if group is None else ""
    by_task = numbers.counts if isinstance(numbers, RunSummary) else numbers.failed
    for task, found in by_task.items():
        if failed := [f"{words.removeprefix(under)} {found[words]}" for words in found if words.startswith(under)]:
            yield "Failed", f"{task}: {', '.join(failed)}"


def _blocks(run: RunFile, numbers: RunSummary | SuiteGroup) -> Iterator[Block]:
    for task in run.spec.tasks:
        tables: list[Table] = []
        for stage, suffix in stages([mean for mean in numbers.means if mean.task == task]):
            if table := _table(scores_of(run, numbers, task, stage), suffix.removeprefix(", ")):
                tables.append(table)
        heading = task if isinstance(numbers, RunSummary) else f"{numbers.label}: {task}"
        if tables:
            notes = tuple(health_lines(run, numbers.health, numbers.means, task))
            yield Block(heading, tuple(tables), notes=notes)


def main_columns(columns: Sequence[Column]) -> list[Column]:
    """Return the columns of a task's main table: each measure by edit success if it has it, else by exact match."""
    found: list[Column] = []
    for protocol in _MAIN:
        taken = {(column.measure, column.derived) for column in found}
        own = [column for column in columns if column.protocol == protocol]
        found += [column for column in own if (column.measure, column.derived) not in taken]
    return sorted(found, key=Column.order)


def _table(scores: Scores, title: str) -> Table | None:
    """Return the table of the main protocol; rows that are not shown to differ from the first control are marked."""
    columns = main_columns(scores.columns())
    if not columns:
        return None
    heads = {column: column.head for column in columns}
    table = score_table(title, heads, scores.rows, scores.means, scores.marks())
    control = next(iter(scores.controls), None)
    lines = tuple(
        tuple(
            cell
            and replace(
                cell,
                value=cell.value + (SAME if control and scores.decision(column, row, control) == "tie" else ""),
                interval="" if cell.interval == "by definition" else _whole(cell.interval),
            )
            for column, cell in zip(columns, line, strict=True)
        )
        for row, line in zip(scores.rows, table.cells, strict=True)
    )
    return replace(table, cells=lines)


def _whole(interval: str) -> str:
    """Return an interval in whole percent, outwards, so that it is never narrower than it is."""
    if not interval.startswith("["):
        return interval
    low, high = (float(end) for end in interval.strip("[]").split(","))
    return f"[{low // 1:.0f}, {-(-high // 1):.0f}]"
