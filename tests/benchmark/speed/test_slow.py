"""The slow path against the engine, in double precision: it is what the engine's speed is measured against."""

from dataclasses import replace

import pytest
import torch

from instructedit.benchmark.results.records import GenerationSpec
from instructedit.benchmark.speed import fast, generating, slow, slow_generation
from instructedit.benchmark.speed.cases import make_cases
from instructedit.benchmark.speed.compare import Difference
from instructedit.benchmark.speed.generating import Generating
from instructedit.benchmark.speed.samples import Samples
from instructedit.benchmark.speed.shapes import SHAPES, make_model
from instructedit.benchmark.speed.slow_edits import REFERENCES
from instructedit.benchmark.speed.subjects import prepared
from instructedit.benchmark.speed.training import Training
from instructedit.benchmark.speed.watch import Watch
from instructedit.benchmark.speed.work import needed
from instructedit.editors import InputError

TINY = replace(SHAPES["tiny"], dtype="float64")


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def twin(request):
    return slow.Twin(make_model(replace(TINY, family=request.param)))


@pytest.mark.parametrize("name", REFERENCES)
def test_both_paths_say_the_same_under_an_edit(twin, name):
    editor, cases = prepared(name, twin.base, make_cases(2, TINY.vocabulary))
    made = fast.edit(twin.base, cases, editor)
    unedited, edited = fast.readings(twin.base, cases, {name: made.edits})
    records, walls = fast.score(twin.base, cases, {name: made})
    assert set(walls) == {name}
    before = [slow.read(twin, case) for case in cases]
    difference, moved = Difference(), Difference()
    for number, case in enumerate(cases):
        change = REFERENCES[name](twin, editor, case.request, 0)
        assert change.steps == made.edits.facts[number].get("steps", 0)
        after = slow.read(twin, case, change)
        difference.readings(unedited[number], before[number])
        difference.readings(edited[name][number], after)
        difference.scores(records[number], slow.scores(case, before[number], after))
        moved.readings(before[number][:1], after[:1])
    assert difference.largest < 1e-6  # the engine reads log-probabilities in single precision
    assert difference.differing == 0
    assert moved.largest > 1e-3, "an edit that changes nothing proves nothing"


@pytest.mark.parametrize("name", ["ft-l", "mend", "grace", "calinet"])
def test_an_edit_is_taken_back_whole(twin, name):
    editor, (case,) = prepared(name, twin.base, make_cases(1, TINY.vocabulary))
    before = [reading.log_p for reading in slow.read(twin, case)]
    slow.read(twin, case, REFERENCES[name](twin, editor, case.request, 0))
    assert [reading.log_p for reading in slow.read(twin, case)] == before
    for own, base in zip(twin.model.parameters(), twin.base.model.parameters(), strict=True):
        assert torch.equal(own, base)
        assert not own.requires_grad and own.grad is None


@pytest.mark.parametrize("name", ["ke", "mend", "instructedit"])
def test_a_training_step_has_the_same_losses_and_the_same_gradient(twin, name):
    editor, cases = prepared(name, twin.base, make_cases(4, TINY.vocabulary))
    pair = Training(name, editor, cases, twin.base, twin, Watch("cpu"))
    samples = Samples()
    for _ in range(1 if name == "ke" else 2):
        pair.measure(samples)
        gradients = [
            [parameter.grad for parameter in learner.network.parameters() if parameter.grad is not None]
            for learner in (pair.fast, pair.slow)
        ]
        assert gradients[0]
        for own, reference in zip(*gradients, strict=True):
            torch.testing.assert_close(own, reference, rtol=1e-6, atol=1e-9)
    assert samples.compared.largest < 1e-6
    assert len(samples.fast) == len(samples.slow) == pair.fast.number


@pytest.mark.parametrize("name", ["mend", "grace"])
def test_answers_and_texts_are_the_same(twin, name, monkeypatch):
    monkeypatch.setattr(generating, "GENERATION", GenerationSpec(max_new_tokens=5, fluency_tokens=9))
    editor, cases = prepared(name, twin.base, make_cases(2, TINY.vocabulary))
    alone = Generating("all", None, cases, twin.base, twin, Watch("cpu"))
    pair = Generating(name, editor, cases, twin.base, twin, Watch("cpu"), 2, alone)
    before, samples = Samples(), Samples()
    for one, own in ((alone, before), (pair, samples)):
        one.measure(own)
        assert own.compared.differing == 0
    assert samples.slow[0] > before.slow[0] > 0, "the slow path reads the unedited model anew"
    assert pair.work(needed(TINY)) > alone.work(needed(TINY)) / 2 > 0
    (answers, text), _ = pair.said
    assert len(answers) == 8  # the reliability probe asks the edit's own prompt
    assert len(text.split()) == 9
    assert pair.work(needed(TINY)) > 0


def test_an_answer_stops_where_the_engine_stops(twin, monkeypatch):
    (case,) = make_cases(1, TINY.vocabulary)
    spec = GenerationSpec(max_new_tokens=6, fluency_tokens=4)
    for module in ("scoring.predictions", "speed.slow_generation"):
        monkeypatch.setattr(
            f"instructedit.benchmark.{module}.finished", lambda text, accepted: len(text.split()) >= len(accepted) + 2
        )
    answers, text = slow_generation.continued(twin, case, spec, 0)
    told = fast.unedited(twin.base, [case], [], spec)
    assert fast.by_case(told.plan, told.before.generated, told.before.free) == [(answers, text)]
    assert {len(answer.split()) for answer in answers} <= {3, 2, 1, 0}


def test_pairs_that_are_not_equal_are_refused():
    difference = Difference()
    difference.numbers([1.0, float("-inf")], [1.0005, float("-inf")])
    difference.check("mend")
    difference.numbers([1.0], [1.002])
    with pytest.raises(InputError, match=r"^mend on S: the engine and the slow path differ by 0\.002 "):
        difference.check("mend on S")
    spoilt = Difference()
    spoilt.numbers([float("nan")], [1.0])
    with pytest.raises(InputError, match="differ by inf"):
        spoilt.check("mend")
    others = Difference()
    others.texts(["w2 w3", "w4"], ["w2 w3", "w5"])
    assert others.differing == 1
    with pytest.raises(InputError, match="other texts"):
        others.check("mend")
