"""Which of two rows is better, and when they tie: the one decision that every report uses.

Two rows of a column differ where p, adjusted by Holm over all pairs of rows that were compared in that column, is under
0.05; the sign of their difference decides which is better. Otherwise they tie. The adjusted p is computed once, with
the comparisons, and recorded as `p_holm` in `summary.json` and `suite.json`.

    p'_(i) = max over j <= i of min(1, (m - j + 1) p_(j)),    p_(1) <= .. <= p_(m) the p-values of a family

Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Literal, TypeVar

from .records import LOWER_IS_BETTER, Comparison, Measure, Protocol
from .suite_results import SeedComparison, SeedPair

ALPHA = 0.05
"""Share of columns without any difference in which some pair is still decided (family-wise error rate)."""

Decision = Literal["better", "tie", "worse"]
"""Of two rows: the first is shown to be better, no difference is shown, the first is shown to be worse."""
Tested = Comparison | SeedPair | SeedComparison
T = TypeVar("T", Comparison, SeedPair, SeedComparison)


def decide(difference: float, p: float | None, protocol: Protocol) -> Decision:
    """Decide between two rows of a column by the mean of the first less that of the second.

    `p` is adjusted over its family, and None if it was not tested. Less KL and less reversion are better; of fluency
    neither more nor less.
    """
    if protocol == "ngram_entropy" or p is None or p >= ALPHA or difference == 0:
        return "tie"
    return "better" if (difference > 0) != (protocol in LOWER_IS_BETTER) else "worse"


def decided(found: Tested) -> Decision:
    """Return `decide` of a comparison of a run or of a suite."""
    return decide(found.difference, found.p_holm, found.protocol)


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values of one family adjusted by Holm, in the given order."""
    adjusted, most = [0.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        most = max(most, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = most
    return adjusted


def adjust(found: Iterable[T]) -> tuple[T, ...]:
    """Return comparisons with `p_holm`; a family is what shares task, stage, measure, kind of prompts and protocol."""
    found = list(found)
    families: dict[Hashable, list[int]] = defaultdict(list)
    for number, one in enumerate(found):
        if one.p is not None:
            families[family(one)].append(number)
    for places in families.values():
        adjusted = holm([found[place].p or 0.0 for place in places])
        for place, p in zip(places, adjusted, strict=True):
            found[place] = found[place].model_copy(update={"p_holm": p})
    return tuple(found)


def family(found: Tested) -> tuple[str, str, Measure, bool, Protocol]:
    """Return the column that a comparison is of: p-values are adjusted over all pairs of it."""
    return found.task, found.stage, found.measure, found.derived, found.protocol


def family_sizes(found: Iterable[Tested]) -> tuple[int, int]:
    """Return the least and the most pairs that a column has; (0, 0) where there is none."""
    counts = Counter(family(one) for one in found if one.protocol != "ngram_entropy").values()
    return min(counts, default=0), max(counts, default=0)


def by_definition(measure: Measure, protocol: Protocol) -> bool:
    """Return whether the unedited model has a number by definition: the reference is the model itself."""
    return measure == "locality" or protocol == "z_topic"
