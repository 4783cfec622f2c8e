"""What a loaded split says about itself, and keeping test subjects out of training."""

import hashlib
import json
import unicodedata

import pytest

from instructedit.benchmark.tasks.base import TASKS, Task, subject_key, subjects
from instructedit.benchmark.tasks.knowedit import Recent
from instructedit.benchmark.tasks.sources import Embedded, Folder
from instructedit.editors import InputError


def record(subject):
    return {"subject": subject, "prompt": f"The gender of {subject} is", "target_new": "x"}


def write(folder, split, *names):
    file = folder / Recent.files[split][0]
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps([record(name) for name in names]))
    return file


def test_registry_has_the_four_tasks():
    assert {"recent", "counterfact", "zsre", "convsent"} <= set(TASKS.names())


@pytest.mark.parametrize("name", ["recent", "counterfact", "zsre", "convsent"])
def test_declarations(name):
    task = TASKS.get(name)
    assert issubclass(task, Task)
    assert task.name == name
    assert task.title
    assert task.version
    assert task.licence == "MIT"
    assert task.homepage.startswith("https://")
    assert task.citation.startswith("@article{zhang2024knowedit")
    assert task.citation.count("{") == task.citation.count("}")
    assert set(task.files) == set(task.published_rows) == {"train", "test"}


def test_data_record(tmp_path):
    file = write(tmp_path, "test", "Ada", "Eve")
    data = Recent().load(Folder(tmp_path)).data
    assert (data.task, data.version, data.source, data.revision) == ("recent", "1", "folder", None)
    assert data.sha256 == {"wiki_recent/recent_test.json": hashlib.sha256(file.read_bytes()).hexdigest()}
    assert (data.rows, data.cases) == (2, 2)
    assert data.citation == Recent.citation


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"has no file wiki_recent/recent_train\.json or benchmark_wiki_recent"):
        Recent().load(Folder(tmp_path), "train")


def test_files_other_than_the_published_are_noted(tmp_path, monkeypatch):
    write(tmp_path, "train", "Ada", "Eve")
    loaded = Recent().load(Folder(tmp_path), "train")
    assert loaded.notes == (
        "recent: wiki_recent/recent_train.json has 2 rows; the published train split has 570.",
        "recent: the rows of wiki_recent/recent_train.json are not those of the file that this reader was checked on.",
    )
    world = Embedded()
    monkeypatch.setattr(world, "path", tmp_path)
    assert Recent().load(world, "train").notes == ()


def test_subjects_are_compared_case_folded_and_composed():
    assert subject_key(" Éva STRASSE ") == subject_key(unicodedata.normalize("NFD", "éva straße"))
    assert subject_key("Eva") != subject_key("Éva")


def test_tested_subjects_are_left_out_of_training_and_counted(tmp_path):
    write(tmp_path, "test", "Éva", "Bob")
    write(tmp_path, "train", "Ann", unicodedata.normalize("NFD", "éVA"), "Cid", "BOB")
    task, source = Recent(), Folder(tmp_path)
    tested = task.load(source)
    trained = task.load(source, "train", exclude=subjects(tested.cases))
    assert [case.request.case_id for case in trained.cases] == ["recent/train/0", "recent/train/2"]
    assert trained.data.skipped["row left out: its subject is tested"] == 2
    assert (trained.data.rows, trained.data.cases) == (4, 2)


def test_nothing_left_to_train_on_is_no_error(tmp_path):
    write(tmp_path, "train", "Ann")
    assert Recent().load(Folder(tmp_path), "train", exclude=["ann"]).cases == ()


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", ["recent", "counterfact", "zsre", "convsent"])
def test_embedded_world_is_clean(name, split):
    loaded = TASKS.get(name)().load(Embedded(), split)
    assert loaded.data.source == "embedded"
    assert loaded.data.cases == loaded.data.rows > 0
    assert all(reason.endswith(" derived") for reason in loaded.data.skipped)
    assert loaded.notes == ()


@pytest.mark.parametrize("name", ["recent", "counterfact", "zsre", "convsent"])
def test_embedded_world_trains_on_no_tested_subject_of_the_same_task(name):
    task, world = TASKS.get(name)(), Embedded()
    trained = task.load(world, "train", exclude=subjects(task.load(world).cases))
    assert trained.data.cases > 0
    assert subjects(trained.cases).isdisjoint(subjects(task.load(world).cases))
