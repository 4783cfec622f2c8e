"""Workers that fail at chosen calls, and executors that deliver replies in the worst order."""

import os
import random
import signal
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from instructedit.benchmark.executors.base import Done
from instructedit.benchmark.run.worker import RemoteWorker

FAULTS = "INSTRUCTEDIT_TEST_FAULTS"
"""Variable with a folder; a file of it named by a number holds what happens at the call of that number.

Only calls that hold the text of the file `within` are counted, since those of an earlier run may still be under way,
and no preparation, which may take a day. `always` happens at all others, preparations too.
"""


class FaultyWorker:
    """A `RemoteWorker` that is killed, hangs or fails at some calls, counted over all workers."""

    def __init__(self, device: str | None) -> None:
        self._worker = RemoteWorker(device)
        self._folder = Path(os.environ[FAULTS])

    def perform(self, call: str) -> str:
        fault = self._fault(call) if (self._folder / "within").read_text() in call else ""
        if fault == "raise":
            raise RuntimeError("a cosmic ray")
        if fault == "hang":
            time.sleep(1e6)
        reply = self._worker.perform(call)
        if fault == "kill":  # after the work, before the reply
            os.kill(os.getpid(), signal.SIGKILL)
        return reply

    def _fault(self, call: str) -> str:
        always = self._folder / "always"
        fault = self._folder / str(self._number()) if '"unit":null' not in call else always
        return fault.read_text() if fault.exists() else always.read_text() if always.exists() else ""

    def _number(self) -> int:
        for number in count():
            try:
                (self._folder / f"call-{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            return number
        raise AssertionError


class Unruly:
    """Delivers the replies of another executor shuffled, some twice, and some after they were called lost."""

    def __init__(self, executor, seed: int) -> None:
        self._executor = executor
        self._random = random.Random(seed)
        self._held: list[Done] = []
        self._unfinished = 0
        self.workers = executor.workers
        self.capacity = max(4, executor.capacity)
        self.delivered: list[str] = []

    def submit(self, name: str, call: str, seconds: float | None = None) -> None:
        self._unfinished += 1
        self._executor.submit(name, call, seconds)

    def completed(self) -> Iterator[Done]:
        while (self._unfinished > 0 or not self._held) and len(self._held) < self._random.randint(1, 4):
            found = list(self._executor.completed())
            self._unfinished -= len(found)
            self._held += found
            if not found:
                break
        self._random.shuffle(self._held)
        held, self._held = self._held, []
        for done in held:
            self.delivered.append(done.name)
            again = done.reply is not None and self.delivered.count(done.name) == 1
            match self._random.randrange(4) if again else 0:
                case 1:
                    yield from (done, done)
                case 2:  # called lost; its reply comes after that of its replacement, or before
                    yield Done(done.name, lost="late")
                    self._held.append(done)
                case _:
                    yield done

    def close(self) -> None:
        self._executor.close()
