"""How far a run is: a progress bar on a terminal, elsewhere a line now and then, both with the remaining time."""

from collections.abc import Callable
from time import perf_counter

from tqdm import tqdm

FIRST_LINE = 30.0
"""Seconds until the first line where there is no terminal; each further line takes twice as long as the one before."""


class Progress:
    """Counts the results of a run, `done` on disk already, and extrapolates the time from those of this start."""

    def __init__(self, total: int, done: int, shown: bool, report: Callable[[str], None]) -> None:
        self._bar = tqdm(total=total, initial=done, unit="result", disable=None if shown else True)
        self._total, self._first, self._done = total, done, done
        self._report = report if shown and self._bar.disable else None
        self._started, self._next = perf_counter(), FIRST_LINE

    def task(self, name: str) -> None:
        """Name the task that is computed."""
        self._bar.set_description(name)

    def add(self, count: int) -> None:
        """Count results that were written."""
        self._done += count
        self._bar.update(count)
        seconds = perf_counter() - self._started
        if self._report and seconds >= self._next and self._first < self._done < self._total:
            self._next = 2 * seconds
            left = seconds / (self._done - self._first) * (self._total - self._done)
            self._report(f"{self._done:,} of {self._total:,} results, about {duration(left)} left")

    def close(self) -> None:
        """Finish the bar."""
        self._bar.close()


def duration(seconds: float) -> str:
    """Return a time as a person reads it."""
    unit, length = next((u for u in (("d", 86_400), ("h", 3_600), ("min", 60)) if seconds >= 1.5 * u[1]), ("s", 1))
    count = seconds / length
    return f"{count:,.1f} {unit}" if 0 < count < 10 else f"{count:,.0f} {unit}"
