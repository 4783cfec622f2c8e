"""What an executor is. One is found by its name in the entry-point group `instructedit.executors`.

An executor moves calls to workers and replies back; both are texts that it does not look into. It may do so in any
order, lose calls, and deliver a reply twice: the dispatcher (`run/dispatcher.py`) submits a lost call again, and takes
the first reply to each. `tests/benchmark/executors/test_conformance.py` tests all of that for every executor.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol

from instructedit.editors.errors import InputError, did_you_mean
from instructedit.editors.models.threads import use_threads
from instructedit.editors.registry import Registry


class Performer(Protocol):
    """What a worker's process keeps: it answers calls one at a time."""

    def perform(self, call: str) -> str:
        """Return the reply to a call."""


class Done(NamedTuple):
    """A call that is finished: with its reply, or lost, with the reason."""

    name: str
    reply: str | None = None
    lost: str | None = None


class Executor(Protocol):
    """Workers, each with a performer of its own."""

    workers: int
    """Number of calls that are worked on at a time."""
    capacity: int
    """Number of unfinished calls that it takes at a time."""

    def submit(self, name: str, call: str, seconds: float | None = None) -> None:
        """Take a call; if there is no reply within some seconds of work, it is lost, and its worker is stopped."""

    def completed(self) -> Iterator[Done]:
        """Wait until at least one call is finished, and yield all that are."""

    def close(self) -> None:
        """Stop all workers, in the middle of a call too."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What an executor is made from.

    Attributes:
        performer: `MODULE:CLASS` of a performer, whose only argument is a device, or None for the default one. It is a
            name because a worker sets its threads before it imports torch.
        workers: Number of workers; None for as many as there is room for.
        folder: Where the executor may keep files, on a file system that all workers see.
        devices: Devices of the workers, in turn; none where the performer chooses.
        threads: CPU threads of each worker.
        options: The user's options of this kind of executor.
        report: Receives sentences for the user.
    """

    performer: str
    workers: int | None
    folder: Path
    devices: tuple[str, ...] = ()
    threads: int = 1
    options: Mapping[str, str] = field(default_factory=dict)
    report: Callable[[str], None] = lambda _: None

    def refuse_options(self, kind: str, known: Sequence[str] = ()) -> None:
        """Refuse options that a kind of executor does not have.

        Raises:
            InputError: If there is one.
        """
        for name in self.options:
            if name not in known:
                hint = did_you_mean(name, list(known)) if known else ""
                raise InputError(f"--executor-option: the executor '{kind}' has no option '{name}'.{hint}")


def make_performer(target: str, device: str | None, threads: int) -> Performer:
    """Make the performer of a worker in its own process."""
    use_threads(threads)
    module, _, name = target.partition(":")
    performer: Performer = getattr(import_module(module), name)(device)
    return performer


EXECUTORS: Registry[Callable[[Setup], Executor]] = Registry("executor", "instructedit.executors")
"""All known executors."""
