"""What intervals cover, by exact sums and by simulation: `python -m tests.benchmark.coverage` prints all of it.

One run: n answers, each right with probability p. Several seeds: answer i under seed s is right where

    mu + a_i + b_s + e_si > 0,    a, b, e normal with variances that sum to 1,    Phi(mu) = p

so that the mean is p exactly, cases are right more or less often (half of the variance that seeds leave is theirs), and
the means of seeds have the standard deviation that is asked for.
"""

from collections.abc import Callable, Iterator
from math import comb
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, stdtrit

from instructedit.benchmark.results.crossed import Spread, layout, t_interval, wilson
from instructedit.benchmark.results.statistics import UNIT, clopper_pearson, seeded, unseen

Ends = tuple[NDArray[np.float64], NDArray[np.float64]]
Z = NormalDist().inv_cdf(0.975)


def wilson_of_run(right: int, n: int) -> tuple[float, float]:
    """Wilson's interval, which was weighed and not taken for one run."""
    share, more = right / n, 1 + Z**2 / n
    half = Z / more * np.sqrt(share * (1 - share) / n + Z**2 / (4 * n * n))
    return (share + Z**2 / (2 * n)) / more - half, (share + Z**2 / (2 * n)) / more + half


def percentile(right: int, n: int) -> tuple[float, float]:
    """The percentile bootstrap, which was there before; its resamples are binomial."""
    if right in (0, n):
        return right / n, right / n
    low, high = np.quantile(seeded("coverage").binomial(n, right / n, 10_000) / n, [0.025, 0.975])
    return float(low), float(high)


def of_run(p: float, n: int, interval: Callable[[int, int], tuple[float, float]]) -> tuple[float, float]:
    """Return coverage and mean width, exactly: a sum over the numbers of right answers."""
    covered = width = 0.0
    for right in range(n + 1):
        weight = comb(n, right) * p**right * (1 - p) ** (n - right)
        low, high = interval(right, n)
        covered += weight * (low - 1e-12 <= p <= high + 1e-12)
        width += weight * (high - low)
    return covered, width


def seed_deviation(p: float, share: float) -> float:
    """Standard deviation of the means of seeds where `share` is the standard deviation of b."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    means = ndtr((NormalDist().inv_cdf(p) + share * nodes) / np.sqrt(1 - share * share))
    return float(np.sqrt((weights / weights.sum() * (means - p) ** 2).sum()))


def answers(p: float, deviation: float, times: int, seeds: int, cases: int) -> NDArray[np.float64]:
    """Draw right and wrong answers `[times, S, N]`."""
    share = brentq(lambda value: seed_deviation(p, value) - deviation, 1e-9, 0.999)
    rng, rest = seeded(f"{p}|{deviation}|{seeds}|{cases}"), np.sqrt((1 - share * share) / 2)
    latent = NormalDist().inv_cdf(p) + rest * rng.standard_normal((times, 1, cases))
    latent = latent + share * rng.standard_normal((times, seeds, 1))
    return (latent + rest * rng.standard_normal((times, seeds, cases)) > 0).astype(np.float64)


def _filled(ends: Ends, spread: Spread, cases: int) -> Ends:
    """Put in what is given where nothing varies."""
    low, high = (end.copy() for end in ends)
    for place in np.flatnonzero(spread.variance == 0):
        _, low[place], high[place], *_ = unseen(float(spread.mean[place]), cases)
    return low, high


def crossed(values: NDArray[np.float64]) -> Ends:
    """What `crossed_mean` gives each."""
    spread = layout(values)
    with np.errstate(all="ignore"):
        return _filled(wilson(spread), spread, values.shape[2])


def crossed_t(values: NDArray[np.float64]) -> Ends:
    """The t interval with the same variance, cut at 0 and 1."""
    spread = layout(values)
    return _filled(t_interval(spread, UNIT), spread, values.shape[2])


def t_over_seeds(values: NDArray[np.float64]) -> Ends:
    """t over the means of seeds, as if the cases were all there are."""
    _, seeds, cases = values.shape
    means = values.mean(axis=2)
    half = stdtrit(seeds - 1, 0.975) * means.std(axis=1, ddof=1) / np.sqrt(seeds)
    spread = Spread(means.mean(axis=1), half**2, half)
    return _filled((spread.mean - half, spread.mean + half), spread, cases)


def two_level(values: NDArray[np.float64]) -> Ends:
    """The bootstrap that draws seeds and draws cases, which was there before, of 1,000 resamples."""
    _, seeds, cases = values.shape
    rng = seeded("two-level")
    by_case = rng.multinomial(cases, np.full(cases, 1 / cases), 1_000) / cases
    by_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), 1_000) / seeds
    low, high = np.quantile(np.einsum("rsk,ks->rk", values @ by_case.T, by_seed), [0.025, 0.975], axis=1)
    return low, high


class Cell(NamedTuple):
    """A cell of the table of several seeds."""

    p: float
    cases: int
    deviation: float


CELLS = [Cell(p, n, sd) for p in (0.5, 0.8, 0.95) for n in (20, 100, 200) for sd in (0.008, 0.035, 0.06, 0.12)]
KINDS: dict[str, Callable[[NDArray[np.float64]], Ends]] = {
    "two-level bootstrap (before)": two_level,
    "t over seeds": t_over_seeds,
    "crossed, t": crossed_t,
    "crossed, Wilson (now)": crossed,
}


def of_seeds(cell: Cell, times: int, kind: Callable[[NDArray[np.float64]], Ends], seeds: int = 4) -> float:
    """Return the share of draws whose interval holds p."""
    low, high = kind(answers(cell.p, cell.deviation, times, seeds, cell.cases))
    return float(((low - 1e-12 <= cell.p) & (cell.p <= high + 1e-12)).mean())


def tables(times: int = 2_000) -> Iterator[str]:
    """Yield both tables as Markdown."""
    kinds = {"bootstrap (before)": percentile, "Wilson": wilson_of_run, "Clopper-Pearson (now)": clopper_pearson}
    yield f"| n | p | {' | '.join(kinds)} |"
    yield "| ---: | ---: |" + " ---: |" * len(kinds)
    for n in (12, 20, 100):
        for p in (0.5, 0.9, 0.95, 0.99):
            found = (of_run(p, n, kind) for kind in kinds.values())
            yield f"| {n} | {p} | {' | '.join(f'{covered:.3f} ({100 * width:.0f})' for covered, width in found)} |"
    yield ""
    yield f"| p | n | sd of seeds | {' | '.join(KINDS)} |"
    yield "| ---: | ---: | ---: |" + " ---: |" * len(KINDS)
    for cell in CELLS:
        found = (of_seeds(cell, times // 4 if kind is two_level else times, kind) for kind in KINDS.values())
        shares = " | ".join(f"{share:.3f}" for share in found)
        yield f"| {cell.p} | {cell.cases} | {100 * cell.deviation:g} | {shares} |"


if __name__ == "__main__":
    for line in tables():
        print(line, flush=True)  # noqa: T201
