"""The command line: what it prints, and one clear sentence for each kind of bad input."""

import json
import re
import shutil
from pathlib import Path

import pytest

from instructedit.benchmark.forecast import machine
from instructedit.benchmark.results.records import find_run
from instructedit.benchmark.setup.listing import lines
from instructedit.benchmark.setup.settings import SETTINGS
from instructedit.cli.main import PANELS

from ..benchmark.worlds import write_world
from .command import call, refused


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return write_world(tmp_path_factory.mktemp("cli"))


def start(place: Path, *words: object, data: Path | None = None) -> tuple[int, str, str]:
    options = ["--data", data or place / "data", "--model", place / "model", "--device", "cpu"]
    return call("run", place / "run.toml", *options, *words)


@pytest.fixture(scope="module")
def finished(place) -> Path:
    code, out, _ = start(place, "--out", place / "out", "--task", "recent", "--limit", "3")
    assert code == 0
    assert "Results: " in out
    return place / "out"


def test_run_prints_tables_and_where_the_report_lies(place, finished):
    code, out, err = start(place, "--out", finished, "--task", "recent", "--limit", "3")
    assert code == 0
    assert "9 of 9 results are there already" in err
    for word in ("Reliability", "Locality", "n = 3", "ft-m", "grace", "table.md"):
        assert word in out, word
    assert "Fluency" not in out
    assert "Fluency" in call("report", finished, "--full")[1]
    folder = find_run(finished)
    assert {path.name for path in (folder / "report").iterdir()} == {"table.md", "table.csv", "table.tex"}


def test_run_takes_only_what_is_asked_for(place, tmp_path):
    code, _, _ = start(place, "--out", tmp_path, "--task", "zsre", "--editor", "grace", "--limit", "2", "--seed", "5")
    assert code == 0
    spec = json.loads((find_run(tmp_path) / "run.json").read_text())["spec"]
    assert spec["tasks"] == ["zsre"]
    assert spec["seed"] == 5
    assert [e["name"] for e in spec["editors"]] == ["grace"]
    assert spec["editors"][0]["config"]["steps"] == 3, "options of the file are kept"


def test_report_is_made_again_from_the_files(finished):
    folder = find_run(finished)
    before = {path.name: path.read_bytes() for path in (folder / "report").iterdir()}
    code, out, _ = call("report", finished)
    assert code == 0
    assert "Reliability" in out
    assert before == {path.name: path.read_bytes() for path in (folder / "report").iterdir()}


def test_show_prints_answers_before_and_after(finished):
    code, out, _ = call("show", finished, "recent/test/0")
    assert code == 0
    for word in ("The place of birth of Ada Lovelace is", "Paris", "none", "ft-m", "grace", "locality", "derived"):
        assert word in out, word


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("editors", ["none", "ft-l", "ft-m", "grace", "arXiv 2211.11031"]),
        ("tasks", ["recent", "counterfact", "zsre", "convsent", "14,390"]),
        ("presets", ["quickstart", "knowedit"]),
        ("settings", list(SETTINGS)),
    ],
)
def test_list(what, words):
    code, out, _ = call("list", what)
    assert code == 0
    assert all(word in out for word in words)


def test_help_groups_the_commands_and_starts_with_run():
    code, out, _ = call("--help")
    assert code == 0
    named = re.findall(r"^│ ([a-z]+) ", out, re.MULTILINE)
    assert named == [name for commands in PANELS.values() for name in commands]
    assert named[0] == "run" and all(f" {panel} " in out for panel in PANELS)


def test_help_shows_the_revision_of_hub_data_which_rich_would_read_as_markup_in_brackets():
    assert "@REVISION" in call("run", "--help")[1]


def test_list_without_a_name_lists_everything():
    code, out, _ = call("list")
    assert code == 0
    parts = [part.splitlines() for part in out.strip().split("\n\n")]
    assert [part[0] for part in parts] == ["Editors", "Tasks", "Presets", "Settings", "Metrics", "Tables", "Figures"]
    for part in parts:
        assert [line.strip() for line in part[1:]] == call("list", part[0].lower())[1].splitlines()


@pytest.mark.parametrize("what", [None, "editors", "tasks"])
def test_lines_of_a_list_go_on_below_their_text_on_a_narrow_screen(what):
    whole, folded = lines(what), lines(what, width=70)
    assert max(map(len, whole)) > 70 >= max(map(len, folded))
    text = 21 if what is None else 19  # where texts begin
    assert any(line.startswith(" " * text) for line in folded)
    joined = "\n".join(folded).replace("\n" + " " * text, " ").splitlines()
    assert joined == whole


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--editor", "grase"], "--editor: there is no editor 'grase'"),
        (["--task", "zsrre"], "Unknown task 'zsrre'. Did you mean 'zsre'?"),
        (["--limit", "0"], "command line, --limit: Input should be greater than or equal to 1, found 0"),
    ],
)
def test_unknown_names_get_a_suggestion(place, tmp_path, words, sentence):
    assert sentence in refused(start(place, "--out", tmp_path, *words))
    assert not list(tmp_path.iterdir()), "nothing was started"


def test_unknown_presets_and_lists(tmp_path):
    assert "Unknown preset 'quickstrat'. Did you mean 'quickstart'?" in refused(call("run", "quickstrat"))
    assert "Nothing to list under 'editor'. Did you mean 'editors'?" in refused(call("list", "editor"))
    assert "cannot be read (No such file or directory)" in refused(call("run", tmp_path / "absent.toml"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("limit = ", "not valid TOML"),
        ("limits = 3", "unknown key 'limits'. Did you mean 'limit'?"),
        ("limit = 'many'", "key 'limit': Input should be a valid integer"),
        ("setting = 'dirct'\n[editors.none]", "Unknown setting 'dirct'. Did you mean 'direct'?"),
        ("[generation]\nmax_token = 3", "unknown key 'generation.max_token'. Did you mean 'max_new_tokens'?"),
        ("[editors.grace]\nradios = 1", "The editor 'grace' has no option 'radios'. Did you mean 'radius'?"),
        ("[editors.grace]\nradius = -1", "Option 'radius' of the editor 'grace': Input should be greater than 0"),
        ("[editors.grace]\nblock = 12", "Block 12 does not exist; the model has 4 blocks"),
        ("tasks = ['zsre', 'zsre']", "each task may be named once"),
        (
            "[generation]\nmax_new_tokens = -1",
            "key 'generation.max_new_tokens': Input should be greater than or equal to 0",
        ),
        ("[generation]\nmax_new_tokens = 500", "500 new tokens are requested, but the model's context is 96"),
        ("[generation]\nfluency_top_k = 5000", "fluency_top_k is 5000, but the vocabulary has"),
        ("[editors.ft-l]\nlr = inf", "key 'editors.ft-l.lr': found inf, a finite number was expected"),
        ("[editors.grace]\nblock = nan", "key 'editors.grace.block': found nan, a finite number was expected"),
        ("editors = 'grace'", "key 'editors': Input should be a table"),
        ("tasks = []", "nothing to evaluate; name a file of own facts"),
    ],
)
def test_a_broken_configuration_is_named(place, tmp_path, text, sentence):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    words = ["--data", place / "data", "--model", place / "model", "--out", tmp_path / "out"]
    assert sentence in refused(call("run", path, *words))
    assert not (tmp_path / "out").exists(), "nothing was started"


def test_report_and_show_say_what_is_missing(finished, tmp_path):
    assert "no run in it" in refused(call("report", tmp_path))
    assert "no case 'recent/test/99'" in refused(call("show", finished, "recent/test/99"))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
    assert "holds 2 runs (a, b); name one of them" in refused(call("report", tmp_path))
    assert "schema version None" in refused(call("report", tmp_path / "a"))


def test_a_stopped_run_says_that_nothing_is_lost(place, tmp_path, monkeypatch):
    from instructedit.benchmark.run import worker

    def stop(*_a, **_k):
        raise KeyboardInterrupt

    monkeypatch.setattr(worker, "run_chunk", stop)
    code, _, err = start(place, "--out", tmp_path)
    assert code == 130
    assert "re-running the same command resumes" in err


def test_an_invalid_run_does_not_end_well(place, tmp_path, monkeypatch):
    from instructedit.benchmark.run import worker

    inner = worker.run_chunk

    def leak(model, *arguments, **options):
        model.model.lm_head.weight[0, 0].add_(1e-3)
        return inner(model, *arguments, **options)

    monkeypatch.setattr(worker, "run_chunk", leak)
    code, out, err = start(place, "--out", tmp_path, "--task", "zsre", "--limit", "1", "--editor", "none")
    assert code == 1
    assert "INVALID RUN" in out
    assert "INVALID RUN" in err


def test_the_embedded_world_needs_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    assert "expected a folder" in refused(call("embedded", "--out", tmp_path / "file"))


SUITE = """
limit = 1
fluency = false
[editors.none]
[editors.grace]
steps = 2
[[runs]]
setting = "direct"
[[runs]]
name = "two"
limit = 2
only = ["none"]
"""


def test_a_suite_is_run_and_indexed(place, tmp_path):
    (tmp_path / "pair.toml").write_text(SUITE)
    words = ["--data", place / "data", "--model", place / "model", "--task", "zsre", "--out", tmp_path / "out"]
    code, out, err = call("run", tmp_path / "pair.toml", *words, "--seeds", "4,5")
    assert code == 0
    assert "run 1 of 4: direct, seed 4" in err
    assert "run 4 of 4: two, seed 5" in err
    assert out.count("Results: ") == 4
    index = json.loads((tmp_path / "out" / "suites" / "pair.json").read_text())
    assert [(run["label"], run["seed"]) for run in index["runs"]] == [
        ("direct", 4),
        ("two", 4),
        ("direct", 5),
        ("two", 5),
    ]
    folders = {path.parent.name for path in (tmp_path / "out").glob("*/run.json")}
    assert {run["digest"] for run in index["runs"]} == folders
    code, out, _ = call("report", tmp_path / "out")
    assert code == 0
    assert out.count("4, 5") == 2 and "2 runs" in out
    for name in ("suite.json", "suite.md", "suite.csv", "suite.tex"):
        assert (tmp_path / "out" / name).is_file()
    assert "holds 4 runs" in refused(call("show", tmp_path / "out", "zsre/test/0"))


def test_a_dry_run_loads_and_writes_nothing(place, tmp_path):
    (tmp_path / "pair.toml").write_text(SUITE)
    (tmp_path / "model").mkdir()
    shutil.copy(place / "model" / "config.json", tmp_path / "model")
    words = ["--data", place / "data", "--out", tmp_path / "out", "--dry-run"]
    code, out, err = call("run", tmp_path / "pair.toml", "--model", tmp_path / "model", *words)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "It would be refused" in err
    assert "holds no weights" in err
    assert "direct (single)\ncases: recent 1, counterfact 1, zsre 1, convsent 1\n" in out
    assert [line.split()[0] for line in out.splitlines() if line.startswith(("none", "grace"))][:2] == ["none", "grace"]
    assert [line.partition(":")[0] for line in out.splitlines()[-2:]] == ["model", "memory"]
    assert not (tmp_path / "out").exists()
    assert "no such folder" in refused(call("run", tmp_path / "pair.toml", "--model", place / "absent", *words))


def test_options_left_at_defaults_of_another_model_are_said_before_a_run(place, tmp_path):
    """GRACE's are GPT2-XL's; what the file sets is chosen."""
    said = "note: defaults that were published for another model: grace: radius, lr (GPT2-XL)."
    code, out, err = start(place, "--out", tmp_path / "out", "--dry-run")
    assert code == 0
    assert sum(line.startswith(said) for line in (out + err).splitlines()) == 1
    code, out, err = start(place, "--out", tmp_path / "out", "--task", "recent", "--limit", "1")
    assert sum(line.startswith(said) for line in err.splitlines()) == 1
    assert err.index(said) < err.index("memory:")


def test_a_run_without_room_is_refused_before_it_starts(place, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "free", lambda _: machine.Free(10**4, 10**6, 10**12, "this computer"))
    code, out, err = start(place, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert [line.partition(":")[0] for line in err.splitlines()] == ["note", "model", "memory", "instructedit"]
    assert "this computer has 0 MB free" in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    code, out, _ = start(place, "--out", tmp_path / "out", "--dry-run")
    assert code == 0
    assert "It would be refused. The run" in out.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--seeds", "1,x"], "--seeds: found '1,x'"),
        (["--seeds", "1", "--seed", "2"], "--seeds: found '1'"),
        (["--setting", "multitask"], "Unknown setting 'multitask'. Did you mean 'multi-task'"),
        (["--setting", "hold-out", "--task", "recent"], "The setting 'hold-out' tests on zsre"),
        (["--schedule", "bulk"], "command line, --schedule: Input should be 'single'"),
    ],
)
def test_what_a_suite_cannot_be_is_refused(place, tmp_path, words, sentence):
    assert sentence in refused(start(place, "--out", tmp_path, *words))
    assert not list(tmp_path.iterdir()), "nothing was started"
