"""Base passes kept in a folder: the same bytes with and without, whatever became of the files."""

import errno
import os
import shutil

import pytest

from instructedit.benchmark.run.prepare import ModelLoader, prepare
from instructedit.benchmark.run.runner import run
from instructedit.benchmark.scoring import base_passes
from instructedit.benchmark.setup.config import make_config
from instructedit.benchmark.setup.resolve import resolve

from ..worlds import write_data, write_model

FT_M = {"block": 1, "lr": 0.02, "clamp": 0.2, "steps": 3}
EDITORS = {"none": {}, "ft-m": FT_M, "grace": {"block": 2, "steps": 3}}
TEXTS = {"max_new_tokens": 6, "fluency_tokens": 8}
OPTIONS = {"tasks": ("recent", "convsent"), "limit": 2, "chunk": 2, "generation": TEXTS}
ALL = {"forced", "prompts", "free", "hidden"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_data(folder / "data")
    write_model(folder / "model")
    write_model(folder / "llama", "llama")
    return folder, ModelLoader("cpu")


def computed(world, out, editors=EDITORS, passes=None, model="model", **changes):
    """Return the bytes of a run's result files, and what it said."""
    folder, loader = world
    options = {**OPTIONS, "editors": editors, "data": str(folder / "data"), "model": str(folder / model), **changes}
    said = []
    config = make_config(options, "test")
    prepared = prepare(resolve(config, "test"), model=loader.load(config))
    folder = run(prepared, out, base_passes=passes, report=said.append)
    return [(folder / name).read_bytes() for name in ("cases.jsonl", "summary.json")], said


@pytest.fixture(scope="module")
def expected(world, tmp_path_factory):
    return computed(world, tmp_path_factory.mktemp("expected"))[0]


@pytest.fixture(scope="module")
def filled(world, expected, tmp_path_factory):
    """A folder with the base passes of a run."""
    folder = tmp_path_factory.mktemp("passes")
    assert computed(world, tmp_path_factory.mktemp("first"), passes=folder)[0] == expected
    return folder


@pytest.fixture
def passes(filled, tmp_path):
    return shutil.copytree(filled, tmp_path / "passes")


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def kinds(folder):
    return {path.name.split("-")[0] for path in folder}


def test_a_second_run_reads_all_and_writes_nothing(world, expected, passes, tmp_path):
    before = files(passes)
    assert kinds(before) == ALL
    for path in before:
        os.utime(passes / path, (1, 1))
    assert computed(world, tmp_path / "second", passes=passes) == (expected, [])
    rows = {"ft-m": {**FT_M, "lr": 0.01}, "grace": {"block": 2, "steps": 2}}
    other = computed(world, tmp_path / "other", rows)
    assert computed(world, tmp_path / "third", rows, passes) == other
    assert {(passes / path).stat().st_mtime for path in files(passes)} == {1.0}


@pytest.mark.parametrize("editors", [{"ft-m": {**FT_M, "block": 3}}, {"ft-m": {**FT_M, "block": 0}, "in-context": {}}])
def test_a_run_with_edits_of_another_block_reads_predictions_and_texts(world, passes, tmp_path, editors):
    before = files(passes)
    wanted = computed(world, tmp_path / "without", editors)
    assert computed(world, tmp_path / "with", editors, passes) == wanted
    new = kinds(files(passes).keys() - before.keys())
    assert new == {"hidden"} if "in-context" not in editors else "hidden" in new


def test_damaged_and_foreign_files_are_computed_again_with_one_note_each(world, expected, passes, tmp_path):
    before = files(passes)
    first, second, third, fourth = sorted(before)[:4]
    (passes / first).write_bytes(before[first][:-7])
    (passes / second).write_bytes(before[second][:-1] + bytes([before[second][-1] ^ 1]))
    shutil.copy(passes / fourth, passes / third)
    found, said = computed(world, tmp_path / "again", passes=passes)
    assert found == expected
    assert [sorted(before)[n].name in note for n, note in enumerate(sorted(said, key=lambda s: s.split("/")[-1]))]
    assert len(said) == 3
    assert all(note.startswith("note: ") and note.endswith("It is computed again.") for note in said)
    assert files(passes) == before


@pytest.mark.parametrize(
    ("change", "new"),
    [
        ({"model": "llama"}, ALL),
        ({"chat": "wild"}, ALL),
        ({"dtype": "bfloat16"}, ALL),
        ({"seed": 1}, {"free"}),
        ({"generation": {**TEXTS, "max_new_tokens": 5}}, {"prompts"}),
    ],
)
def test_what_another_model_chat_or_seed_changes_is_not_read(world, passes, tmp_path, change, new):
    before = files(passes)
    wanted = computed(world, tmp_path / "without", **change)[0]
    assert computed(world, tmp_path / "with", passes=passes, **change)[0] == wanted
    after = files(passes)
    assert kinds(after.keys() - before.keys()) == new
    assert {path: after[path] for path in before} == before


def test_other_code_or_machine_reads_nothing(world, expected, passes, tmp_path, monkeypatch):
    before = files(passes)
    monkeypatch.setattr("instructedit.benchmark.run.provenance.processor", lambda: "another")
    assert computed(world, tmp_path / "out", passes=passes)[0] == expected
    assert len(files(passes)) == 2 * len(before)


def test_a_folder_that_cannot_be_used_costs_one_sentence(world, expected, tmp_path):
    (tmp_path / "file").write_text("")
    found, said = computed(world, tmp_path / "out", passes=tmp_path / "file" / "passes")
    assert found == expected
    assert len(said) == 2, "one for reading, one for writing"
    assert all("Not a directory" in note and note.startswith("note: ") for note in said)


def test_a_full_disk_costs_one_sentence(world, expected, tmp_path, monkeypatch):
    def full(path, *_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(base_passes, "write_tensors", full)
    found, said = computed(world, tmp_path / "out", passes=tmp_path / "passes")
    assert found == expected
    (note,) = said
    assert "(No space left on device). No more base passes are kept." in note
