"""Who is best, who is second, and who ties: by decisions that are written down by hand."""

from itertools import combinations
from types import SimpleNamespace

import pytest

from instructedit.benchmark.results.decision import Decision
from instructedit.benchmark.results.records import Protocol
from instructedit.benchmark.results.suite_results import SeedPair
from instructedit.reports.tables.columns import Column
from instructedit.reports.tables.scores import Marks, Scores, crowded

EXACT = Column("reliability", False, "teacher_forced_exact")
LOCALITY = Column("locality", False, "teacher_forced_exact")
KL = Column("locality", False, "kl_divergence")


def lead_of(**better: str):
    """What is shown: `b="a c"` says that b is better than a and c; what is not said ties, in every column."""

    def lead(_column: Column, row: str, other: str) -> Decision | None:
        if other in better.get(row, "").split():
            return "better"
        return "worse" if row in better.get(other, "").split() else "tie"

    return lead


def contest(means: dict[tuple[Column, str], float], rivals, controls, lead) -> Scores:
    """The paired differences that lead to the given decisions."""
    pairs = {}
    for column in {column for column, _ in means}:
        for row, other in combinations(dict.fromkeys(row for _, row in means), 2):
            if (shown := lead(column, row, other)) is not None:
                sign = -1 if (shown == "worse") != (column.protocol == "kl_divergence") else 1
                fields = {"row": row, "other": other, "task": "zsre", "low": None, "high": None, "n": 10}
                p = {"p": 0.01, "p_holm": 0.9 if shown == "tie" else 0.01}
                found = {**fields, **column._asdict(), "difference": 0.2 * sign, **p}
                pairs[column, row, other] = SeedPair.model_validate(found)
    numbers = {key: SimpleNamespace(mean=mean) for key, mean in means.items()}
    return Scores((*controls, *rivals), tuple(controls), numbers, pairs)


def words(means: dict[str, float], lead, *, column: Column = EXACT, controls=()) -> dict[str, str]:
    rivals = [row for row in means if row not in controls]
    marked = contest({(column, row): mean for row, mean in means.items()}, rivals, controls, lead).marks(column)
    return {row: mark.word for row, mark in marked.of.items()}


def test_the_best_and_whoever_ties_with_it_then_one_that_is_better_than_the_rest():
    means = {"a": 0.5, "b": 0.9, "c": 0.85, "d": 0.7, "e": 0.6}
    assert words(means, lead_of(b="a d e", c="a d e", d="a e")) == {
        "b": "best, tied",
        "c": "best, tied",
        "d": "second",
    }


def test_a_second_that_is_not_shown_to_be_better_than_the_rest_is_none():
    means = {"a": 0.5, "b": 0.9, "c": 0.1}
    assert words(means, lead_of(b="a c", a="c")) == {"b": "best", "a": "second"}
    assert words(means, lead_of(b="a c")) == {"b": "best"}


def test_a_tie_is_with_the_leader_and_not_with_another_that_ties():
    # c ties with b, which ties with a, but a is shown to be better than c and than d.
    assert words({"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.1}, lead_of(a="c d", b="d", c="d")) == {
        "a": "best, tied",
        "b": "best, tied",
        "c": "second",
    }


def test_where_more_than_half_tie_nobody_is_marked_and_the_table_says_so():
    means = {(EXACT, row): mean for row, mean in {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.1}.items()}
    found = contest(means, "abcd", (), lead_of(a="d")).marks(EXACT)
    assert (found.of, found.tied, found.rows) == ({}, 3, 4)
    assert crowded({EXACT: "Reliability"}, {EXACT: found}) == (
        "n is too small to tell the best rows apart, none is marked: Reliability (3 of 4 rows tie)."
    )
    # Half is not more than half.
    halved = contest(means, "abcd", (), lead_of(a="c d", b="c d")).marks(EXACT)
    assert {row: mark.word for row, mark in halved.of.items()} == {"a": "best, tied", "b": "best, tied"}
    assert crowded({EXACT: "Reliability"}, {EXACT: halved}) == ""


def test_nobody_is_marked_who_is_not_shown_to_be_better_than_the_unedited_model():
    means = {"none": 0.0, "a": 0.0, "b": 0.9, "c": 0.4, "d": 0.1}
    shown = lead_of(b="none a c d", c="none a d")
    assert words(means, shown, controls=["none"]) == {"b": "best", "c": "second"}
    # c is ahead of all others left, and of the unedited model it is not shown to be.
    assert words(means, lead_of(b="none a c d", c="a d"), controls=["none"]) == {"b": "best"}
    # Nobody edits: nobody is best, however the rows stand to each other.
    assert words(means, lead_of(b="a c d"), controls=["none"]) == {}


def test_of_locality_those_are_marked_that_are_shown_to_edit():
    rows = {"none": (0.0, 1.0), "idle": (0.0, 1.0), "a": (0.9, 0.95), "b": (0.8, 0.5), "c": (0.8, 0.4)}
    means = {(column, row): pair[place] for row, pair in rows.items() for place, column in enumerate((EXACT, LOCALITY))}

    def lead(column: Column, row: str, other: str) -> Decision:
        if column == EXACT:
            return lead_of(a="none idle", b="none idle", c="none idle")(column, row, other)
        return lead_of(none="a b c", idle="a b c", a="b c")(column, row, other)

    found = contest(means, ["idle", "a", "b", "c"], ["none"], lead).marks(LOCALITY)
    # `idle` keeps everything because it edits nothing, and is not best for it; `a` is, though it loses to the control.
    assert {row: mark.word for row, mark in found.of.items()} == {"a": "best, tied"}


@pytest.mark.parametrize("protocol", ["kl_divergence", "teacher_forced_token", "free_generation"])
def test_locality_that_is_read_otherwise_asks_the_reliability_that_there_is(protocol: Protocol):
    column = Column("locality", False, protocol)
    other = Column("reliability", False, "edit_success")
    rows = {"none": 0.0, "a": 0.1, "b": 0.2, "c": 0.3}
    means = {(where, row): mean for row, mean in rows.items() for where in (column, other)}

    def lead(where: Column, row: str, than: str) -> Decision:
        shown = lead_of(a="none") if where == other else lead_of(a="b c", none="a b c")
        return shown(where, row, than)

    found = contest(means, "abc", ["none"], lead).marks(column)
    assert {row: mark.word for row, mark in found.of.items()} == {"a": "best"}
    without = {key: mean for key, mean in means.items() if key[0] == column}
    assert contest(without, "abc", ["none"], lead).marks(column) == Marks({})  # nobody is known to edit


def test_who_was_not_compared_leaves_the_marks_open():
    def lead(_column: Column, row: str, other: str) -> Decision | None:
        return {("a", "b"): "better", ("b", "a"): "worse"}.get((row, other))

    assert words({"a": 0.9, "b": 0.8, "c": 0.7}, lead) == {}
    # Not compared with the control: not shown to be better than it.
    assert words({"a": 0.9, "b": 0.8, "none": 0.0}, lead, controls=["none"]) == {}


def test_a_row_with_fewer_cases_may_lead_by_its_mean_and_not_be_ahead():
    # On the cases that both have, b is shown to be better: a is not shown to be better than b, so b is in its group.
    assert words({"a": 0.9, "b": 0.8, "c": 0.1, "d": 0.1}, lead_of(b="a c d", a="c d")) == {
        "a": "best, tied",
        "b": "best, tied",
    }


def test_one_row_and_fluency_have_no_best():
    assert words({"a": 0.9}, lead_of()) == {}
    fluency = Column("fluency", False, "ngram_entropy")
    assert words({"a": 600.0, "b": 500.0, "c": 400.0}, lead_of(a="b c", b="c"), column=fluency) == {}


def test_of_kl_the_lowest_is_best_and_a_pair_is_read_from_both_sides():
    fields = {"row": "a", "other": "b", "task": "zsre", "measure": "locality", "derived": False}
    numbers = {"difference": 0.2, "low": 0.1, "high": 0.3, "n": 10, "p": 0.01, "p_holm": 0.01}
    pairs = {(KL, "a", "b"): SeedPair.model_validate({**fields, **numbers, "protocol": "kl_divergence"})}
    lead = Scores((), (), {}, pairs).decision
    assert (lead(KL, "a", "b"), lead(KL, "b", "a"), lead(EXACT, "a", "b")) == ("worse", "better", None)
    assert words({"a": 0.5, "b": 0.3}, lead, column=KL) == {"b": "best", "a": "second"}
