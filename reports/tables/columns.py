"""Columns of numbers: what identifies one, how its numbers are written, and the order of columns and stages."""

import re
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple, get_args

from instructedit.benchmark.results.records import Mean, Measure, Method, Protocol
from instructedit.benchmark.results.suite_results import SeedComparison, SeedMean, SeedPair

from .captions import DAGGER

Number = Mean | SeedMean | SeedComparison | SeedPair
"""A number of a column: a mean or a paired difference."""

SECTIONS: tuple[tuple[str, tuple[Protocol, ...]], ...] = (
    ("Sentiment (%)", ("edit_success", "z_sent", "z_topic")),
    ("Exact match, teacher forced (%)", ("teacher_forced_exact",)),
    ("Token share, teacher forced (%)", ("teacher_forced_token",)),
    ("Free generation (%)", ("free_generation",)),
    ("Old answer (%)", ("probability_order", "reversion")),
    ("Drift and fluency", ("kl_divergence", "ngram_entropy")),
)
_SHORT: dict[Protocol, str] = {
    "edit_success": " ES",
    "z_sent": " z_sent",
    "z_topic": " z_topic",
    "probability_order": " P(new) > P(old)",
    "reversion": " reversion (lower is better)",
    "kl_divergence": " KL (nats, lower is better)",
    "ngram_entropy": " (n-gram entropy)",
}
"""Added to the measure in a column's head where the table's title does not name the protocol."""


class Column(NamedTuple):
    """Identity of a column: one measure, one protocol, either derived or dataset-provided prompts."""

    measure: Measure
    derived: bool
    protocol: Protocol

    def order(self) -> tuple[int, bool, int]:
        """Return the sort key: order of the records, dataset-provided prompts before derived ones."""
        return get_args(Measure).index(self.measure), self.derived, get_args(Protocol).index(self.protocol)

    @property
    def head(self) -> str:
        """Text above the column."""
        return f"{self.measure.capitalize()}{DAGGER if self.derived else ''}{_SHORT.get(self.protocol, '')}"

    def number(self, value: float, sign: str = "") -> str:
        """Return a value as tables show it: percent, except KL (nats) and entropy."""
        scale, digits = {"kl_divergence": (1, 3), "ngram_entropy": (1, 1)}.get(self.protocol, (100, 1))
        # Adding zero turns -0.0 into 0.0.
        return f"{round(scale * value, digits) + 0.0:{sign}.{digits}f}"


def column_of(number: Number) -> Column:
    """Return the column of a number."""
    return Column(number.measure, number.derived, number.protocol)


def stages(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return stages in order and each once, with the suffix that it adds to titles.

    `after-edit` comes first, then numbers of edits in numerical order, then the rest. `single` has no suffix.
    """
    found = set(names)
    counts = {stage: int(number[0]) for stage in found if (number := re.findall(r"\d+", stage))}
    ordered = sorted(found, key=lambda stage: (stage != "after-edit", stage not in counts, counts.get(stage, 0), stage))
    return [(stage, "" if stage == "single" else f", stage {stage}") for stage in ordered]


def interval(
    column: Column, low: float | None, high: float | None, sign: str = "", method: Method | None = None
) -> str:
    """Return an interval in the units of its column, or words why there is none."""
    if low is None or high is None:
        return "by definition" if method == "definition" else "no interval"
    return f"[{column.number(low, sign)}, {column.number(high, sign)}]"


def minus(number: str) -> str:
    """Return a number or an interval with minus signs in place of hyphens, for print."""
    return number.replace("-", "\N{MINUS SIGN}")


def p_words(p: float | None) -> str:
    """Return an adjusted p-value as the tables show it."""
    return "" if p is None else "p<0.001" if p < 0.001 else f"p={p:.3f}"


def spread(column: Column, values: Sequence[float], sign: str = "") -> str:
    """Return the lowest and the highest of several values, in the units of their column."""
    return f"{column.number(min(values), sign)}..{column.number(max(values), sign)}"


def deviation(column: Column, values: Sequence[float]) -> str:
    """Return the standard deviation over seeds in words; empty for one seed."""
    found = seed_sd(values)
    return "" if found is None else f"sd {column.number(found)}"


def seed_sd(values: Sequence[float]) -> float | None:
    """Return the standard deviation of the means of several seeds; None for one seed."""
    return statistics.stdev(values) if len(values) > 1 else None
