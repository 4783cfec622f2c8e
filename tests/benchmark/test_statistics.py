"""Intervals and tests against full enumeration and exact distributions."""

import math
from fractions import Fraction
from itertools import product
from math import comb

import numpy as np
import pytest

from instructedit.benchmark import statistics
from instructedit.benchmark.statistics import bootstrap, paired, sign_flip, two_level, two_level_each


@pytest.mark.parametrize("values", [[0.25], [1.0, 1.0, 1.0], [0.1, 0.1, 0.1], [0.0] * 50])
def test_equal_values_have_no_width(values: list[float]) -> None:
    assert bootstrap(values, "k") == (values[0], values[0], values[0], len(values))


def test_two_values_by_hand() -> None:
    # Means of resamples: 0 with probability 1/4, 1/2 with 1/2, 1 with 1/4; so the 2.5 % and 97.5 % quantiles are 0 and
    # 1.
    assert bootstrap([0.0, 1.0], "k") == (0.5, 0.0, 1.0, 2)


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
        bootstrap([], "k")


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
    assert sign_flip([float(d) for d in differences], "k") == expected
    # Ties must stay ties where the values cannot be written exactly.
    assert sign_flip([d / 10 for d in differences], "k") == expected


def test_flips_by_hand() -> None:
    assert sign_flip([1.0, 1.0, 1.0], "k") == 0.25  # +++ and --- of eight
    assert sign_flip([0.0, 0.0], "k") == 1.0
    assert sign_flip([], "k") == 1.0


def test_zeros_change_nothing() -> None:
    assert sign_flip([1.0, 2.0, 4.0] + [0.0] * 100, "k") == sign_flip([1.0, 2.0, 4.0], "k") == 0.25


def test_drawn_flips_against_the_binomial() -> None:
    # 30 differences of one size, 21 in favour: p = 2 P(Binomial(30, 1/2) >= 21) = 0.0428
    expected = 2 * sum(comb(30, k) for k in range(21, 31)) / 2**30
    p = sign_flip([1.0] * 21 + [-1.0] * 9, "k")
    assert p == pytest.approx(expected, abs=0.008)
    assert p == sign_flip([-1.0] * 9 + [1.0] * 21, "k")


def test_drawn_flips_of_different_sizes_against_brute_force() -> None:
    differences = [1, 2, 3, 4, 5, 6, -7, 8, 9, -10, 11, 12, -13]
    assert sign_flip([float(d) for d in differences], "k") == pytest.approx(float(brute_force(differences)), abs=0.02)


def test_drawn_p_is_never_zero() -> None:
    assert sign_flip([1.0] * 100, "k") == 1 / 10_001


def test_paired_uses_shared_cases_only() -> None:
    first = {"a": 1.0, "b": 1.0, "c": 0.0, "only": 1.0}
    second = {"c": 1.0, "b": 0.0, "a": 0.0, "other": 0.0}
    result = paired(first, second, "k")
    # Differences 1, 1, -1; |sum| = 1 is reached by all eight sign patterns.
    assert result is not None
    assert result.difference == pytest.approx(1 / 3)
    assert (result.n, result.p) == (3, 1.0)
    assert (result.low, result.high) == (-1.0, 1.0)
    assert paired({"a": 1.0}, {"b": 1.0}, "k") is None


def test_many_different_magnitudes_flip_as_few_do() -> None:
    """Random bits and binomial draws estimate the same p, on either side of where one gives way to the other."""
    rng = np.random.default_rng(0)
    coarse = rng.choice([-1.0, 1.0, 2.0], size=60, p=[0.4, 0.3, 0.3])
    fine = coarse + 1e-9 * rng.standard_normal(60)
    assert sign_flip(list(fine), "a") == pytest.approx(sign_flip(list(coarse), "b"), abs=0.015)
    same = 0.5 + 1e-3 * rng.random(300)
    assert sign_flip(list(same), "c") == 1 / 10_001
    balanced = [sign * value for value in rng.random(2_000) for sign in (1, -1)]
    assert sign_flip(balanced, "d") == 1.0


CASES = ["a", "b"]


def test_two_levels_by_hand() -> None:
    """Only seed 1 is right, and only on case a.

    A resample holds seed 1 not at all, once, twice with 1/4, 1/2, 1/4, and case a likewise; its mean is the product of
    both counts over 4. So it is 1 with 1/16, more than 2.5 %, and 0 with 7/16: the interval is [0, 1]. Were the cases
    drawn anew within each seed, 1 would come with 1/4 x 1/16, less than 2.5 %.
    """
    assert two_level(np.array([[1.0, 0.0], [0.0, 0.0]]), CASES) == (0.25, 0.0, 1.0, 2)


def test_two_levels_are_as_if_all_resamples_were_counted() -> None:
    values = np.array([[0.1, 0.9, 0.4, 0.3], [0.7, 0.2, 0.8, 0.6], [0.5, 0.4, 1.0, 0.0]])
    means = [
        values[np.ix_(seeds, cases)].mean()
        for seeds in product(range(3), repeat=3)
        for cases in product(range(4), repeat=4)
    ]
    found = two_level(values, ["a", "b", "c", "d"])
    assert found.mean == pytest.approx(values.mean(), abs=1e-15)
    assert (found.low, found.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.01)


def test_seeds_without_any_difference_are_no_more_evidence_than_one() -> None:
    values = np.array([[0.1, 0.9, 0.4, 0.35]])
    one = two_level(values, list("abcd"))
    assert two_level(np.repeat(values, 4, axis=0), list("abcd")) == pytest.approx(one, abs=1e-11)
    assert one[1:3] == pytest.approx(bootstrap(list(values[0]), "any")[1:3], abs=0.02)


def test_several_rows_at_once_are_each_as_alone() -> None:
    rows = np.random.default_rng(0).random((5, 3, 40))
    rows[2] = 0.25
    cases = [f"{number:02}" for number in range(40)]
    for found, row in zip(two_level_each(rows, cases), rows, strict=True):
        assert found == pytest.approx(two_level(row, cases), abs=1e-11)


def test_two_levels_without_spread_or_values() -> None:
    assert two_level(np.full((2, 2), 0.5), CASES) == (0.5, 0.5, 0.5, 2)
    with pytest.raises(ValueError, match="no cases"):
        two_level(np.empty((2, 0)), [])
