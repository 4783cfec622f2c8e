"""Locality probes without an answer: read along the unedited model's own, checked against explicit loops."""

from dataclasses import replace

import pytest
import torch

from instructedit.baselines.ftl import FTM, FTMConfig
from instructedit.baselines.noedit import NoEdit
from instructedit.benchmark.results.records import CaseRecord, GenerationSpec
from instructedit.benchmark.scoring import references
from instructedit.benchmark.scoring.matching import generation_agreement, natural_text
from instructedit.benchmark.scoring.references import EMPTY, NEW_TOKENS
from instructedit.benchmark.scoring.scoring import run_chunk
from instructedit.editors import Probe

from .loops import CASES, GENERATION, say

LOCAL = Probe("locality", "Unrelated", "Grace Hopper's occupation is", ())
CASE = replace(CASES[0], probes=(CASES[0].probes[0], LOCAL))
SETTINGS = {"block": 1, "lr": 0.02, "clamp": 0.2, "steps": 5}


def scored(model, case=CASE, generation=GENERATION):
    editors = {"none": NoEdit(), "ft-m": FTM(FTMConfig(**SETTINGS))}
    records, _ = run_chunk(model, [case], editors, run="r", seed=0, generation=generation, fluency=False)
    return {record.editor: record for record in records}


def locality(record):
    return {score.protocol: score.value for score in record.scores if score.measure == "locality"}


@pytest.mark.parametrize("new_tokens", [8, 0], ids=["generated", "not generated"])
def test_scores_equal_a_loop_over_the_models_own_answer(model, new_tokens):
    records = scored(model, generation=GenerationSpec(max_new_tokens=new_tokens))
    tokenizer, before = model.tokenizer, model.model
    after = FTM(FTMConfig(**SETTINGS)).edit(model, [CASE.request], 0).apply_to(before)
    said = natural_text(say(before, tokenizer, LOCAL.prompt, new_tokens or NEW_TOKENS))
    answer = records["ft-m"].answers[1]
    assert (answer.reference, answer.accepted) == (said, ())
    front, whole = (tokenizer(text)["input_ids"] for text in (LOCAL.prompt, LOCAL.prompt + said))
    with torch.no_grad():
        p, q = (
            hf(input_ids=torch.tensor([whole])).logits[0, len(front) - 1 : -1].log_softmax(-1) for hf in (before, after)
        )
    same = (p.argmax(-1) == q.argmax(-1)).tolist()
    found = locality(records["ft-m"])
    assert found["teacher_forced_token"] == pytest.approx(sum(same) / len(same))
    assert found["teacher_forced_exact"] == float(all(same))
    assert found["kl_divergence"] == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), abs=1e-5)
    if new_tokens:
        texts = (say(hf, tokenizer, LOCAL.prompt, new_tokens) for hf in (before, after))
        assert found["free_generation"] == float(generation_agreement(*texts))
    else:
        assert "free_generation" not in found


def test_the_unedited_model_keeps_every_probe_by_definition(model):
    ones = {"teacher_forced_token": 1.0, "teacher_forced_exact": 1.0, "free_generation": 1.0, "kl_divergence": 0.0}
    assert locality(scored(model)["none"]) == ones


def test_an_answer_of_the_data_is_read_where_there_is_one(model):
    given = replace(CASE, probes=(CASE.probes[0], replace(LOCAL, answers=("computer scientist",))))
    record = scored(model, given)["none"]
    assert record.answers[1].reference is None and '"reference"' not in record.model_dump_json()
    assert scored(model)["none"].answers[1].model_dump_json().count('"reference"') == 1
    assert CaseRecord.model_validate_json(record.model_dump_json()) == record


def test_an_empty_answer_is_counted_and_only_its_text_is_compared(model, monkeypatch):
    monkeypatch.setattr(references, "answers", lambda *_, **__: ["\n"])
    record = scored(model)["ft-m"]
    assert set(locality(record)) == {"free_generation"}
    assert record.unscored[EMPTY] == 1


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (" Paris. It is", " Paris"),
        (" J. R. R. Tolkien. He", " J. R. R. Tolkien"),
        ("\nParis", ""),
        (" 3.5 m", " 3.5 m"),
        ("", ""),
        ("  a b\nc", "  a b"),
    ],
)
def test_natural_text(text, answer):
    assert natural_text(text) == answer
