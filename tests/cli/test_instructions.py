"""The commands `instructions ...`: from the command line to files, and one sentence for bad input."""

import pytest
from typer.testing import CliRunner

from instructedit.benchmark.setup.banks import read_bank
from instructedit.cli.main import app

from ..benchmark.worlds import write_data, write_model, write_training

PRESET = """
chunk = 2

[editors.instructedit]
rank = 8
blocks = [-1]
training = { steps = 2, batch = 2, accumulate = 1, warmup = 2, validate_every = 2, validation_cases = 4, patience = 2 }
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loop")
    write_training(write_data(folder / "data"), counterfact=12, recent=6, convsent=30, zsre=6)
    write_model(folder / "model", "llama")  # its context is long enough for real instructions
    return folder


@pytest.fixture
def call(place, tmp_path):
    (tmp_path / "tiny.toml").write_text(PRESET)

    def run(command, *arguments, task="counterfact"):
        given = ["--preset", tmp_path / "tiny.toml", "--data", place / "data", "--model", place / "model"]
        small = ["--cases", 2, "--test-cases", 2, "--device", "cpu", "--out", tmp_path / "loop"]
        rounds = [] if command == "try" else ["--rounds", 1]
        words = ["instructions", command, *arguments, "--task", task, *given, *small, *rounds]
        return CliRunner().invoke(app, [str(word) for word in words])

    return run


def test_a_loop_from_the_command_line(call, tmp_path):
    written = call("propose", "--candidates", 3)
    assert written.exit_code == 0, written.output
    admitted = [line.split(maxsplit=1)[1] for line in written.stdout.splitlines() if line.startswith("admitted")]
    assert len(admitted) + written.stdout.count("refused ") == 3 and admitted
    ended = call("optimize", "--candidates", 3)
    assert ended.exit_code == 0, ended.output
    assert f"Bank: {tmp_path / 'loop' / 'bank.json'}" in ended.stdout.replace("\n", "")
    bank = read_bank(tmp_path / "loop" / "bank.json")
    assert set(bank.tasks["counterfact"].descriptions[:-1]) == set(admitted), "what was proposed was tried"
    shown = CliRunner().invoke(app, ["instructions", "show", str(tmp_path / "loop")])
    assert shown.exit_code == 0 and "Test: chosen against hand-written" in shown.stdout


def test_descriptions_of_ones_own_are_tried(call):
    tried = call("try", "Replace the value that is known by the one that follows.")
    assert tried.exit_code == 0, tried.output
    assert "1. Replace the value that is known" in tried.stdout


@pytest.mark.parametrize(
    ("command", "arguments", "sentence"),
    [
        ("try", ["Too short."], "'Too short.': it has 2 words, expected 6 to 40."),
        ("optimize", ["--proposer", "ofline"], "Unknown proposer 'ofline'. Did you mean 'offline'?"),
        ("optimize", ["--proposer", "local"], "expected --writer"),
        ("optimize", ["--candidates", 0], "Invalid value for '--candidates'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(call, command, arguments, sentence):
    found = call(command, *arguments)
    assert found.exit_code == 2
    assert sentence in found.stderr and "Traceback" not in found.output


def test_a_folder_without_a_loop(tmp_path):
    found = CliRunner().invoke(app, ["instructions", "show", str(tmp_path)])
    assert found.exit_code == 2 and "loop.json" in found.stderr
    found = CliRunner().invoke(app, ["instructions", "propose", "--task", "recnt", "--out", str(tmp_path)])
    assert found.exit_code == 2 and "Did you mean 'recent'" in found.stderr
