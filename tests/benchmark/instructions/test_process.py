"""A loop as a process of its own that asks a server, is killed on the way, and goes on where it was."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from instructedit.benchmark.instructions.ledger import Ledger
from instructedit.benchmark.setup.banks import read_bank

from ...cli.command import call
from ...cli.test_instructions import PRESET
from .server import USAGE, ok, serving, stall, status
from .worlds import TEXTS

KEY = "sk-loop-back-0123456789abcdef"
MAIN = "import sys; from instructedit.cli.main import app; sys.argv[0] = 'instructedit'; app()"


@pytest.fixture
def words(place, tmp_path):
    (tmp_path / "tiny.toml").write_text(PRESET)
    given = ["--preset", tmp_path / "tiny.toml", "--data", place / "data", "--model", place / "model"]
    small = ["--cases", 2, "--test-cases", 2, "--rounds", 2, "--candidates", 3, "--device", "cpu"]
    own = ["--task", "counterfact", "--proposer", "openai", "--out", tmp_path / "loop"]
    return ["instructions", "optimize", *map(str, [*own, *given, *small])]


def test_a_loop_that_was_killed_pays_for_nothing_twice(words, tmp_path, monkeypatch):
    with serving() as server:
        told = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": KEY, "OPENAI_MODEL": "tiny-chat"}
        server.script.extend([status(429, "", {"Retry-After": "0"}), ok(TEXTS[:3]), stall])
        first = subprocess.Popen(
            [sys.executable, "-c", MAIN, *words],
            env={**os.environ, **told, "OPENAI_LOG": "debug"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for line in first.stdout:  # the second round's request is on its way
            if "round 0: best" in line:
                break
        while len(server.requests) < 3:
            assert first.poll() is None
            time.sleep(0.01)
        first.send_signal(signal.SIGKILL)
        said = first.communicate()[0]
        assert first.returncode == -signal.SIGKILL

        server.script.append(ok(TEXTS[3:]))
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        code, out, err = call(*words)
        rest = out + err
        assert code == 0, rest
        assert not server.script and not server.surprises and len(server.requests) == 4
    folder = tmp_path / "loop"
    assert "round 0:" not in rest and "round 1: best" in rest
    assert set(read_bank(folder / "bank.json").tasks["counterfact"].descriptions) >= set(TEXTS)
    # the request that was under way counts at the most it may have cost
    entries = [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]
    assert [entry["request"] for entry in entries] == [0, 0, 1, 1, 2, 3, 3]
    assert entries[1]["tokens"] == 0 and entries[4]["tokens"] > 2048
    assert Ledger(folder / "requests.jsonl").tokens == 2 * USAGE["total_tokens"] + entries[4]["tokens"]
    assert "this is attempt 2 of 6" in (folder / "round-0" / "proposal.json").read_text()
    texts = [path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()]
    assert not any(KEY in text for text in (*texts, said, rest))
