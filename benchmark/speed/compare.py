"""Whether two paths give the same numbers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from instructedit.editors import InputError

from ..results.records import CaseRecord, Protocol
from ..scoring.predictions import Reading

TOLERANCE = 1e-3
"""Largest difference of a log-probability in float32 that is rounding."""


@dataclass(slots=True)
class Difference:
    """What is not the same.

    Attributes:
        largest: Largest difference of numbers so far.
        differing: Most likely tokens, or texts, that are not the same.
        words: Whether a text is another.
    """

    largest: float = 0.0
    differing: int = 0
    words: bool = False

    def numbers(self, fast: Iterable[float], slow: Iterable[float]) -> None:
        """Compare numbers one by one; one that is not finite differs from all others."""
        for a, b in zip(fast, slow, strict=True):
            gap = 0.0 if a == b else abs(a - b)
            self.largest = max(self.largest, math.inf if math.isnan(gap) else gap)

    def readings(self, fast: Sequence[Reading], slow: Sequence[Reading]) -> None:
        """Compare log-probabilities of the answers and most likely tokens."""
        for a, b in zip(fast, slow, strict=True):
            self.numbers(a.log_p, b.log_p)
            self.differing += sum(one != other for one, other in zip(a.predicted, b.predicted, strict=True))

    def scores(self, record: CaseRecord, slow: Sequence[tuple[Protocol, float]]) -> None:
        """Compare the scores of a case, which have to stand in one order."""
        if [score.protocol for score in record.scores] != [protocol for protocol, _ in slow]:
            raise InputError(f"{record.editor}: the engine and the slow path score other things.")
        self.numbers((score.value for score in record.scores), (value for _, value in slow))

    def texts(self, fast: Sequence[str], slow: Sequence[str]) -> None:
        """Compare texts."""
        others = sum(a != b for a, b in zip(fast, slow, strict=True))
        self.differing += others
        self.words |= others > 0

    def check(self, what: str, tolerance: float = TOLERANCE) -> None:
        """Refuse a pair that is not equal; times of different work say nothing.

        Raises:
            InputError: If the largest difference is above the tolerance, or a text is another.
        """
        if self.words:
            raise InputError(f"{what}: the engine and the slow path write other texts, so their times say nothing.")
        if not self.largest <= tolerance:
            raise InputError(
                f"{what}: the engine and the slow path differ by {self.largest:.2g} in a log-probability or score; at "
                f"most {tolerance:.0e} was expected, so their times say nothing."
            )
