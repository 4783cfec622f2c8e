"""A run on two workers whose head and workers are killed at random: it ends in the bytes of one process."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import psutil
import pytest

from ..benchmark.worlds import write_data, write_model, write_training
from ..cli.command import call

CONFIG = """
data = "data"
model = "model"
setting = "multi-task"
tasks = ["recent", "zsre"]
train = ["recent", "zsre"]
chunk = 2
fluency = false
generation = { max_new_tokens = 4 }

[editors.none]
[editors.ft-m]
block = 1
steps = 3
[editors.mend]
rank = 4
training = { steps = 2, validate_every = 1, save_every = 1, accumulate = 1 }

[[runs]]
name = "single"

[[runs]]
name = "sequential"
schedule = "sequential"
at = [2]
only = ["none", "ft-m"]
"""


def head(place):
    words = [sys.executable, "-c", "from instructedit.cli.start import main; main()", "run", "mine.toml"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [*words, "--out", "out", "--workers", "2", "--device", "cpu"],
        cwd=place,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=(place / "log").open("a"),
    )


def content(out):
    names = ["*/cases.jsonl", "*/summary.json", "*/edits/*", "checkpoints/*/*.safetensors"]
    return {str(path.relative_to(out)): path.read_bytes() for name in names for path in sorted(out.glob(name))}


def lines(out):
    return sum(path.read_bytes().count(b"\n") for path in out.glob("*/cases.jsonl"))


def workers_of(process):
    try:
        children = psutil.Process(process.pid).children()
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return []


@pytest.mark.slow
def test_killed_heads_and_workers_change_no_byte(request, tmp_path, monkeypatch):
    kills = max(2, request.config.getoption("--kills") // 25)
    write_data(tmp_path / "data")
    write_training(tmp_path / "data", recent=12, zsre=12)
    write_model(tmp_path / "model")
    (tmp_path / "mine.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    assert call("run", "mine.toml", "--out", "whole", "--workers", "1", "--device", "cpu")[0] == 0
    whole, out = tmp_path / "whole", tmp_path / "out"
    dice, tally, running = random.Random(7), Counter(), head(tmp_path)
    for number in range(kills):
        if running.poll() is not None:
            if running.returncode == 0:  # not killed
                assert content(out) == content(whole)
                shutil.rmtree(out)
            running = head(tmp_path)
        written = dice.randrange(lines(whole))
        while running.poll() is None and lines(out) < written:
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 0.2))
        workers = workers_of(running)
        kind = "head" if number % 2 or not workers else "worker"
        if running.poll() is None:
            tally[kind] += 1
            os.kill((running if kind == "head" else dice.choice(workers)).pid, signal.SIGKILL)
        if kind == "head":
            running.wait()
            deadline = time.monotonic() + 60
            while any(worker.is_running() and worker.status() != "zombie" for worker in workers):
                assert time.monotonic() < deadline, "workers end soon after their head"
                time.sleep(0.1)
    running.wait()
    assert head(tmp_path).wait() == 0, (tmp_path / "log").read_text()
    sys.stderr.write(f"killed: {dict(tally)}\n")
    assert tally
    assert content(out) == content(whole)
