"""The report of a suite: InstructEdit against MEND, then the comparisons and all rows of each setting."""

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from instructedit.benchmark.results.suite_results import SeedComparison, SeedMean, SuiteGroup, SuiteSummary

from ..render.report import Block, Cell, Report, Table
from .captions import suite_footer
from .columns import Column, column_of, deviation, interval, spread, stages
from .health import explained
from .protocol_choice import short
from .run_facts import suite_header
from .scores import cell_table, mean_cell, task_block
from .suite_comparisons import FREE, MAIN, View, against_mend, comparison_tables, seeds_of, training_name


def suite_report(summary: SuiteSummary) -> Report:
    """Return all tables of a suite."""
    blocks = (*against_mend(summary.groups), *(block for group in summary.groups for block in _blocks(group)))
    return Report(
        title=f"Suite {summary.name}",
        warnings=summary.warnings,
        header=suite_header(summary.groups),
        blocks=blocks,
        footer=(*suite_footer(summary), *explained(block.notes for block in blocks)),
    )


def _blocks(group: SuiteGroup) -> Iterator[Block]:
    """Yield the comparisons of a setting, then all its numbers; these are details where there are comparisons."""
    compared = [block for make in (_trainings, _descriptions) for view in (MAIN, FREE) if (block := make(group, view))]
    yield from compared
    for task in group.run.spec.tasks:
        block = task_block(f"{group.label}: {task}", group, task, f", {seeds_of(group)}", detail=bool(compared))
        if block.tables:
            yield block


def _block(heading: str, view: View, tables: Sequence[Table], compared: Sequence[Table] = ()) -> Block | None:
    if not tables:
        return None
    suffix = ", free generation" if view == FREE else ""
    return Block(heading + suffix, tuple(tables), tuple(compared), detail=view == FREE)


def _trainings(group: SuiteGroup, view: View) -> Block | None:
    """Return, for each editor with several trainings, a table of training by tested task for each column."""
    trainings: dict[str, dict[str, str]] = defaultdict(dict)
    for row in group.run.spec.editors:
        if row.training and row.name.endswith(f"@{row.training.label}"):
            label, name = row.training.label, training_name(group, row.name)
            words = label if name == label else f"{name}: {label}"
            trainings[row.name.removesuffix(f"@{label}")][row.name] = words
    tables = [
        table
        for editor, names in trainings.items()
        for stage, suffix in stages(mean.stage for mean in group.means)
        for protocol in view
        for column in sorted({column_of(m) for m in group.means if m.protocol == protocol}, key=Column.order)
        if (table := _matrix(group, stage, column, names, f"{editor}: {column.head}, {short(protocol)} (%)", suffix))
    ]
    return _block(f"{group.label}: trained on, tested on", view, tables)


def _matrix(
    group: SuiteGroup, stage: str, column: Column, names: Mapping[str, str], title: str, suffix: str
) -> Table | None:
    """Return the table of one column: rows are trainings, columns tested tasks; cells note the drop in a task."""
    means = [m for m in group.means if m.stage == stage and column_of(m) == column and m.row in names]
    drops = {
        (drop.first, drop.task): drop
        for drop in group.comparisons
        if drop.question == "drop" and drop.stage == stage and column_of(drop) == column
    }
    heads = {task: task for task in group.run.spec.tasks if any(mean.task == task for mean in means)}
    cells = {
        (mean.task, names[mean.row]): mean_cell(mean, note=_drop(drops.get((mean.row, mean.task)))) for mean in means
    }
    title = f"{title}, {seeds_of(group)}{suffix}"
    return cell_table(title, "Trained on", heads, list(names.values()), cells) if heads else None


def _drop(drop: SeedComparison | None) -> str:
    if drop is None:
        return ""
    column = column_of(drop)
    return f"{column.number(drop.difference, '+')} {interval(column, drop.low, drop.high, '+')}"


def _descriptions(group: SuiteGroup, view: View) -> Block | None:
    """Return the spread over an editor's descriptions, and the unseen one and the controls against the seen ones."""
    described: dict[str, list[str]] = defaultdict(list)
    for row in group.run.spec.editors:
        if row.instruction == "unseen" or (row.instruction or "").startswith("seen-"):
            described[row.name.partition("#")[0]].append(row.name)
    spreads = [
        table for editor, names in described.items() if len(names) > 1 for table in _spread(group, editor, names, view)
    ]
    compared = [
        *comparison_tables(group, "unseen", "Unseen description minus the mean of the seen ones", view),
        *comparison_tables(group, "control", "Control minus the mean of the seen descriptions", view),
    ]
    return _block(f"{group.label}: descriptions and controls", view, spreads, compared)


def _spread(group: SuiteGroup, editor: str, names: Sequence[str], view: View) -> Iterator[Table]:
    found = [mean for mean in group.means if mean.row in names]
    for stage, suffix in stages(mean.stage for mean in found):
        for protocol in view:
            over: dict[tuple[Column, str], list[SeedMean]] = defaultdict(list)
            for mean in found:
                if mean.stage == stage and mean.protocol == protocol:
                    over[column_of(mean), mean.task].append(mean)
            heads = {column: column.head for column in sorted({column for column, _ in over}, key=Column.order)}
            tasks = [task for task in group.run.spec.tasks if any(task == other for _, other in over)]
            title = (
                f"{editor}: mean, range and standard deviation over {len(names)} descriptions, {short(protocol)} (%)"
            )
            if heads:
                cells = {(column, task): _spread_cell(column, means) for (column, task), means in over.items()}
                yield cell_table(f"{title}, {seeds_of(group)}{suffix}", "Task", heads, tasks, cells)


def _spread_cell(column: Column, means: Sequence[SeedMean]) -> Cell:
    values = [mean.mean for mean in means]
    number = column.number(statistics.fmean(values))
    return Cell(number, spread(column, values), means[0].n, deviation(column, values))
