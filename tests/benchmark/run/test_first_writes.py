"""A kill at the first write of every kind of file, and a disk that is full there: the same command ends as if not."""

import json
import shutil

import pytest
from matplotlib.figure import Figure

from instructedit.benchmark.instructions.loop import alone
from instructedit.benchmark.results.loop_results import LOOP, TRIALS, LoopConfig, LoopFile, Trials, round_folder
from instructedit.benchmark.results.run_folder import StorageError, write_record
from instructedit.benchmark.results.suite_results import SuiteEntry, find_suite
from instructedit.benchmark.results.suite_summary import summarise_suite
from instructedit.benchmark.run.runner import run
from instructedit.benchmark.run.suite import add_to_index
from instructedit.benchmark.setup.banks import read_bank
from instructedit.benchmark.tuning.plan import TuneOptions
from instructedit.benchmark.tuning.tune import TuneFolder, tune
from instructedit.editors import InputError
from instructedit.reports.figures.results import read_results
from instructedit.reports.figures.style import styled
from instructedit.reports.figures.write import FIGURES
from instructedit.reports.leaderboard.pack import pack
from instructedit.reports.site import figures
from instructedit.reports.site.write import write_site
from instructedit.reports.tables.build import report_run

from ...cli.faults import KilledError, kinds_of, strike
from ..worlds import TINY_SEQUENCE, prepared_run, train_tiny, write_world

VARIES = ("usage.jsonl", "timings.jsonl")
"""Files that hold times."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def prepared(place):
    return prepared_run(place, **TINY_SEQUENCE, chunk=1)


@pytest.fixture(scope="module")
def finished(prepared, tmp_path_factory):
    return run(prepared, tmp_path_factory.mktemp("finished"))


@pytest.fixture
def begin(finished):
    """Make a folder as each kind of work finds it."""

    def make(name, out):
        out.mkdir()
        if name == "suite":
            shutil.copytree(finished, out / finished.name)
        if name == "tune":
            (out / "tune").mkdir()
        return out

    return make


@pytest.fixture(scope="module")
def work(prepared, finished, tmp_path_factory):
    """Every kind of work by its name: a function of the folder that it writes to."""
    model = prepared.model

    def train(out, say=lambda _: None):
        train_tiny(model, out / "checkpoints", say)

    def suite(out):
        folder = out / finished.name
        entry = SuiteEntry(label="one", setting="direct", schedule="single", seed=0, digest=prepared.file.digest)
        add_to_index(out, "made", entry, lambda _: None)
        write_record(out / "suite.json", summarise_suite(out, find_suite(out / "suites" / "made")[1]))
        report_run(folder)

    with styled():
        drawn = list(FIGURES["retention"](read_results(finished)))

    def site(out):
        with pytest.MonkeyPatch.context() as patch:  # drawing takes far longer than all else
            patch.setattr(figures, "FIGURES", ["retention"])
            patch.setitem(FIGURES, "retention", lambda _: iter(drawn))
            patch.setattr(Figure, "savefig", lambda self, path, **_: path.write_text("drawn"))
            write_site(finished, out / "site")

    def package(name):
        def made(out):
            if not (out / name).exists():  # what is whole is not written again
                pack(finished, out / name, name="Made", authors=["Ada"])

        return made

    def loop(out):
        folder = out / "loop"
        file = LoopFile(
            config=LoopConfig(task="recent"), model="m", data="d", editor={}, bank="b", proposer="offline", settings={}
        )
        with alone(folder):
            write_record(folder / LOOP, file)
            write_record(round_folder(folder, 0) / TRIALS, Trials(trials=(), seconds=0.0))
            write_record(folder / "bank.json", read_bank(None))

    def search(out):
        tune((), TuneOptions("quickstart", (), 1, {}, None, 1, 0), TuneFolder(out, "quickstart"))

    return {
        "run": lambda out: run(prepared, out),
        "train": train,
        "suite": suite,
        "site": site,
        "pack": package("made.zip"),
        "pack-folder": package("made"),
        "loop": loop,
        "tune": search,
    }


def content(out):
    """Return the bytes of every file, times and locks aside."""
    found = {}
    for path in out.rglob("*"):
        if path.is_file() and path.name not in VARIES and not path.name.endswith(".lock"):
            data = path.read_bytes()
            if path.name == "metrics.jsonl":
                data = [{**json.loads(line), "seconds": 0} for line in data.splitlines()]
            found[str(path.relative_to(out))] = data
    return found


WRITTEN = {
    "run": {"run.json", "cases.jsonl", "timings.jsonl", "usage.jsonl", "summary.json", "ft-mN.safetensors",
            "ft-mN.json"},
    "train": {"checkpoint.json", "last.safetensors", "best.safetensors", "metrics.jsonl", "state.safetensors",
              "editor.json"},
    "suite": {"made.json", "suite.json", "table.md", "table.csv", "table.tex"},
    "site": {"index.html", "site.js", "table.js", "retention.svg", "site"},
    "pack": {"made.zip"},
    "pack-folder": {"manifest.json", "made"},
    "loop": {"loop.json", "trials.json", "bank.json"},
    "tune": {"quickstart.toml"},
}  # fmt: skip
"""Files that each kind of work has to have been struck at."""


@pytest.mark.parametrize("full", [False, True], ids=["killed", "full"])
@pytest.mark.parametrize("name", WRITTEN)
def test_a_strike_at_the_first_write_of_every_kind_of_file(name, full, work, begin, tmp_path):
    kinds = kinds_of(work[name], begin(name, tmp_path / "whole"))
    whole = content(tmp_path / "whole")
    assert whole
    assert WRITTEN[name] - {kind for _, kind in kinds} == set()
    for number, kind in enumerate(kinds):
        if full and kind[0] not in ("write", "save", "mkdir", "fsync"):
            continue
        out = begin(name, tmp_path / str(number))
        error = strike(work[name], out, kind, full=full)
        if full:
            assert isinstance(error, InputError), f"{kind}: {error!r}"
            assert "No space left on device" in str(error), kind
            assert ".part" not in str(error), kind
            assert kind != ("write", "cases.jsonl") or "all finished cases are safe" in str(error)
        else:
            assert isinstance(error, KilledError), f"{kind}: {error!r}"
        work[name](out)
        assert content(out) == whole, kind
        shutil.rmtree(out)


def test_a_full_disk_says_whether_there_is_a_save_to_go_on_from(work, begin, tmp_path):
    for kind, words in ((("save", "last.safetensors"), "starts it again"), (("save", "best.safetensors"), "last save")):
        error = strike(work["train"], begin("train", tmp_path / kind[1]), kind, full=True)
        assert isinstance(error, StorageError)
        assert words in str(error)


def test_what_is_saved_last_is_what_counts(work, tmp_path):
    """A kill between the finished editor and the last of its tidying leaves files that the next start removes."""
    work["train"](tmp_path)
    (folder,) = (path for path in (tmp_path / "checkpoints").iterdir() if path.is_dir())
    for name in ("last.safetensors", "best.safetensors", "checkpoint.part", ".tmpXyz", ".editor.json.0a1b2c3d.part"):
        (folder / name).write_bytes(b"left")
    said = []
    work["train"](tmp_path, said.append)
    assert "is trained already" in said[0]
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint.json", "editor.json", "state.safetensors", "metrics.jsonl"
    }  # fmt: skip
    (tmp_path / "new").touch()
    assert {path.stat().st_mode for path in folder.iterdir()} == {(tmp_path / "new").stat().st_mode}
