"""Trials of many candidates at once against each on its own, and their scores by hand."""

import pytest

from instructedit.benchmark.instructions.trials import try_all
from instructedit.benchmark.results.loop_results import Trial, difference, mean, ranked
from instructedit.benchmark.results.records import GenerationSpec
from instructedit.benchmark.results.summary import case_values
from instructedit.benchmark.scoring.scoring import run_chunk
from instructedit.editors.instructedit import InstructEdit

from .worlds import EDITOR, TEXTS, Scripted


@pytest.fixture
def trained(make_loop):
    loop = make_loop(Scripted())
    loop.begin()
    return loop, loop.editor()


def test_candidates_tried_together_score_as_alone(trained):
    loop, editor = trained
    cases, instructed = loop.material.trial, loop.material.instructed
    assert len(cases) > 1
    found = try_all(loop.model, editor, TEXTS, cases, instructed, seed=0, chunk=1)
    assert [trial.text for trial in found] == TEXTS
    for trial in found:
        assert set(trial.cases) == {case.request.case_id for case in cases}
        for case in cases:
            # the slow way: one case, one candidate, a run's own scores
            (record,), _ = run_chunk(
                loop.model,
                [case],
                {"it": editor},
                requests={"it": [instructed(case.request, trial.text)]},
                run="",
                seed=0,
                generation=GenerationSpec(max_new_tokens=0),
                fluency=False,
            )
            by_measure = {}
            for column, value in case_values(record):
                if column.subset is None and column.protocol == "teacher_forced_exact":
                    by_measure.setdefault(column.measure, []).append(value)
            expected = {measure: sum(values) / len(values) for measure, values in by_measure.items()}
            own = dict(trial.cases[case.request.case_id])
            assert own.pop("score") == pytest.approx(sum(expected.values()) / len(expected))
            assert own == pytest.approx(expected)


def test_the_description_is_put_before_the_edit(trained):
    loop, editor = trained
    request = loop.material.instructed(loop.material.trial[0].request, TEXTS[0])
    assert request.instruction == f"Task: CounterFact\nDescription: {TEXTS[0]}"
    row = editor.encode(loop.model, request)
    assert TEXTS[0].split()[0] in loop.model.tokenizer.decode(row.ids)


def test_a_case_that_fails_scores_nothing(trained, monkeypatch):
    loop, editor = trained
    case = loop.material.trial[0]
    long = "word " * 39 + "word"
    monkeypatch.setattr(loop.model, "context", 40)
    (trial,) = try_all(loop.model, editor, [long], [case], loop.material.instructed, seed=0, chunk=2)
    assert trial.cases == {case.request.case_id: {"reliability": 0.0, "score": 0.0}} and trial.failed == 1


def test_scores_by_hand():
    one = Trial(text="one", cases={"a": {"reliability": 1.0, "locality": 0.5, "score": 0.75}, "b": {"score": 0.25}})
    two = Trial(text="two", cases={"a": {"reliability": 0.0, "score": 0.25}, "c": {"score": 1.0}})
    assert one.means() == {"reliability": 100.0, "locality": 50.0, "score": 50.0}
    assert two.means() == {"reliability": 0.0, "score": 62.5}
    assert [trial.text for trial in ranked([one, two])] == ["two", "one"]
    assert (found := difference([one], [two])) and (found.difference, found.n) == (0.5, 1)
    assert (both := mean([one, two])) and (both.mean, both.n) == (0.5, 1)
    assert mean([one, two], "locality") is None
    assert difference([one], [two], "portability") is None


def test_the_trial_editor_has_the_given_configuration(trained):
    _, editor = trained
    assert editor.config == InstructEdit.Config(**EDITOR)
