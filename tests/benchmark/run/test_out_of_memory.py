"""Memory that runs out: noticed, tried once more with half a chunk, and said in a sentence."""

import json

import pytest
import torch
import typer
from typer.testing import CliRunner

from instructedit.benchmark.run import worker
from instructedit.benchmark.run.out_of_memory import in_halves, is_exhausted
from instructedit.benchmark.run.runner import run
from instructedit.cli.errors import Commands
from instructedit.editors import InputError

from ..worlds import prepared_run, records_of, write_world

CARD = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.11 GiB"


def on_a_cpu():
    """Return what torch raises when a CPU has no room; no machine has a petabyte."""
    with pytest.raises(RuntimeError) as found:
        torch.empty(10**15)
    return found.value


ERRORS = {
    "CPU": on_a_cpu,
    "card": lambda: torch.OutOfMemoryError(CARD),
    "Python": MemoryError,
    "system": lambda: OSError(12, "Cannot allocate memory"),
}


@pytest.mark.parametrize("make", ERRORS.values(), ids=ERRORS)
def test_every_kind_is_one_sentence(make):
    app = typer.Typer(cls=Commands)
    app.callback()(lambda: None)

    @app.command()
    def work() -> None:
        raise make()

    found = CliRunner().invoke(app, ["work"])
    assert found.exit_code == 2 and found.stderr.startswith("instructedit: out of memory (")
    assert found.stderr.count("\n") == 1 and "'chunk'" in found.stderr


def test_other_errors_are_none():
    assert not any(map(is_exhausted, (RuntimeError("shapes differ"), ValueError("out of memory"), OSError(28, "full"))))


def test_halves_are_tried_once():
    tried = []

    def compute(part, most):
        tried.append(list(part))
        if len(part) > most:
            raise MemoryError

    said = []
    in_halves([1, 2, 3, 4, 5], lambda part: compute(part, 3), said.append)
    assert tried == [[1, 2, 3, 4, 5], [1, 2, 3], [4, 5]] and "continues with 3" in said[0]
    tried.clear()
    with pytest.raises(MemoryError):
        in_halves([1, 2, 3, 4, 5], lambda part: compute(part, 1), said.append)
    assert tried == [[1, 2, 3, 4, 5], [1, 2, 3]]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepared_run(write_world(tmp_path_factory.mktemp("place"), records=4), chunk=4, tasks=("recent",))


def limited(monkeypatch, most):
    """Let a chunk of more cases than that run out of memory."""
    inner = worker.run_chunk

    def run_chunk(model, cases, *arguments, **options):
        if len(cases) > most:
            raise torch.OutOfMemoryError(CARD)
        return inner(model, cases, *arguments, **options)

    monkeypatch.setattr(worker, "run_chunk", run_chunk)


def lines(folder):
    return {(record.case_id, record.editor): record for record in records_of(folder)}


def test_a_chunk_that_does_not_fit_is_halved_and_its_cases_score_the_same(prepared, tmp_path, monkeypatch):
    whole = lines(run(prepared, tmp_path / "whole"))
    said = []
    with monkeypatch.context() as patch:
        limited(patch, 2)
        folder = run(prepared, tmp_path / "halves", report=said.append)
    halves = lines(folder)
    assert halves.keys() == whole.keys()
    for key, record in halves.items():
        assert [answer.generated for answer in record.answers] == [a.generated for a in whole[key].answers]
        for ours, theirs in zip(record.scores, whole[key].scores, strict=True):
            assert ours.value == pytest.approx(theirs.value, abs=1e-4)
    assert any("out of memory with 4 cases at a time" in text for text in said)
    times = [json.loads(line)["cases"] for line in (folder / "timings.jsonl").read_text().splitlines()]
    assert set(times) == {2}, "the record of the halves"


def test_a_half_that_does_not_fit_is_a_sentence_with_the_sizes(prepared, tmp_path, monkeypatch):
    limited(monkeypatch, 1)
    with pytest.raises(InputError, match=r"out of memory on cpu .*2 cases at a time.*chunk = 4, passes of 512 tokens"):
        run(prepared, tmp_path)
