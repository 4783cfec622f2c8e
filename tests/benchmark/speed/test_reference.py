"""The reference against the engine, in double precision: what the engine's speed is measured against."""

from dataclasses import replace
from statistics import fmean

import pytest
import torch

from instructedit.benchmark.results.records import GenerationSpec
from instructedit.benchmark.scoring.scoring import Made, edit_each, score_chunk
from instructedit.benchmark.speed.cases import SHAPES, make_cases, make_model, prepare
from instructedit.benchmark.speed.measure import numbers, texts
from instructedit.benchmark.speed.reference import ReferenceModel, continuations, probe_predictions, scores
from instructedit.benchmark.speed.reference_edits import REFERENCES
from instructedit.benchmark.speed.training import Learner, largest_difference, reference_losses
from instructedit.editors import instruction_context
from instructedit.editors.hypernet.training_loop import step_losses

TINY = replace(SHAPES["tiny"], dtype="float64")


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def reference(request):
    return ReferenceModel(make_model(replace(TINY, family=request.param)))


def engine(model, cases, own, editor, generation):
    """Return edits and records of the engine."""
    edits, failures = edit_each(model, [case.request for case in own], editor, 0)
    assert not failures
    made = {editor.name: Made([case.request for case in own], edits, failures, 0.0)}
    fluency = generation.max_new_tokens > 0
    options = {"run": "0" * 16, "seed": 0, "generation": generation, "fluency": fluency}
    records, _ = score_chunk(model, cases, made, probes={editor.name: editor.instructed_probes}, **options)
    return edits, records


@pytest.mark.parametrize("name", REFERENCES)
def test_engine_and_reference_predict_the_same_under_an_edit(reference, name):
    model, cases = reference.base, make_cases(2, TINY.vocabulary)
    editor, own = prepare(name, model, cases)
    edits, records = engine(model, cases, own, editor, GenerationSpec(max_new_tokens=0))
    moved = 0.0
    for number, (case, record) in enumerate(zip(cases, records, strict=True)):
        edit = REFERENCES[name](reference, editor, own[number].request, 0)
        context = instruction_context(own[number].request, editor.instructed_probes)
        assert (context is not None) == (name == "instructedit")
        before, after = probe_predictions(reference, case), probe_predictions(reference, case, edit, context)
        values = [value for _, value in scores(case, before, after)]
        assert [score.protocol for score in record.scores] == [protocol for protocol, _ in scores(case, before, after)]
        *forced, log_p = numbers(record)
        assert forced == pytest.approx(values, abs=1e-6)
        assert log_p == pytest.approx(fmean(after[0].log_p), abs=1e-5)
        prompts = [(context.prompt_prefix(probe.role) if context else "") + probe.prompt for probe in case.probes]
        answers = [probe.answers[0] for probe in case.probes]
        rows = [model.encode(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        for index, logits in model.forward(rows, edits.select([number]), [0] * len(rows)):
            own_log_p = logits.detach().log_softmax(-1).gather(1, torch.tensor(rows[index].labels)[:, None])[:, 0]
            # the reference takes log-probabilities in single precision
            assert own_log_p.tolist() == pytest.approx(after[index].log_p, abs=1e-5)
        moved = max(moved, *(abs(a - b) for a, b in zip(before[0].log_p, after[0].log_p, strict=True)))
    assert moved > 1e-3, "an edit that changes nothing proves nothing"


@pytest.mark.parametrize("name", ["ft-l", "mend", "grace", "calinet"])
def test_an_edit_is_undone_completely(reference, name):
    editor, (case,) = prepare(name, reference.base, make_cases(1, TINY.vocabulary))
    before = [found.log_p for found in probe_predictions(reference, case)]
    probe_predictions(reference, case, REFERENCES[name](reference, editor, case.request, 0))
    assert [found.log_p for found in probe_predictions(reference, case)] == before
    for own, base in zip(reference.model.parameters(), reference.base.model.parameters(), strict=True):
        assert torch.equal(own, base)
        assert not own.requires_grad and own.grad is None


@pytest.mark.parametrize("name", ["ke", "mend", "instructedit"])
def test_a_training_step_has_the_same_losses_and_the_same_gradient(reference, name):
    editor, cases = prepare(name, reference.base, make_cases(4, TINY.vocabulary))
    learners = (
        Learner(editor, cases, reference.base, step_losses),
        Learner(editor, cases, reference, reference_losses),
    )
    for _ in range(1 if name == "ke" else 2):
        assert largest_difference(*(learner.step() for learner in learners)) < 1e-6
        gradients = [
            [parameter.grad for parameter in learner.editor.network.parameters() if parameter.grad is not None]
            for learner in learners
        ]
        assert gradients[0]
        for own, expected in zip(*gradients, strict=True):
            torch.testing.assert_close(own, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["mend", "grace"])
def test_answers_and_texts_are_the_same(reference, name):
    cases, spec = make_cases(1, TINY.vocabulary), GenerationSpec(max_new_tokens=5, fluency_tokens=9)
    editor, own = prepare(name, reference.base, cases)
    _, (record,) = engine(reference.base, cases, own, editor, spec)
    edited = continuations(reference, cases[0], spec, 0, REFERENCES[name](reference, editor, own[0].request, 0))
    assert texts(record) == edited and len(edited) == 9 and len(edited[-1].split()) == 9
    assert [answer.before for answer in record.answers] == continuations(reference, cases[0], spec, 0)[:-1]


def test_an_answer_stops_where_the_engine_stops(reference, monkeypatch):
    cases, spec = make_cases(1, TINY.vocabulary), GenerationSpec(max_new_tokens=6, fluency_tokens=4)
    for module in ("scoring.predictions", "speed.reference"):
        monkeypatch.setattr(
            f"instructedit.benchmark.{module}.finished", lambda text, accepted: len(text.split()) >= len(accepted) + 2
        )
    editor, own = prepare("mend", reference.base, cases)
    _, (record,) = engine(reference.base, cases, own, editor, spec)
    answers = continuations(reference, cases[0], spec, 0)[:-1]
    assert [answer.before for answer in record.answers] == answers
    assert {len(answer.split()) for answer in answers} <= {3, 2, 1, 0}
