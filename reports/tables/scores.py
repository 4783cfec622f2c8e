"""The numbers of one task at one stage, and the tables that are made of them: rows by columns, best rows marked."""

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

from instructedit.benchmark.results.records import Comparison, Mean, RunFile, RunSummary
from instructedit.benchmark.results.suite_results import SeedMean, SeedPair, SuiteGroup

from ..render.report import UNMARKED, Cell, Mark, Table
from .best_and_ties import NO_MARKS, Contest, Marks, crowded
from .columns import SECTIONS, Column, column_of, deviation, interval, p_words
from .run_facts import controls

K = TypeVar("K", bound=Hashable)
_DIFFERENCES = "Paired differences, exact match (points, first minus second)"


@dataclass(frozen=True)
class Scores:
    """The numbers of one task at one stage.

    Attributes:
        rows: Names of the rows, in the order of the run.
        controls: Those that edit nothing.
        means: Mean over subsets by column and row.
        pairs: Paired differences by column, first and second row.
    """

    rows: tuple[str, ...]
    controls: tuple[str, ...]
    means: Mapping[tuple[Column, str], Mean | SeedMean]
    pairs: Mapping[tuple[Column, str, str], Comparison | SeedPair]

    @property
    def rivals(self) -> list[str]:
        """The rows that may be marked."""
        return [row for row in self.rows if row not in self.controls]

    def contest(self, protocols: Collection[str] | None = None) -> Contest:
        """Return what is shown of the rows in the columns of some protocols; None takes all."""
        means = {
            key: mean.mean for key, mean in self.means.items() if protocols is None or key[0].protocol in protocols
        }
        return Contest(means, self.rivals, self.controls, self.pairs)

    def columns(self) -> list[Column]:
        """Return the columns in order."""
        return sorted({column for column, _ in self.means}, key=Column.order)

    def sections(self) -> Iterator[tuple[str, list[Column]]]:
        """Yield each section of protocols that has numbers, as its title and columns."""
        for title, protocols in SECTIONS:
            if columns := [column for column in self.columns() if column.protocol in protocols]:
                yield title, columns

    def tables(self, suffix: str) -> Iterator[Table]:
        """Yield a table for each section; the suffix is added to each title."""
        marks = self.contest().marks()
        for title, columns in self.sections():
            heads = {column: column.head for column in columns}
            yield score_table(f"{title}{suffix}", heads, self.rows, self.means, marks)

    def differences(self, suffix: str) -> Iterator[Table]:
        """Yield the table of the paired differences of all rows that edit, in exact match."""
        exact = {key: pair for key, pair in self.pairs.items() if key[0].protocol == "teacher_forced_exact"}
        cells = {
            (column, f"{first} vs {second}"): pair_cell(pair)
            for (column, first, second), pair in exact.items()
            if not {first, second} & set(self.controls)
        }
        names = [name for pair in combinations(self.rivals, 2) if (name := " vs ".join(pair)) in {n for _, n in cells}]
        heads = {column: column.head for column in sorted({column for column, _ in cells}, key=Column.order)}
        if heads:
            yield cell_table(_DIFFERENCES + suffix, "Editors", heads, names, cells)


def run_scores(run: RunFile, summary: RunSummary, task: str, stage: str, name: Callable[[str], str] = str) -> Scores:
    """Return the numbers of a task and stage of a run.

    Args:
        run: The run.
        summary: Its summary.
        task: The task.
        stage: The stage.
        name: From the name of a row to that in the table.
    """
    place = task, stage
    rows = tuple(name(row.name) for row in run.spec.editors if task in run.spec.tasks and row.evaluates(task))
    means = [mean for mean in summary.means if (mean.task, mean.stage) == place and mean.subset is None]
    return Scores(
        rows,
        tuple(row for row in rows if row in map(name, controls(run))),
        {(column_of(mean), name(mean.editor)): mean for mean in means},
        {(column_of(c), name(c.editor), name(c.other)): c for c in summary.comparisons if (c.task, c.stage) == place},
    )


def suite_scores(group: SuiteGroup, task: str, stage: str) -> Scores:
    """Return the numbers of a task and stage of a setting, over its seeds."""
    place = task, stage
    rows = tuple(row.name for row in group.run.spec.editors if row.evaluates(task))
    return Scores(
        rows,
        tuple(row for row in rows if row in controls(group.run)),
        {(column_of(mean), mean.row): mean for mean in group.means if (mean.task, mean.stage) == place},
        {(column_of(pair), pair.row, pair.other): pair for pair in group.pairs if (pair.task, pair.stage) == place},
    )


def merged(parts: Sequence[Scores]) -> Scores:
    """Return the numbers of several runs, rows one below the other; rows of two runs are not compared."""
    return Scores(
        tuple(row for part in parts for row in part.rows),
        tuple(row for part in parts for row in part.controls),
        {key: mean for part in parts for key, mean in part.means.items()},
        {key: pair for part in parts for key, pair in part.pairs.items()},
    )


def score_table(
    title: str,
    heads: Mapping[Column, str],
    rows: Sequence[str],
    means: Mapping[tuple[Column, str], Mean | SeedMean],
    marks: Mapping[Column, Marks],
) -> Table:
    """Return the table of some columns, with marks and the line on columns in which too many rows tie."""
    cells = {
        (column, row): mean_cell(mean, marks.get(column, NO_MARKS).get(row)) for (column, row), mean in means.items()
    }
    return cell_table(title, "Editor", heads, rows, cells, note=crowded(heads, marks))


def cell_table(
    title: str,
    stub: str,
    heads: Mapping[K, str],
    rows: Sequence[str],
    cells: Mapping[tuple[K, str], Cell],
    note: str = "",
) -> Table:
    """Return a table of cells by column and row; shared n go into the heads."""
    lines = tuple(tuple(cells.get((key, row)) for key in heads) for row in rows)
    return Table(title, stub, tuple(heads.values()), tuple(rows), lines, note=note).share_n()


def mean_cell(mean: Mean | SeedMean, mark: Mark = UNMARKED, note: str = "") -> Cell:
    """Return the cell of a mean, with the standard deviation over seeds where there are several."""
    column = column_of(mean)
    spread = deviation(column, mean.per_seed) if isinstance(mean, SeedMean) else ""
    ends = interval(column, mean.low, mean.high, method=mean.method)
    return Cell(column.number(mean.mean), ends, mean.n, ", ".join(filter(None, (spread, note))), mark)


def pair_cell(pair: Comparison | SeedPair) -> Cell:
    """Return the cell of a paired difference with its adjusted p."""
    column = column_of(pair)
    ends = interval(column, pair.low, pair.high, "+")
    return Cell(column.number(pair.difference, "+"), ends, pair.n, p_words(pair.p_holm))
