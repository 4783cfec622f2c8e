"""Which rows of a column are best and second best, and which of them tie, judged by paired differences."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from instructedit.benchmark.results import Comparison
from instructedit.benchmark.suite_results import SeedComparison, SeedPair

from .columns import Column

Difference = Comparison | SeedComparison | SeedPair
"""A mean of paired differences with its interval, of a run or over seeds."""
Lead = Callable[[str, str], int | None]
"""Of two rows: 1 if the first is shown to be better, -1 if worse, 0 if neither, None if they were not compared."""


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


def sign(difference: Difference) -> int:
    """Return 1 if the first side is shown to be better, -1 if the second is, 0 if no difference is shown.

    A difference is shown if its whole 95 % interval, in the digits of the tables, lies on one side of zero and, where
    there is a p-value, p < 0.05. One case shows none, and fluency, of which more is not always better, never does.
    """
    low, high = round(difference.low, 3), round(difference.high, 3)  # a tenth of a point, a thousandth of a nat
    p = difference.p if isinstance(difference, Comparison) else 0.0
    if difference.protocol == "ngram_entropy" or difference.n < 2 or low <= 0 <= high or p >= 0.05:
        return 0
    return (1 if low > 0 else -1) * (-1 if difference.protocol == "kl_divergence" else 1)


def marks(column: Column, means: Mapping[str, float], lead: Lead) -> dict[str, Mark]:
    """Mark the best and the second best rows of a column.

    Best is the row of the highest mean (of KL the lowest), and with it every row that it is not shown to be better
    than; second is the same among the rows that are left. A rank that more than one row has is tied. Where the leading
    row was not compared with each row it leads, nobody can say who ties: that rank is not given.

    Args:
        column: The column.
        means: Mean of each row that may be marked, in their order.
        lead: The sign of two rows' paired difference.

    Returns:
        The marked rows; empty for fluency, and where there are fewer than two rows.
    """
    if column.protocol == "ngram_entropy" or len(means) < 2:
        return {}
    better = -1 if column.protocol == "kl_divergence" else 1
    left, found = list(means), dict[str, Mark]()
    for rank in (1, 2):
        if not left:
            break
        leader = max(left, key=lambda row: better * means[row])
        leads = {row: lead(leader, row) for row in left if row != leader}
        if None in leads.values():
            break
        group = [leader, *(row for row, ahead in leads.items() if ahead != 1)]
        found |= dict.fromkeys(group, Mark(rank, len(group) > 1))
        left = [row for row in left if row not in group]
    return found


def leads(column: Column, pairs: Mapping[tuple[Column, str, str], Difference]) -> Lead:
    """Return the function that `marks` asks, from the pairs by column, first and second row, either way round."""

    def lead(row: str, other: str) -> int | None:
        if pair := pairs.get((column, row, other)):
            return sign(pair)
        if pair := pairs.get((column, other, row)):
            return -sign(pair)
        return None

    return lead
