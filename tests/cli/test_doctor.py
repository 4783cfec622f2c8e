"""The doctor: one screen, as JSON the same, and an exit code."""

import json
import shutil

import pytest

from instructedit.benchmark.forecast import doctor, machine
from instructedit.editors import EDITORS

from ..benchmark.worlds import write_model
from .command import call


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "llama", "llama")


def test_the_machine_is_one_screen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = call("doctor")
    assert code == 0 and "no problem found" in out
    assert len(out.splitlines()) < 24 and max(map(len, out.splitlines())) <= 80
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_what_of_a_model_is_understood(model, tmp_path):
    """Numbers of the tiny Llama in tests/conftest.py: 4 blocks of width 32, a vocabulary of 400."""
    code, out, _ = call("doctor", "--model", model, "--json")
    assert code == 0
    found = json.loads(out)["model"]
    shape = {"architecture": "LlamaForCausalLM", "blocks": 4, "width": 32, "vocabulary": 400, "dtype": "float32"}
    assert shape.items() <= found.items()
    assert (found["parts"]["up"], found["parts"]["down"], found["tokenizer"]) == (8, 4, "BPE")
    assert (found["bos"], found["chat_template"]) == (None, False)
    assert found["memory"] == 4 * found["parameters"]
    assert found["trial"].startswith("passed")
    editors = {own["name"]: own for own in found["editors"]}
    assert set(editors) == set(EDITORS) and all(own["works"] for own in editors.values())
    assert "training" in editors["mend"]["needs"] and editors["mend"]["training"] > 0
    assert {"training", "an instruction"} <= set(editors["instructedit"]["needs"])
    assert editors["ft-m"]["needs"] == ["tuning (defaults of GPT2-XL)"]
    code, out, _ = call("doctor", "--model", model, "--no-load", "--dtype", "bfloat16")
    assert code == 0 and "none: the weights were not loaded" in out
    assert max(map(len, out.splitlines())) <= 80


def test_problems_are_told_and_end_in_1(model, tmp_path, monkeypatch):
    shutil.copytree(model, tmp_path / "bare")
    (tmp_path / "bare" / "model.safetensors").unlink()
    code, out, _ = call("doctor", "--model", tmp_path / "bare", "--out", tmp_path / "bare" / "config.json" / "x")
    assert code == 1
    assert "holds no weights" in out.replace("\n", " ") and "cannot be written" in out.replace("\n", " ")
    monkeypatch.setattr(
        doctor, "requires", lambda _: ["torch<2.0", "nowhere>=1; python_version > '3'", "x; extra == 'y'"]
    )
    code, out, _ = call("doctor", "--json")
    assert code == 1
    assert [(own["name"], own["fits"]) for own in json.loads(out)["machine"]["packages"]] == [
        ("torch", False),
        ("nowhere", False),
    ]
    assert json.loads(out)["problems"][1] == "nowhere: found none, >=1 is tested."


def test_a_model_that_is_too_large_is_not_loaded(model, monkeypatch):
    monkeypatch.setattr(doctor, "free", lambda _: machine.Free(10, 10, 10**12, "this computer"))
    code, out, _ = call("doctor", "--model", model)
    assert code == 1 and "do not fit into the free memory" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--model", "./nowhere"], "no such folder"),
        (["--model", "embedded", "--dtype", "int8"], "--dtype: found 'int8'"),
    ],
)
def test_bad_input_ends_in_2(words, sentence):
    code, out, err = call("doctor", *words)
    assert (code, out) == (2, "") and sentence in err
