"""Runs of several edits that are stopped anywhere: the same command ends in the same bytes and makes no edit twice."""

import json
import shutil

import pytest

from instructedit.benchmark.results.run_folder import RunFolder
from instructedit.benchmark.run import worker
from instructedit.benchmark.run.accumulated import AccumulatedEdit
from instructedit.benchmark.run.runner import run

from .schedules import files


def assert_same(folder, finished):
    for name in ("cases.jsonl", "summary.json"):
        assert (folder / name).read_bytes() == (finished / name).read_bytes()
    assert files(folder) == files(finished)


@pytest.mark.parametrize(
    ("schedule", "owner", "method", "calls"),
    [
        # between an edit that is saved and its first line, and after some lines
        *(("batches", RunFolder, "append", calls) for calls in (0, 1, 3, 6)),
        *(("sequence", AccumulatedEdit, "add", calls) for calls in (1, 5, 9, 13)),
        ("sequence", AccumulatedEdit, "save", 4),
    ],
)
def test_a_run_stopped_at_a_call_goes_on_from_what_is_saved(
    request, schedule, owner, method, calls, tmp_path, monkeypatch
):
    prepared, finished = request.getfixturevalue(schedule)
    inner, made = getattr(owner, method), []

    def stopping(*arguments, **options):
        if len(made) == calls:
            raise KeyboardInterrupt
        made.append(method)
        return inner(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, method, stopping)
        with pytest.raises(KeyboardInterrupt):
            run(prepared, tmp_path)
    monkeypatch.setattr(owner, method, lambda *a, **k: made.append(method) or inner(*a, **k))
    assert_same(run(prepared, tmp_path), finished)
    if method == "add":
        assert len(made) <= 3 * 5 + 6, "at most what was done since the edits were last saved is done again"


@pytest.mark.parametrize("cut", [1, 700, 20_000, 10**9])
@pytest.mark.parametrize("schedule", ["batch", "batches", "sequence"])
def test_a_run_whose_lines_are_lost_computes_them_again(request, schedule, tmp_path, cut):
    prepared, finished = request.getfixturevalue(schedule)
    folder = tmp_path / finished.name
    shutil.copytree(finished, folder)
    (folder / "summary.json").unlink()
    whole = (finished / "cases.jsonl").read_bytes()
    (folder / "cases.jsonl").write_bytes(whole[: max(0, len(whole) - cut)])
    run(prepared, tmp_path)
    assert_same(folder, finished)


def test_a_kill_before_the_old_state_was_removed_leaves_it_no_longer_than_the_next_start(sequence, tmp_path):
    prepared, finished = sequence
    edits = tmp_path / finished.name / "edits"
    shutil.copytree(finished, tmp_path / finished.name)
    kept = {path.name for path in edits.iterdir()}
    (edits / "none-1.safetensors").write_bytes(b"of an earlier state")
    run(prepared, tmp_path)
    assert {path.name for path in edits.iterdir()} == kept


def test_a_joint_edit_is_made_once(batch, tmp_path, monkeypatch):
    prepared, finished = batch
    shutil.copytree(finished, tmp_path / finished.name)
    (tmp_path / finished.name / "cases.jsonl").write_text("")
    for editor in prepared.resolved.editors.values():
        monkeypatch.setattr(editor, "edit_together", lambda *_: pytest.fail("it is on disk"))
    run(prepared, tmp_path)
    assert (tmp_path / finished.name / "cases.jsonl").read_bytes() == (finished / "cases.jsonl").read_bytes()


def test_a_finished_run_computes_nothing(sequence, tmp_path, monkeypatch):
    prepared, finished = sequence
    shutil.copytree(finished, tmp_path / finished.name)
    monkeypatch.setattr(worker, "score_chunk", lambda *_a, **_k: pytest.fail("nothing is missing"))
    run(prepared, tmp_path)


def test_a_damaged_edit_of_a_finished_row_is_made_again(sequence, tmp_path):
    prepared, finished = sequence
    folder = tmp_path / finished.name
    shutil.copytree(finished, folder)
    (folder / "summary.json").unlink()
    whole = (finished / "cases.jsonl").read_bytes().splitlines(keepends=True)
    last = json.loads(whole[-1])["editor"]
    (folder / "cases.jsonl").write_bytes(b"".join(whole[:-1]))
    others = [path for path in (folder / "edits").glob("*.safetensors") if not path.name.startswith(f"{last}-")]
    assert others
    for path in others:
        path.write_bytes(b"")
    said = []
    run(prepared, tmp_path, report=said.append)
    assert_same(folder, finished)
    assert all(any(f"{path}: damaged" in line for line in said) for path in others)
