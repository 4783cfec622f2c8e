"""The answer before the edit: each score by hand, and against a loop over the logits of plain transformers models."""

from dataclasses import replace

import pytest

from instructedit.baselines.ftl import FTM, FTMConfig
from instructedit.baselines.noedit import NoEdit
from instructedit.benchmark.results.decision import decide
from instructedit.benchmark.results.records import CaseRecord, GenerationSpec
from instructedit.benchmark.scoring.matching import matches
from instructedit.benchmark.scoring.old_answer import SAME, probability_order, reversion, scored_old
from instructedit.benchmark.scoring.scoring import run_chunk
from instructedit.benchmark.setup.config import EMBEDDED_MODEL
from instructedit.benchmark.tasks.base import TASKS
from instructedit.benchmark.tasks.sources import Embedded
from instructedit.editors import EditCase, LanguageModel, Probe

from .loops import CASES, GENERATION, read, say

OLD = ["London", "Maida Vale, London", "the United States of America"]
FACTS = [
    EditCase(replace(case.request, old=old), case.probes[:4]) for case, old in zip(CASES, OLD, strict=True)
]  # without the probe of an attitude


def scored(model, cases=FACTS, generation=GENERATION):
    editors = {"none": NoEdit(), "ft-m": FTM(FTMConfig(block=1, lr=0.02, clamp=0.2, steps=5))}
    records, _ = run_chunk(model, cases, editors, run="r", seed=0, generation=generation, fluency=False)
    return {(record.editor, record.case_id): record for record in records}


def values(record, protocol):
    return {score.probe: score.value for score in record.scores if score.protocol == protocol}


def test_probability_order_by_hand():
    # means of -log p: 0.75 for the new answer, 1.0 for the old one, which has the likelier first token
    assert probability_order([-1.0, -0.5], [-0.5, -1.5]) == 1.0
    # the sum favours the shorter text, the mean does not
    assert probability_order([-0.4, -0.4, -0.4], [-0.5]) == 1.0
    assert probability_order([-2.0], [-1.0]) == 0.0
    assert probability_order([-1.0, -2.0], [-1.5]) == 0.0, "a tie"
    with pytest.raises(ValueError, match="at least one token"):
        probability_order([], [-1.0])


@pytest.mark.parametrize(
    ("text", "value"),
    [(" London. It is", 1.0), (" the london", 1.0), (" Paris", 0.0), (" London, Paris", 0.0), ("", 0.0)],
)
def test_reversion_by_hand(text, value):
    assert reversion(text, "London", ["Paris"]) == value


def test_an_old_answer_that_is_accepted_as_the_new_one_is_no_old_answer():
    case = FACTS[0]
    assert scored_old(case) == "London"
    for old in (None, "Paris", "the  paris.", "Paris, France"):
        assert scored_old(replace(case, request=replace(case.request, old=old))) is None
    assert scored_old(EditCase(case.request, CASES[0].probes)) is None, "an attitude"


def test_scores_equal_a_loop_over_plain_logits(model):
    records = scored(model)
    edits = FTM(FTMConfig(block=1, lr=0.02, clamp=0.2, steps=5)).edit(model, [case.request for case in FACTS], 0)
    tokenizer, before, seen = model.tokenizer, model.model, set()
    for number, (case, old) in enumerate(zip(FACTS, OLD, strict=True)):
        for row, hf in (("none", before), ("ft-m", edits.apply_to(before, number))):
            record = records[row, case.request.case_id]
            assert record.old == old
            order, again, known = (values(record, name) for name in ("probability_order", "reversion", "known_before"))
            assert set(order) == {0, 1}, "the edit's prompt and its rephrase"
            for index in order:
                prompt, nll = case.probes[index].prompt, {}
                for name, answer in (("new", case.request.target), ("old", old)):
                    labels, log_p = read(hf, tokenizer, prompt, answer)
                    nll[name] = -sum(float(log_p[i, token]) for i, token in enumerate(labels)) / len(labels)
                assert order[index] == float(nll["new"] < nll["old"])
                seen.add((row, order[index]))
                if index in again:
                    said = say(hf, tokenizer, prompt, GENERATION.max_new_tokens)
                    assert again[index] == float(matches(said, [old]) and not matches(said, case.probes[index].answers))
            labels, log_p = read(before, tokenizer, case.request.prompt, old)
            assert known == {0: float(log_p.argmax(-1).tolist() == labels)}, "of the unedited model, in every row"
    assert ("ft-m", 1.0) in seen and ("none", 0.0) in seen


def test_a_model_that_knows_the_old_answers_gives_them_again_without_an_edit():
    known = TASKS.get("counterfact")().load(Embedded(), "test").cases[:3]
    model = LanguageModel.load(EMBEDDED_MODEL)
    records, _ = run_chunk(
        model, known, {"none": NoEdit()}, run="r", seed=0, generation=GenerationSpec(max_new_tokens=16), fluency=False
    )
    for record in records:
        assert (values(record, "known_before"), values(record, "reversion")[0]) == ({0: 1.0}, 1.0)
        assert set(values(record, "probability_order").values()) == {0.0}


def test_without_generated_texts_there_is_no_reversion(model):
    record = scored(model, FACTS[:1], GenerationSpec(max_new_tokens=0))["ft-m", FACTS[0].request.case_id]
    assert values(record, "reversion") == {}
    assert set(values(record, "probability_order")) == {0, 1}


def test_what_has_no_old_answer_is_not_asked_and_one_that_is_the_target_is_counted(model):
    bare, same = (
        replace(FACTS[0], request=replace(FACTS[0].request, case_id=f"t/test/{n}", old=old))
        for n, old in enumerate((None, "PARIS"))
    )
    records = scored(model, [bare, same])
    first, second = records["ft-m", "t/test/0"], records["ft-m", "t/test/1"]
    for record in (first, second):
        assert not any(values(record, name) for name in ("probability_order", "reversion", "known_before"))
    assert first.unscored.get(SAME) is None and second.unscored[SAME] == 1
    text = first.model_dump_json()
    assert '"old"' not in text and CaseRecord.model_validate_json(text) == first, "old files stay as they are"


def test_probes_that_ask_for_something_else_are_not_scored(model):
    probes = (*FACTS[0].probes, Probe("generalization", "other", "Who was Ada Lovelace?", ("a writer", "Paris")))
    record = scored(model, [replace(FACTS[0], probes=probes)])["ft-m", FACTS[0].request.case_id]
    assert set(values(record, "probability_order")) == {0, 1}


def test_less_reversion_is_better():
    assert decide(-0.2, 0.01, "reversion") == "better"
    assert decide(0.2, 0.01, "probability_order") == "better"
