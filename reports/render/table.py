"""The tables of a run as data: what stands in which cell. Renderers only draw them.

One block a task, in it one small table per stage and way of reading an answer, so that no column, and no table, mixes
protocols or schedules. Rows are the editors in the order of the run.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TypeVar

from instructedit.benchmark.results.records import Comparison, Mean, Protocol, RunFile, RunSummary
from instructedit.benchmark.results.suite_results import SeedComparison, SeedMean

from ..tables.captions import controls, footer, header, warnings
from ..tables.columns import SECTIONS, Column, column_of, interval, p_words, stages
from ..tables.health import column_note, explained, health_lines
from ..tables.marks import UNMARKED, Mark, Marks, crowded, leads, mark_columns

_COMPARISON = "Paired differences, exact match (points, first minus second)"
Key = tuple[Column, str]
"""Column and row name of a number."""
K = TypeVar("K", bound=Hashable)
N = TypeVar("N", Mean, Comparison, SeedMean, SeedComparison)


@dataclass(frozen=True, slots=True)
class Cell:
    """One number with its interval, as text; or a word."""

    value: str
    interval: str = ""
    n: int | None = None
    """Number of cases where the rows of the column differ in it, else None and it stands in the head."""
    note: str = ""
    """What is said of it: a p-value, a verdict, the spread over seeds."""
    mark: Mark = UNMARKED
    """Whether it is the best of its column, second best, or ties with them."""


@dataclass(frozen=True, slots=True)
class Table:
    """A small table: `cells[row][column]`, None where there is no number."""

    title: str
    stub: str
    """Head of the column of row names."""
    heads: tuple[str, ...]
    rows: tuple[str, ...]
    cells: tuple[tuple[Cell | None, ...], ...]
    groups: tuple[str, ...] = ()
    """For each row what it and its neighbours have in common, said once above them; empty where nothing is."""
    note: str = ""
    """A sentence under it."""

    def part(self, rows: slice = slice(None), columns: slice = slice(None)) -> "Table":
        """Return some of the rows and columns."""
        cells = tuple(line[columns] for line in self.cells[rows])
        return replace(self, heads=self.heads[columns], rows=self.rows[rows], cells=cells, groups=self.groups[rows])


@dataclass(frozen=True, slots=True)
class Block:
    """Tables that belong together: those of one task, or the answer to one question."""

    heading: str
    tables: tuple[Table, ...]
    comparisons: tuple[Table, ...] = ()
    text: tuple[str, ...] = ()
    """Sentences above the tables."""
    notes: tuple[str, ...] = ()
    """Sentences under the tables: what is to be said of the rows' edits, and of columns that tell no row from none."""
    detail: bool = False
    """Whether the files alone have it: the terminal shows another view of the same numbers."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a reader sees of a run, or of a suite."""

    title: str
    warnings: tuple[str, ...]
    header: tuple[tuple[str, str], ...]
    blocks: tuple[Block, ...]
    footer: tuple[str, ...]


def build(run: RunFile, summary: RunSummary) -> Report:
    """Lay out a run's summary as tables; the numbers are the means over subsets (the CSV file has every subset)."""
    blocks = tuple(_block(run, summary, task) for task in run.spec.tasks)
    return Report(
        title=f"Run {run.digest}",
        warnings=warnings(run, summary),
        header=header(run),
        blocks=blocks,
        footer=(*footer(run, summary), *explained(block.notes for block in blocks)),
    )


def layout(
    title: str,
    stub: str,
    protocols: Sequence[Protocol],
    rows: Sequence[str],
    numbers: Mapping[Key, N],
    cell: Callable[[Column, str, N, bool], Cell],
    marked: Mapping[Column, Marks] | None = None,
) -> Iterator[Table]:
    """Yield the table of the given protocols, or nothing where there is no such number.

    Args:
        title: Its title.
        stub: Head of the column of row names.
        protocols: Those of its columns.
        rows: Names of its rows.
        numbers: By column and row.
        cell: From the column, the row, the number and whether its n is shown, because n differs within the column, to
            the cell.
        marked: The marks of its columns; what is too near to be marked is said below.
    """
    columns = sorted({column for column, _ in numbers if column.protocol in protocols}, key=Column.order)
    if columns:
        heads = {column: column.head for column in columns}
        yield replace(grid(title, stub, heads, rows, numbers, cell), note=crowded(heads, marked or {}))


def grid(
    title: str,
    stub: str,
    heads: Mapping[K, str],
    rows: Sequence[str],
    numbers: Mapping[tuple[K, str], N],
    cell: Callable[[K, str, N, bool], Cell],
) -> Table:
    """Return a table of the given columns, n in the head of a column whose numbers share it; see `layout`."""
    shared = {key: {number.n for (other, _), number in numbers.items() if other == key} for key in heads}
    cells = tuple(
        tuple(
            cell(key, row, number, len(shared[key]) > 1) if (number := numbers.get((key, row))) else None
            for key in heads
        )
        for row in rows
    )
    words = (f"{head}\nn = {min(shared[key])}" if len(shared[key]) == 1 else head for key, head in heads.items())
    return Table(title, stub, tuple(words), tuple(rows), cells)


def _block(run: RunFile, summary: RunSummary, task: str) -> Block:
    means = [mean for mean in summary.means if mean.task == task and mean.subset is None]
    comparisons = [comparison for comparison in summary.comparisons if comparison.task == task]
    tables: list[Table] = []
    pairs: list[Table] = []
    notes = [*health_lines(run, summary.health, means, task)]
    for stage, mark in stages(means):
        found = _tables(
            run,
            task,
            mark,
            [mean for mean in means if mean.stage == stage],
            [comparison for comparison in comparisons if comparison.stage == stage],
        )
        tables += found.tables
        pairs += found.comparisons
        notes += found.notes
    return Block(task, tuple(tables), tuple(pairs), notes=tuple(notes))


def _tables(run: RunFile, task: str, mark: str, numbers: Sequence[Mean], compared: Sequence[Comparison]) -> Block:
    """Return the tables of one stage."""
    editors = [editor.name for editor in run.spec.editors if editor.evaluates(task)]
    rivals = [editor for editor in editors if editor not in controls(run)]
    means = {(column_of(m), m.editor): m for m in numbers}
    pairs = {(column_of(c), c.editor, c.other): c for c in compared}
    marked = mark_columns({key: mean.mean for key, mean in means.items()}, rivals, controls(run), leads(pairs))
    differences = {
        (column, f"{first} vs {second}"): pair
        for (column, first, second), pair in pairs.items()
        if {first, second} <= set(rivals)
    }
    named = {name for _, name in differences}
    names = [name for pair in combinations(rivals, 2) if (name := " vs ".join(pair)) in named]

    def mean_cell(column: Column, row: str, mean: Mean, show_n: bool) -> Cell:
        ends = interval(column, mean.low, mean.high, method=mean.method)
        return Cell(column.number(mean.mean), ends, mean.n if show_n else None, mark=marked[column].get(row))

    def pair_cell(column: Column, _: str, pair: Comparison, show_n: bool) -> Cell:
        ends = interval(column, pair.low, pair.high, "+")
        return Cell(column.number(pair.difference, "+"), ends, pair.n if show_n else None, p_words(pair.p_holm))

    return Block(
        heading=task,
        tables=tuple(
            table
            for title, protocols in SECTIONS
            for table in layout(title + mark, "Editor", protocols, editors, means, mean_cell, marked)
        ),
        comparisons=tuple(
            layout(_COMPARISON + mark, "Editors", ("teacher_forced_exact",), names, differences, pair_cell)
        ),
        notes=tuple(
            column_note(
                {key: mean.mean for key, mean in means.items()},
                [name for name in editors if name not in rivals],
                rivals,
                pairs,
                mark,
            )
        ),
    )
