"""State and result files that are not what was written: named and made again, or refused in one sentence."""

import json
import pickle
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from instructedit.benchmark.results.integrity import read_finished
from instructedit.benchmark.run.runner import run
from instructedit.benchmark.run.worker import Worker
from instructedit.editors import InputError
from instructedit.editors.hypernet.training_loop import Trainer
from instructedit.reports.leaderboard.pack import pack
from instructedit.reports.site.write import write_site
from instructedit.reports.tables.build import report_run

from ..worlds import TINY_SEQUENCE, prepared_run, train_tiny, write_world


class StopError(BaseException):
    """The process ends here."""


def stop(*_, **__):
    raise StopError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepared_run(write_world(tmp_path_factory.mktemp("place")), **TINY_SEQUENCE)


def train(model, out, say=lambda _: None):
    """Return the weights of a tiny training, made or read."""
    return dict(train_tiny(model, out, say).network.state_dict())


@pytest.fixture(scope="module")
def trees(prepared, tmp_path_factory):
    """A finished and a stopped training, a finished run, and one that was stopped before its last stage."""
    out = tmp_path_factory.mktemp("trees")
    train(prepared.model, out / "done")
    with pytest.MonkeyPatch.context() as patch:
        step = Trainer._step
        patch.setattr(Trainer, "_step", lambda self: stop() if self.state.step else step(self))
        with pytest.raises(StopError):
            train(prepared.model, out / "half")
    run(prepared, out / "run")
    with pytest.MonkeyPatch.context() as patch:
        perform = Worker.perform
        patch.setattr(Worker, "perform", lambda own, unit: stop() if unit.kind == "score" else perform(own, unit))
        with pytest.raises(StopError):
            run(prepared, out / "stopped")
    return out


def written(change):
    return lambda path: path.write_bytes(change(path.read_bytes()))


def tensors(change):
    def damage(path):
        with safe_open(path, "pt") as file:
            texts = file.metadata()
        found = load_file(path)
        change(found, max(found, key=lambda name: found[name].numel() * found[name].is_floating_point()))
        save_file(found, path, metadata=texts)

    return damage


BYTES = {
    "empty": written(lambda content: b""),
    "cut": written(lambda content: content[: len(content) // 2]),
    "garbled": written(lambda content: content[: len(content) // 2] + b"\xff{[" + content[len(content) // 2 + 3 :]),
    "a pickle": written(lambda _: pickle.dumps({"a": 1})),
    "a list": written(lambda _: b"[]\n"),
    "deep": written(lambda _: b"[" * 100_000 + b"\n"),
}
TENSORS = {
    "a bit": written(lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]),
    "NaN": tensors(lambda found, name: found[name].mul_(float("nan"))),
    "a key less": tensors(lambda found, name: found.pop(name)),
    "a key more": tensors(lambda found, name: found.update(more=torch.zeros(1))),
    "a shape": tensors(lambda found, name: found.update({name: found[name].reshape(-1)[:1].clone()})),
    "a type": tensors(lambda found, name: found.update({name: found[name].to(torch.int32)})),
}
STATE = [
    *((tree, name, how) for tree, name in (("done", "mend-*/checkpoint.json"), ("done", "mend-*/editor.json"),
      ("half", "mend-*/metrics.jsonl"), ("stopped", "*/edits/ft-m-*.json")) for how in BYTES),
    *((tree, name, how) for tree, name in (("done", "mend-*/state.safetensors"), ("half", "mend-*/last.safetensors"),
      ("half", "mend-*/best.safetensors"), ("stopped", "*/edits/ft-m-*.safetensors")) for how in (*BYTES, *TENSORS)),
]  # fmt: skip


@pytest.mark.parametrize(("tree", "name", "how"), STATE)
def test_state_that_is_damaged_is_named_and_made_again(tree, name, how, trees, prepared, tmp_path):
    shutil.copytree(trees / tree, tmp_path / tree)
    (path,) = (tmp_path / tree).glob(name)
    {**BYTES, **TENSORS}[how](path)
    said = []
    if tree == "stopped":
        folder = run(prepared, tmp_path / tree, report=said.append)
        for file in ("cases.jsonl", "summary.json"):
            assert (folder / file).read_bytes() == (trees / "run" / folder.name / file).read_bytes()
    else:
        found, whole = train(prepared.model, tmp_path / tree, said.append), train(prepared.model, trees / "done")
        assert found.keys() == whole.keys()
        assert all(torch.equal(found[key], whole[key]) for key in whole)
    assert any(text.startswith(f"note: {path}: damaged (") for text in said), said


@pytest.mark.parametrize("name", ["checkpoint.json", "editor.json", "state.safetensors"])
def test_a_folder_in_the_place_of_a_file_is_a_sentence(name, trees, prepared, tmp_path):
    shutil.copytree(trees / "done", tmp_path / "done")
    (path,) = (tmp_path / "done").glob(f"mend-*/{name}")
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match=f"{name}: is a folder, a file was expected"):
        train(prepared.model, tmp_path / "done")


def lines(change):
    def damage(folder):
        path = folder / "cases.jsonl"
        path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))

    return damage


def fields(name, change):
    def damage(folder):
        found = json.loads((folder / name).read_text())
        change(found)
        (folder / name).write_text(json.dumps(found))

    return damage


def unrecorded(folder):
    fields("summary.json", lambda found: [found.pop(key) for key in ("cases_sha256", "lines", "content")])(folder)


CHANGED = {
    "a line less": lines(lambda all_: all_[:-1]),
    "a line twice": lines(lambda all_: [*all_, all_[0]]),
    "another order": lines(lambda all_: all_[::-1]),
    "a score": lines(lambda all_: [all_[0].replace(b'"value":0.0', b'"value":1.0'), *all_[1:]]),
    "a mean": fields("summary.json", lambda found: found["means"][0].update(mean=0.123)),
    "a mean out of range": fields("summary.json", lambda found: found["means"][0].update(mean=1.5)),
    "the specification": fields("run.json", lambda found: found["spec"].update(seed=5)),
    "the digest": fields("run.json", lambda found: found.update(digest="f" * 16)),
}


@pytest.mark.parametrize("how", CHANGED)
def test_results_that_were_changed_are_refused_by_whoever_reads_them(how, trees, prepared, tmp_path):
    shutil.copytree(trees / "run", tmp_path / "run")
    folder = tmp_path / "run" / prepared.file.digest
    CHANGED[how](folder)
    for read in (
        read_finished,
        report_run,
        lambda folder: write_site(folder, tmp_path / "site"),
        lambda folder: pack(folder, tmp_path / "s.zip", name="Made", authors=["Ada"]),
    ):
        with pytest.raises(InputError, match=str(tmp_path)):
            read(folder)


OLD = {
    "a line twice": (lambda all_: [*all_, all_[0]], "a second one"),
    "a foreign case": (lambda all_: [*all_, all_[0].replace(b"recent/test/", b"recent/test/9")], "one of the 2 cases"),
    "a foreign row": (lambda all_: [*all_, all_[0].replace(b'"editor":"none"', b'"editor":"mine"')], "row 'mine'"),
    "a score out of range": (
        lambda all_: [all_[0].replace(b'"value":1.0', b'"value":1.5', 1), *all_[1:]],
        "within 0 and 1 was expected, found 1.5",
    ),
}


@pytest.mark.parametrize("how", OLD)
def test_results_that_say_no_sha256_are_checked_line_by_line(how, trees, prepared, tmp_path):
    shutil.copytree(trees / "run", tmp_path / "run")
    folder = tmp_path / "run" / prepared.file.digest
    unrecorded(folder)
    pack(folder, tmp_path / "old.zip", name="Made", authors=["Ada"])
    change, words = OLD[how]
    lines(change)(folder)
    with pytest.raises(InputError, match=words):
        pack(folder, tmp_path / "new.zip", name="Made", authors=["Ada"])


def test_a_finished_run_does_not_sum_up_lines_that_were_changed(trees, prepared, tmp_path):
    shutil.copytree(trees / "run", tmp_path / "run")
    folder = tmp_path / "run" / prepared.file.digest
    CHANGED["another order"](folder)
    with pytest.raises(InputError, match="was changed after it was summarised"):
        run(prepared, tmp_path / "run")
    shutil.rmtree(folder)
    shutil.copytree(trees / "run", tmp_path / "run", dirs_exist_ok=True)
    CHANGED["a line less"](folder)
    said = []
    run(prepared, tmp_path / "run", report=said.append)
    assert any("lines of the finished run are there" in text for text in said)
    for name in ("cases.jsonl", "summary.json"):
        assert (folder / name).read_bytes() == (trees / "run" / folder.name / name).read_bytes()


def test_a_run_file_that_is_damaged_is_written_again(trees, prepared, tmp_path):
    shutil.copytree(trees / "run", tmp_path / "run")
    path = tmp_path / "run" / prepared.file.digest / "run.json"
    path.write_bytes(path.read_bytes()[:99])
    said = []
    run(prepared, tmp_path / "run", report=said.append)
    assert any(text.startswith(f"note: {path}: damaged (") for text in said)
    assert read_finished(path.parent)[0].spec == prepared.file.spec
