"""Means of several rows together and their paired differences, from the lines of cases: no other file holds them."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from instructedit.benchmark.results.crossed import crossed_difference, crossed_mean
from instructedit.benchmark.results.guard import read_run
from instructedit.benchmark.results.run_folder import Store
from instructedit.benchmark.results.statistics import Paired
from instructedit.benchmark.results.suite_results import SeedMean, SuiteGroup
from instructedit.benchmark.results.summary import case_values

from ..tables.columns import Column
from .results import Results, number

_BySeed = list[dict[str, float]]
"""Per seed the value of each case."""


class Pooled:
    """The rows of a group, read from its cases when they are first needed.

    Args:
        results: Where the runs of the group lie.
        group: Whose rows.
    """

    def __init__(self, results: Results, group: SuiteGroup) -> None:
        self._group = group
        self._folders = [results.folders[digest] for digest in group.digests]
        self._read: dict[tuple[str, str, Column], list[dict[str, float]]] | None = None

    def mean(self, rows: Sequence[str], task: str, column: Column) -> SeedMean | None:
        """Return the mean over rows and cases with its interval; of one row it is the one that the files hold.

        A case's value is its mean over the rows; it has to be scored in all of them under every seed.
        """
        if len(rows) < 2:
            return number(self._group, rows[0], task, column) if rows else None
        values = _array(self._values(rows, task, column))
        if values is None:
            return None
        found = crossed_mean(values, "|".join((*rows, task, *map(str, column))))
        per_seed = tuple(math.fsum(of_seed) / len(of_seed) for of_seed in values)
        return SeedMean(row=", ".join(rows), task=task, **column._asdict(), **found._asdict(), per_seed=per_seed)

    def difference(self, first: Sequence[str], second: Sequence[str], task: str, column: Column) -> Paired | None:
        """Return the mean of the differences, `first` minus `second`, paired by case and seed."""
        sides = zip(self._values(first, task, column), self._values(second, task, column), strict=True)
        values = _array([{case: ours[case] - theirs[case] for case in ours.keys() & theirs} for ours, theirs in sides])
        return None if values is None else crossed_difference(values)

    def _values(self, rows: Sequence[str], task: str, column: Column) -> _BySeed:
        if self._read is None:
            self._read = self._lines()
        nothing: list[dict[str, float]] = [{} for _ in self._folders]
        of_rows = [self._read.get((row, task, column), nothing) for row in rows]
        found: _BySeed = []
        for parts in zip(*of_rows, strict=True):
            shared = set[str].intersection(*(set(part) for part in parts))
            found.append({case: math.fsum(part[case] for part in parts) / len(parts) for case in shared})
        return found

    def _lines(self) -> dict[tuple[str, str, Column], list[dict[str, float]]]:
        found: dict[tuple[str, str, Column], list[dict[str, float]]] = {}
        for seed, folder in enumerate(self._folders):
            records = Store(folder).records(read_run(folder / "run.json"))
            for record in (record for record in records if record.status == "done"):
                for key, value in case_values(record):
                    if key.subset is None:
                        column = Column(key.measure, key.derived, key.protocol)
                        place = found.setdefault((record.editor, record.task, column), [{} for _ in self._folders])
                        place[seed][record.case_id] = value
        return found


def _array(by_seed: _BySeed) -> NDArray[np.float64] | None:
    """Return the values by seed and case, of the cases that all seeds have; None if there is none."""
    cases = sorted(set[str].intersection(*(set(of_seed) for of_seed in by_seed)))
    return np.array([[of_seed[case] for case in cases] for of_seed in by_seed]) if cases else None


def points(found: Paired) -> str:
    """Return a difference in points with its interval."""
    value, low, high = (round(100 * (part or 0.0), 1) + 0.0 for part in found[:3])
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"
