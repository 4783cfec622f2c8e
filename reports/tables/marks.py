"""Which rows of a column are best and second best, and which of them tie, by the one decision of `benchmark.decide`."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from instructedit.benchmark.results.decision import Decision, by_definition, decided
from instructedit.benchmark.results.records import Comparison, Protocol
from instructedit.benchmark.results.suite_results import SeedComparison, SeedPair

from .columns import Column

Difference = Comparison | SeedComparison | SeedPair
"""A mean of paired differences with its interval, of a run or over seeds."""
Lead = Callable[[Column, str, str], Decision | None]
"""What is shown of two rows in a column; None if they were not compared."""
TURNED: dict[Decision, Decision] = {"better": "behind", "tie": "tie", "behind": "better"}
"""The decision from the other side."""
_EDITED: tuple[Protocol, ...] = (
    "edit_success",
    "teacher_forced_exact",
    "teacher_forced_token",
    "free_generation",
)
"""What says of a row that it edits, where the column itself cannot: the first that there is."""


class Mark(NamedTuple):
    """Place of a row in its column.

    Attributes:
        rank: 1 for the best rows, 2 for the best of the rest, 0 for all others.
        tied: Whether another row has the same rank.
    """

    rank: int = 0
    tied: bool = False

    @property
    def word(self) -> str:
        """The mark in words, empty for rank 0."""
        return ("", "best", "second")[self.rank] + (", tied" if self.tied else "")


UNMARKED = Mark()


class Marks(NamedTuple):
    """The marks of a column.

    Attributes:
        of: Mark of each row that has one.
        tied: Rows that tie for best, where they are more than half of all and so none is marked; else 0.
        rows: Rows that might have been marked.
    """

    of: Mapping[str, Mark]
    tied: int = 0
    rows: int = 0

    def get(self, row: str) -> Mark:
        """Return a row's mark."""
        return self.of.get(row, UNMARKED)


NO_MARKS = Marks({})


def mark_columns(
    means: Mapping[tuple[Column, str], float], rivals: Sequence[str], controls: Collection[str], lead: Lead
) -> dict[Column, Marks]:
    """Mark the columns of a table.

    Best is, of the rows that are shown to be better than the unedited model in the column, that of the highest mean (of
    KL the lowest), with every such row that it is not shown to be better than. Where the unedited model has its number
    by definition (locality, z_topic), the rows are those that are shown to be better than it in reliability: a row that
    edits nothing could not lose there. Second is one row alone: of those left the one of the highest mean, if it is
    shown to be better than all others left. Nothing is marked where more than half of the rows tie for best, where the
    leading row was not compared with each other row, in fluency, and where there are fewer than two rows.

    Args:
        means: Mean of each row in each column, controls among them.
        rivals: Rows that may be marked, in their order.
        controls: Rows that edit nothing. Without one with a number, nobody has to be better than it.
        lead: What is shown of two rows.
    """
    columns = dict.fromkeys(column for column, _ in means)

    def able(column: Column) -> list[str]:
        asked = next(_reliability(column, columns), None) if by_definition(column.measure, column.protocol) else column
        present = [row for row in rivals if (column, row) in means]
        there = [control for control in controls if any(row == control for _, row in means)]
        return [row for row in present if not there or (asked and _beats(row, there, asked, lead))]

    return {
        column: _marks(
            column,
            {row: means[column, row] for row in rivals if (column, row) in means},
            able(column),
            lead,
        )
        for column in columns
    }


def crowded(heads: Mapping[Column, str], marked: Mapping[Column, Marks]) -> str:
    """Return the line under a table whose columns have too many rows that tie for best; empty where none has."""
    found = [
        f"{head} ({marked[column].tied} of {marked[column].rows} rows tie)"
        for column, head in heads.items()
        if column in marked and marked[column].tied
    ]
    return f"n is too small to tell the best rows apart, none is marked: {'; '.join(found)}." if found else ""


def _reliability(column: Column, columns: Collection[Column]) -> "filter[Column]":
    """Return the columns that say whether a row edits, those of the column's own protocol first."""
    order = (column.protocol, *_EDITED)
    return filter(columns.__contains__, (Column("reliability", False, p) for p in order if p in _EDITED))


def _beats(row: str, controls: Sequence[str], column: Column, lead: Lead) -> bool:
    """Tell whether a row is shown to be better than every control that it was compared with, and that is one."""
    found = [shown for control in controls if (shown := lead(column, row, control)) is not None]
    return bool(found) and all(shown == "better" for shown in found)


def _marks(column: Column, means: Mapping[str, float], able: Sequence[str], lead: Lead) -> Marks:
    if column.protocol == "ngram_entropy" or len(means) < 2 or not able:
        return NO_MARKS
    better = -1 if column.protocol == "kl_divergence" else 1
    leader = max(able, key=lambda row: better * means[row])
    shown = {row: lead(column, leader, row) for row in means if row != leader}
    if None in shown.values():
        return NO_MARKS
    ties = [leader, *(row for row, decision in shown.items() if decision != "better")]
    if 2 * len(ties) > len(means):
        return Marks({}, len(ties), len(means))
    found = {row: Mark(1, len(ties) > 1) for row in ties if row in able}
    left = [row for row in means if row not in ties]
    if candidates := [row for row in left if row in able]:
        second = max(candidates, key=lambda row: better * means[row])
        if all(lead(column, second, row) == "better" for row in left if row != second):
            found[second] = Mark(2)
    return Marks(found, 0, len(means))


def leads(pairs: Mapping[tuple[Column, str, str], Difference]) -> Lead:
    """Return what `mark_columns` asks, from the pairs by column, first and second row, either way round."""

    def lead(column: Column, row: str, other: str) -> Decision | None:
        if pair := pairs.get((column, row, other)):
            return decided(pair)
        if pair := pairs.get((column, other, row)):
            return TURNED[decided(pair)]
        return None

    return lead
