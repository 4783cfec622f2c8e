"""A report as data: what each cell shows. The renderers beside this module only draw it."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple


class Mark(NamedTuple):
    """Place of a row in its column; `tables/scores.py` decides it.

    Attributes:
        rank: 1 for the best rows, 2 for the second, 0 for all others.
        tied: Whether another row has the same rank.
    """

    rank: int = 0
    tied: bool = False

    @property
    def word(self) -> str:
        """The mark in words, empty for rank 0."""
        return ("", "best", "second")[self.rank] + (", tied" if self.tied else "")


UNMARKED = Mark()


@dataclass(frozen=True, slots=True)
class Cell:
    """One number with its interval, as text; or a word."""

    value: str
    interval: str = ""
    n: int | None = None
    """Number of cases; None where the head of the column or the row names it: see `Table.share_n`."""
    note: str = ""
    """A p-value, a verdict, the spread over seeds."""
    mark: Mark = UNMARKED
    link: str = ""
    """Address of the cases behind the number, for the site: what follows `cases.html#`."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table: `cells[row][column]`, None where there is no number."""

    title: str
    stub: str
    """Head of the column of row names."""
    heads: tuple[str, ...]
    rows: tuple[str, ...]
    cells: tuple[tuple[Cell | None, ...], ...]
    groups: tuple[str, ...] = ()
    """For each row what it shares with its neighbours, shown once above them; empty where there are no groups."""
    note: str = ""
    """A sentence below the table."""

    def part(self, rows: slice = slice(None), columns: slice = slice(None)) -> "Table":
        """Return some of the rows and columns."""
        cells = tuple(line[columns] for line in self.cells[rows])
        return replace(self, heads=self.heads[columns], rows=self.rows[rows], cells=cells, groups=self.groups[rows])

    def share_n(self) -> "Table":
        """Move the n that all cells of a column share into its head."""
        heads = list(self.heads)
        columns = [list(column) for column in zip(*self.cells, strict=True)]
        for number, column in enumerate(columns):
            counts = {cell.n for cell in column if cell}
            if len(counts) == 1 and None not in counts:
                heads[number] += f"\nn = {counts.pop()}"
                columns[number] = [cell and replace(cell, n=None) for cell in column]
        return replace(self, heads=tuple(heads), cells=tuple(zip(*columns, strict=True)))

    def starts_group(self, row: int) -> bool:
        """Tell whether a row is the first of its group."""
        return bool(self.groups) and self.groups[row] != "" and (row == 0 or self.groups[row] != self.groups[row - 1])


@dataclass(frozen=True, slots=True)
class Block:
    """Tables that belong together: those of one task, or the answer to one question."""

    heading: str
    tables: tuple[Table, ...]
    comparisons: tuple[Table, ...] = ()
    text: tuple[str, ...] = ()
    """Sentences above the tables."""
    notes: tuple[str, ...] = ()
    """Sentences below the tables: edits that failed, columns that separate no row from the unedited model."""
    detail: bool = False
    """Whether only files show its tables; the terminal shows another view of the same numbers."""
    beside: bool = False
    """Whether the terminal draws its tables, which have the same rows, side by side."""


@dataclass(frozen=True, slots=True)
class Report:
    """All tables of a run or a suite, with the text around them."""

    title: str
    warnings: tuple[str, ...]
    header: tuple[tuple[str, str], ...]
    """What was run, as pairs of a word and its value."""
    blocks: tuple[Block, ...]
    footer: tuple[str, ...]
    """How to read the numbers."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A report together with its numbers at full precision.

    Attributes:
        report: The tables.
        records: One record for each number, all with the same keys; CSV and JSON hold these.
    """

    report: Report
    records: tuple[dict[str, Any], ...]
