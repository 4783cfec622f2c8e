"""Trained editors out of runs: the edit that a run made, from its checkpoint, in plain transformers and plain peft."""

import json
import shutil

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

import instructedit
from instructedit.answers import facts_rows
from instructedit.benchmark.results.records import CaseRecord, parse_record
from instructedit.editors import InputError

from ..benchmark.worlds import write_data, write_model, write_training
from ..cli.command import call, refused

TRAINING = {
    "steps": 4,
    "batch": 2,
    "accumulate": 1,
    "warmup": 1,
    "lr": 1e-3,
    "validate_every": 4,
    "validation_cases": 2,
}
OPTIONS = {"rank": 8, "blocks": [-1], "edit_lr": 0.05, "training": TRAINING}
COMMON = {
    "setting": "multi-task",
    "train": ["recent", "counterfact"],
    "editors": {"mend": OPTIONS, "instructedit": OPTIONS},
    "limit": 2,
    "fluency": False,
    "generation": {"max_new_tokens": 2},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    write_training(write_data(folder / "data"), recent=12, counterfact=12)
    write_model(folder / "model", "llama")  # whose texts may be as long as instructions are
    return folder


@pytest.fixture(scope="module")
def runs(place):
    """Return folder and records of a run of each schedule; they share their checkpoints."""
    made = {}
    for schedule in ("single", "sequential"):
        options = {"data": str(place / "data"), "device": "cpu", "schedule": schedule, **COMMON}
        results = instructedit.evaluate(place / "model", "recent", out=place / "out", **options)
        (folder,) = results.folders
        lines = (folder / "cases.jsonl").read_text(encoding="utf-8").splitlines()
        made[schedule] = folder, [parse_record(line, CaseRecord, "") for line in lines]
    return made


def logits_of(model, row):
    with torch.no_grad():
        return model(input_ids=torch.tensor([row.ids])).logits[0, list(row.scored)]


@pytest.mark.parametrize("schedule", ["single", "sequential"])
@pytest.mark.parametrize("editor", ["mend", "instructedit"])
def test_the_edit_of_a_trained_editor_leaves_the_run(runs, place, tmp_path, schedule, editor):
    folder, records = runs[schedule]
    stage = {"single": "single", "sequential": "after-all"}[schedule]
    wanted = {own.case_id: own for own in records if (own.editor, own.stage) == (editor, stage)}
    if schedule == "single":
        wanted = dict(list(wanted.items())[1:])
    found = instructedit.edit_of_run(
        folder,
        next(iter(wanted)) if schedule == "single" else None,
        editor=editor,
        stage=stage,
        device="cpu",
    )
    assert {own.case_id for own in found.requests} == wanted.keys()
    rows = facts_rows(found.model, found.requests, found.prefixes)
    with torch.no_grad():
        engine = dict(found.model.forward(rows, found.edits, [0] * len(rows)))
    plain = AutoModelForCausalLM.from_pretrained(place / "model").eval()
    for request, row, own in zip(found.requests, rows, found.taught, strict=True):
        assert own.probability == pytest.approx(wanted[request.case_id].edit["target_probability"], rel=1e-3)
        assert (editor == "instructedit") == (
            len(row.ids) > len(found.model.encode(request.prompt, request.target).ids)
        )
    assert not torch.allclose(engine[0], logits_of(plain, rows[0]), atol=1e-3), "it changes something"

    def same(model):
        for number, row in enumerate(rows):
            torch.testing.assert_close(logits_of(model, row), engine[number], rtol=1e-4, atol=1e-4)

    for form in ("hf", "peft", "edits"):
        said = found.save_pretrained(tmp_path / form, form)
        assert (said.facts, said.differing) == (len(rows), ())
    same(AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval())
    with instructedit.load_edits(plain, tmp_path / "edits") as edited:
        same(edited)
    same(peft.PeftModel.from_pretrained(plain, tmp_path / "peft").eval())


def test_another_checkpoint_than_the_runs_is_refused(runs, place, tmp_path):
    folder, records = runs["single"]
    row = {own["name"]: own for own in json.loads((folder / "run.json").read_text())["spec"]["editors"]}
    mend, other = (row[name]["training"]["checkpoint"] for name in ("mend", "instructedit"))
    words = ("export", folder, records[0].case_id, "--editor", "mend", "--out", tmp_path / "out", "--checkpoints")
    assert f"{mend}: the trained editor of the row 'mend' is not there" in refused(call(*words, tmp_path / "none"))
    shutil.copytree(place / "out" / "checkpoints" / other, tmp_path / "some" / mend)
    assert f"is of the checkpoint {other}, but the run was made with {mend}" in refused(call(*words, tmp_path / "some"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="has to be trained first"):
        instructedit.load(place / "model", device="cpu").edit(("A is", "b"), "mend")
