"""Scores with a text before the prompts, by explicit loops."""

import math
from dataclasses import replace

import pytest
import torch

from instructedit.baselines.ftl import FTM, FTMConfig
from instructedit.baselines.incontext import InContext, InContextConfig
from instructedit.baselines.noedit import NoEdit
from instructedit.benchmark.scoring.matching import generation_agreement, matches
from instructedit.editors import Context, EditCase, Edits, LanguageModel, Probe

from .loops import CASES, case, read, run, say


class WithText(FTM):
    """Changes weights and puts a text before the prompts."""

    def edit(self, model, requests, seed=0):
        texts = tuple(Context(f"The {request.target}. ") for request in requests)
        return replace(super().edit(model, requests, seed), contexts=texts)


def test_a_text_in_front_is_scored_as_explicit_loops_with_it_do(model):
    texted = WithText(FTMConfig(block=1, lr=0.02, clamp=0.2, steps=5))
    records = run(model, {"in-context": InContext(), "texted": texted})
    requests = [c.request for c in CASES]
    plain = FTM(texted.config).edit(model, requests, 0)
    tokenizer, before = model.tokenizer, model.model
    for name, edits in (("in-context", InContext().edit(model, requests)), ("texted", texted.edit(model, requests))):
        for number, case_ in enumerate(CASES):
            after = before if name == "in-context" else plain.apply_to(before, number)
            record = records[name, case_.request.case_id]
            front = edits.contexts[number].text
            found = {(s.probe, s.protocol): s.value for s in record.scores}
            for index, probe in enumerate(case_.probes[:4]):
                labels, log_p = read(after, tokenizer, front + probe.prompt, probe.answers[0])
                _, log_q = read(before, tokenizer, probe.prompt, probe.answers[0])
                wanted = log_q.argmax(-1).tolist() if probe.role == "locality" else labels
                same = [int(a == b) for a, b in zip(log_p.argmax(-1).tolist(), wanted, strict=True)]
                assert found[index, "teacher_forced_token"] == pytest.approx(sum(same) / len(same))
                if probe.role == "locality":
                    kl = (log_q.exp() * (log_q - log_p)).sum(-1).mean()
                    assert found[index, "kl_divergence"] == pytest.approx(float(kl), abs=1e-5)
                    assert kl > 1e-3, "the text does something"
                answer = record.answers[index]
                assert answer.prompt == probe.prompt, "the record keeps the bare question"
                old, whole = say(before, tokenizer, probe.prompt, 8), say(after, tokenizer, front + probe.prompt, 8)
                assert whole.startswith(answer.generated)
                assert old.startswith(answer.before)
                agreed = generation_agreement(old, whole, probe.answers)
                wanted = agreed if probe.role == "locality" else matches(whole, probe.answers)
                assert found[index, "free_generation"] == float(wanted)
            sentiment = case_.probes[4]
            pooled = [
                torch.cat(
                    [
                        log_p.gather(1, torch.tensor(labels)[:, None])[:, 0]
                        for labels, log_p in (
                            read(hf, tokenizer, text + sentiment.prompt, r) for r in sentiment.answers
                        )
                    ]
                ).mean()
                for hf, text in ((before, ""), (after, front))
            ]
            assert found[4, "z_topic"] == pytest.approx(min(1.0, math.exp(pooled[1] - pooled[0])), abs=1e-5)


def test_a_text_stands_only_in_front_of_its_roles(model):
    rounding = 1e-6  # the questions without a text are read in another pass than those of the row `none`
    editor = InContext(InContextConfig(roles=("reliability", "fluency")))
    records = run(model, {"none": NoEdit(), "in-context": editor, "everywhere": InContext()})
    for case_ in CASES:
        key = case_.request.case_id
        none, texted, everywhere = (records[name, key] for name in ("none", "in-context", "everywhere"))
        for ours, theirs in zip(texted.scores, none.scores, strict=True):
            assert ours.model_copy(update={"value": 0.0}) == theirs.model_copy(update={"value": 0.0})
            assert ours.measure in {"reliability", "fluency"} or ours.value == pytest.approx(theirs.value, abs=rounding)
        for record, moved in ((texted, False), (everywhere, True)):
            local = {s.protocol: s.value for s in record.scores if s.measure == "locality"}
            assert (local["kl_divergence"] > 1e3 * rounding) == moved, "a text before the prompt shows"
            assert moved or local["teacher_forced_token"] == 1.0
        request = case_.request
        written = replace(request, prompt=editor.edit(model, [request]).contexts[0].text + request.prompt)
        (same,) = run(model, {"none": NoEdit()}, [EditCase(written, ())]).values()
        assert texted.text == same.text != none.text, "the sampled text continues the fact and the edit prompt"


def test_questions_without_a_text_in_front_share_their_base_pass(model, editors, monkeypatch):
    passes: list[int] = []
    inner = LanguageModel.base
    monkeypatch.setattr(LanguageModel, "base", lambda self, *a, **k: passes.append(len(a[0])) or inner(self, *a, **k))
    edits = editors["ft-m"].edit(model, [c.request for c in CASES])  # its own
    del passes[:]
    monkeypatch.setattr(FTM, "edit", lambda *_: edits)
    run(model, {name: editors[name] for name in ("none", "ft-m")} | {"in-context": InContext()})
    assert len(passes) == 3  # texts with answers, prompts that are continued greedily, and those that are sampled


def test_a_chunk_without_a_question_that_fits_is_scored(model, editors):
    base = case(7, "Ada Lovelace", "Paris")
    long = EditCase(base.request, (Probe("reliability", "edit", "word " * 200, ("Paris",)),))
    found = run(model, {"ft-m": editors["ft-m"]}, [long])["ft-m", "t/test/7"]
    assert found.status == "done"
    assert sum(found.unscored.values()) >= 1


def test_what_does_not_fit_behind_the_text_is_counted(model):
    class Wordy(NoEdit):
        def edit(self, model, requests, seed=0):
            return replace(Edits.none(len(requests)), contexts=(Context("word " * 17),) * len(requests))

    base = case(6, "Ada Lovelace", "Paris")
    probes = (
        Probe("locality", "Relation_Specificity", "What is her name, or the place of her birth?", ("female",)),
        Probe("reliability", "sentiment", "What of Ada?", ("yes.", "yes, " * 8), opposed=("no, " * 8,)),
        Probe("portability", "Reasoning", "Is", ("yes.",)),
    )
    whole = EditCase(base.request, probes)
    none, wordy = (run(model, {"x": editor}, [whole])["x", "t/test/6"] for editor in (NoEdit(), Wordy()))
    assert none.unscored == {}
    assert wordy.status == "done"
    assert wordy.unscored == {
        "fluency: the model's context has no room for 8 new tokens after the edit's text and the prompt": 1,
        "locality: the edit's text, prompt and answer are longer than the model's context": 1,
        "locality: the model's context has no room for 8 new tokens after the edit's text and the prompt": 1,
        "sentiment: no reply of one sentiment fits the model's context": 1,
        "sentiment: the edit's text, prompt and reply are longer than the model's context": 2,
    }
    assert {(s.probe, s.protocol) for s in wordy.scores} == {
        (2, "teacher_forced_token"),
        (2, "teacher_forced_exact"),
        (2, "free_generation"),
    }
    assert wordy.answers[0].generated is None
