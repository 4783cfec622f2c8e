"""Edits of runs, exported, give the probabilities that the run has recorded; results are the files' numbers."""

import math

import pandas as pd
import pytest

import instructedit
from instructedit.benchmark.results.records import CaseRecord, parse_record
from instructedit.editors import InputError

from ..benchmark.worlds import write_world

ROWS = {
    "ft-m": {"block": 1, "lr": 0.02, "clamp": 0.2, "steps": 3},
    "grace": {"block": 2, "steps": 3, "radius": 5.0},
    "in-context": {},
}
COMMON = {"chunk": 2, "limit": 3, "fluency": False, "generation": {"max_new_tokens": 6}}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def runs(place):
    """Return a function that evaluates under a schedule, once, and returns results and records."""
    made = {}

    def of(schedule, **changes):
        key = schedule, *changes
        if key not in made:
            options = {"data": str(place / "data"), "device": "cpu", "schedule": schedule, **COMMON, **changes}
            out = place / "-".join(key)
            results = instructedit.evaluate(place / "model", ["recent", "convsent"], editors=ROWS, out=out, **options)
            (folder,) = results.folders
            lines = (folder / "cases.jsonl").read_text(encoding="utf-8").splitlines()
            made[key] = results, [parse_record(line, CaseRecord, "") for line in lines]
        return made[key]

    return of


@pytest.mark.parametrize("editor", ROWS)
@pytest.mark.parametrize("task", ["recent", "convsent"])
def test_the_edit_of_a_case_is_made_again(runs, place, task, editor):
    results, records = runs("single")
    record = [own for own in records if (own.task, own.editor) == (task, editor)][1]
    edited = instructedit.edit_of_run(
        results.folders[0], record.case_id, editor=editor, data=str(place / "data"), device="cpu"
    )
    (request,) = edited.requests
    assert (request.prompt, request.target, bool(request.replies)) == (record.prompt, record.target, task == "convsent")
    if editor == "ft-m":
        assert edited.health.edit["delta_norm"] == pytest.approx(record.edit["delta_norm"], rel=1e-4)
    if "target_probability" in record.edit:
        assert edited.taught[0].probability == pytest.approx(record.edit["target_probability"], rel=1e-3)


def test_the_edit_of_a_case_is_made_within_the_runs_context(runs, place):
    results, records = runs("single", chat="wild")
    record = next(own for own in records if (own.task, own.editor, own.status) == ("recent", "ft-m", "done"))
    edited = instructedit.edit_of_run(results.folders[0], record.case_id, editor="ft-m", device="cpu")
    assert edited.health.edit["delta_norm"] == pytest.approx(record.edit["delta_norm"], rel=1e-4)
    assert edited.taught[0].probability == pytest.approx(record.edit["target_probability"], rel=1e-3)


@pytest.mark.parametrize(("schedule", "changes"), [("sequential", {}), ("batch", {}), ("batch", {"batch_size": 2})])
def test_the_saved_edit_of_a_schedule_is_read(runs, schedule, changes, place, tmp_path):
    results, records = runs(schedule, edited=("recent",), **changes)
    edited = instructedit.edit_of_run(results.folders[0], editor="ft-m", device="cpu")
    last = {own.case_id: own for own in records if own.editor == "ft-m" and own.stage in ("after-all", "batch")}
    assert len(edited.requests) == (1 if changes else 3), "with batches of 2, the last of three cases is alone"
    for request, found in zip(edited.requests, edited.taught, strict=True):
        assert found.probability == pytest.approx(last[request.case_id].edit["target_probability"], rel=1e-3)
    exported = edited.save_pretrained(tmp_path / "out")
    assert exported.facts == len(edited.requests)
    with pytest.raises(InputError, match=f"--stage {'batch' if schedule == 'batch' else 'after-all'} were expected"):
        instructedit.edit_of_run(results.folders[0], editor="ft-m", stage="after-edit")


def test_what_a_run_does_not_have_is_one_sentence(runs, place, tmp_path):
    results, records = runs("single")
    (folder,), case = results.folders, records[0].case_id
    for words, options in {
        "no row 'ftm'. Did you mean 'ft-m'": {"case": case, "editor": "ftm"},
        "no case 'recent/test/99'": {"case": "recent/test/99", "editor": "ft-m"},
        "the id of a case was expected": {"editor": "ft-m"},
        "name the run's model": {"case": case, "editor": "ft-m", "model": "embedded", "device": "cpu"},
    }.items():
        with pytest.raises(InputError, match=words):
            instructedit.edit_of_run(folder, **options)


def test_data_frames_have_the_numbers_of_the_files(runs):
    results, records = runs("single")
    means = results.to_pandas()
    wide = results.to_pandas(wide=True).set_index(["task", "editor"])
    assert list(wide.loc["recent"].index) == ["none", *ROWS]
    for editor in ROWS:
        by_case = [
            [
                score.value
                for score in own.scores
                if (score.measure, score.protocol) == ("reliability", "teacher_forced_token")
            ]
            for own in records
            if (own.task, own.editor) == ("recent", editor)
        ]
        wanted = math.fsum(sum(values) / len(values) for values in by_case) / len(by_case)
        assert wide.loc[("recent", editor), "reliability.teacher_forced_token"] == pytest.approx(wanted)
    assert len(means) == len(instructedit.read(results.folders[0]).to_pandas())
    cases = results.cases()
    one = cases[(cases["editor"] == "ft-m") & (cases["role"] == "reliability") & (cases["task"] == "recent")]
    assert list(one["case_id"]) == [own.case_id for own in records if (own.task, own.editor) == ("recent", "ft-m")]
    assert {"before", "generated", "free_generation"} <= set(cases.columns)
    assert isinstance(results.table().to_pandas(), pd.DataFrame)
    assert "Reliability" in str(results) and "<table" in results._repr_html_()
    assert r"\begin{tabular}" in results.latex("protocols")


def test_a_loaded_model_is_not_loaded_again(place, tmp_path, monkeypatch):
    model = instructedit.load(place / "model", device="cpu")
    monkeypatch.setattr(instructedit.Model, "edit", None)
    monkeypatch.setattr("instructedit.benchmark.run.prepare.load_model", None)
    options = {"data": str(place / "data"), **COMMON, "limit": 1}
    found = instructedit.evaluate(model, "recent", editors="in-context", out=tmp_path, **options)
    again = instructedit.evaluate(model, "recent", editors="in-context", out=tmp_path, **options)
    assert found == again == instructedit.read(tmp_path)


def test_nothing_to_read_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="no finished run is there"):
        instructedit.read(tmp_path)
    with pytest.raises(InputError, match="Did you mean 'recent'"):
        instructedit.evaluate(tasks="recnt", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
