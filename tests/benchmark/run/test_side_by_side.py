"""Several processes that compute runs of one suite in one folder at once."""

import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from instructedit.benchmark.forecast.machine import Place
from instructedit.benchmark.results.records import read_record
from instructedit.benchmark.results.suite_results import SuiteEntry, SuiteFile
from instructedit.benchmark.run.suite import plan_suite, run_suite
from instructedit.benchmark.setup.config import SuiteRun, make_config

from ...cli.command import call
from ..worlds import write_data, write_model, write_training

CONFIG = """
data = "data"
model = "model"
setting = "multi-task"
tasks = ["recent"]
train = ["recent"]
limit = 2
fluency = false
generation = { max_new_tokens = 2 }

[editors.none]
[editors.mend]
rank = 4
training = { steps = 2, validate_every = 1, save_every = 1, accumulate = 1 }
"""


def entry(seed):
    return SuiteEntry(label="run", setting="multi-task", schedule="single", seed=seed, digest=f"{seed:016x}")


def add_runs(out, seeds, barrier):
    from instructedit.benchmark.run.suite import add_to_index

    barrier.wait()
    for seed in seeds:
        add_to_index(out, "mine.toml", entry(seed), print)


@pytest.mark.usefixtures("tests_importable")
def test_no_run_is_lost_from_the_index(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    other = context.Process(target=add_runs, args=(tmp_path, range(1, 100, 2), barrier))
    other.start()
    add_runs(tmp_path, range(0, 100, 2), barrier)
    other.join()
    assert other.exitcode == 0
    index = read_record(tmp_path / "suites" / "mine.json", SuiteFile)
    assert sorted(run.seed for run in index.runs) == list(range(100))


def test_two_seeds_at_once(tmp_path, monkeypatch):
    write_data(tmp_path / "data")
    write_training(tmp_path / "data", recent=12)
    write_model(tmp_path / "model")
    (tmp_path / "mine.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    words = ["run", "mine.toml", "--out", "out", "--device", "cpu", "--workers", "1", "--seed"]
    other = subprocess.Popen(
        [sys.executable, "-c", "from instructedit.cli.start import main; main()", *words, "0"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "out").exists():  # it still imports
        assert other.poll() is None
        time.sleep(0.01)
    code, _, err = call(*words, "1")
    assert code == 0, err
    _, err = other.communicate()
    assert other.returncode == 0, err
    index = read_record(tmp_path / "out" / "suites" / "mine.json", SuiteFile)
    assert sorted(run.seed for run in index.runs) == [0, 1]
    assert all((tmp_path / "out" / run.digest / "summary.json").is_file() for run in index.runs)


def test_an_index_that_is_lost_or_damaged_is_made_again_from_the_runs(tmp_path):
    write_data(tmp_path / "data")
    write_model(tmp_path / "model")
    options = {"data": str(tmp_path / "data"), "model": str(tmp_path / "model"), "tasks": ("recent",), "limit": 1}
    config = make_config({**options, "fluency": False, "generation": {"max_new_tokens": 2}}, "mine.toml")
    place = Place(tmp_path / "out", device="cpu")
    path = tmp_path / "out" / "suites" / "mine.json"

    def compute(*seeds):
        suite = [SuiteRun("one", config.model_copy(update={"seed": seed})) for seed in seeds]
        run_suite(suite, plan_suite(suite, "mine.toml", place=place), place)
        return {(run.label, run.seed) for run in read_record(path, SuiteFile).runs}

    compute(0, 1)
    for damage in (path.unlink, lambda: path.write_text("{")):
        damage()
        assert compute(2) == {("one", 0), ("one", 1), ("one", 2)}
