"""The tables of a suite as data: each setting over its seeds, and the questions that a setting is there to answer."""

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence

from instructedit.benchmark.results.records import EditorSpec
from instructedit.benchmark.results.suite_results import SeedComparison, SeedMean, SuiteGroup, SuiteSummary

from ..render.table import Block, Cell, Report, Table, layout
from .captions import controls, model, row_notes, rows, suite_footer, task_options
from .columns import SECTIONS, Column, column_of, deviation, interval, spread, stages
from .health import column_note, explained, health_lines
from .joint import sizes
from .marks import Marks, leads, mark_columns
from .versus import FREE, MAIN, Readings, arm_name, beats, seeds_of, tables

_Over = dict[tuple[Column, str], list[SeedMean]]
"""Per column and task the means of all descriptions."""
_Marked = dict[Column, Marks]


def build_suite(summary: SuiteSummary) -> Report:
    """Lay out a suite: InstructEdit against MEND, then setting by setting what it asks, then every row and task."""
    blocks = (*beats(summary.groups), *(block for group in summary.groups for block in _blocks(group)))
    return Report(
        title=f"Suite {summary.name}",
        warnings=summary.warnings,
        header=tuple(suite_header(summary.groups)),
        blocks=blocks,
        footer=(*suite_footer(summary), *explained(block.notes for block in blocks)),
    )


def suite_header(groups: Sequence[SuiteGroup]) -> Iterator[tuple[str, str]]:
    """Yield what was run as pairs of a word and its value; what several settings share is said once."""
    for line in dict.fromkeys(model(group.run) for group in groups):
        yield "Model", line
    for line in dict.fromkeys(
        f"instructedit-bench {o.version}, {o.device}" for o in (g.run.provenance for g in groups)
    ):
        yield "Made by", line
    for group in groups:
        spec = group.run.spec
        words = [
            group.label if group.label == spec.setting else f"{group.label}: {spec.setting}",
            f"split {spec.split}",
            f"schedule {spec.schedule}",
            *([f"batches of {spec.batch_size}"] if spec.batch_size else []),
            f"limit {'none' if spec.limit is None else spec.limit}",
            *(f"seed {seed} run {digest}" for seed, digest in zip(group.seeds, group.digests, strict=True)),
        ]
        yield "Setting", ", ".join(words)
        if text := sizes(group.run):
            yield "Edits", f"{group.label}: {text}"
    yield from task_options([group.run for group in groups])
    # On which tasks a row is tested is seen from the tables of each setting.
    yield from rows([row.model_copy(update={"tasks": None}) for group in groups for row in group.run.spec.editors])
    yield from row_notes([group.run for group in groups])


def _blocks(group: SuiteGroup) -> Iterator[Block]:
    """Yield what a setting asks, then all its numbers; the terminal shows the latter only where nothing is asked."""
    views = (_arms, _descriptions)
    asked = [block for view in views for block in (view(group, MAIN), view(group, FREE)) if block.tables]
    yield from asked
    for task in group.run.spec.tasks:
        notes = [*health_lines(group.run, group.health, group.means, task)]
        found = tuple(_task(group, task, notes))
        if found:
            yield Block(f"{group.label}: {task}", found, notes=tuple(notes), detail=bool(asked))


def _task(group: SuiteGroup, task: str, notes: list[str]) -> Iterator[Table]:
    """Yield the tables of a task, and add what is to be said of their columns."""
    means = [mean for mean in group.means if mean.task == task]
    names = [row.name for row in group.run.spec.editors if row.evaluates(task)]
    rivals = [name for name in names if name not in controls(group.run)]
    for stage, mark in stages(means):
        numbers = {(column_of(mean), mean.row): mean for mean in means if mean.stage == stage}
        pairs = {(column_of(p), p.row, p.other): p for p in group.pairs if (p.task, p.stage) == (task, stage)}
        values = {key: mean.mean for key, mean in numbers.items()}
        marked = mark_columns(values, rivals, controls(group.run), leads(pairs))

        notes += column_note(
            {key: mean.mean for key, mean in numbers.items()},
            [name for name in names if name not in rivals],
            rivals,
            pairs,
            mark,
        )

        def cell(column: Column, row: str, mean: SeedMean, show_n: bool, marked: _Marked = marked) -> Cell:
            return Cell(
                column.number(mean.mean),
                interval(column, mean.low, mean.high, method=mean.method),
                mean.n if show_n else None,
                deviation(column, mean.per_seed),
                marked[column].get(row),
            )

        for title, protocols in SECTIONS:
            yield from layout(f"{title}, {seeds_of(group)}{mark}", "Editor", protocols, names, numbers, cell, marked)


def _arms(group: SuiteGroup, readings: Readings) -> Block:
    """Return, for each editor trained in several ways, a table of training by tested task for each column."""
    arms: dict[str, dict[str, str]] = defaultdict(dict)
    for row in group.run.spec.editors:
        if row.training and row.name.endswith(f"@{row.training.label}"):
            arms[row.name.removesuffix(f"@{row.training.label}")][row.name] = _arm(group, row)
    found = tuple(
        table
        for editor, names in arms.items()
        for stage, mark in stages(group.means)
        for reading, protocols in readings
        for column in sorted({column_of(m) for m in group.means if m.protocol in protocols}, key=Column.order)
        for table in _matrix(group, f"{editor}: {column.head}, {reading} (%)", mark, stage, column, names)
    )
    return _block(f"{group.label}: trained on, tested on", readings, found)


def _block(heading: str, readings: Readings, found: tuple[Table, ...], compared: tuple[Table, ...] = ()) -> Block:
    return Block(heading + (", free generation" if readings == FREE else ""), found, compared, detail=readings == FREE)


def _arm(group: SuiteGroup, row: EditorSpec) -> str:
    """Name a training in a table of its own: its tasks, and before them their number if that is what changes."""
    label, name = row.training.label if row.training else "", arm_name(group, row.name)
    return label if name == label else f"{name}: {label}"


def _matrix(
    group: SuiteGroup, title: str, mark: str, stage: str, column: Column, names: dict[str, str]
) -> Iterator[Table]:
    """Yield the table of one column: rows are trainings, columns tested tasks; the diagonal's drops are noted."""
    means = {
        (mean.row, mean.task): mean
        for mean in group.means
        if mean.stage == stage and column_of(mean) == column and mean.row in names
    }
    drops = {
        (drop.first, drop.task): drop
        for drop in group.comparisons
        if drop.question == "drop" and drop.stage == stage and column_of(drop) == column
    }
    tasks = [task for task in group.run.spec.tasks if any(other == task for _, other in means)]
    counts = {task: {mean.n for (_, other), mean in means.items() if other == task} for task in tasks}
    heads = tuple(f"{task}\nn = {min(counts[task])}" if len(counts[task]) == 1 else task for task in tasks)

    def cell(row: str, task: str) -> Cell | None:
        if (mean := means.get((row, task))) is None:
            return None
        ends = interval(column, mean.low, mean.high, method=mean.method)
        n = mean.n if len(counts[task]) > 1 else None
        notes = (deviation(column, mean.per_seed), _drop(column, drops.get((row, task))))
        return Cell(column.number(mean.mean), ends, n, ", ".join(filter(None, notes)))

    if tasks:
        cells = tuple(tuple(cell(row, task) for task in tasks) for row in names)
        yield Table(f"{title}, {seeds_of(group)}{mark}", "Trained on", heads, tuple(names.values()), cells)


def _drop(column: Column, drop: SeedComparison | None) -> str:
    if drop is None:
        return ""
    return f"{column.number(drop.difference, '+')} {interval(column, drop.low, drop.high, '+')}"


def _descriptions(group: SuiteGroup, readings: Readings) -> Block:
    """Return the spread over an editor's descriptions, and the unseen one and the controls against the seen ones."""
    told: dict[str, list[str]] = defaultdict(list)
    for row in group.run.spec.editors:
        if row.instruction == "unseen" or (row.instruction or "").startswith("seen-"):
            told[row.name.partition("#")[0]].append(row.name)
    spreads = tuple(
        table for editor, names in told.items() if len(names) > 1 for table in _spread(group, editor, names, readings)
    )
    compared = (
        *tables(group, "unseen", "Unseen description minus the mean of the seen ones", readings),
        *tables(group, "control", "Control minus the mean of the seen descriptions", readings),
    )
    return _block(f"{group.label}: descriptions and controls", readings, spreads, compared)


def _spread(group: SuiteGroup, editor: str, names: list[str], readings: Readings) -> Iterator[Table]:
    """Yield the tables of the spread over descriptions: mean, lowest and highest, standard deviation."""
    found = [mean for mean in group.means if mean.row in names]
    for stage, mark in stages(found):
        over: _Over = defaultdict(list)
        for mean in (mean for mean in found if mean.stage == stage):
            over[column_of(mean), mean.task].append(mean)

        def cell(column: Column, task: str, mean: SeedMean, show_n: bool, over: _Over = over) -> Cell:
            values = [other.mean for other in over[column, task]]
            ends, note = spread(column, values), deviation(column, values)
            return Cell(column.number(statistics.fmean(values)), ends, mean.n if show_n else None, note)

        for reading, protocols in readings:
            title = f"{editor}: mean, range and standard deviation over {len(names)} descriptions, {reading} (%)"
            firsts = {key: means[0] for key, means in over.items()}
            tasks = [
                task for task in group.run.spec.tasks if any(c.protocol in protocols and t == task for c, t in over)
            ]
            yield from layout(f"{title}, {seeds_of(group)}{mark}", "Task", protocols, tasks, firsts, cell)
