"""The executor that has no workers: calls are answered in the process of the run, one after the other."""

from collections import deque
from collections.abc import Callable, Iterator

from .base import Done, Setup, make_performer


class Local:
    """Answers each call when its reply is fetched, where its error is raised. A limit of time has no effect."""

    workers = 1
    capacity = 1

    def __init__(self, perform: Callable[[str], str]) -> None:
        self._perform = perform
        self._calls: deque[tuple[str, str]] = deque()

    def submit(self, name: str, call: str, seconds: float | None = None) -> None:  # noqa: D102
        self._calls.append((name, call))

    def completed(self) -> Iterator[Done]:  # noqa: D102
        while self._calls:
            name, call = self._calls.popleft()
            yield Done(name, self._perform(call))

    def close(self) -> None:  # noqa: D102
        self._calls.clear()


def local(setup: Setup) -> Local:
    """Make the executor as all others are made, by its entry point."""
    setup.refuse_options("local")
    return Local(make_performer(setup.performer, next(iter(setup.devices), None), setup.threads).perform)
