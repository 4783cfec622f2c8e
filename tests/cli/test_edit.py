"""`instructedit edit` and `instructedit export`: what they print, and one sentence for bad input."""

import json

import pytest

from ..benchmark.worlds import write_world
from .command import call

FACT = ("Ada Lovelace was born in", "Vale")
SETS = ("--set", "block=1", "--set", "lr=0.05", "--set", "steps=60", "--set", "clamp=false")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("edit"))


def edit(place, *words):
    return call("edit", *FACT, "--model", place / "model", "--device", "cpu", *words)


def test_edit_prints_the_answers_before_and_after(place, tmp_path):
    code, out, _ = edit(place, *SETS, "--ask", "Alan Turing was born in", "--out", tmp_path / "out")
    assert code == 0
    lines = [line.rstrip() for line in out.splitlines()]
    first = lines.index(FACT[0])
    assert lines[first + 1] == "  wanted  Vale"
    assert lines[first + 2].startswith("  before  ")
    assert any(line.startswith("  after   Vale") for line in lines)
    assert "Alan Turing was born in" in lines
    assert "FT-M: reached 1 of 1 targets" in out
    assert "hf: took effect on 1 of 1" in out
    assert max(len(line) for line in lines if not line.startswith("wrote")) <= 80
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_edit_prints_json(place):
    code, out, _ = edit(place, *SETS, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["health"]["reached"] == 1
    assert found["options"]["steps"] == 60
    assert found["answers"][0]["prompt"] == FACT[0]


def test_nothing_is_written_where_the_input_is_wrong(place, tmp_path):
    out = tmp_path / "out"
    for words, text in {
        ("--editor", "ftm"): "Unknown editor 'ftm'. Did you mean 'ft-m'",
        ("--editor", "mend"): "has to be trained first",
        ("--set", "lr"): "--set: found 'lr', OPTION=VALUE was expected",
        ("--set", "lr=fast"): "Option 'lr' of the editor 'ft-m'",
        ("--as", "onnx", "--out", out): "--as: found 'onnx', hf, peft or edits was expected",
        ("--as", "hf", "--editor", "in-context", "--out", out): "no form can hold this edit",
    }.items():
        code, _, err = edit(place, *words)
        assert (code, len(err.strip().splitlines())) == (2, 1), err
        assert text in err
        assert not out.exists()


def test_export_writes_the_edit_of_a_run(place, tmp_path):
    options = ["--data", place / "data", "--model", place / "model", "--device", "cpu", "--task", "recent"]
    code, _, _ = call("run", place / "run.toml", *options, "--limit", "1", "--out", tmp_path / "runs")
    assert code == 0
    (lines,) = (path.read_text(encoding="utf-8") for path in (tmp_path / "runs").glob("*/cases.jsonl"))
    case = json.loads(lines.splitlines()[0])["case_id"]
    code, out, err = call("export", tmp_path / "runs", case, "--editor", "ft-m", "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert out.startswith("hf: took effect on ")
    code, _, err = call("export", tmp_path / "runs", case, "--editor", "grace", "--out", tmp_path / "more")
    assert code == 2
    assert "'edits' can hold this edit" in err
    code, _, err = call("export", tmp_path / "runs", "--editor", "grace", "--out", tmp_path / "more")
    assert "the id of a case was expected" in err
    assert not (tmp_path / "more").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("", "x"), 'PROMPT: found "", a text was expected.'),
        (("A is", " "), 'ANSWER: found " ", a text was expected.'),
        (("A is", "b", "--as", "peft"), "--as: found 'peft' without --out, which names the folder to write."),
    ],
)
def test_arguments_that_mean_nothing_are_refused_before_a_model_is_loaded(words, sentence):
    code, out, err = call("edit", *words, "--model", "/nowhere")
    assert code == 2
    assert sentence in out + err
