"""The paired differences of a column as a square: each row of a run less each other row."""

from collections.abc import Iterator
from typing import NamedTuple

from instructedit.benchmark.results.decision import Decision, decided
from instructedit.benchmark.results.records import RunFile, RunSummary
from instructedit.benchmark.results.suite_results import SeedPair

from ..tables.columns import Column, interval, minus, p_words
from ..tables.overview import main_columns
from ..tables.protocol_choice import label
from ..tables.scores import Scores, case_link, staged_scores
from ..tables.sources import group_of

LEVELS = (10.0, 30.0)
"""Points from which a difference that is shown has the second and the third depth of colour."""
NOTE = (
    "Row less column, in points, paired by case. \u25b2 the row is shown to be better, \u25bc shown to be worse, = no "
    "difference is shown (p adjusted by Holm over the pairs of the square); the deeper the colour, the larger the "
    "difference. A number leads to the cases that one of the two has right and the other does not."
)


class Pair(NamedTuple):
    """A cell of a square: the row less the column."""

    value: str
    decision: Decision
    depth: int
    """Depth of the colour, 1 to 3; 0 where no difference is shown."""
    words: str
    link: str


class Square(NamedTuple):
    """The differences of a column; `cells[row][column]`, None where two rows were not compared."""

    title: str
    rows: tuple[str, ...]
    cells: tuple[tuple[Pair | None, ...], ...]


def squares(run: RunFile, summary: RunSummary, task: str) -> Iterator[Square]:
    """Yield the squares of a task: by stage, and by the measures of its main protocol (edit success or exact match)."""
    for _, suffix, scores in staged_scores(group_of(run, summary), task):
        for column in main_columns(scores.columns()):
            rows = [row for row in scores.rows if any(key[0] == column and row in key[1:] for key in scores.pairs)]
            if rows:
                cells = tuple(tuple(_cell(scores, column, row, other) for other in rows) for row in rows)
                yield Square(f"{label(column, '')}{suffix}", tuple(rows), cells)


def _cell(scores: Scores, column: Column, row: str, other: str) -> Pair | None:
    found = scores.pair(column, row, other)
    if found is None:
        return None
    decision = decided(found)
    points = abs(100 * found.difference)
    depth = 0 if decision == "tie" else 1 + sum(points >= level for level in LEVELS)
    # Which outcome the link shows: cases lost where the row is worse, cases won where it is not.
    link = case_link(scores.address, column, row, other, "second" if found.difference < 0 else "first")
    return Pair(minus(column.number(found.difference, "+")), decision, depth, _words(found, column, row, other), link)


def _words(found: SeedPair, column: Column, row: str, other: str) -> str:
    """Return the difference with its interval and p, for the pointer."""
    number = f"{column.number(found.difference, '+')} {interval(column, found.low, found.high, '+')}"
    return ", ".join(filter(None, [f"{row} less {other}: {minus(number)}", f"n={found.n}", p_words(found.p_holm)]))
