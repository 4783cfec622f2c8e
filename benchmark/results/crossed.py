"""Intervals and tests over several seeds: every seed is evaluated on the same cases, so seeds and cases are crossed.

    y_si = m + a_s + c_i + e_si,    s = 1 .. S seeds,    i = 1 .. N cases
    Var(mean) = (max(MS_case, MS_rest) + max(MS_seed - MS_rest, 0)) / (S N)

Each mean square is that of the two-way layout without replication. Unclipped, this is (MS_seed + MS_case - MS_rest) /
(S N), the unbiased estimate; clipped, no component is negative, and it is 0 only if nothing varies. Its degrees of
freedom are Satterthwaite's,

    df = V^2 / (MS_seed^2 / (S - 1) + MS_case^2 / (N - 1) + MS_rest^2 / ((S - 1) (N - 1))),    V = S N Var(mean)

and S - 1 if MS_seed exceeds MS_case. A mean in [0, 1] has Wilson's interval for V's effective number of cases,
m (1 - m) / Var(mean), with the quantile of t; a difference has m +- t sqrt(Var(mean)) and the p-value of t. Decision 8
has the measured coverage.

Source: Cornfield and Tukey, Average Values of Mean Squares in Factorials, 1956; Satterthwaite, Biometrics Bulletin 2,
1946; Wilson, JASA 22, 1927.
"""

import math
from statistics import fmean
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .records import Method
from .statistics import UNIT, Bounds, Interval, Paired, compare, mean_interval, span, unseen

_Array = NDArray[np.float64]


class Spread(NamedTuple):
    """Means of several rows over seeds and cases, the variances of these means, and their degrees of freedom."""

    mean: _Array
    variance: _Array
    freedom: _Array


def crossed_mean(values: _Array, key: str, bounds: Bounds = UNIT) -> Interval:
    """Return the mean of values `[S, N]` over seeds and cases and its 95 % interval; its `n` is the number of cases.

    With one seed it is `statistics.mean_interval`; if nothing varies, or there is one case, `statistics.unseen`.
    """
    if len(values) == 1:
        return mean_interval(values[0].tolist(), key, bounds)
    if found := _alone(values, bounds):
        return found
    spread = layout(values[None])
    low, high = wilson(spread) if bounds == UNIT else t_interval(spread, bounds)
    method: Method = "crossed_wilson" if bounds == UNIT else "crossed_t"
    return Interval(fmean(values.ravel()), float(low[0]), float(high[0]), values.shape[1], method)


def crossed_difference(values: _Array, bounds: Bounds = UNIT) -> Paired:
    """Return the mean of paired differences `[S, N]`, its 95 % interval, and the p-value of t; bounds are of a value.

    With one seed it is `statistics.compare`; if nothing varies, or there is one case, the interval is that of
    `statistics.unseen` and p that of `statistics.sign_flip`.
    """
    if len(values) == 1:
        return compare(values[0].tolist(), bounds)
    if found := _alone(values, span(bounds)):
        return Paired(*found, compare(values.mean(axis=0).tolist(), bounds).p)
    spread = layout(values[None])
    low, high = (float(end[0]) for end in t_interval(spread, span(bounds)))
    return Paired(fmean(values.ravel()), low, high, values.shape[1], "crossed_t", p_value(spread))


def unpaired_seeds(ours: _Array, theirs: _Array, bounds: Bounds = UNIT) -> Paired:
    """Compare two rows on the same cases that were not run under the same seeds, `[S, N]` and `[S', N]`.

    Cases are paired: the variance is that of the differences of the means over seeds, plus, for each row, the part
    of its `layout` that its cases do not explain; of a row with one seed that part is unknown. Degrees of freedom are
    Satterthwaite's. Where no case differs from another it is `statistics.compare`.
    """
    differences = ours.mean(axis=0) - theirs.mean(axis=0)
    n = len(differences)
    if n == 1 or np.ptp(differences.round(12)) == 0:
        return compare(differences.round(12).tolist(), bounds)
    parts = [(float(differences.var(ddof=1)) / n, n - 1)]
    for values in (ours, theirs):
        if (seeds := len(values)) > 1:
            spread = layout(values[None])
            ms_case = seeds * float(values.mean(axis=0).var(ddof=1))
            parts.append((max(0.0, float(spread.variance[0]) - ms_case / (seeds * n)), seeds - 1))
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / free for part, free in parts)
    spread = Spread(*(np.array([value]) for value in (differences.mean(), variance, freedom)))
    low, high = (float(end[0]) for end in t_interval(spread, span(bounds)))
    return Paired(float(spread.mean[0]), low, high, n, "crossed_t", p_value(spread))


def p_value(spread: Spread) -> float:
    """Return the two-sided p-value of a zero mean; the variance is above 0."""
    from scipy.special import stdtr

    t = abs(float(spread.mean[0])) / math.sqrt(spread.variance[0])
    # Machines differ after the twelfth digit.
    return float(f"{2 * stdtr(spread.freedom[0], -t):.12g}")


def layout(values: _Array) -> Spread:
    """Return mean, variance and degrees of freedom of several rows, `[rows, S, N]` with S and N of two or more."""
    _, seeds, n = values.shape
    mean, by_seed, by_case = values.mean(axis=(1, 2)), values.mean(axis=2), values.mean(axis=1)
    ms_seed = n * ((by_seed - mean[:, None]) ** 2).sum(axis=1) / (seeds - 1)
    ms_case = seeds * ((by_case - mean[:, None]) ** 2).sum(axis=1) / (n - 1)
    rest = values - by_seed[:, :, None] - by_case[:, None, :] + mean[:, None, None]
    ms_rest = (rest**2).sum(axis=(1, 2)) / ((seeds - 1) * (n - 1))
    whole = np.maximum(ms_case, ms_rest) + np.maximum(ms_seed - ms_rest, 0)
    with np.errstate(invalid="ignore"):
        freedom = whole**2 / (ms_seed**2 / (seeds - 1) + ms_case**2 / (n - 1) + ms_rest**2 / ((seeds - 1) * (n - 1)))
    freedom = np.where(ms_seed > ms_case, seeds - 1, np.maximum(freedom, 1.0))
    return Spread(mean, whole / (seeds * n), freedom)


def t_interval(spread: Spread, bounds: Bounds) -> tuple[_Array, _Array]:
    """Return the ends of m +- t sqrt(Var), cut at the bounds."""
    half = _quantile(spread) * np.sqrt(spread.variance)
    return np.clip(spread.mean - half, *bounds).round(12) + 0.0, np.clip(spread.mean + half, *bounds).round(12) + 0.0


def wilson(spread: Spread) -> tuple[_Array, _Array]:
    """Return the ends of Wilson's interval of means in (0, 1), no variance 0, for their effective number of cases.

    low, high = (m + t^2 / 2k +- t sqrt(m (1 - m) / k + t^2 / 4k^2)) / (1 + t^2 / k),    k = m (1 - m) / Var
    """
    t2 = _quantile(spread) ** 2
    k = spread.mean * (1 - spread.mean) / spread.variance
    middle = spread.mean + t2 / (2 * k)
    half = np.sqrt(t2 * spread.variance + (t2 / (2 * k)) ** 2)
    low, high = (middle - half) / (1 + t2 / k), (middle + half) / (1 + t2 / k)
    return np.clip(low, 0, 1).round(12), np.clip(high, 0, 1).round(12)


def _quantile(spread: Spread) -> _Array:
    from scipy.special import stdtrit

    found: _Array = stdtrit(spread.freedom, 0.975)
    return found


def _alone(values: _Array, bounds: Bounds) -> Interval | None:
    """Return the interval of values that do not determine their spread: all equal, or of one case."""
    if not values.size:
        raise ValueError("An interval of no cases is undefined.")
    # A mean of equal values need not be the value itself.
    if values.shape[1] == 1 or np.ptp(values.round(12)) == 0:
        return unseen(round(float(values.mean()), 12), values.shape[1], bounds)
    return None
