"""Best, second and tied rows of a column, and columns without any difference from the unedited model.

Every decision between two rows is that of `benchmark.results.decision`: p < 0.05, adjusted by Holm over the pairs of
the column. This module only derives marks from these decisions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from instructedit.benchmark.results.decision import ALPHA, Decision, by_definition, decided
from instructedit.benchmark.results.records import Comparison, Protocol
from instructedit.benchmark.results.suite_results import SeedComparison, SeedPair

from ..render.report import UNMARKED, Mark
from .columns import Column

Difference = Comparison | SeedComparison | SeedPair
"""A mean paired difference with its interval, of a run or over seeds."""
TURNED: dict[Decision, Decision] = {"better": "worse", "tie": "tie", "worse": "better"}
"""The decision from the other side."""
CHANGED = ("reliability", "generalization", "portability")
"""Measures that an edit is meant to change. Equality with the unedited model is a fault in these only."""
_EDITED: tuple[Protocol, ...] = ("edit_success", "teacher_forced_exact", "teacher_forced_token", "free_generation")
"""Protocols that show whether a row edits at all, where the column itself cannot: the first available one counts."""
_MATCHED = {
    "teacher_forced_token": "token share",
    "teacher_forced_exact": "exact match",
    "free_generation": "free generation",
}
"""Protocols that a column's head does not name because the title of its table does."""
NO_DIFFERENCE = "No row is shown to differ from"
SMALL_N = "n is too small to show, adjusted for all pairs of rows, which rows differ from"


class Marks(NamedTuple):
    """The marks of a column.

    Attributes:
        of: Mark of each row that has one.
        tied: Number of rows that tie for best, where they are more than half of all, so that none is marked; else 0.
        rows: Number of rows that could have been marked.
    """

    of: Mapping[str, Mark]
    tied: int = 0
    rows: int = 0

    def get(self, row: str) -> Mark:
        """Return a row's mark."""
        return self.of.get(row, UNMARKED)


NO_MARKS = Marks({})


@dataclass(frozen=True)
class Contest:
    """The rows of one table and what is shown of them.

    Attributes:
        means: Mean of each row in each column, controls included.
        rivals: Rows that may be marked, in their order.
        controls: Rows that edit nothing; the first one is the unedited model.
        pairs: Paired differences by column, first and second row.
    """

    means: Mapping[tuple[Column, str], float]
    rivals: Sequence[str]
    controls: Sequence[str]
    pairs: Mapping[tuple[Column, str, str], Difference]

    def decision(self, column: Column, row: str, other: str) -> Decision | None:
        """Decide between two rows of a column; None if they were not compared."""
        if pair := self.pairs.get((column, row, other)):
            return decided(pair)
        if pair := self.pairs.get((column, other, row)):
            return TURNED[decided(pair)]
        return None

    def marks(self) -> dict[Column, Marks]:
        """Mark the columns.

        Candidates are the rows that are shown to be better than the unedited model in the column. Where its number
        holds by definition (locality, z_topic), they are the rows that are shown to be better in reliability, because a
        row that edits nothing could not lose there. Best is the candidate with the highest mean (of KL the lowest),
        with every candidate that it is not shown to be better than. Second is the candidate with the highest mean among
        the rest, if it is shown to be better than all others of the rest. Nothing is marked where more than half of the
        rows tie for best, where the leader was not compared with every other row, in fluency, and where there are fewer
        than two rows. Without a control that has a number, every row is a candidate.
        """
        return {column: self._marks(column) for column in dict.fromkeys(column for column, _ in self.means)}

    def _marks(self, column: Column) -> Marks:
        means = {row: self.means[column, row] for row in self.rivals if (column, row) in self.means}
        candidates = self._candidates(column, list(means))
        if column.protocol == "ngram_entropy" or len(means) < 2 or not candidates:
            return NO_MARKS
        sign = -1 if column.protocol == "kl_divergence" else 1
        leader = max(candidates, key=lambda row: sign * means[row])
        shown = {row: self.decision(column, leader, row) for row in means if row != leader}
        if None in shown.values():
            return NO_MARKS
        ties = [leader, *(row for row, decision in shown.items() if decision != "better")]
        if 2 * len(ties) > len(means):
            return Marks({}, len(ties), len(means))
        found = {row: Mark(1, len(ties) > 1) for row in ties if row in candidates}
        rest = [row for row in means if row not in ties]
        second = max((row for row in rest if row in candidates), key=lambda row: sign * means[row], default=None)
        if second and all(self.decision(column, second, row) == "better" for row in rest if row != second):
            found[second] = Mark(2)
        return Marks(found, 0, len(means))

    def _candidates(self, column: Column, rows: list[str]) -> list[str]:
        """Return the rows that are shown to edit."""
        controls = [control for control in self.controls if any(row == control for _, row in self.means)]
        if not controls:
            return rows
        tested: Column | None = column
        if by_definition(column.measure, column.protocol):
            known = {column for column, _ in self.means}
            order = [protocol for protocol in (column.protocol, *_EDITED) if protocol in _EDITED]
            tested = next((c for p in order if (c := Column("reliability", False, p)) in known), None)
        return [row for row in rows if tested and self._beats(tested, row, controls)]

    def _beats(self, column: Column, row: str, controls: Sequence[str]) -> bool:
        """Tell whether a row is shown to be better than every control that it was compared with, at least one."""
        shown = [self.decision(column, row, control) for control in controls]
        return any(shown) and all(decision in ("better", None) for decision in shown)

    def without_difference(self, suffix: str) -> Iterator[str]:
        """Yield a sentence on the columns in which no row is shown to differ from the unedited model.

        Columns in which some row would differ if it alone had been compared get their own sentence: there n is too
        small, and the edits may have worked.

        Args:
            suffix: What the stage adds to a title.
        """
        if not self.controls:
            return
        control = self.controls[0]
        columns = sorted({column for column, _ in self.means if column.measure in CHANGED}, key=Column.order)
        silent = [column for column in columns if self._is_silent(column, control)]
        small = [column for column in silent if self._differs_alone(column, control)]
        for words, found in ((SMALL_N, small), (NO_DIFFERENCE, [column for column in silent if column not in small])):
            if found:
                yield f"{words} '{control}'{suffix}: {_listed(found)}."

    def _is_silent(self, column: Column, control: str) -> bool:
        """Tell whether no row of a column is shown to differ; rows that were not compared differ if their means do."""
        rows = [row for row in self.rivals if (column, row) in self.means]
        if not rows or (column, control) not in self.means:
            return False
        plain = self.means[column, control]
        shown = {row: self.decision(column, row, control) for row in rows}
        return all(self.means[column, row] == plain if d is None else d == "tie" for row, d in shown.items())

    def _differs_alone(self, column: Column, control: str) -> bool:
        """Tell whether some row would differ from the control without the adjustment for the other pairs."""
        found = (self.pairs.get((column, *rows)) for row in self.rivals for rows in ((row, control), (control, row)))
        return any(pair is not None and pair.p is not None and pair.p < ALPHA for pair in found)


def crowded(heads: Mapping[Column, str], marked: Mapping[Column, Marks]) -> str:
    """Return the line below a table on columns in which too many rows tie for best; empty if there are none."""
    found = [
        f"{head} ({marked[column].tied} of {marked[column].rows} rows tie)"
        for column, head in heads.items()
        if column in marked and marked[column].tied
    ]
    return f"n is too small to tell the best rows apart, none is marked: {'; '.join(found)}." if found else ""


def _listed(columns: Sequence[Column]) -> str:
    """Return columns in words; measures with the same protocols stand together."""
    protocols: dict[str, list[str]] = {}
    for column in columns:
        protocols.setdefault(column.head, []).extend(filter(None, [_MATCHED.get(column.protocol)]))
    heads: dict[str, list[str]] = {}
    for head, names in protocols.items():
        heads.setdefault(f" ({', '.join(names)})" if names else "", []).append(head)
    return "; ".join(f"{', '.join(names)}{suffix}" for suffix, names in heads.items())
