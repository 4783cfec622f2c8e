"""What was measured of one editor in one phase, and how it is summed up."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from .compare import Difference


@dataclass(slots=True)
class Samples:
    """Seconds of one case, repeat by repeat.

    Attributes:
        fast: Of the engine.
        slow: Of the slow path in the same repeats; empty if it was not run.
        peak: Most memory that the engine took, in bytes, seen in the first repeat.
        difference: Between what both gave.
    """

    fast: list[float] = field(default_factory=list)
    slow: list[float] = field(default_factory=list)
    peak: int | None = None
    difference: Difference | None = None

    @property
    def compared(self) -> Difference:
        """The difference, which begins at nothing."""
        self.difference = self.difference or Difference()
        return self.difference


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high
