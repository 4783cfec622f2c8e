"""Intervals and tests of one run against full enumeration, exact distributions and published tables."""

import math
from fractions import Fraction
from itertools import product
from math import comb

import numpy as np
import pytest

from instructedit.benchmark.results import statistics
from instructedit.benchmark.results.statistics import (
    UNIT,
    bonett_price,
    bounds_of,
    clopper_pearson,
    compare,
    mean_interval,
    sign_flip,
    span,
    unseen,
)

from ..coverage import of_run

FREE = (0.0, math.inf)
"""Bounds of KL and entropy."""


def bootstrap(values: list[float], key: str) -> statistics.Interval:
    """The bootstrap alone, of values that have no bound."""
    return mean_interval(values, key, FREE)


@pytest.mark.parametrize(("right", "n"), [(0, 12), (12, 12), (1, 20), (7, 20), (99, 100), (100, 100)])
def test_clopper_pearson_leaves_two_and_a_half_percent_on_either_side(right: int, n: int) -> None:
    """At the lower end as many right or more come up in 2.5 %, at the upper end as many or fewer."""

    def at_least(share: float, count: int) -> float:
        return sum(comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(count, n + 1))

    low, high = clopper_pearson(right, n)
    if right:
        assert at_least(low, right) == pytest.approx(0.025, abs=1e-7)
    else:
        assert low == 0.0
    if right < n:
        assert 1 - at_least(high, right + 1) == pytest.approx(0.025, abs=1e-7)
    else:
        assert high == 1.0


@pytest.mark.parametrize("n", [12, 20, 100])
@pytest.mark.parametrize("p", [0.5, 0.9, 0.95, 0.99])
def test_no_share_is_covered_less_often_than_is_said(n: int, p: float) -> None:
    """The percentile bootstrap covered 0.45 at p = 0.95 and n = 12, and Wilson's interval 0.89 at 0.99."""
    covered, _ = of_run(p, n, clopper_pearson)
    assert covered >= 0.95


def test_right_and_wrong_have_the_exact_interval_and_say_so() -> None:
    found = mean_interval([1.0] * 19 + [0.0], "k")
    assert found == (0.95, *clopper_pearson(19, 20), 20, "clopper_pearson")
    # 20 of 20: 0.025^(1/20) = 0.8316.
    assert mean_interval([1.0] * 20, "k") == (1.0, pytest.approx(0.8316, abs=1e-4), 1.0, 20, "clopper_pearson")
    assert mean_interval([0.5, 1.0, 0.0], "k").method == "bootstrap"


@pytest.mark.parametrize("n", [1, 12, 100])
@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_equal_values_have_an_interval_that_they_do_not_narrow(value: float, n: int) -> None:
    """Were a share u of all cases anything else, none of n would show it with (1 - u)^n = 2.5 %."""
    found = unseen(value, n)
    share = 1 - 0.025 ** (1 / n)
    assert (1 - share) ** n == pytest.approx(0.025)
    assert found[:3] == pytest.approx((value, (1 - share) * value, (1 - share) * value + share))
    assert found.high is not None and found.low is not None and found.high - found.low > 0.03
    if value in (0.0, 1.0):
        assert found[:3] == pytest.approx((value, *clopper_pearson(int(value) * n, n)))
    assert mean_interval([value] * n, "k") == (found if value == 0.25 else (*found[:4], "clopper_pearson"))


@pytest.mark.parametrize("values", [[0.3], [0.1, 0.1, 0.1]])
def test_without_a_bound_equal_values_have_no_interval(values: list[float]) -> None:
    assert mean_interval(values, "k", FREE) == (values[0], None, None, len(values), "none")
    assert compare(values, FREE)[1:5] == (None, None, len(values), "none")


def test_bounds() -> None:
    assert bounds_of("teacher_forced_token") == bounds_of("z_topic") == UNIT
    assert bounds_of("kl_divergence") == bounds_of("ngram_entropy") == FREE
    assert (span(UNIT), span(FREE)) == ((-1.0, 1.0), (-math.inf, math.inf))


def test_two_values_by_hand() -> None:
    # Means of resamples: 0 with probability 1/4, 1/2 with 1/2, 1 with 1/4; so the 2.5 % and 97.5 % quantiles are 0 and
    # 1.
    assert bootstrap([0.0, 1.0], "k") == (0.5, 0.0, 1.0, 2, "bootstrap")


def test_bootstrap_against_all_resamples() -> None:
    values = [0.0, 0.3, 0.35, 0.9, 1.0, 0.2]
    every = np.array([np.mean(draw) for draw in product(values, repeat=len(values))])
    low, high = np.quantile(every, [0.025, 0.975])
    interval = bootstrap(values, "k")
    assert interval.mean == pytest.approx(2.75 / 6)
    assert interval.low == pytest.approx(low, abs=0.02)
    assert interval.high == pytest.approx(high, abs=0.02)


def test_right_and_wrong_against_the_binomial() -> None:
    # A resample of 70 right of 100 has Binomial(100, 0.7) right ones.
    share = [comb(100, k) * 0.7**k * 0.3 ** (100 - k) for k in range(101)]
    cumulated = np.cumsum(share)
    interval = bootstrap([1.0] * 70 + [0.0] * 30, "k")
    assert interval.low == pytest.approx(np.searchsorted(cumulated, 0.025) / 100, abs=0.0101)
    assert interval.high == pytest.approx(np.searchsorted(cumulated, 0.975) / 100, abs=0.0101)


def test_both_ways_of_drawing_agree() -> None:
    # Repeats are drawn as counts, different values by index: nearly the same values must get nearly the same interval.
    rough = [round(0.1 * (i % 5), 1) for i in range(200)]
    fine = [value + 1e-9 * i for i, value in enumerate(rough)]
    assert bootstrap(rough, "k")[1:3] == pytest.approx(bootstrap(fine, "k")[1:3], abs=0.003)


def test_small_blocks_give_intervals_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "_BLOCK", 70)  # seven resamples of ten at a time
    values = [i / 9 for i in range(10)]
    assert bootstrap(values, "k").low == pytest.approx(0.30, abs=0.03)
    assert bootstrap(values, "k").high == pytest.approx(0.70, abs=0.03)


def test_same_key_same_interval_in_any_order() -> None:
    values = [math.sin(i) for i in range(40)]
    assert bootstrap(values, "k") == bootstrap(values[::-1], "k")
    assert bootstrap(values, "k") != bootstrap(values, "other")


def test_many_values_against_the_normal_approximation() -> None:
    values = np.random.default_rng(1).random(400)
    interval = bootstrap(values.tolist(), "k")
    half = 1.96 * values.std() / 20
    assert interval.low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_no_values() -> None:
    with pytest.raises(ValueError, match="no cases"):
        mean_interval([], "k")


def brute_force(differences: list[int]) -> Fraction:
    observed = abs(sum(differences))
    patterns = list(product((-1, 1), repeat=len(differences)))
    hits = sum(abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= observed for signs in patterns)
    return Fraction(hits, len(patterns))


@pytest.mark.parametrize(
    "differences",
    [[1], [1, 1, 1], [1, -1], [3, 1, -2, 5], [0, 0, 2, 2, 2], [1] * 12, [2, -1, 3, 3, -1, 2, 2, 1, 1, -3, 4, 5]],
)
def test_exact_flips_against_brute_force(differences: list[int]) -> None:
    expected = float(brute_force(differences))
    assert sign_flip([float(d) for d in differences])[0] == expected
    # Ties must stay ties where the values cannot be written exactly.
    assert sign_flip([d / 10 for d in differences])[0] == expected


def test_flips_by_hand() -> None:
    assert sign_flip([1.0, 1.0, 1.0])[0] == 0.25  # +++ and --- of eight
    assert sign_flip([0.0, 0.0])[0] == 1.0
    assert sign_flip([])[0] == 1.0


def test_zeros_change_nothing() -> None:
    assert sign_flip([1.0, 2.0, 4.0] + [0.0] * 100)[0] == sign_flip([1.0, 2.0, 4.0])[0] == 0.25


def test_drawn_flips_against_the_binomial() -> None:
    # 30 differences of one size, 21 in favour: p = 2 P(Binomial(30, 1/2) >= 21) = 0.0428
    expected = 2 * sum(comb(30, k) for k in range(21, 31)) / 2**30
    p = sign_flip([1.0] * 21 + [-1.0] * 9)[0]
    assert p == pytest.approx(expected, abs=0.008)
    assert p == sign_flip([-1.0] * 9 + [1.0] * 21)[0]


def test_drawn_flips_of_different_sizes_against_brute_force() -> None:
    differences = [1, 2, 3, 4, 5, 6, -7, 8, 9, -10, 11, 12, -13]
    assert sign_flip([float(d) for d in differences])[0] == pytest.approx(float(brute_force(differences)), abs=0.02)


def test_drawn_p_is_never_zero() -> None:
    assert sign_flip([1.0] * 100)[0] == 1 / 10_001


def rejected(differences: list[float], mean: float) -> bool:
    """Whether the test of all sign patterns refuses a mean, loop by loop."""
    centred = [d - mean for d in differences]
    sums = [
        abs(sum(s * d for s, d in zip(signs, centred, strict=True))) for signs in product((-1, 1), repeat=len(centred))
    ]
    return sum(s >= abs(sum(centred)) - 1e-9 for s in sums) / len(sums) < 0.05


@pytest.mark.parametrize(
    "differences",
    [[0.3, 0.1, 0.4, -0.2, 0.5, 0.6, 0.25, 0.9], [1.0, 2.0, -4.0, 3.5, 0.5, 7.0, 2.5], [0.1, 0.2, 0.3, 0.4, 0.5, 0.65]],
)
def test_the_interval_of_differences_holds_what_the_test_does_not_refuse(differences: list[float]) -> None:
    _, low, high = sign_flip(differences)
    step = 1e-6
    assert [rejected(differences, mean) for mean in (low - step, low + step, high - step, high + step)] == [
        True,
        False,
        False,
        True,
    ]


def test_the_interval_agrees_with_p_and_turns_round_with_its_sides() -> None:
    rng = np.random.default_rng(0)
    shown = 0
    for _ in range(150):
        n = int(rng.integers(2, 60))
        coarse, fine = rng.choice([-1.0, 0.0, 1.0], n, p=[0.15, 0.5, 0.35]), 0.2 * rng.standard_normal(n) + 0.05
        for values in (coarse.tolist(), fine.tolist()):
            p, low, high = sign_flip(values)
            if min(values) < max(values):
                assert (p < 0.05) == (not low <= 0 <= high), (values, p, low, high)
                shown += p < 0.05
            assert sign_flip([-value for value in values]) == (p, -high, -low)
    assert 50 < shown < 250


def test_five_cases_refuse_nothing_and_six_may() -> None:
    assert compare([1.0, 1.0, 1.0, 1.0, 0.5])[1:3] == (-1.0, 1.0)
    assert compare([0.2, 0.3, 0.1, 0.4, 0.5], FREE)[1:3] == (None, None)
    found = compare([1.0] * 6 + [0.0] * 6)
    assert (found.p, found.method) == (2 / 64, "bonett_price")
    assert found.low is not None and 0 < found.low < 0.5 < found.high < 1


def test_bonett_and_price_by_hand() -> None:
    # a = 7 / 22, b = 2 / 22; the root of (9 / 22 - 25 / 484) / 22 is 0.12743.
    found = compare([1.0] * 6 + [-1.0] + [0.0] * 13)
    assert (found.low, found.high) == pytest.approx((0.22727 - 0.24976, 0.22727 + 0.24976), abs=1e-4)
    # Without the end at 0 five of twelve would be clear of it, of which the exact test says p = 0.0625.
    assert compare([1.0] * 5 + [0.0] * 7).low == 0.0


@pytest.mark.parametrize("n", [6, 12, 20, 100])
def test_the_interval_of_right_and_wrong_agrees_with_the_exact_test(n: int) -> None:
    """For any numbers of wins and losses: the exact p is twice a tail of Binomial(wins + losses, 1/2)."""
    for wins in range(1, n + 1):
        for losses in range(min(wins, n - wins + 1)):
            differ = wins + losses
            p = min(1.0, 2 * sum(comb(differ, k) for k in range(wins, differ + 1)) / 2**differ)
            low, _ = bonett_price(wins, losses, n)
            assert p >= 0.05 or low > 0, (wins, losses)


def test_two_editors_that_never_differ_may_still_differ_elsewhere() -> None:
    """Never [0, 0]: with n = 12 a quarter of other cases may speak for either; and 12 of 12 is not 100 of 100."""
    share = 1 - 0.025 ** (1 / 12)
    assert compare([0.0] * 12) == (0.0, pytest.approx(-share), pytest.approx(share), 12, "rule_of_three", 1.0)
    all_ = compare([1.0] * 12)
    assert all_ == (1.0, pytest.approx(1 - 2 * share), 1.0, 12, "rule_of_three", 2 / 4096)


@pytest.mark.parametrize(("wins", "losses"), [(0.3, 0.1), (0.1, 0.1), (0.5, 0.02), (0.2, 0.0)])
@pytest.mark.parametrize("n", [20, 100])
def test_differences_of_right_and_wrong_are_covered(wins: float, losses: float, n: int) -> None:
    rng = np.random.default_rng(7)
    drawn = rng.choice([1.0, -1.0, 0.0], (150, n), p=[wins, losses, 1 - wins - losses])
    found = [compare(row.tolist()) for row in drawn]
    covered = np.mean([one.low - 1e-9 <= wins - losses <= one.high + 1e-9 for one in found])
    assert covered > 0.92


def test_many_different_magnitudes_flip_as_few_do() -> None:
    """Random bits and binomial draws estimate the same p, on either side of where one gives way to the other."""
    rng = np.random.default_rng(0)
    coarse = rng.choice([-1.0, 1.0, 2.0], size=60, p=[0.4, 0.3, 0.3])
    fine = coarse + 1e-9 * rng.standard_normal(60)
    assert sign_flip(list(fine))[0] == pytest.approx(sign_flip(list(coarse))[0], abs=0.015)
    same = 0.5 + 1e-3 * rng.random(300)
    assert sign_flip(list(same))[0] == 1 / 10_001
    balanced = [sign * value for value in rng.random(2_000) for sign in (1, -1)]
    assert sign_flip(balanced)[0] == 1.0
