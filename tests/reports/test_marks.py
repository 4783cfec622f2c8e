"""Who is best, who is second, and who ties: by differences that are written down by hand."""

import pytest

from instructedit.benchmark.results import Comparison, Protocol
from instructedit.benchmark.suite_results import SeedPair
from instructedit.reports.columns import Column
from instructedit.reports.marks import leads, marks, sign

EXACT = Column("reliability", False, "teacher_forced_exact")
KL = Column("locality", False, "kl_divergence")


def pair(low: float, high: float, *, n: int = 10, protocol: Protocol = "teacher_forced_exact") -> SeedPair:
    return SeedPair(
        **{"row": "a", "other": "b", "task": "zsre", "measure": "locality", "derived": False, "protocol": protocol},
        **{"difference": (low + high) / 2, "low": low, "high": high, "n": n},
    )


def comparison(low: float, high: float, p: float) -> Comparison:
    names = {"editor": "a", "other": "b", "task": "zsre", "measure": "reliability", "derived": False}
    numbers = {"protocol": "teacher_forced_exact", "difference": (low + high) / 2, "n": 10, "p": p}
    return Comparison.model_validate({**names, **numbers, "low": low, "high": high})


@pytest.mark.parametrize(
    ("found", "ahead"),
    [
        (pair(0.1, 0.3), 1),
        (pair(-0.3, -0.1), -1),
        (pair(-0.1, 0.3), 0),
        (pair(0.0, 0.3), 0),
        (pair(0.0004, 0.3), 0),  # is printed as +0.0
        (pair(1.0, 1.0, n=1), 0),
        (pair(0.1, 0.3, protocol="kl_divergence"), -1),
        (pair(1.0, 3.0, protocol="ngram_entropy"), 0),
        (comparison(0.1, 0.3, 0.049), 1),
        (comparison(0.1, 0.3, 0.05), 0),
    ],
)
def test_a_difference_is_shown_or_not(found, ahead):
    assert sign(found) == ahead


def words(means, **shown):
    """Mark rows of the given means; `a_b=1` says that a is shown to be better than b."""
    signs = {tuple(name.split("_")): value for name, value in shown.items()}

    def lead(row: str, other: str) -> int | None:
        if (row, other) in signs:
            return signs[row, other]
        return -signs[other, row] if (other, row) in signs else None

    return {row: mark.word for row, mark in marks(EXACT, means, lead).items()}


def test_the_best_and_whoever_ties_with_it_then_the_same_among_the_rest():
    means = {"a": 0.5, "b": 0.9, "c": 0.85, "d": 0.7, "e": 0.6}
    shown = {"b_a": 1, "b_c": 0, "b_d": 1, "b_e": 1, "d_e": 0, "d_a": 1}
    assert words(means, **shown) == {"b": "best, tied", "c": "best, tied", "d": "second, tied", "e": "second, tied"}


def test_a_lone_best_and_a_lone_second():
    assert words({"a": 0.5, "b": 0.9, "c": 0.1}, b_a=1, b_c=1, a_c=1) == {"b": "best", "a": "second"}


def test_a_tie_is_with_the_leader_and_not_with_another_that_ties():
    # c ties with b, which ties with a, but a is shown to be better than c.
    assert words({"a": 0.9, "b": 0.8, "c": 0.7}, a_b=0, a_c=1) == {"a": "best, tied", "b": "best, tied", "c": "second"}


def test_who_was_not_compared_with_the_leader_leaves_the_rank_open():
    assert words({"a": 0.9, "b": 0.8, "c": 0.7}, a_b=1) == {}
    assert words({"a": 0.9, "b": 0.8, "c": 0.7}, a_b=1, a_c=1) == {"a": "best"}


def test_a_row_with_fewer_cases_may_lead_by_its_mean_and_not_be_ahead():
    # On the cases that both have, b is shown to be better: a is not shown to be better than b, so b is in its group.
    assert words({"a": 0.9, "b": 0.8}, a_b=-1) == {"a": "best, tied", "b": "best, tied"}


def test_one_row_and_fluency_have_no_best():
    assert words({"a": 0.9}) == {}
    fluency = Column("fluency", False, "ngram_entropy")
    assert marks(fluency, {"a": 600.0, "b": 500.0}, lambda *_: 1) == {}


def test_of_kl_the_lowest_is_best_and_a_pair_is_read_from_both_sides():
    pairs = {(KL, "a", "b"): pair(0.1, 0.3, protocol="kl_divergence")}
    assert {row: mark.word for row, mark in marks(KL, {"a": 0.5, "b": 0.3}, leads(KL, pairs)).items()} == {
        "b": "best",
        "a": "second",
    }
