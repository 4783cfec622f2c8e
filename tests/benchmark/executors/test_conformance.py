"""What any executor has to keep: whatever happens to workers and replies, the files are those of one process."""

import os
import shutil
from contextlib import closing

import pytest

from instructedit.benchmark.executors.base import EXECUTORS, Setup
from instructedit.benchmark.executors.local import Local
from instructedit.benchmark.forecast.machine import Place
from instructedit.benchmark.run.dispatcher import USUAL, Patience
from instructedit.benchmark.run.runner import UnfinishedError, run
from instructedit.benchmark.run.suite import job_of, of_run, prepare_elsewhere
from instructedit.benchmark.run.worker import RemoteWorker
from instructedit.benchmark.setup.config import make_config
from instructedit.benchmark.setup.resolve import resolve
from instructedit.editors import InputError

from ..worlds import write_data, write_model, write_training
from .faulty import FAULTS, FaultyWorker, Unruly

FT_M = {"block": 1, "lr": 0.02, "clamp": 0.2, "steps": 3}
MEND = {"training": {"steps": 2, "validate_every": 1, "save_every": 1, "accumulate": 1}, "rank": 4}
OPTIONS = {
    "single": {
        "setting": "multi-task",
        "train": ("recent", "zsre"),
        "editors": {"none": {}, "ft-m": FT_M, "mend": MEND},
    },
    "sequential": {"schedule": "sequential", "at": (2,), "edited": ("recent",), "editors": {"none": {}, "ft-m": FT_M}},
    "batch": {"schedule": "batch", "batch_size": 2, "edited": ("recent",), "editors": {"none": {}, "ft-m": FT_M}},
}
COMMON = {"tasks": ("recent", "zsre"), "limit": 4, "chunk": 2, "fluency": False, "generation": {"max_new_tokens": 4}}
FAULTS_OF = {
    "single": {"call0": "raise", "call2": "raise"},
    "sequential": {"call0": "kill", "call2": "raise"},
    "batch": {"call0": "hang", "call2": "raise"},
}
"""A worker that hangs costs the whole patience, one that is killed the start of a process."""
KINDS = {"processes": ({}, 15.0), "ray": ({}, 30.0), "slurm": ({"cluster": "local"}, 30.0)}
"""Options of each executor, and seconds without a reply after which a worker hangs; Ray's include its start."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    write_data(folder / "data")
    write_training(folder / "data", recent=12, zsre=12)
    write_model(folder / "model")
    return folder


def resolved_for(place, name):
    options = {**COMMON, **OPTIONS[name], "data": str(place / "data"), "model": str(place / "model")}
    return resolve(make_config(options, "test"), "test")


def start(executor, resolved, out, patience=USUAL, base_passes=None):
    job = job_of(resolved, Place(out, device="cpu", base_passes=base_passes), None)
    prepared, _ = prepare_elsewhere(executor, job, resolved, ())
    job = of_run(job, prepared.file)
    said: list[str] = []
    return run(prepared, out, executor=executor, job=job, patience=patience, report=said.append), said


def content(folder):
    names = ["cases.jsonl", "summary.json", *(path.relative_to(folder) for path in folder.glob("edits/*"))]
    return {str(name): (folder / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def expected(place, tmp_path_factory):
    """The folder of each run, computed by one process."""
    out, executor = tmp_path_factory.mktemp("expected"), Local(RemoteWorker("cpu").perform)
    return {name: start(executor, resolved_for(place, name), out)[0] for name in OPTIONS}


@pytest.fixture(scope="module", params=KINDS)
def executor(request, tmp_path_factory, tests_importable):
    """Two workers that fail where a file says so."""
    if request.param not in request.config.getoption("--executors").split(","):
        pytest.skip("the other executors are tested by tox -e executors")
    faults = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FAULTS, str(faults))
        options, seconds = KINDS[request.param]
        performer = f"{FaultyWorker.__module__}:{FaultyWorker.__name__}"
        setup = Setup(performer, 2, tmp_path_factory.mktemp("executor"), options=options)
        with closing(EXECUTORS.get(request.param)(setup)) as made:
            yield made, faults, Patience(seconds, 1.0, seconds)


def script(faults, out, **what):
    for path in faults.iterdir():
        path.unlink()
    (faults / "within").write_text(str(out))
    for number, fault in what.items():
        (faults / number.removeprefix("call")).write_text(fault)


@pytest.mark.parametrize("name", OPTIONS)
def test_lost_workers_and_unruly_replies_change_no_byte(executor, place, expected, tmp_path, name):
    made, faults, patience = executor
    script(faults, tmp_path, **FAULTS_OF[name])
    unruly = Unruly(made, seed=len(name))
    resolved, passes = resolved_for(place, name), tmp_path / "passes"
    folder, said = start(unruly, resolved, tmp_path, patience, passes)
    assert content(folder) == content(expected[name])
    assert len(unruly.delivered) > len(set(unruly.delivered)), "some were computed again"
    assert any("computed again" in sentence for sentence in said)
    assert all((faults / number.replace("call", "call-")).exists() for number in FAULTS_OF[name]), "each has struck"
    assert {path.name.split("-")[0] for path in passes.glob("*/*.safetensors")} == {"forced", "prompts", "hidden"}


class Ghosts(Local):
    """Writes every saved edit again that is gone, as a worker may that was taken to be lost."""

    def __init__(self, out):
        super().__init__(RemoteWorker("cpu").perform)
        self._out, self._seen = out, {}

    def completed(self):
        for done in super().completed():
            self._seen |= {path: path.read_bytes() for path in self._out.glob("*/edits/*")}
            for path, written in self._seen.items():
                path.write_bytes(written)
            yield done


@pytest.mark.parametrize("name", ["sequential", "batch"])
def test_saved_edits_that_a_lost_worker_writes_again_are_not_left_over(place, expected, tmp_path, name):
    folder, _ = start(Ghosts(tmp_path), resolved_for(place, name), tmp_path)
    assert content(folder) == content(expected[name])


def test_a_unit_that_always_fails_is_given_up_and_all_others_are_finished(executor, place, expected, tmp_path):
    made, faults, _ = executor
    resolved, whole = resolved_for(place, "sequential"), tmp_path / "whole" / expected["sequential"].name
    shutil.copytree(expected["sequential"], whole)
    lines = (whole / "cases.jsonl").read_bytes().splitlines(keepends=True)
    script(faults, tmp_path, always="raise")
    (whole / "summary.json").unlink()
    (whole / "cases.jsonl").write_bytes(b"".join(lines[:-1]))
    job = job_of(resolved, Place(tmp_path / "whole", device="cpu"), None)
    with pytest.raises(InputError, match="RuntimeError: a cosmic ray"):
        prepare_elsewhere(made, job, resolved, ())
    script(faults, tmp_path, **{f"call{number}": "raise" for number in range(7)})
    with pytest.raises(UnfinishedError, match=r"2 cases \(zsre.* under ft-m \(RuntimeError: a cosmic ray"):
        start(made, resolved, tmp_path / "whole")
    script(faults, tmp_path)
    _, said = start(made, resolved, tmp_path / "whole")
    assert content(whole) == content(expected["sequential"])
    assert f"{len(lines) - 1} of {len(lines)} results are there already." in said


@pytest.mark.parametrize("what", ["code", "data"])
def test_a_worker_with_other_code_or_data_is_refused(executor, place, tmp_path, what):
    made, faults, _ = executor
    script(faults, tmp_path)
    config = resolved_for(place, "batch").config
    # another seed each: replies to the run before may still come
    resolved = resolve(config.model_copy(update={"seed": ["code", "data"].index(what) + 1}), "test")
    job = job_of(resolved, Place(tmp_path, device="cpu"), None)
    prepared, _ = prepare_elsewhere(made, job, resolved, ())
    job = of_run(job, prepared.file)
    if what == "code":
        packages = {**job.provenance.packages, "torch": "1.0"}
        changes = {"provenance": job.provenance.model_copy(update={"packages": packages})}
        sentence = "torch 1.0"
    else:
        changes, sentence = {"digest": "0" * 16}, "model or data give the run"
    with pytest.raises(InputError, match=f"worker on {os.uname().nodename}: .*{sentence}"):
        run(prepared, tmp_path, executor=made, job=job.model_copy(update=changes))


def test_the_executor_of_one_process_takes_replies_in_any_order(place, expected, tmp_path):
    for name in OPTIONS:
        unruly = Unruly(Local(RemoteWorker("cpu").perform), seed=1)
        folder, _ = start(unruly, resolved_for(place, name), tmp_path)
        assert content(folder) == content(expected[name])
