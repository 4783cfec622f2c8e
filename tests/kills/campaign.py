"""Commands that are killed at random, started again until they finish, and must leave the bytes of an unbroken one."""

import json
import os
import random
import signal
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

SIGNALS = [signal.SIGKILL] * 8 + [signal.SIGTERM, signal.SIGINT]
ENDED = {-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM, 128 + signal.SIGINT}
"""Exit codes of a killed process; SIGTERM ends one as the system does until its command has begun."""
MOST_IN_A_ROW = 8
"""Kills of one job before it may finish: else a job of many steps would never end."""
MEASURED = ("timings.jsonl", "usage.jsonl", "requests.jsonl")
"""What differs between two equal runs, or counts the attempts on the way: never compared."""
VARIES = {"seconds", "started", "provenance", "notes"}
"""Keys of records that differ between two equal runs."""
LEFT = (".part", ".tmp", ".site.", ".zip.", "last.safetensors")


class Warm:
    """The process of `warm.py`."""

    def __init__(self, log: Path) -> None:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",  # a fork keeps one thread; that it is the default, test_start.py shows
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("warm.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.process.stdout.readline() == "ready\n"

    def live(self, words: Sequence[str], root: Path, *, log: Path, environment=None, ends=9, after=None, step=None):
        """Run a command once; return its exit code, minus the signal's number if one ended it, and its seconds."""
        order = {
            "words": list(words),
            "root": str(root),
            "log": str(log),
            "environment": environment or {},
            "signal": int(ends),
            "after": after,
            "step": step,
        }
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["code"], answer["seconds"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


@dataclass
class Job:
    """Commands that make files together.

    Attributes:
        name: Kind of the work.
        commands: Their words, one after another; `{out}` stands for the folder that they write below.
        environment: Variables they get.
        once: What a command says that finds its work finished and makes nothing twice.
    """

    name: str
    commands: Sequence[Sequence[str]]
    environment: dict[str, str] = field(default_factory=dict)
    once: str = "(nothing)"


@dataclass
class Tally:
    """What a campaign came to."""

    kills: Counter = field(default_factory=Counter)
    jobs: int = 0
    faults: list[str] = field(default_factory=list)


class Campaign:
    """Kills one job.

    Args:
        warm: Where lives begin.
        job: What is done.
        place: Folder for everything.
        seed: Of all that is drawn.
    """

    def __init__(self, warm: Warm, job: Job, place: Path, seed: int = 0) -> None:
        self.warm, self.job, self.place = warm, job, place
        self.dice = random.Random(f"{job.name} {seed}")
        self.seconds: list[float] = []
        self.steps: list[int] = []
        whole = place / "out"  # the same path each time: reports name it
        for number, _ in enumerate(self.job.commands):
            code, seconds = self._live(number, whole, place / "log-whole")
            assert code == 0, (place / "log-whole").read_text()
            self.seconds.append(seconds)
        self.steps = [int(line) for line in (place / "log-whole.steps").read_text().split()]
        self.expected = content(whole)
        whole.rename(place / "whole")

    def run(self, kills: int) -> Tally:
        """Kill so many lives."""
        tally = Tally()
        while tally.kills.total() < kills:
            self._job(tally, kills)
        return tally

    def _job(self, tally: Tally, kills: int) -> None:
        tally.jobs += 1
        out, log = self.place / "out", self.place / f"log-{tally.jobs}"
        killed, number = 0, 0
        history = []
        while number < len(self.job.commands):
            ends = killed < MOST_IN_A_ROW and tally.kills.total() < kills
            how = self._way(number) if ends else {}
            code, _ = self._live(number, out, log, **how)
            history.append(f"{self.job.commands[number][0]} {how} -> {code}")
            if code == 0:
                number += 1
            elif code == 2 and self.job.once in log.read_text(errors="replace"):
                number += 1
            elif how and code in ENDED:
                killed += 1
                tally.kills[signal.Signals(how["ends"]).name] += 1
                number = 0
            else:
                tally.faults.append(self._fault(f"exit code {code}", history, log))
                break
        else:
            found = content(out)
            if differ := sorted(
                name for name in {*found, *self.expected} if found.get(name) != self.expected.get(name)
            ):
                tally.faults.append(self._fault(f"other bytes or files: {differ[:5]}", history, log))
            if half := sorted({path.name for path in out.rglob("*") if any(sign in path.name for sign in LEFT)}):
                tally.faults.append(self._fault(f"left behind: {half[:5]}", history, log))
        if "Traceback" in log.read_text(errors="replace"):
            tally.faults.append(self._fault("traceback", history, log))
        if out.exists():
            out.rename(self.place / f"out-{tally.jobs}")

    def _way(self, number: int) -> dict:
        """Draw how a life ends: at a time, or in front of a change of a file."""
        way: dict = {"ends": self.dice.choice(SIGNALS)}
        if self.dice.random() < 0.5:
            return {**way, "after": self.dice.uniform(0, self.seconds[number])}
        return {**way, "step": self.dice.randint(1, self.steps[number])}

    def _live(self, number: int, out: Path, log: Path, **how):
        words = [word.replace("{out}", str(out)) for word in self.job.commands[number]]
        return self.warm.live(words, out, log=log, environment=self.job.environment, **how)

    def _fault(self, what: str, history: list[str], log: Path) -> str:
        said = log.read_text(errors="replace").splitlines()[-4:]
        return f"{self.job.name}: {what}\n  " + "\n  ".join([*history, *said])


def content(folder: Path) -> dict[str, str]:
    """Return what is compared of all files of a folder, by path: all of it but times, places and attempts."""
    return {
        path.relative_to(folder).as_posix(): plain(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in MEASURED and ".lock" not in path.name and not left(path, folder)
    }


def left(path: Path, folder: Path) -> bool:
    """Tell whether a file is one that a kill left half-made, or is in such a folder."""
    return any(sign in part for part in path.relative_to(folder).parts for sign in LEFT)


def plain(path: Path) -> str:
    """Return the content of a file without what differs between two equal runs."""
    whole = path.read_bytes()
    match path.suffix:
        case ".json":
            return repr(_without(json.loads(whole)))
        case ".jsonl" if path.name == "metrics.jsonl":
            return repr([_without(json.loads(line)) for line in whole.splitlines()])
        case ".safetensors":  # its writer puts the metadata in an order of the moment
            end = 8 + int.from_bytes(whole[:8], "little")
            return repr((_without(json.loads(whole[8:end])), sha256(whole[end:]).hexdigest()))
        case ".zip":
            with zipfile.ZipFile(path) as archive:
                return repr([(info.filename, sha256(archive.read(info)).hexdigest()) for info in archive.infolist()])
    return sha256(whole).hexdigest()


def _without(value):
    """Return JSON in one order, without times, places and what was said on the way."""
    if isinstance(value, dict):
        return {key: _without(value[key]) for key in sorted(value) if key not in VARIES}
    return [_without(item) for item in value] if isinstance(value, list) else value
