"""Intervals and tests over cases: percentile bootstrap and sign-flip permutation.

Cases are the unit that is resampled, never probes: the probes of one case share one edit and are not independent. All
randomness is seeded from the key of the table cell by sha256, and values are sorted before use: the same numbers in any
order, on any machine, in any run give the same interval.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
"""Bootstrap resamples and random flips: the ends of a 95 % interval are then good to a few hundredths of its width."""
EXACT_FLIPS = 12
"""Up to so many non-zero differences all 2^n sign patterns are tried (4,096 at most)."""
_BLOCK = 1 << 20
"""Resampled values held in memory at once (8 MB)."""


class Interval(NamedTuple):
    """A mean over cases with its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int


class Paired(NamedTuple):
    """The mean difference of two editors over shared cases, its 95 % interval and its p-value."""

    difference: float
    low: float
    high: float
    n: int
    p: float


def bootstrap(values: Sequence[float], key: str) -> Interval:
    """Mean over cases and its 95 % percentile bootstrap interval.

        b_k = mean of n values drawn with replacement, k = 1 .. 10,000;    low, high = 2.5 % and 97.5 % quantile of b

    If all values are equal, and so always for n = 1, low = high = mean: one case says nothing about the spread, read
    its n.

    Args:
        values: One value per case `[n]`, in any order.
        key: Names the cell; seeds the draws.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.

    Raises:
        ValueError: If there is no value.
    """
    if not values:
        raise ValueError("An interval of no cases is undefined.")
    n = len(values)
    if min(values) == max(values):
        return Interval(values[0], values[0], values[0], n)
    means = _resampled_means(np.sort(np.asarray(values, dtype=np.float64)), seeded(key))
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(math.fsum(values) / n, float(low), float(high), n)


def two_level(values: NDArray[np.float64], cases: Sequence[str]) -> Interval:
    """Mean over seeds and cases and its 95 % percentile bootstrap interval, seeds and cases both resampled.

        b_k = 1 / (S N) sum_s sum_i u_ks c_ki v_si,    u_k ~ Multinomial(S; 1/S ..),  c_k ~ Multinomial(N; 1/N ..)
        low, high = 2.5 % and 97.5 % quantile of b_k, k = 1 .. 10,000

    All seeds are evaluated on the same cases, so the two are crossed and not nested: a resample draws seeds, and draws
    cases once for all of them. To draw the cases anew within each seed would count an editor without any randomness,
    run under four seeds, as four times the evidence. With one seed, or where all seeds are equal, it is the bootstrap
    over cases. With few seeds it is too narrow as to seeds: the variance between S drawn seeds is (S - 1) / S of that
    between seeds, three quarters with four.

    Args:
        values: One value per seed and case `[S, N]`; for a comparison the paired differences.
        cases: Ids of the cases `[N]`, sorted; they seed the draws, so all rows of a table are drawn alike.

    Returns:
        The interval; its `n` is N.

    Source: the pigeonhole bootstrap of crossed factors, Owen 2007, arXiv 0712.1111.

    Raises:
        ValueError: If there is no value.
    """
    return two_level_each(values[None], cases)[0]


def two_level_each(values: NDArray[np.float64], cases: Sequence[str]) -> list[Interval]:
    """Return `two_level` of several rows that are scored on the same cases, with one pass over the draws.

    Args:
        values: One value per row, seed and case `[rows, S, N]`.
        cases: Ids of the cases `[N]`, sorted.

    Raises:
        ValueError: If there is no value.
    """
    if not values.size:
        raise ValueError("An interval of no cases is undefined.")
    # Two machines add the products in different orders; what differs between them stands behind the twelfth place.
    ends = np.quantile(resampled(values, cases), [0.025, 0.975], axis=0).round(12)
    return [
        Interval(float(row[0, 0]), float(row[0, 0]), float(row[0, 0]), values.shape[2])
        if row.min() == row.max()
        else Interval(math.fsum(row.ravel()) / row.size, float(low), float(high), values.shape[2])
        for row, low, high in zip(values, *ends, strict=True)
    ]


def resampled(values: NDArray[np.float64], cases: Sequence[str]) -> NDArray[np.float64]:
    """Return the means b_k of `two_level` for several rows, `[RESAMPLES, rows]`.

    The draws depend on the cases and on the number of seeds alone, so for two rows on the same cases the difference
    of what this returns for each is the bootstrap of their paired difference.

    Args:
        values: One value per row, seed and case `[rows, S, N]`.
        cases: Ids of the cases `[N]`, sorted.
    """
    rows, seeds, n = values.shape
    name = hashlib.sha256("\n".join(cases).encode()).hexdigest()
    flat = values.reshape(rows * seeds, n).T
    drawn, block = _draws(f"cases|{name}", n), max(1, _BLOCK // n)
    by_seed = np.concatenate([drawn[start : start + block] / n @ flat for start in range(0, RESAMPLES, block)])
    means: NDArray[np.float64] = np.einsum(
        "ks,krs->kr", _draws(f"seeds|{seeds}", seeds) / seeds, by_seed.reshape(RESAMPLES, rows, seeds)
    )
    return means


def resampled_over(
    values: Sequence[NDArray[np.float64]], counted: NDArray[np.bool_], cases: Sequence[str]
) -> list[NDArray[np.float64]]:
    """Return the means b_k of several rows over a part of the cases, drawn with all cases: `[RESAMPLES]` for each row.

        b_k = sum_s u_ks / S  sum_i c_ki m_i v_si / sum_i c_ki m_i,    m_i = 1 for the cases that count, else 0

    The draws are those of all cases, so any number of parts needs one drawing. NaN where no such case was drawn.

    Args:
        values: One value per seed and case `[S, N]` for each row; of cases that do not count any number.
        counted: Whether a case counts `[N]`.
        cases: Ids of all cases `[N]`, sorted.
    """
    n = len(cases)
    name = hashlib.sha256("\n".join(cases).encode()).hexdigest()
    drawn, block = _draws(f"cases|{name}", n), max(1, _BLOCK // n)
    columns = np.concatenate([counted[None], *(np.where(counted, row, 0.0) for row in values)]).T
    sums = np.concatenate([drawn[start : start + block] @ columns for start in range(0, RESAMPLES, block)])
    with np.errstate(invalid="ignore"):
        means = sums[:, 1:] / sums[:, :1]
    ends = np.cumsum([len(row) for row in values])[:-1]
    return [
        np.einsum("ks,ks->k", _draws(f"seeds|{of_row.shape[1]}", of_row.shape[1]) / of_row.shape[1], of_row)
        for of_row in np.split(means, ends, axis=1)
    ]


@lru_cache(maxsize=6)
def _draws(key: str, n: int) -> NDArray[np.uint16]:
    """Return how often each of n things is drawn in each resample `[RESAMPLES, n]`; 20 kB for each thing."""
    generator, block = seeded(key), max(1, _BLOCK // n)
    sizes = (min(block, RESAMPLES - start) for start in range(0, RESAMPLES, block))
    return np.concatenate([generator.multinomial(n, np.full(n, 1 / n), size).astype(np.uint16) for size in sizes])


def paired(first: Mapping[str, float], second: Mapping[str, float], key: str) -> Paired | None:
    """Compare two editors on the cases both have: mean of first minus second, bootstrap interval, sign-flip p-value.

    Args:
        first: Value by case id.
        second: Value by case id.
        key: Names the comparison; seeds the draws.

    Returns:
        The comparison, or None if no case is shared.
    """
    differences = [first[case] - second[case] for case in sorted(first.keys() & second.keys())]
    if not differences:
        return None
    interval = bootstrap(differences, key)
    return Paired(*interval, p=sign_flip(differences, key))


def sign_flip(differences: Sequence[float], key: str) -> float:
    """Two-sided sign-flip permutation test of a zero mean difference.

        p = share of sign patterns s in {-1, +1}^n with |sum_i s_i d_i| >= |sum_i d_i|

    Exact over all patterns where at most 12 differences are not zero (a zero changes no sum), else over 10,000 random
    ones with the +1 correction, p = (1 + hits) / (1 + 10,000), which is never zero.

    Args:
        differences: One per case `[n]`, in any order.
        key: Names the comparison; seeds the flips.

    Source: Fisher's randomisation test for paired data; +1 correction of Phipson and Smyth (2010), arXiv 1603.05766.
    """
    total = abs(math.fsum(differences))
    magnitudes = np.sort(np.abs(np.asarray([d for d in differences if d != 0.0], dtype=np.float64)))
    # Patterns that tie with the observed sum must count as hits although their sums round differently.
    least = total - 1e-12 * float(magnitudes.sum())
    if len(magnitudes) <= EXACT_FLIPS:
        sums = [
            abs(math.fsum(s * d for s, d in zip(signs, magnitudes, strict=True))) for signs in _signs(len(magnitudes))
        ]
        return sum(s >= least for s in sums) / len(sums)
    sums_drawn = _signed_sums(magnitudes, seeded(f"{key}|flip"))
    return (1 + int((np.abs(sums_drawn) >= least).sum())) / (1 + RESAMPLES)


def _signed_sums(magnitudes: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """Return `RESAMPLES` sums of the magnitudes, each under random signs `[RESAMPLES]`."""
    n = len(magnitudes)
    distinct, counts = np.unique(magnitudes, return_counts=True)
    if 4 * len(distinct) <= n:
        # Only how many of the equal magnitudes turn positive matters, so one binomial draw stands for all of them.
        sums = np.zeros(RESAMPLES)
        for magnitude, count in zip(distinct, counts, strict=True):
            sums += magnitude * (2 * generator.binomial(count, 0.5, RESAMPLES) - count)
        return sums
    # A random bit is a sign: 6 ms, where 240 different magnitudes take 45 ms of binomial draws.
    block = max(1, _BLOCK // n)
    parts = []
    for start in range(0, RESAMPLES, block):
        size = min(block, RESAMPLES - start)
        drawn = np.frombuffer(generator.bytes((size * n + 7) // 8), dtype=np.uint8)
        parts.append(2 * (np.unpackbits(drawn, count=size * n).reshape(size, n) @ magnitudes) - magnitudes.sum())
    return np.concatenate(parts)


def _signs(n: int) -> "product[tuple[int, ...]]":
    return product((-1, 1), repeat=n)


def _resampled_means(values: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """Return the means of `RESAMPLES` draws of n values with replacement `[RESAMPLES]`."""
    n = len(values)
    distinct, counts = np.unique(values, return_counts=True)
    if 4 * len(distinct) <= n:
        # How often each distinct value is drawn is multinomial: the same distribution, and for right/wrong scores far
        # cheaper.
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
    """Return a generator that a key seeds alike in every process."""
    # Not hash(): it differs from process to process.
    return np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]))
