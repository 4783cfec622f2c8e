"""The executor of one machine: several processes, each with one thread, or each with a card of its own.

On a CPU the weights are mapped from the model's files, so all processes share one copy in memory.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from queue import SimpleQueue
from threading import Thread
from time import sleep
from typing import Any

from pebble import ProcessExpired, ProcessPool

from .base import Done, Performer, Setup, make_performer

_performer: list[Performer] = []
"""The one performer of a worker's process."""


class Processes:
    """A pool of processes; one that dies or takes too long is replaced, and its call is lost."""

    def __init__(self, setup: Setup) -> None:
        setup.refuse_options("processes")
        context = multiprocessing.get_context("spawn")  # a fork of a process that has threads may hang
        self.workers = setup.workers or 1
        self.capacity = 2 * self.workers
        self._pool = ProcessPool(
            self.workers,
            initializer=_start,
            initargs=(setup.performer, setup.devices, context.Value("i", 0), setup.threads, os.getpid()),
            context=context,
        )
        self._finished: SimpleQueue[tuple[str, Future[str], float | None]] = SimpleQueue()

    def submit(self, name: str, call: str, seconds: float | None = None) -> None:  # noqa: D102
        # Pebble's threads, which start with the first call, and their processes inherit the mask: a worker must not be
        # stopped by Ctrl-C while it still imports.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            future = self._pool.schedule(_perform, (call,), timeout=seconds)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        future.add_done_callback(lambda own: self._finished.put((name, own, seconds)))

    def completed(self) -> Iterator[Done]:  # noqa: D102
        yield _done(*self._finished.get())
        while not self._finished.empty():
            yield _done(*self._finished.get())

    def close(self) -> None:  # noqa: D102
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()


def _done(name: str, future: "Future[str]", seconds: float | None) -> Done:
    try:
        return Done(name, future.result())
    except ProcessExpired as error:
        code = error.exitcode
        how = f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"ended with {code}"
        return Done(name, lost=f"its worker was {how}" if "killed" in how else f"its worker {how}")
    except TimeoutError:
        return Done(name, lost=f"no reply within {seconds:,.0f} s")
    except CancelledError:
        return Done(name, lost="it was stopped")
    except Exception as error:
        return Done(name, lost=f"{type(error).__name__}: {error}")


def _start(performer: str, devices: Sequence[str], numbers: Any, threads: int, parent: int) -> None:
    """Prepare a worker's process; a replaced one takes the next device in turn."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the head stops its workers
    Thread(target=_follow, args=(parent,), daemon=True).start()
    with numbers.get_lock():
        number = numbers.value
        numbers.value += 1
    _performer.append(make_performer(performer, devices[number % len(devices)] if devices else None, threads))


def _follow(parent: int) -> None:
    """End this process soon after its parent, which may have been killed."""
    while os.getppid() == parent:
        sleep(1)
    os._exit(1)


def _perform(call: str) -> str:
    return _performer[0].perform(call)
