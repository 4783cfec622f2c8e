"""Directions of the edits of a finished run, and the file they are kept in."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from instructedit.benchmark.results.direction_results import (
    FILE,
    Directions,
    DirectionSet,
    read_directions,
    write_directions,
)
from instructedit.benchmark.results.records import EditorSpec, RunFile, RunSpec, TrainingSpec, read_record
from instructedit.benchmark.run.directions import DirectionsMaker, sets
from instructedit.benchmark.run.prepare import prepare
from instructedit.benchmark.run.runner import run
from instructedit.benchmark.setup.config import read_suite
from instructedit.benchmark.setup.resolve import requests_of, resolve
from instructedit.cli.main import app
from instructedit.editors import EDITORS, Dense, InputError

from ..worlds import write_data, write_model, write_training

CONFIG = """
setting = "multi-task"
model = "{place}/model"
data = "{place}/data"
tasks = ["recent", "counterfact"]
train = ["recent", "counterfact"]
held_out = []
limit = 3
chunk = 2
fluency = false
generation = {{ max_new_tokens = 0 }}

[editors.none]

[editors.mend]
rank = 4
training = {{ steps = 1, batch = 2, validation_cases = 2, validate_every = 1 }}

[editors.instructedit]
rank = 4
training = {{ steps = 1, batch = 2, validation_cases = 2, validate_every = 1 }}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("directions")
    write_training(write_data(place / "data"))
    write_model(place / "model", "llama")  # its context holds an instruction of single letters
    (place / "run.toml").write_text(CONFIG.format(place=place), encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def prepared(place):
    ((_, config),) = read_suite(str(place / "run.toml"))
    return prepare(resolve(config, "run.toml"))


@pytest.fixture(scope="module")
def folder(place, prepared):
    return run(prepared, place / "results")


def workshop(place, **options):
    return DirectionsMaker(place / "results" / "checkpoints", **{"data": str(place / "data"), **options})


def test_they_are_the_cosines_of_the_edits_that_the_run_makes(place, prepared, folder):
    assert workshop(place).make(folder, 2) == folder / FILE
    about, found = read_directions(folder / FILE, folder.name)
    assert (about.limit, [one.about.name for one in found]) == (2, ["mend", "instructedit"])
    for one in found:
        row = next(row for row in prepared.file.spec.editors if row.name == one.about.name)
        editor = EDITORS.get(row.method).load(place / "results" / "checkpoints" / row.training.checkpoint)
        cases = [
            next(c for c in prepared.resolved.cases[task] if c.request.case_id == case)
            for task, case in zip(one.about.tasks, one.about.cases, strict=True)
        ]
        requests = requests_of(row.instruction, prepared.resolved.bank, cases, prepared.file.spec.seed)
        vectors = torch.stack(
            [
                torch.cat(
                    [patch.delta().double().flatten() for patch in editor.edit(prepared.model, [request]).patches[0]]
                )
                for request in requests
            ]
        )
        unit = (vectors / vectors.norm(dim=1, keepdim=True)).numpy()
        assert one.about.tasks == ("recent", "recent", "counterfact", "counterfact")
        assert set(one.about.rows) == {row.name}
        np.testing.assert_allclose(one.cosines, unit @ unit.T, atol=1e-5)


def test_the_same_run_gives_the_same_bytes(place, folder):
    first = workshop(place).make(folder, 3).read_bytes()
    assert workshop(place).make(folder, 3).read_bytes() == first


def test_the_command(place, folder, tmp_path):
    words = ["directions", str(folder), "--cases", "2", "--data", str(place / "data")]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    assert f"Directions: {folder / FILE}" in found.output.replace("\n", "")
    file = read_record(folder / "run.json", RunFile)
    spec = file.spec.model_copy(update={"setting": "hold-out"})
    out = tmp_path / spec.digest
    out.mkdir()
    (out / "run.json").write_text(file.model_copy(update={"spec": spec, "digest": spec.digest}).model_dump_json())
    (out / "summary.json").write_text((folder / "summary.json").read_text())
    found = CliRunner().invoke(app, ["directions", str(out)])
    assert found.exit_code == 2
    assert "expected a run of one of the settings single-task, multi-task, task-scaling, balanced." in " ".join(
        found.output.split()
    )


def test_editors_that_change_no_weights_are_left_out_with_a_sentence(place, folder, monkeypatch):
    monkeypatch.setattr("instructedit.benchmark.run.directions.LowRank", Dense)
    said = []
    assert workshop(place).make(folder, 2, said.append) is None
    assert any("mend is left out, its edits are no changes of weights" in text for text in said)


def test_a_folder_of_data_has_to_be_named(place, folder):
    with pytest.raises(InputError, match="from a folder; name it with --data"):
        workshop(place, data=None).make(folder, 2)


def test_other_data_another_model_and_no_checkpoint_are_refused(place, folder, tmp_path):
    other = write_training(write_data(tmp_path / "data", 4))
    with pytest.raises(InputError, match=r"the data of 'recent' has the digest .* name the right one with --data"):
        workshop(place, data=str(other)).make(folder, 2)
    write_model(tmp_path / "model")
    with pytest.raises(InputError, match=r"the model .* has the digest .* name the right one with --model"):
        workshop(place, model=str(tmp_path / "model")).make(folder, 2)
    with pytest.raises(InputError, match=r"the trained editor of the row 'mend' is not there"):
        DirectionsMaker(tmp_path, data=str(place / "data")).make(folder, 2)


def test_a_run_that_is_not_finished_is_refused(place, folder, tmp_path):
    out = tmp_path / folder.name
    out.mkdir()
    (out / "run.json").write_bytes((folder / "run.json").read_bytes())
    with pytest.raises(InputError, match="not finished"):
        workshop(place).make(out, 2)


def row(name, *tasks, tested=None):
    training = TrainingSpec(
        label="+".join(tasks), tasks=tasks, weights={}, cases={}, validation={}, digest="d", checkpoint="c"
    )
    return EditorSpec(name=name, method=name.partition("@")[0], training=training if tasks else None, tasks=tested)


def spec(folder, *rows, **changes) -> RunSpec:
    base = read_record(folder / "run.json", RunFile).spec
    return base.model_copy(update={"editors": rows, "tasks": ("recent", "zsre"), **changes})


def test_which_edits_make_a_set(folder):
    rows = (row("none"), row("mend@recent", "recent"), row("mend@zsre", "zsre"), row("mend@convsent", "convsent"))
    ((name, own, asked),) = sets(spec(folder, *rows, setting="single-task"))
    assert (name, own) == ("mend", True)
    assert [(one.name, tasks) for one, tasks in asked] == [("mend@recent", ("recent",)), ("mend@zsre", ("zsre",))]
    narrow = row("ke", "recent", tested=("recent",))
    found = list(sets(spec(folder, *rows, narrow, setting="task-scaling")))
    assert [name for name, _, _ in found] == ["mend@recent", "mend@zsre", "mend@convsent"]
    assert all(asked[0][1] == ("recent", "zsre") and not own for _, own, asked in found)
    assert not list(sets(spec(folder, *rows, setting="unseen-instruction")))
    assert not list(sets(spec(folder, *rows, setting="multi-task", schedule="batch")))


ABOUT = DirectionSet(
    name="mend", own_task=False, rows=("mend",) * 2, tasks=("a", "b"), cases=("a/1", "b/1"), left_out={}
)


def test_the_file_reads_back(tmp_path):
    cosines = np.array([[1.0, 0.25], [0.25, 1.0]])
    path = write_directions(tmp_path / FILE, "r" * 16, 1, [Directions(ABOUT, cosines)])
    about, (found,) = read_directions(path, "r" * 16)
    assert (about.run, about.limit, found.about) == ("r" * 16, 1, ABOUT)
    assert found.cosines.tolist() == cosines.tolist()


@pytest.mark.parametrize(
    ("cosines", "sentence"),
    [
        (np.ones((2, 3)), r"array 'cosines_0': found float64 \[2, 3\]; a symmetric matrix float64 \[2, 2\]"),
        (np.eye(2, dtype=np.float32), "found float32"),
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), "a symmetric matrix float64"),
        (np.array([[1.0, 0.5], [0.4, 1.0]]), "a symmetric matrix float64"),
        (2 * np.eye(2), "a symmetric matrix float64"),
    ],
)
def test_a_matrix_that_is_none_of_cosines_is_refused(cosines, sentence, tmp_path):
    path = write_directions(tmp_path / FILE, "r" * 16, 1, [Directions(ABOUT, cosines)])
    with pytest.raises(InputError, match=sentence):
        read_directions(path, "r" * 16)


def test_strange_files_are_refused(tmp_path):
    path = tmp_path / FILE
    with pytest.raises(InputError, match="cannot be read"):
        read_directions(path, "r")
    path.write_text("no zip")
    with pytest.raises(InputError, match="cannot be read"):
        read_directions(path, "r")
    np.savez(path, about=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="cannot be read"):
        read_directions(path, "r")
    np.savez(path, cosines_0=np.eye(2))
    with pytest.raises(InputError, match="holds no text 'about'"):
        read_directions(path, "r")
    np.savez(path, about=np.array(json.dumps({"schema_version": 1})))
    with pytest.raises(InputError, match="schema version 1"):
        read_directions(path, "r")
    write_directions(path, "s" * 16, 1, [Directions(ABOUT, np.eye(2))])
    with pytest.raises(InputError, match=f"of run {'s' * 16}, but r was expected"):
        read_directions(path, "r")
