"""Intervals and tests over the cases of one run: Clopper-Pearson, percentile bootstrap, sign flips.

Cases are resampled, never probes: the probes of one case share one edit and are not independent. All random draws are
seeded from a key or from the number of cases by sha256, and values are sorted before use: the same numbers in any
order, on any machine, in any run give the same interval. Several seeds: `crossed.py`. scipy's bootstrap and permutation
test are not used because they guarantee none of this.
"""

import hashlib
import math
from collections.abc import Sequence
from statistics import NormalDist, fmean
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .records import Method, Protocol

RESAMPLES = 10_000
"""Bootstrap resamples and random flips: the ends of a 95 % interval are then good to a few hundredths of its width."""
EXACT_FLIPS = 12
"""Up to so many non-zero differences all 2^n sign patterns are tried (4,096 at most)."""
_BLOCK = 1 << 20
"""Resampled values held in memory at once (8 MB)."""
_TAIL = 0.025
"""Probability outside either end of a 95 % interval."""

Bounds = tuple[float, float]
"""The least and the most that a value of one case can be; infinite where there is no such number."""
UNIT: Bounds = (0.0, 1.0)
"""Bounds of every score but KL and entropy."""


class Interval(NamedTuple):
    """A mean over cases with its 95 % interval; the ends are None if the values do not determine their spread."""

    mean: float
    low: float | None
    high: float | None
    n: int
    method: Method


class Paired(NamedTuple):
    """The mean difference of two editors over shared cases, its 95 % interval and its p-value."""

    difference: float
    low: float | None
    high: float | None
    n: int
    method: Method
    p: float


def bounds_of(protocol: Protocol) -> Bounds:
    """Return the bounds of a case's value."""
    return (0.0, math.inf) if protocol in ("kl_divergence", "ngram_entropy") else UNIT


def span(bounds: Bounds) -> Bounds:
    """Return the bounds of the difference of two values."""
    low, high = bounds
    return low - high, high - low


def mean_interval(values: Sequence[float], key: str, bounds: Bounds = UNIT) -> Interval:
    """Return the mean over cases `[n]`, in any order, and its 95 % interval; the key seeds the draws of the bootstrap.

    Values of 0 and 1 have Clopper and Pearson's interval, equal values `unseen`, others the percentile bootstrap.
    Decision 8 has the reasons and the measured coverage.

    Raises:
        ValueError: If there is no value.
    """
    if not values:
        raise ValueError("An interval of no cases is undefined.")
    n = len(values)
    if bounds == UNIT and all(value in (0.0, 1.0) for value in values):
        return Interval(fmean(values), *clopper_pearson(round(math.fsum(values)), n), n, "clopper_pearson")
    if min(values) == max(values):
        return unseen(values[0], n, bounds)
    means = _resampled_means(np.sort(np.asarray(values, dtype=np.float64)), seeded(key))
    low, high = np.quantile(means, [_TAIL, 1 - _TAIL])
    return Interval(fmean(values), float(low), float(high), n, "bootstrap")


def clopper_pearson(right: int, n: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a share of which `right` of `n` cases were counted.

        low, high = 2.5 % quantile of Beta(k, n - k + 1) and 97.5 % quantile of Beta(k + 1, n - k)

    Source: Clopper and Pearson, Biometrika 26, 1934.
    """
    from scipy.special import betaincinv  # imported here because it takes a third of a second

    if right in (0, n):
        share = 1 - _TAIL ** (1 / n)
        return (0.0, round(share, 12)) if right == 0 else (round(1 - share, 12), 1.0)
    # Nine places: versions of scipy agree to nine.
    ends = betaincinv([right, right + 1], [n - right + 1, n - right], [_TAIL, 1 - _TAIL])
    return round(float(ends[0]), 9), round(float(ends[1]), 9)


def unseen(value: float, n: int, bounds: Bounds = UNIT) -> Interval:
    """Return the interval of a mean where all n cases have the same value.

        low = v + u (least - v),    high = v + u (most - v),    u = 1 - 0.025^(1/n)

    Any other value has at most the share u of all cases, or one of n would have had it (Clopper and Pearson's bound of
    0 of n; the "rule of three" at 95 %, one-sided), and moves the mean to a bound at most. At 0 and at 1 this is
    Clopper and Pearson's interval. Where a bound is infinite there is none.

    Source: Hanley and Lippman-Hand, If Nothing Goes Wrong, Is Everything All Right?, JAMA 249, 1983.
    """
    least, most = bounds
    if math.isinf(least) or math.isinf(most):
        return Interval(value, None, None, n, "none")
    share = 1 - _TAIL ** (1 / n)
    low, high = (round(value + share * (bound - value), 12) for bound in bounds)
    return Interval(value, low, high, n, "rule_of_three")


def compare(differences: Sequence[float], bounds: Bounds = UNIT) -> Paired:
    """Return the mean of paired differences, `[n]` of them, with the p-value of `sign_flip` and an interval.

    Where all differences are equal the interval is that of `unseen`, where they are -1, 0 and 1 that of `bonett_price`,
    elsewhere that of the sign-flip test. All but the first leave 0 out exactly where p < 0.05.
    """
    n, mean = len(differences), fmean(differences)
    p, low, high = sign_flip(differences)
    if min(differences) == max(differences):
        return Paired(*unseen(differences[0], n, span(bounds)), p)
    if bounds == UNIT and all(difference in (-1.0, 0.0, 1.0) for difference in differences):
        low, high = bonett_price(differences.count(1.0), differences.count(-1.0), n)
        if p >= 0.05:
            # The exact test is a little stricter: with six differences all must agree, with five it never rejects.
            low, high = min(low, 0.0), max(high, 0.0)
        return Paired(mean, low, high, n, "bonett_price", p)
    if math.isinf(least := span(bounds)[0]) and math.isinf(low):
        return Paired(mean, None, None, n, "none", p)
    return Paired(mean, max(low, least), min(high, -least), n, "sign_flip", p)


def bonett_price(wins: int, losses: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two shares of the same n cases.

        a = (wins + 1) / (n + 2),    b = (losses + 1) / (n + 2),    a - b +- 1.96 sqrt((a + b - (a - b)^2) / (n + 2))

    Source: Bonett and Price, Statistics in Medicine 31, 2012.
    """
    first, second = (wins + 1) / (n + 2), (losses + 1) / (n + 2)
    half = NormalDist().inv_cdf(1 - _TAIL) * math.sqrt((first + second - (first - second) ** 2) / (n + 2))
    return round(max(-1.0, first - second - half), 12), round(min(1.0, first - second + half), 12)


def sign_flip(differences: Sequence[float]) -> tuple[float, float, float]:
    """Return p of the sign-flip test of a zero mean of differences `[n]`, and the 95 % interval that agrees with it.

        p = share of sign patterns s in {-1, +1}^n with |sum_i s_i d_i| >= |sum_i d_i|
        low, high = 2.5 % and 97.5 % quantile, over the patterns, of the mean of the d_i with s_i = -1

    The interval holds every mean m for which the test of d_i - m does not give p < 0.05: flipping those with s_i = -1
    keeps the sum at least as large where their own mean is at most m. So 0 is outside of it exactly if p < 0.05. With
    five differences or fewer no mean is rejected, and it is infinite.

    Exact over all patterns where at most 12 differences are not zero (a zero changes no sum; how many zeros are flipped
    with them is drawn), else over 10,000 random ones with their opposites and the +1 correction, p = (1 + hits) / (1 +
    10,000), which is never zero.

    Source: Fisher's randomisation test for paired data; +1 correction of Phipson and Smyth (2010), arXiv 1603.05766;
    the interval is Hartigan's, Using Subsample Values as Typical Values, JASA 64, 1969.
    """
    # Twelve places, so that rounding of sums in another order is no difference.
    values = np.sort(np.asarray(differences, dtype=np.float64).round(12)) + 0.0
    total = math.fsum(values)
    # Mirrored if the second is better, so that both orders of comparison draw the same.
    mirrored = np.sort(-values) + 0.0
    symmetric = np.array_equal(values, mirrored)
    if turned := total < 0 or (total == 0 and values.tolist() > mirrored.tolist()):
        values, total = mirrored, -total
    tolerance = 1e-12 * max(1.0, float(np.abs(values).sum()))  # ties may differ by rounding
    generator = seeded(f"flips|{len(values)}")
    exact = np.count_nonzero(values) <= EXACT_FLIPS
    sums, counts = _flipped_all(values, generator) if exact else _flipped_drawn(values, generator)
    sums = np.where(np.abs(sums) <= tolerance, 0.0, sums)
    hits = (sums <= 0) | (sums >= total - tolerance)
    if exact:
        p = float(hits.mean())
    else:
        p = (1 + int(hits.sum())) / (1 + RESAMPLES)
        # The opposites, no flip at all, and its opposite.
        sums = np.concatenate([sums, total - sums, [0.0, total]])
        counts = np.concatenate([counts, len(values) - counts, [0, len(values)]])
    low, high = _ends(sums, counts)
    if symmetric:
        low, high = min(low, -high), max(high, -low)
    return p, *((-high, -low) if turned else (low, high))


def _ends(sums: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % quantile of means of flipped differences; a pattern that flips none has any mean."""
    rank = math.ceil(_TAIL * len(sums) - 1e-9) - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        means = (sums / counts).round(12)
    low = np.partition(np.where(counts == 0, -np.inf, means), rank)[rank]
    high = -np.partition(np.where(counts == 0, -np.inf, -means), rank)[rank]
    return float(low) + 0.0, float(high) + 0.0


def _flipped_all(
    values: NDArray[np.float64], generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return sum and number of what each pattern flips, over all patterns of what is not zero."""
    others = values[values != 0.0]
    zeros, patterns = len(values) - len(others), 1 << len(others)
    flips = (np.arange(patterns)[:, None] >> np.arange(len(others))) & 1
    sums, counts = flips @ others, flips.sum(axis=1)
    if zeros:
        again = -(-RESAMPLES // patterns)
        sums, counts = np.tile(sums, again), np.tile(counts, again)
        counts = counts + generator.binomial(zeros, 0.5, len(counts))
    return sums, counts


def _flipped_drawn(
    values: NDArray[np.float64], generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return sum and number of what each of `RESAMPLES` random patterns flips."""
    n = len(values)
    distinct, counts = np.unique(values, return_counts=True)
    sums, numbers = np.zeros(RESAMPLES), np.zeros(RESAMPLES, dtype=np.int64)
    if 4 * len(distinct) <= n:
        # Only the number of flips among equal differences matters, so one binomial draw replaces them.
        for value, count in zip(distinct, counts, strict=True):
            flipped = generator.binomial(count, 0.5, RESAMPLES)
            sums += value * flipped
            numbers += flipped
        return sums, numbers
    # A random bit is a sign: 6 ms, against 45 ms of binomial draws for 240 different values.
    block, both = max(1, _BLOCK // n), np.column_stack([values, np.ones(n)])
    for start in range(0, RESAMPLES, block):
        size = min(block, RESAMPLES - start)
        drawn = np.frombuffer(generator.bytes((size * n + 7) // 8), dtype=np.uint8)
        flips = np.unpackbits(drawn, count=size * n).reshape(size, n)
        sums[start : start + size], numbers[start : start + size] = (flips.astype(np.float64) @ both).T
    return sums, numbers


def _resampled_means(values: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """Return the means of `RESAMPLES` draws of n values with replacement `[RESAMPLES]`."""
    n = len(values)
    distinct, counts = np.unique(values, return_counts=True)
    if 4 * len(distinct) <= n:
        # The counts of the distinct values are multinomial: the same distribution, and far cheaper for binary scores.
        block, parts = max(1, _BLOCK // len(distinct)), []
        for start in range(0, RESAMPLES, block):
            drawn = generator.multinomial(n, counts / n, min(block, RESAMPLES - start))
            sums = np.zeros(len(drawn))
            for value, times in zip(distinct, drawn.T, strict=True):
                sums += value * times
            parts.append(sums / n)
        return np.concatenate(parts)
    block = max(1, _BLOCK // n)
    means = [
        values.take(generator.integers(0, n, (min(block, RESAMPLES - start), n))).mean(axis=1)
        for start in range(0, RESAMPLES, block)
    ]
    return np.concatenate(means)


def seeded(key: str) -> np.random.Generator:
    """Return a generator that a key seeds, the same in every process."""
    # hash() differs between processes.
    return np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]))
