"""A sample of finished runs again, from `run.json` alone: the same bytes, or a sentence on what is different here."""

import pytest

from instructedit.benchmark.forecast.machine import Place
from instructedit.benchmark.results.records import RunFile, read_record
from instructedit.benchmark.run.prepare import ModelLoader, prepare
from instructedit.benchmark.run.rerun import rerun
from instructedit.benchmark.run.runner import run
from instructedit.benchmark.setup.config import read_suite
from instructedit.benchmark.setup.resolve import resolve
from instructedit.editors import InputError

from ..worlds import write_data, write_model, write_training

TRAINING = "training = { steps = 2, batch = 2, accumulate = 1, validate_every = 2, validation_cases = 2, patience = 2 }"
SUITE = f"""
chunk = 2
train = ["recent", "counterfact"]
held_out = ["convsent"]
sampling = "proportional"
[generation]
max_new_tokens = 3
fluency_tokens = 3
[editors.none]
[editors.ft-l]
steps = 2
[editors.mend]
rank = 4
blocks = [-1]
{TRAINING}
[[runs]]
setting = "single-task"
tasks = ["recent", "zsre"]
[[runs]]
setting = "multi-task"
limit = 3
[[runs]]
setting = "direct"
schedule = "batch"
only = ["none", "ft-l"]
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_training(write_data(folder / "data"), recent=20, counterfact=10)
    write_model(folder / "model")
    return folder


@pytest.fixture(scope="module")
def given(world):
    return {"model": str(world / "model"), "data": str(world / "data")}


def finish(world, given, toml):
    """Make the runs of a suite; return their folders by label."""
    (world / "suite.toml").write_text(toml)
    loader, found = ModelLoader("cpu"), {}
    for label, config in read_suite(str(world / "suite.toml"), given):
        found[label] = run(prepare(resolve(config, "suite"), model=loader.load(config)), world / "runs")
    return found


@pytest.fixture(scope="module")
def folders(world, given):
    return finish(world, given, SUITE)


def file_of(folder):
    return read_record(folder / "run.json", RunFile)


def test_sampled_chunks_have_the_bytes_of_the_finished_runs(folders, given, tmp_path):
    """Trained editors are trained again, one for each task and one on both."""
    files, said = [file_of(folder) for folder in folders.values()], []
    new = rerun(files, 9, 3, Place(tmp_path, device="cpu"), given=given, report=said.append)
    total = 0
    for digest, folder in new.items():
        (old,) = (own for own in folders.values() if own.name == digest)
        lines = (folder / "cases.jsonl").read_bytes().splitlines()
        assert set(lines) <= set((old / "cases.jsonl").read_bytes().splitlines())
        file = file_of(folder)
        assert file.spec == file_of(old).spec
        total += len({line.split(b'"case_id":"')[1].split(b'"')[0] for line in lines})
        assert len(lines) % len(file.spec.editors) == 0, "every row of a sampled case"
    assert 9 <= total <= 10, "whole chunks of two cases; the last of five has one"
    assert any("'batch'" in text and "left out" in text for text in said)
    assert any(text.startswith("training mend") for text in said)


def test_checkpoints_are_taken_where_they_are_given(folders, world, given, tmp_path):
    said = []
    place = Place(tmp_path, world / "runs" / "checkpoints", "cpu")
    rerun([file_of(folders["single-task"])], 1, 3, place, given=given, report=said.append)
    assert any("is trained already" in text for text in said)
    assert not any(text.startswith("training ") for text in said)


def test_another_seed_takes_other_cases(folders, world, given, tmp_path):
    taken = set()
    for seed in range(4):
        place = Place(tmp_path / str(seed), world / "runs" / "checkpoints", "cpu")
        (folder,) = rerun([file_of(folders["single-task"])], 1, seed, place, given=given).values()
        taken.add((folder / "cases.jsonl").read_text().split('"case_id":"')[1].split('"')[0])
    assert len(taken) > 1


def test_what_is_not_the_same_here_is_said(folders, world, given, tmp_path):
    place, file = Place(tmp_path, device="cpu"), file_of(folders["single-task"])

    def refused(*files, **changes):
        with pytest.raises(InputError) as found:
            rerun(files, 1, 0, place, given={key: v for key, v in {**given, **changes}.items() if v is not None})
        assert not (tmp_path / file.digest).exists()
        return str(found.value)

    assert f"is of the model '{given['model']}'; give it with --model" in refused(file, model=None)
    assert "is of the data 'folder'; give it with --data" in refused(file, data=None)
    assert "schedule 'single'" in refused(file_of(folders["direct"]))
    other = world / "other"
    write_model(other, "llama")
    assert "model_fingerprint" in refused(file, model=str(other))
    write_training(write_data(world / "fewer", records=4), recent=20, counterfact=10)
    assert ": data: found {" in refused(file, data=str(world / "fewer"))
    wrong = file.model_copy(update={"spec": file.spec.model_copy(update={"dtype": "float8"})})
    assert "dtype" in refused(wrong)


def test_a_training_with_another_share_for_validation_is_said(world, given, tmp_path):
    write_training(write_data(world / "data"), recent=20, counterfact=10)
    toml = SUITE.replace("chunk = 2", "chunk = 2\nvalidation = 0.5").partition("[[runs]]")[0]
    (folder,) = finish(world, given, toml + '[[runs]]\nsetting = "multi-task"\ntasks = ["recent"]\n').values()
    with pytest.raises(InputError, match=r"row 'mend': its training set [0-9a-f]{16} cannot be made of these data"):
        rerun([file_of(folder)], 1, 0, Place(tmp_path, device="cpu"), given=given)
