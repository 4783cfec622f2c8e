"""The one decision: by the sign and by a p-value that Holm adjusts over the pairs of a column."""

import pytest

from instructedit.benchmark.results.decision import adjust, decide, decided, family_sizes, holm
from instructedit.benchmark.results.records import Comparison


@pytest.mark.parametrize(
    ("difference", "p", "protocol", "word"),
    [
        (0.2, 0.049, "teacher_forced_exact", "better"),
        (-0.2, 0.049, "teacher_forced_exact", "worse"),
        (0.2, 0.05, "teacher_forced_exact", "tie"),
        (0.0, 0.0, "edit_success", "tie"),
        (0.2, None, "edit_success", "tie"),
        (0.2, 0.001, "kl_divergence", "worse"),
        (-0.2, 0.001, "kl_divergence", "better"),
        (10.0, 0.001, "ngram_entropy", "tie"),
    ],
)
def test_a_difference_is_shown_or_not(difference, p, protocol, word):
    assert decide(difference, p, protocol) == word


def test_holm_by_hand():
    """0.01 * 4; 0.02 * 3; 0.03 * 2 is no less than what came before; 0.04 * 1 is less, so 0.06 stays."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def pair(p: float, **other: object) -> Comparison:
    fields = {"editor": "a", "other": "b", "task": "zsre", "measure": "reliability", "derived": False, "n": 10}
    numbers = {"protocol": "teacher_forced_exact", "difference": 0.3, "low": 0.1, "high": 0.5, "p": p}
    return Comparison.model_validate({**fields, **numbers, **other})


def test_a_family_is_the_pairs_of_one_column():
    found = adjust([pair(0.01), pair(0.03), pair(0.03, task="recent"), pair(0.03, stage="batch"), pair(0.2)])
    assert [one.p_holm for one in found] == pytest.approx([0.03, 0.06, 0.03, 0.03, 0.2])
    assert [decided(one) for one in found] == ["better", "tie", "better", "better", "tie"]
    assert [one.p for one in found] == [0.01, 0.03, 0.03, 0.03, 0.2]
    assert family_sizes(found) == (1, 3)
    assert family_sizes([]) == (0, 0)


def test_pairs_of_rows_that_are_alike_are_seldom_decided():
    """Twenty-one pairs of seven equal rows: without Holm 64 % of columns would have a decided pair, with it 5 %."""
    import numpy as np

    rng = np.random.default_rng(0)
    decidedly = [min(holm(rng.random(21).tolist())) < 0.05 for _ in range(2_000)]
    assert np.mean(decidedly) == pytest.approx(0.05, abs=0.015)
