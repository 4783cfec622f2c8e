"""The score of a search, by hand-worked cases and against an explicit loop."""

import numpy as np
import pytest

from instructedit.benchmark.results.records import CaseRecord, Score
from instructedit.benchmark.results.statistics import RESAMPLES, seeded
from instructedit.benchmark.results.tuning_trail import Trial
from instructedit.benchmark.tuning.score import can_be_scored, gain, read_scores, total
from instructedit.editors import EditCase, EditRequest, Probe


def line(task, number, *scores, status="done", reason=None):
    """Return a record; a score is (measure, value) or (measure, value, subset, derived, protocol)."""
    made = []
    for given in scores:
        measure, value, subset, derived, protocol = (*given, *("a", False, "teacher_forced_exact")[len(given) - 2 :])
        made.append(Score(measure=measure, value=value, subset=subset, derived=derived, protocol=protocol))
    request = {"prompt": "p", "target": "t", "subject": "s", "run": "r", "editor": "e", "reason": reason}
    return CaseRecord(task=task, case_id=f"{task}/train/{number}", status=status, scores=tuple(made), **request)


def parts(reliability, generalization, locality):
    return ("reliability", reliability), ("generalization", generalization), ("locality", locality)


def test_a_worked_example():
    records = [line("a", 0, *parts(1, 1, 0.5)), line("a", 1, *parts(1, 0, 0.5)), line("b", 0, *parts(1, 1, 1))]
    a, b = read_scores(records, ["a", "b"])
    # a: R = 1, G = .5, L = .5, harmonic mean 3 / (1 + 2 + 2) = .6; b: 1
    assert a.record().score == pytest.approx(0.6)
    assert (a.record().generalization.mean, a.record().generalization.n) == (0.5, 2)
    assert total((a, b)) == pytest.approx(0.8)


@pytest.mark.parametrize("means", [(0, 0, 1), (1, 1, 0), (1, 0, 1)])
def test_one_of_the_three_at_zero_is_a_score_of_zero(means):
    """An editor that does nothing, one that destroys the model, one that never generalizes."""
    assert total(read_scores([line("a", 0, *parts(*means))], ["a"])) == 0.0


def test_a_case_whose_edit_failed_counts_as_zero_in_each():
    failed = line("a", 1, status="failed", reason="Too long.")
    (found,) = read_scores([line("a", 0, *parts(1, 1, 1)), failed], ["a"])
    record = found.record()
    assert (record.score, record.failed, record.reliability.n) == (0.5, 1, 2)
    assert found.reasons == ("Too long.",)


def test_subsets_are_averaged_within_a_case_and_given_probes_come_before_derived_ones():
    first = line(
        "a",
        0,
        ("reliability", 1),
        ("generalization", 1),
        ("generalization", 0, "a", True),
        ("locality", 1, "x"),
        ("locality", 0, "x"),
        ("locality", 1, "y"),
        ("locality", 0, "y", False, "free_generation"),
    )
    second = line("a", 1, ("reliability", 1), ("generalization", 0, "a", True), ("locality", 1))
    record = read_scores([first, second], ["a"])[0].record()
    assert (record.generalization.mean, record.generalization.n) == (1.0, 1), "only one case has a given one"
    assert record.locality.mean == pytest.approx((0.75 + 1) / 2)
    (only,) = read_scores([second], ["a"])
    assert (only.record().generalization.mean, only.record().generalization.n) == (0.0, 1)


def test_the_interval_of_the_gain_is_a_bootstrap_over_shared_cases():
    rng = np.random.default_rng(0)
    sides = []
    for chance in (0.8, 0.5):
        records = [line(t, k, *parts(*(rng.random(3) < chance).astype(float))) for t in "ab" for k in range(6)]
        sides.append(read_scores(records, ["a", "b"]))
    found = gain(*sides, "key")
    assert found.difference == pytest.approx(total(sides[0]) - total(sides[1]))
    drawn = {task: seeded(f"key|{task}").multinomial(6, np.full(6, 1 / 6), RESAMPLES) for task in "ab"}
    differences = []
    for resample in range(300):
        scores = []
        for side in sides:
            own = []
            for task in side:
                cases = [
                    row
                    for row, times in zip(task.values, drawn[task.task][resample], strict=True)
                    for _ in range(times)
                ]
                means = [sum(column) / len(cases) for column in zip(*cases, strict=True)]
                own.append(0.0 if 0 in means else 3 / sum(1 / mean for mean in means))
            scores.append(sum(own) / 2)
        differences.append(scores[0] - scores[1])
    assert (found.low, found.high) == pytest.approx(np.quantile(differences, [0.025, 0.975]), abs=0.08)
    assert found.low < found.difference < found.high
    assert gain(sides[0], sides[0], "key") is None  # all draws are equal: no interval can be given


def test_a_task_can_be_scored_if_its_cases_are_facts_with_probes_of_all_three_kinds():
    def case(*roles, sentiment=None):
        probes = tuple(Probe(role, "a", "p", ("x",)) for role in roles)
        return EditCase(EditRequest("a/train/0", "a", "p", "x", "s", sentiment=sentiment), probes)

    whole = ("reliability", "generalization", "locality")
    assert can_be_scored([case(*whole)])
    assert can_be_scored([case("reliability", "locality"), case("generalization")])
    assert not can_be_scored([case("reliability", "locality", "portability")])
    assert not can_be_scored([case(*whole, sentiment="positive")])
    assert not can_be_scored([])


def test_equal_scores_are_told_apart_by_reliability_and_locality():
    """Where no rephrase is ever answered all trials score 0; the one that edits and leaves the rest is still first."""

    def trial(number, *means):
        (scored,) = read_scores([line("a", 0, *parts(*means))], ["a"])
        return Trial(number=number, options={}, run=None, tasks=(scored.record(),), score=total((scored,)))

    nothing, both, destroyed = trial(0, 0, 0, 1), trial(1, 1, 0, 1), trial(2, 1, 0, 0)
    assert {found.score for found in (nothing, both, destroyed)} == {0.0}
    assert both.rank > nothing.rank == destroyed.rank == (0.0, 0.0)
    assert both.rank == (0.0, 1.0)
    assert trial(3, 0.5, 0.5, 0.5).rank > both.rank
