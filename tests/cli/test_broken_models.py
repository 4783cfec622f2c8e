"""Every kind of model folder that cannot be loaded is one sentence and exit code 2, of a dry run too."""

import hashlib
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

from instructedit.benchmark.results.records import find_run
from instructedit.cli.main import app

from .broken import KINDS, call, cut, good, judged, own_code, spoilt

TRIAL = find_spec("instructedit.editors.engine.trial") is not None


@pytest.mark.parametrize("broken", KINDS, ids=lambda broken: f"{broken.group}: {broken.name}")
def test_it_is_one_sentence_that_says_what_to_do(broken, tmp_path):
    if not broken.dry and not TRIAL:
        pytest.skip("weights are looked through by the trial of a loaded model")
    place = spoilt(broken, tmp_path / "model")
    said = {}
    for words in ((), ("--dry-run",)) if broken.dry else ((),):
        code, text, crashed = call(place, tmp_path / "out", *broken.words, *words)
        assert judged(broken, code, text, crashed) == "clear", text
        lines = text.strip().splitlines()
        assert lines[-1].startswith("instructedit: "), text
        assert len(lines) == 1 or not broken.dry, "only what shows when weights are there is said after the forecast"
        if broken.group not in ("device", "package", "own code"):
            assert place.rstrip("/.") in lines[-1]
        said[words] = lines[-1].replace("It would be refused. ", "")
    assert len(set(said.values())) == 1
    assert not (tmp_path / "out").exists()


def fixed(tmp_path, name="quickstart"):
    return [name, "--editor", "none", "--limit", "1", "--task", "recent", "--out", str(tmp_path / "out")]


def test_a_run_says_that_code_of_the_models_own_ran_and_with_which_numbers(tmp_path):
    folder = Path(shutil.copytree(good(), tmp_path / "model"))
    own_code()(folder)
    words = ["--setting", "direct", "--model", str(folder), "--device", "cpu", "--dtype", "bfloat16"]
    found = CliRunner().invoke(app, ["run", *fixed(tmp_path), *words, "--trust-remote-code"])
    assert found.exit_code == 0, found.stderr
    run = json.loads((find_run(tmp_path / "out") / "run.json").read_text())
    assert run["spec"]["dtype"] == "bfloat16"
    assert run["provenance"]["trust_remote_code"] is True
    code = hashlib.sha256(b"modeling_own.py\n" + (folder / "modeling_own.py").read_bytes())
    assert run["provenance"]["code"] == code.hexdigest()
    preset = tmp_path / "own.toml"
    preset.write_text(
        f'setting = "direct"\nmodel = "{folder}"\ntrust_remote_code = true\ndtype = "bfloat16"\n[editors.none]\n'
    )
    found = CliRunner().invoke(app, ["run", *fixed(tmp_path / "again", str(preset)), "--device", "cpu"])
    assert found.exit_code == 0, found.stderr
    again = json.loads((find_run(tmp_path / "again" / "out") / "run.json").read_text())
    for part, key in (("spec", "model_fingerprint"), ("spec", "dtype"), ("provenance", "trust_remote_code")):
        assert again[part][key] == run[part][key]


@pytest.mark.parametrize(
    "command",
    [
        ["run", "quickstart", "--editor", "none"],
        ["tune", "quickstart", "--editor", "ft-m", "--dry-run"],
        ["tune", "quickstart", "--editor", "ft-m"],
        ["speed", "--quick"],
        ["instructions", "try", "a text", "--task", "recent"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_every_command_refuses_a_device_that_is_not_there(command, tmp_path):
    out = [] if command[0] == "speed" else ["--out", str(tmp_path / "out")]
    found = CliRunner().invoke(app, [*command, *out, "--device", "nonsense"])
    assert found.exit_code == 2
    assert found.stderr.startswith("instructedit: --device: found 'nonsense', but it is not there; expected cpu")
    assert not (tmp_path / "out").exists()


def test_a_dry_search_looks_at_the_model(tmp_path):
    folder = Path(shutil.copytree(good(), tmp_path / "model"))
    cut("model.safetensors")(folder)
    words = ["--model", str(folder), "--out", str(tmp_path / "out"), "--limit", "2", "--budget", "1"]
    for dry in ([], ["--dry-run"]):
        found = CliRunner().invoke(app, ["tune", "quickstart", "--editor", "ft-m", *words, *dry])
        assert found.exit_code == 2
        assert "model.safetensors: the model cannot be loaded" in found.stderr
