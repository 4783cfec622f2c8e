"""How far a run is: a progress bar on a terminal, elsewhere a line now and then, both with the remaining time."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

from tqdm import tqdm

from .units import Unit

FIRST_LINE = 30.0
"""Seconds until the first line where there is no terminal; each further line takes twice as long as the one before."""


class Progress:
    """Counts trainings and results, and extrapolates the remaining time from those of this start.

    Args:
        total: Results of the finished run.
        done: Results that are on disk already.
        trainings: Trainings of this start. Until the first result how long the results take is not known.
        shown: Whether to show anything.
        report: Receives lines.
    """

    def __init__(self, total: int, done: int, trainings: int, shown: bool, report: Callable[[str], None]) -> None:
        self._total, self._first, self._done = total, done, done
        self._trainings, self._trained = trainings, 0
        self._shown, self._report = shown, report
        self._bar: tqdm[Any] | None = None
        self._begun = self._started = perf_counter()
        self._next = FIRST_LINE

    def begin(self, unit: Unit) -> None:
        """Note that a unit is started; time is counted for results from the first unit that has some."""
        if unit.kind == "training":
            return
        if self._bar is None:
            self._open()
        assert self._bar is not None
        self._bar.set_description(unit.cases[0].partition("/")[0] if unit.cases else "")

    def _open(self) -> None:
        hidden = None if self._shown else True
        self._bar = tqdm(total=self._total, initial=self._done, unit="result", disable=hidden)
        self._first, self._started, self._next = self._done, perf_counter(), FIRST_LINE

    def add(self, unit: Unit, count: int) -> None:
        """Count a finished unit, with the results of it that were written."""
        if unit.kind == "training":
            self._trained += 1
            left = (perf_counter() - self._begun) / self._trained * (self._trainings - self._trained)
            if self._bar is not None and self._trained == self._trainings:
                # what workers computed during the last training says little about their speed from now on
                self._bar.leave = False
                self._bar.close()
                self._open()
            if self._shown and left >= 1:  # trained editors are only read
                self._report(
                    f"{self._trained} of {self._trainings} trainings, about {duration(left)} left for them, then "
                    f"{self._total - self._done:,} results"
                )
            return
        assert self._bar is not None
        seconds = perf_counter() - self._started
        self._done += count
        self._bar.update(count)
        if self._shown and self._bar.disable and seconds >= self._next and self._first < self._done < self._total:
            self._next = 2 * seconds
            left = seconds / (self._done - self._first) * (self._total - self._done)
            self._report(f"{self._done:,} of {self._total:,} results, about {duration(left)} left")

    def close(self) -> None:
        """Finish the bar."""
        if self._bar is not None:
            self._bar.close()


def duration(seconds: float) -> str:
    """Return a time as a person reads it."""
    unit, length = next((u for u in (("d", 86_400), ("h", 3_600), ("min", 60)) if seconds >= 1.5 * u[1]), ("s", 1))
    count = seconds / length
    return f"{count:,.1f} {unit}" if 0 < count < 10 else f"{count:,.0f} {unit}"
