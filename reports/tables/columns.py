"""What a column of numbers is, how its numbers are written, and in which order columns and stages stand."""

import re
import statistics
import typing
from collections.abc import Iterable, Sequence
from typing import NamedTuple, get_args

from instructedit.benchmark.results.records import Comparison, Mean, Measure, Method, Protocol
from instructedit.benchmark.results.suite_results import SeedComparison, SeedMean, SeedPair

from .captions import DAGGER

Number = Mean | Comparison | SeedMean | SeedComparison | SeedPair
"""What a column is made of: means, or paired differences, of a run or over seeds."""

SECTIONS: tuple[tuple[str, tuple[Protocol, ...]], ...] = (
    ("Sentiment (%)", ("edit_success", "z_sent", "z_topic")),
    ("Exact match, teacher forced (%)", ("teacher_forced_exact",)),
    ("Token share, teacher forced (%)", ("teacher_forced_token",)),
    ("Free generation (%)", ("free_generation",)),
    ("Drift and fluency", ("kl_divergence", "ngram_entropy")),
)
_SHORT: dict[Protocol, str] = {
    "edit_success": " ES",
    "z_sent": " z_sent",
    "z_topic": " z_topic",
    "kl_divergence": " KL (nats, lower is better)",
    "ngram_entropy": " (n-gram entropy)",
}
"""What a column's head adds to the measure where the table's title does not name one protocol."""


class Staged(typing.Protocol):
    """Whatever is of one stage."""

    @property
    def stage(self) -> str:
        """When it was scored."""


class Column(NamedTuple):
    """What a column of numbers is: never more than one protocol, never derived and given together."""

    measure: Measure
    derived: bool
    protocol: Protocol

    def order(self) -> tuple[int, bool, int]:
        """Sort key: as the records list measures and protocols, given before derived."""
        return get_args(Measure).index(self.measure), self.derived, get_args(Protocol).index(self.protocol)

    @property
    def head(self) -> str:
        """Words above the column."""
        return f"{self.measure.capitalize()}{DAGGER if self.derived else ''}{_SHORT.get(self.protocol, '')}"

    def number(self, value: float, sign: str = "") -> str:
        """Return a value as the table shows it: percent, but nats and entropy as they are."""
        scale, digits = {"kl_divergence": (1, 3), "ngram_entropy": (1, 1)}.get(self.protocol, (100, 1))
        # Adding zero turns -0.0 into 0.0.
        return f"{round(scale * value, digits) + 0.0:{sign}.{digits}f}"


def column_of(number: Number) -> Column:
    """Return the column a number stands in."""
    return Column(number.measure, number.derived, number.protocol)


def stages(numbers: Iterable[Staged]) -> list[tuple[str, str]]:
    """Return the stages that numbers are of, each with what it adds to the title of its tables.

    Right after the edit comes first, then numbers of edits as people count, `after-10` behind `after-9`, then all. An
    edit on its own, the rule, is not named.
    """
    found = {number.stage for number in numbers}
    counts = {stage: int(number[0]) for stage in found if (number := re.findall(r"\d+", stage))}
    ordered = sorted(found, key=lambda stage: (stage != "after-edit", stage not in counts, counts.get(stage, 0), stage))
    return [(stage, "" if stage == "single" else f", stage {stage}") for stage in ordered]


def interval(
    column: Column, low: float | None, high: float | None, sign: str = "", method: Method | None = None
) -> str:
    """Return an interval in the units of its column, or in words why there is none."""
    if low is None or high is None:
        return "by definition" if method == "definition" else "no interval"
    return f"[{column.number(low, sign)}, {column.number(high, sign)}]"


def p_words(p: float | None) -> str:
    """Return an adjusted p-value as the tables show it."""
    return "" if p is None else "p<0.001" if p < 0.001 else f"p={p:.3f}"


def spread(column: Column, values: Sequence[float], sign: str = "") -> str:
    """Return the lowest and the highest of several values, in the units of their column."""
    return f"{column.number(min(values), sign)}..{column.number(max(values), sign)}"


def deviation(column: Column, values: Sequence[float]) -> str:
    """Return the standard deviation of the means of several seeds; empty for one."""
    found = seed_sd(values)
    return "" if found is None else f"sd {column.number(found)}"


def seed_sd(values: Sequence[float]) -> float | None:
    """Return the standard deviation of the means of several seeds; None for one."""
    return statistics.stdev(values) if len(values) > 1 else None
