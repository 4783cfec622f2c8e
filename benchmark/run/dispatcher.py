"""The dispatcher of a run: it submits units to an executor as soon as what they need is there, and writes their lines.

Lines are written as they come, whatever the order; `runner.run` sorts them at the end. So nothing that a worker has
computed is lost if the run is killed, and the finished file does not depend on the executor.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple

from instructedit.editors import InputError

from ..executors.base import Done, Executor
from ..results.integrity import Key, key_of
from ..results.run_folder import RunFolder
from .accumulated import edit_file, remove_edit, saved_edits
from .progress import Progress
from .units import Call, Job, Kind, Reply, Result, Unit

ATTEMPTS = 3
"""How often a unit is submitted before it is given up."""


class Patience(NamedTuple):
    """How long a unit may take, in seconds, before its worker is taken to hang."""

    least: float = 600.0
    factor: float = 20.0
    """How many times longer than the slowest finished unit of its kind."""
    first: float = 24 * 3600.0
    """As long as no unit of its kind is finished; and any training."""

    def of(self, kind: Kind, slowest: float | None) -> float:
        """Return the limit of a unit, given the slowest one of its kind."""
        return self.first if slowest is None or kind == "training" else max(self.least, self.factor * slowest)


@dataclass(slots=True)
class Outcome:
    """What became of the units of a run."""

    unchanged: bool = True
    """Whether the base model's weights stayed the same in every unit."""
    failures: dict[str, dict[str, str]] = field(default_factory=dict)
    """Why requests could not be edited in, by row and case, of the saved edits that were made."""
    requests: Counter[str] = field(default_factory=Counter)
    """Number of requests of these edits, by row."""
    memory: dict[str, int] = field(default_factory=dict)
    """Largest resident memory by worker, in bytes."""
    given_up: dict[str, str] = field(default_factory=dict)
    """Units that were lost again and again, with the last reason."""


USUAL = Patience()


class Dispatcher:
    """Computes units of one run.

    Args:
        executor: Who computes them.
        job: The run, for workers in other processes.
        store: The run's folder.
        done: Keys of the lines that are there, in their order; those that are written are added.
        kept: Number of edits of the saved edits that the finished run keeps.
        report: Receives sentences for the user.
        progress: Counts what is finished.
        patience: How long a unit may take.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        executor: Executor,
        job: Job | None,
        store: RunFolder,
        done: dict[Key, None],
        kept: int,
        report: Callable[[str], None],
        progress: Progress,
        patience: Patience = USUAL,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._executor, self._job, self._store = executor, job, store
        self._done, self._kept, self._report, self._progress = done, kept, report, progress
        self._patience, self._clock = patience, clock
        self._waiting: dict[str, Unit] = {}
        self._running: dict[str, tuple[Unit, float]] = {}
        self._attempts: Counter[str] = Counter()
        self._seconds: dict[Kind, list[float]] = {}
        self._readers: Counter[str] = Counter()
        self._outcome = Outcome()

    def run(self, units: Sequence[Unit]) -> Outcome:
        """Compute units, each after those that give what it needs.

        Raises:
            InputError: If a worker refuses a unit.
            StorageError: If lines cannot be written.
        """
        self._waiting = {f"{self._store.folder.name}-{unit.name}": unit for unit in units}
        missing = {name for unit in units for name in unit.gives}
        self._readers = Counter(name for unit in units for name in unit.needs)
        self._remove_saved()
        while self._waiting or self._running:
            for name, unit in list(self._waiting.items()):
                if len(self._running) >= self._executor.capacity:
                    break
                if missing.isdisjoint(unit.needs):
                    self._submit(name, self._waiting.pop(name))
            if not self._running:
                break  # what the others need was given up
            for done in self._executor.completed():
                if (finished := self._finish(done)) is not None:
                    missing -= set(finished.gives)
        self._remove_saved()  # a worker that was taken to be lost may have written one again
        return self._outcome

    def _submit(self, name: str, unit: Unit) -> None:
        self._attempts[name] += 1
        self._progress.begin(unit)
        seconds = self._patience.of(unit.kind, max(self._seconds.get(unit.kind, ()), default=None))
        self._running[name] = unit, self._clock()
        self._executor.submit(name, Call(job=self._job, unit=unit).model_dump_json(), seconds)

    def _finish(self, done: Done) -> Unit | None:
        """Take what became of a unit; return it if it is finished now."""
        if done.name not in self._running:  # a second reply, one to an earlier attempt, or one of another run
            return None
        unit, started = self._running.pop(done.name)
        if done.reply is None:
            self._lose(done.name, unit, done.lost or "no reply")
            return None
        reply = Reply.model_validate_json(done.reply)
        if reply.refused is not None:
            raise InputError(reply.refused)
        assert reply.result is not None
        self._seconds.setdefault(unit.kind, []).append(self._clock() - started)
        self._write(unit, reply.result)
        self._readers.subtract(unit.needs)
        self._remove({*unit.needs, *unit.gives})
        return unit

    def _write(self, unit: Unit, result: Result) -> None:
        new = [record for record in result.records if key_of(record) not in self._done]
        self._store.append(new, result.times)
        self._done.update(dict.fromkeys(map(key_of, new)))
        self._progress.add(unit, len(new))
        outcome = self._outcome
        outcome.unchanged &= result.unchanged
        for row, failures in result.failures.items():
            outcome.failures.setdefault(row, {}).update(failures)
        outcome.requests.update(result.requests)
        if result.worker:
            outcome.memory[result.worker] = result.memory

    def _lose(self, name: str, unit: Unit, why: str) -> None:
        again = self._attempts[name] < ATTEMPTS
        self._report(f"note: {unit}: {why}; {'computed again' if again else f'given up after {ATTEMPTS} attempts'}.")
        if again:
            self._waiting = {name: unit, **self._waiting}
        else:
            self._outcome.given_up[str(unit)] = why

    def _remove_saved(self) -> None:
        self._remove({edit_file(*saved) for saved in saved_edits(self._store.folder)})

    def _remove(self, names: Collection[str]) -> None:
        """Remove those saved edits that no unit needs any more, except the last ones."""
        for name in names:
            if name.startswith("edits/") and self._readers[name] <= 0 and not name.endswith(f"-{self._kept}"):
                remove_edit(self._store.folder, name)
