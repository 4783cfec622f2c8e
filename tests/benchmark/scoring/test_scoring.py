"""Every score of a chunk again by explicit loops: one text, one unpadded forward, one really edited model at a time."""

import math
from dataclasses import replace

import pytest
import torch

from instructedit.baselines.incontext import InContext, InContextConfig
from instructedit.baselines.noedit import NoEdit
from instructedit.benchmark.results.records import CaseRecord
from instructedit.benchmark.scoring.matching import generation_agreement, matches
from instructedit.benchmark.scoring.metrics import ngram_entropy
from instructedit.benchmark.scoring.predictions import Prediction, Predictions
from instructedit.benchmark.scoring.probe_batch import ProbeBatch, ProbeSequences
from instructedit.benchmark.scoring.scoring import _target, is_finite
from instructedit.editors import CaseError, Dense, EditCase, Editor, Edits, LanguageModel, Probe

from .loops import CASES, GENERATION, case, read, run, say


def test_all_scores_equal_explicit_loops(model, editors):
    records = run(model, editors)
    edits = editors["ft-m"].edit(model, [c.request for c in CASES], 0)
    tokenizer, before = model.tokenizer, model.model
    for number, case_ in enumerate(CASES):
        after = edits.apply_to(before, number)
        record = records["ft-m", case_.request.case_id]
        found = {(s.probe, s.protocol): s.value for s in record.scores}
        for index, probe in enumerate(case_.probes[:4]):
            labels, log_p = read(after, tokenizer, probe.prompt, probe.answers[0])
            _, log_q = read(before, tokenizer, probe.prompt, probe.answers[0])
            wanted = log_q.argmax(-1).tolist() if probe.role == "locality" else labels
            same = [int(a == b) for a, b in zip(log_p.argmax(-1).tolist(), wanted, strict=True)]
            assert found[index, "teacher_forced_token"] == pytest.approx(sum(same) / len(same))
            assert found[index, "teacher_forced_exact"] == float(all(same))
            if probe.role == "locality":
                kl = (log_q.exp() * (log_q - log_p)).sum(-1).mean()
                assert found[index, "kl_divergence"] == pytest.approx(float(kl), abs=1e-5)
            if record.answers[index].generated is not None:
                said = record.answers[index].generated
                whole = say(after, tokenizer, probe.prompt, 8)
                assert whole.startswith(said)
                assert said or not whole
                if probe.role == "locality":
                    old = say(before, tokenizer, probe.prompt, 8)
                    assert found[index, "free_generation"] == float(generation_agreement(old, whole, probe.answers))
                else:
                    assert found[index, "free_generation"] == float(matches(whole, probe.answers))
        sentiment = case_.probes[4]

        def pooled(hf, replies, sentiment=sentiment):
            values = []
            for reply in replies:
                labels, log_p = read(hf, tokenizer, sentiment.prompt, reply)
                values += [float(row[label]) for row, label in zip(log_p, labels, strict=True)]
            return sum(values) / len(values)

        plus, minus, old = (
            pooled(after, sentiment.answers),
            pooled(after, sentiment.opposed),
            pooled(before, sentiment.answers),
        )
        z_sent, z_topic = 1 / (1 + math.exp(minus - plus)), min(1.0, math.exp(plus - old))
        assert found[4, "z_sent"] == pytest.approx(z_sent, abs=1e-5)
        assert found[4, "z_topic"] == pytest.approx(z_topic, abs=1e-5)
        assert found[4, "edit_success"] == pytest.approx(z_sent * z_topic, abs=1e-5)
        assert record.text is not None
        assert [s.value for s in record.scores if s.measure == "fluency"] == [
            pytest.approx(value) for value in [ngram_entropy(record.text)] if value is not None
        ]


def test_the_control_says_what_the_base_model_says(model, editors):
    records = run(model, editors)
    for case_ in CASES:
        record = records["none", case_.request.case_id]
        for index, probe in enumerate(case_.probes[:4]):
            said = record.answers[index].generated
            if said is not None:
                assert say(model.model, model.tokenizer, probe.prompt, 8).startswith(said)
        assert {s.value for s in record.scores if s.protocol == "z_topic"} == {1.0}


def test_texts_of_all_editors_share_their_noise(model, editors):
    """Fluency is paired: with no change there is no difference."""
    records = run(model, editors)
    again = run(model, {"other": NoEdit(), "none": NoEdit()})
    for case_ in CASES:
        key = case_.request.case_id
        assert records["none", key].text == again["none", key].text == again["other", key].text


def test_a_long_answer_is_not_read_by_generation(model, editors):
    long = case(3, "Ada Lovelace", "the United States of America and London and King William and so on and on")
    record = run(model, editors, [long])["none", "t/test/3"]
    assert record.unscored["generalization: every accepted answer is longer than 8 new tokens"] == 1
    assert not [s for s in record.scores if s.probe == 1 and s.protocol == "free_generation"]
    assert [s for s in record.scores if s.probe == 1 and s.protocol == "teacher_forced_exact"]


def test_probes_that_do_not_fit_the_context_are_counted(model, editors):
    base = case(4, "Ada Lovelace", "Paris")
    probes = (
        Probe("locality", "Relation_Specificity", "word " * 60, ("female",)),
        Probe("reliability", "sentiment", "What?", ("yes " * 60,), opposed=("no",)),
    )
    record = run(model, editors, [EditCase(base.request, probes)])["ft-m", "t/test/4"]
    assert record.status == "done"
    assert (
        record.unscored.items()
        >= {
            "locality: prompt and answer are longer than the model's context": 1,
            "locality: the model's context has no room for 8 new tokens": 1,
            "sentiment: prompt and reply are longer than the model's context": 1,
            "sentiment: no reply of one sentiment fits the model's context": 1,
        }.items()
    )


def test_a_row_that_two_roles_share_is_scored_for_each_by_its_own_rule(model, editors):
    base = case(5, "Ada Lovelace", "Paris")
    prompt = "The gender of Ada Lovelace is"
    probes = (
        Probe("portability", "Reasoning", prompt, ("female",)),
        Probe("locality", "Forgetfulness", prompt, ("female",)),
    )
    record = run(model, editors, [EditCase(base.request, probes)])["none", "t/test/5"]
    asked = {(s.measure, s.protocol) for s in record.scores if s.probe is not None}
    three = {"teacher_forced_token", "teacher_forced_exact", "free_generation"}
    assert {protocol for measure, protocol in asked if measure == "portability"} == three
    assert {protocol for measure, protocol in asked if measure == "locality"} == {*three, "kl_divergence"}


def test_an_editor_that_fails_on_one_case_keeps_the_others(model):
    class Picky(NoEdit):
        def edit(self, model, requests, seed=0):
            if any(request.case_id == "t/test/1" for request in requests):
                raise CaseError("I do not like this one.")
            return Edits.none(len(requests))

    records = run(model, {"picky": Picky()})
    assert [records["picky", f"t/test/{n}"].status for n in range(3)] == ["done", "failed", "done"]
    assert records["picky", "t/test/1"].reason == "I do not like this one."


def test_an_editor_that_makes_too_few_edits_is_a_bug(model):
    class Short(Editor):
        name, title, source = "short", "Short", "test"

        def edit(self, model, requests, seed=0):
            return Edits.none(1)

    with pytest.raises(AssertionError, match="short made 1 edits of 3 requests"):
        run(model, {"short": Short()})


def test_without_new_tokens_answers_are_not_generated(model, editors):
    records = run(
        model, {**editors, "in-context": InContext()}, generation=GENERATION.model_copy(update={"max_new_tokens": 0})
    )
    assert len(records) == 12
    for record in records.values():
        assert record.status == "done"
        assert record.unscored.keys() <= {"fluency: the text has fewer than three words"}
        assert all(answer.before is None and answer.generated is None for answer in record.answers)
        read_as = {s.protocol for s in record.scores}
        assert "free_generation" not in read_as
        assert {"teacher_forced_exact", "kl_divergence", "edit_success"} <= read_as
        assert record.text


def test_what_no_key_is_near_is_not_run_again_and_scored_as_before(model, editors, monkeypatch):
    some = {"grace": editors["grace"]}
    asked = []

    def reached(self, base, edits, owners, real=LanguageModel.reached):
        asked.append((real(self, base, edits, owners), list(range(len(base.rows)))))
        return asked[-1][0]

    monkeypatch.setattr(LanguageModel, "reached", reached)
    fast = run(model, some)
    assert len(asked) == 3, "teacher forcing, answers and texts"
    assert all(near and len(near) < len(every) for near, every in asked[:2])
    assert asked[2][0] == asked[2][1], "texts go on from the edits' own prompts"
    monkeypatch.setattr(LanguageModel, "reached", lambda self, base, edits, owners: list(range(len(base.rows))))
    made = []
    monkeypatch.setattr(
        some["grace"], "edit", lambda *a, real=some["grace"].edit, **k: made.append(real(*a, **k)) or made[-1]
    )
    slow = run(model, some)
    monkeypatch.setattr(some["grace"], "edit", lambda *_, **__: made[0])
    monkeypatch.setattr(LanguageModel, "replay", lambda *_: iter(()))
    with pytest.raises(KeyError):  # a reached row that does not come is never taken for an unedited one
        run(model, some)
    for key, record in slow.items():
        assert record.answers == fast[key].answers
        assert record.text == fast[key].text
        for old, new in zip(record.scores, fast[key].scores, strict=True):
            assert new.model_copy(update={"value": 0.0}) == old.model_copy(update={"value": 0.0})
            assert new.value == pytest.approx(old.value, abs=1e-5)


def test_numbers_that_are_finite_and_whose_sum_is_not():
    def edit(*values: float) -> Edits:
        return Edits(((Dense("map", 0, torch.tensor([values])),),))

    assert is_finite(edit(3e38, 3e38, 1.0))
    assert is_finite(edit(3e38, -3e38))
    for bad in (math.inf, -math.inf, math.nan):
        assert not is_finite(edit(1.0, bad))
        assert not is_finite(edit(3e38, bad, 3e38))
    assert not is_finite(edit(math.inf, -math.inf))
    assert is_finite(Edits.none(1))


def test_the_probability_of_the_target_by_hand():
    """Tokens of probability 1/2, 1/4 and 1/8: their geometric mean is 1/4."""
    asked = case(0, "Ada Lovelace", "Paris")
    rows = [ProbeSequences({0: 1}), *(ProbeSequences({0: 0}) for _ in asked.probes[1:])]
    plan = ProbeBatch([asked], probes=[rows])
    halves = [Prediction(True, [0], [0], [math.log(p) for p in own], None) for own in ([0.9], [0.5, 0.25, 0.125])]
    found = _target(plan, plan, 0, asked.request, Predictions(halves, [], []))
    assert found == {"target_probability": pytest.approx(0.25)}
    assert _target(plan, plan, 0, replace(asked.request, target="Rome"), Predictions(halves, [], [])) == {}


def test_every_editor_reports_the_probability_of_its_target(model, editors):
    """Of the edited model, of a text in front, and of the unedited one, each by a pass of its own."""
    editors["in-context"] = InContext(InContextConfig())
    records = run(model, editors)
    edits = editors["ft-m"].edit(model, [c.request for c in CASES], 0)
    for number, case_ in enumerate(CASES):
        request = case_.request
        told = InContext(InContextConfig()).context(request).text
        models = {"none": (model.model, ""), "ft-m": (edits.apply_to(model.model, number), "")}
        for name, (hf, front) in {**models, "in-context": (model.model, told)}.items():
            labels, log_p = read(hf, model.tokenizer, front + request.prompt, request.target)
            wanted = math.exp(sum(float(row[label]) for row, label in zip(log_p, labels, strict=True)) / len(labels))
            facts = records[name, request.case_id].edit
            assert facts["target_probability"] == pytest.approx(wanted, rel=1e-4)
            assert set(facts) == {"target_probability"} if name != "ft-m" else "cosine" in facts
        grace = records["grace", request.case_id].edit
        assert grace["target_probability"] == pytest.approx(math.exp(-grace["final_loss"]), rel=1e-4)
        tuned = records["ft-m", request.case_id].edit
        assert tuned["target_probability"] == pytest.approx(math.exp(-tuned["final_loss"]), rel=1e-4)


def test_facts_that_are_no_numbers_are_left_out(model):
    class Odd(NoEdit):
        def edit(self, model, requests, seed=0):
            edits = super().edit(model, requests, seed)
            return replace(edits, facts=tuple({"steps": 3.0, "final_loss": math.nan} for _ in requests))

    for record in run(model, {"odd": Odd()}).values():
        assert record.edit.keys() == {"steps", "target_probability"}
        assert CaseRecord.model_validate_json(record.model_dump_json()) == record
