"""Joint and accumulating edits in a run, against explicit loops over models that are written to."""

import hashlib
import json
from collections import Counter

import pytest
import torch

from instructedit.baselines.ftl import FTM
from instructedit.benchmark.results.records import RunSummary, read_record
from instructedit.benchmark.run.accumulated import AccumulatedEdit
from instructedit.benchmark.run.runner import run
from instructedit.editors import CaseError, Dense, Edits, InputError, LanguageModel

from ..worlds import records_of, write_data
from .schedules import FT_M, scored, stream, values


def test_a_batch_is_one_edit_and_every_case_is_scored_under_it(batch):
    prepared, folder = batch
    records = {(r.editor, r.case_id): r for r in records_of(folder)}
    assert len(records) == prepared.total == 3 * 2 * 3
    assert {r.stage for r in records.values()} == {"batch"}
    requests = [case.request for case in stream(prepared)]
    assert {request.task for request in requests} == {"recent"}
    for name in ("ft-m", "grace"):
        edits = prepared.resolved.editors[name].edit_together(prepared.model, requests, prepared.file.spec.seed)
        cases = [case for cases in prepared.resolved.cases.values() for case in cases]
        for wanted in scored(prepared, cases, edits):
            record = records[name, wanted.case_id]
            assert values(record) == pytest.approx(values(wanted), abs=1e-4)
            assert [a.generated for a in record.answers] == [a.generated for a in wanted.answers]
            assert dict(edits.facts[0]).items() <= record.edit.items()
            assert "cosine" not in record.edit, "all cases are scored under one edit"
    unedited, damaged = records["none", "zsre/test/0"], records["ft-m", "zsre/test/0"]
    assert values(unedited) != values(damaged), "cases that were never edited show the damage"


def test_each_batch_is_a_joint_edit_of_the_clean_model_for_its_own_cases(batches):
    prepared, folder = batches
    records = {(r.editor, r.case_id): r for r in records_of(folder)}
    assert len(records) == len(records_of(folder)) == prepared.total == 3 * (5 + 5)
    assert {r.stage for r in records.values()} == {"batch"}
    order, others = stream(prepared), prepared.resolved.cases["zsre"]
    assert (len(order), len(others)) == (5, 5)
    for name in ("ft-m", "grace"):
        for number, size in enumerate((2, 2, 1)):
            own = order[2 * number : 2 * number + size]
            requests = [case.request for case in own]
            edits = prepared.resolved.editors[name].edit_together(prepared.model, requests, prepared.file.spec.seed)
            for wanted in scored(prepared, [*own, *others[number::3]], edits):
                record = records[name, wanted.case_id]
                assert values(record) == pytest.approx(values(wanted), abs=1e-4)
                assert record.edit.items() >= dict(edits.facts[0]).items()
    assert read_record(folder / "summary.json", RunSummary).complete
    assert len(list((folder / "edits").glob("*.safetensors"))) == 3, "one edit a row is kept, that of its last batch"


def test_the_batch_size_is_of_the_run_and_of_batches_alone(scheduled, batch):
    sized = scheduled("batch", edited=("recent",), batch_size=2).file
    assert (batch[0].file.spec.batch_size, sized.spec.batch_size) == (None, 2)
    assert sized.digest != batch[0].file.digest
    fields = batch[0].file.spec.model_dump(mode="json")
    for added in ("batch_size", "joints", "references", "chat", "rescored"):
        assert fields.pop(added) is None
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert batch[0].file.digest == hashlib.sha256(text.encode()).hexdigest()[:16], "the name that it always had"
    assert scheduled("sequential", batch_size=2).file.spec.batch_size is None
    with pytest.raises(InputError, match="key 'batch_size': Input should be greater than or equal to 1, found 0"):
        scheduled("batch", batch_size=0)


def test_what_fails_in_one_batch_fails_there_alone(scheduled, tmp_path, monkeypatch):
    prepared = scheduled("batch", editors={"ft-m": FT_M}, tasks=("recent",), limit=5, batch_size=2)
    editor, order = prepared.resolved.editors["ft-m"], [case.request.case_id for case in stream(prepared)]
    inner = editor.edit_together

    def edit_together(model, requests, seed):
        if order[2] in [request.case_id for request in requests]:
            raise InputError("no")
        return inner(model, requests, seed)

    monkeypatch.setattr(editor, "edit_together", edit_together)
    said: list[str] = []
    records = records_of(run(prepared, tmp_path, report=said.append))
    assert {r.case_id for r in records if r.status == "failed"} == set(order[2:4])
    assert "ft-m: 2 of 5 requests could not be edited in; the first: no" in said


def test_the_run_says_what_was_edited(batch, sequence, scheduled):
    assert batch[0].file.spec.edited == sequence[0].file.spec.edited == ("recent",)
    assert scheduled("batch").file.spec.edited == ("recent", "zsre")
    assert scheduled("batch", held_out=("zsre",)).file.spec.edited == ("recent",)
    assert scheduled("batch", held_out=("recent", "zsre")).file.spec.edited == ("recent", "zsre")
    one = scheduled("single", edited=("recent",), at=(2,)).file.spec
    assert (one.edited, one.at) == (None, ())


def test_a_sequence_equals_a_model_that_is_written_to_again_and_again(sequence):
    """FT-M on real weights: edit, write, score, and the next edit on what was written."""
    prepared, folder = sequence
    base = prepared.model
    records = {(r.stage, r.case_id): r for r in records_of(folder) if r.editor == "ft-m"}
    editor = FTM(prepared.resolved.editors["ft-m"].config)
    written = base
    seen = []
    stages = {}
    for case in stream(prepared):
        edit = editor.edit(written, [case.request], prepared.file.spec.seed)
        written = LanguageModel(edit.apply_to(written.model), base.tokenizer)
        seen.append(case)
        stages["after-edit", case.request.case_id] = (written, case)
        if len(seen) == 3:
            stages |= {("after-3", c.request.case_id): (written, c) for c in seen}
    for cases in prepared.resolved.cases.values():
        stages |= {("after-all", c.request.case_id): (written, c) for c in cases}
    assert stages.keys() == records.keys()
    for key, (model, case) in stages.items():
        labels = {}
        for index, probe in enumerate(case.probes):
            row = model.encode(probe.prompt, probe.answers[0])
            with torch.no_grad():
                ids = torch.tensor([row.ids])
                said = model.model(input_ids=ids).logits[0, list(row.scored)].argmax(-1).tolist()
                before = base.model(input_ids=ids).logits[0, list(row.scored)].argmax(-1).tolist()
            wanted = before if probe.role == "locality" else list(row.labels)
            labels[index] = sum(a == b for a, b in zip(said, wanted, strict=True)) / len(wanted)
        found = {s.probe: s.value for s in records[key].scores if s.protocol == "teacher_forced_token"}
        assert found == pytest.approx(labels), key


def test_stages_of_a_sequence(sequence):
    prepared, folder = sequence
    order = [case.request.case_id for case in stream(prepared)]
    records = [r for r in records_of(folder) if r.editor == "grace"]
    by_stage = {stage: [r.case_id for r in records if r.stage == stage] for stage in {r.stage for r in records}}
    assert by_stage.keys() == {"after-edit", "after-3", "after-all"}, "100 edits are never reached"
    assert by_stage["after-edit"] == order
    assert sorted(by_stage["after-3"]) == sorted(order[:3])
    assert len(by_stage["after-all"]) == 10
    assert prepared.total == len(records_of(folder)) == 3 * (5 + 3 + 10)
    summary = read_record(folder / "summary.json", RunSummary)
    assert summary.complete
    assert summary.valid
    assert {mean.stage for mean in summary.means if mean.task == "zsre"} == {"after-all"}


def test_the_control_row_stays_as_it_is_at_every_stage(sequence, batch):
    for record in (*records_of(sequence[1]), *records_of(batch[1])):
        if record.editor == "none":
            local = [s for s in record.scores if s.measure == "locality"]
            assert local
            assert all(s.value == (0.0 if s.protocol == "kl_divergence" else 1.0) for s in local)


def test_every_row_gets_the_same_requests_in_the_same_order(scheduled, tmp_path, monkeypatch):
    seen = {}
    prepared = scheduled("sequential", seed=3)
    for name, editor in prepared.resolved.editors.items():
        inner = editor.edit_next

        def edit_next(model, request, before, seed, name=name, inner=inner):
            seen.setdefault(name, []).append(request.case_id)
            return inner(model, request, before, seed)

        monkeypatch.setattr(editor, "edit_next", edit_next)
    run(prepared, tmp_path)
    assert seen["none"] == seen["ft-m"] == seen["grace"] == [case.request.case_id for case in stream(prepared)]
    tasks = [case_id.split("/")[0] for case_id in seen["none"]]
    assert tasks != sorted(tasks), "tasks are mixed"
    other = [case.request.case_id for case in stream(scheduled("sequential", seed=4))]
    assert other != seen["none"]
    assert sorted(other) == sorted(seen["none"])


def test_an_editor_without_a_joint_form_fails_every_case_with_a_sentence(scheduled, tmp_path, monkeypatch):
    prepared = scheduled("batch", editors={"none": {}, "ft-m": FT_M})
    editor = prepared.resolved.editors["ft-m"]

    def refuse(*_):
        raise InputError("The editor 'ft-m' makes one edit at a time.")

    monkeypatch.setattr(editor, "edit_together", refuse)
    said: list[str] = []
    folder = run(prepared, tmp_path, report=said.append)
    mine = [r for r in records_of(folder) if r.editor == "ft-m"]
    assert len(mine) == 6
    assert {(r.status, r.reason) for r in mine} == {("failed", "The editor 'ft-m' makes one edit at a time.")}
    assert any("6 of 6 requests could not be edited in; the first: The editor 'ft-m' makes" in text for text in said)
    assert read_record(folder / "summary.json", RunSummary).complete


def test_facts_that_do_not_fit_in_front_of_a_question_are_refused(scheduled, tmp_path):
    """Ten facts are longer than the tiny model's context; nothing else is lost."""
    editors = {"none": {}, "in-context": {}}
    records = records_of(run(scheduled("batch", editors=editors, limit=5), tmp_path))
    mine = [r for r in records if r.editor == "in-context"]
    assert {r.status for r in mine} == {"failed"}
    assert all("all 10 facts before a prompt" in r.reason for r in mine)
    assert {r.status for r in records if r.editor == "none"} == {"done"}
    records = records_of(run(scheduled("sequential", editors=editors, limit=5), tmp_path))
    mine = [r for r in records if r.editor == "in-context" and r.stage == "after-edit"]
    assert mine[0].status == "done"
    assert mine[-1].status == "failed"
    assert mine[-1].reason == "The text of all edits so far leaves no room for this one's question."
    after_all = {r.case_id: r.status for r in records if r.editor == "in-context" and r.stage == "after-all"}
    assert after_all == {r.case_id: r.status for r in mine}


@pytest.mark.parametrize("schedule", ["single", "batch", "sequential"])
def test_a_request_that_does_not_fit_costs_itself_only(scheduled, tmp_path, schedule):
    write_data(tmp_path / "data")
    path = tmp_path / "data" / "wiki_recent" / "recent_test.json"
    rows = json.loads(path.read_text())
    rows[1]["target_new"] = "word " * 120
    path.write_text(json.dumps(rows))
    given = {"data": str(tmp_path / "data"), "tasks": ("recent",), "limit": None}
    prepared = scheduled(schedule, **given)
    records = records_of(run(prepared, tmp_path / "out"))
    for name in ("ft-m", "grace"):
        mine = [r for r in records if r.editor == name]
        bad = [r for r in mine if r.case_id == "recent/test/1"]
        assert {r.status for r in bad} == {"failed"}
        assert all("but the model's context is 96" in r.reason for r in bad)
        assert {r.status for r in mine if r not in bad} == {"done"}
    none = {r.case_id: r for r in records if r.editor == "none"}
    assert {r.status for r in none.values()} == {"done"}
    too_long = "reliability: prompt and answer are longer than the model's context"
    assert none["recent/test/1"].unscored[too_long] == 1
    if schedule == "single":
        return
    clean = [case for case in stream(prepared) if case.request.case_id != "recent/test/1"]
    edits = Edits.none(1)
    editor, seed = prepared.resolved.editors["ft-m"], prepared.file.spec.seed
    if schedule == "batch":
        edits = editor.edit_together(prepared.model, [case.request for case in clean], seed)
    else:
        for case in clean:
            edits = editor.edit_next(prepared.model, case.request, edits, seed)
    last = {r.case_id: r for r in records if r.editor == "ft-m" and r.stage in ("batch", "after-all")}
    for wanted in scored(prepared, clean, edits):
        assert values(last[wanted.case_id]) == pytest.approx(values(wanted), abs=1e-4)


def test_a_sequence_goes_on_from_the_last_finite_edit(scheduled, tmp_path, monkeypatch):
    prepared = scheduled("sequential", editors={"ft-m": FT_M}, tasks=("recent",))
    editor = prepared.resolved.editors["ft-m"]
    second = stream(prepared)[1].request.case_id
    inner, given = editor.edit_next, []

    def edit_next(model, request, before, seed):
        given.append(before)
        after = inner(model, request, before, seed)
        if request.case_id == second:
            (patch,) = after.patches[0]
            return Edits(((Dense(patch.site, patch.block, patch.d * float("nan")),),))
        return after

    monkeypatch.setattr(editor, "edit_next", edit_next)
    records = records_of(run(prepared, tmp_path))
    assert {r.case_id for r in records if r.status == "failed"} == {second}
    assert {r.reason for r in records if r.status == "failed"} == {"The edit holds numbers that are not finite."}
    assert Counter(r.stage for r in records if r.status == "failed") == {"after-edit": 1, "after-all": 1}
    assert torch.equal(given[1].patches[0][0].d, given[2].patches[0][0].d)


@pytest.mark.parametrize("schedule", ["single", "batch"])
def test_an_edit_that_is_not_finite_fails_its_cases(scheduled, tmp_path, schedule):
    given = {"tasks": ("recent",), "editors": {"ft-m": {"lr": 1e30, "clamp": False}}}
    records = records_of(run(scheduled(schedule, **given), tmp_path))
    assert {r.status for r in records} == {"failed"}
    assert all("not finite" in r.reason or "not all numbers" in r.reason for r in records)


def test_a_request_an_editor_refuses_alone_is_left_out_of_the_joint_edit(scheduled, monkeypatch):
    prepared = scheduled("batch")
    editor = prepared.resolved.editors["ft-m"]
    requests = [case.request for case in stream(prepared)]
    asked = []

    def refuse(model, given, seed=0):
        asked.append([request.case_id for request in given])
        if requests[2] in given:
            raise CaseError("too long")
        return Edits.none(1)

    monkeypatch.setattr(editor, "edit_together", refuse)
    monkeypatch.setattr(editor, "edit", refuse)
    found = AccumulatedEdit.together(prepared.model, editor, requests, 0)
    assert found.failures == {requests[2].case_id: "too long"}
    assert asked[-1] == [request.case_id for request in requests if request != requests[2]]


def test_facts_of_one_edit_stand_at_its_own_stage_only(sequence):
    _, folder = sequence
    by_stage = {}
    for record in records_of(folder):
        if record.editor == "ft-m" and record.status == "done":
            by_stage.setdefault(record.stage, []).append(record.edit)
    assert all("steps" in facts for facts in by_stage.pop("after-edit"))
    own = {"delta_norm", "relative_norm", "target_probability"}
    assert by_stage
    assert {name for stage in by_stage.values() for facts in stage for name in facts} == own, (
        "no facts of the last edit"
    )
    assert all(len({facts["delta_norm"] for facts in stage}) == 1 for stage in by_stage.values()), "of one edit"
