"""Data of figures: the groups of a suite or of one run, their means, and means pooled over several rows."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from instructedit.benchmark.results.crossed import crossed_difference, crossed_mean
from instructedit.benchmark.results.integrity import read_run, read_suite_summary
from instructedit.benchmark.results.records import EditorSpec, Measure, Protocol, find_run
from instructedit.benchmark.results.run_folder import RunFolder
from instructedit.benchmark.results.statistics import Paired
from instructedit.benchmark.results.suite_results import SeedMean, SuiteGroup, find_suite
from instructedit.benchmark.results.summary import case_values
from instructedit.editors.errors import InputError

from ..tables.columns import Column, column_of
from ..tables.run_facts import model, warnings
from ..tables.sources import load

MAIN: tuple[Protocol, ...] = ("edit_success", "teacher_forced_exact")
"""Protocol shown for a measure: SERAC's edit success where a task has it, else exact match under teacher forcing."""
WORDS: Mapping[Protocol, str] = {"edit_success": "edit success", "teacher_forced_exact": "exact match"}


class NoDataError(InputError):
    """The results do not support a figure; the message names what is missing."""


@dataclass(frozen=True, slots=True)
class Results:
    """The results of a suite or run.

    Attributes:
        groups: Runs that differ only in the seed, as one group each.
        folders: Folder of each run, by its digest.
        warnings: Why the numbers should not be used.
    """

    groups: tuple[SuiteGroup, ...]
    folders: Mapping[str, Path]
    warnings: tuple[str, ...]

    def of(self, *settings: str, schedule: str = "single") -> list[SuiteGroup]:
        """Return the groups of some settings under a schedule.

        Raises:
            NoDataError: If there is none.
        """
        found = [g for g in self.groups if g.run.spec.setting in settings and g.run.spec.schedule == schedule]
        if not found:
            names = " or ".join(f"'{setting}'" for setting in settings)
            raise NoDataError(f"no run of the setting {names} under the schedule '{schedule}'.")
        return found


class Number(NamedTuple):
    """A number of a figure, with its series and position."""

    series: str
    x: str
    group: SuiteGroup
    mean: SeedMean


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure with its caption and numbers.

    Attributes:
        name: Name of its files.
        figure: The picture.
        caption: What it shows and how to read it, paragraphs of Markdown.
        numbers: Every number in it, one per row of the CSV file.
    """

    name: str
    figure: Figure
    caption: tuple[str, ...]
    numbers: tuple[Mapping[str, Any], ...]

    def __post_init__(self) -> None:
        # One layout for all formats: a second layout starts from the first and ends slightly elsewhere.
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")


def read_results(directory: Path) -> Results:
    """Read a suite from its `suite.json`, or one run from its `summary.json`.

    Args:
        directory: As `instructedit report` takes it.

    Raises:
        InputError: If there are no readable, finished and valid results.
    """
    if suite := find_suite(directory):
        out, index = suite
        summary = read_suite_summary(out / "suite.json")
        return Results(summary.groups, {run.digest: out / run.digest for run in index.runs}, summary.warnings)
    folder = find_run(directory)
    run, of_run = load(folder)
    if not of_run.valid:
        raise InputError(f"{folder}: the run is INVALID ({of_run.invalid_reason}); no figure is made of it.")
    means = tuple(
        SeedMean(row=mean.editor, per_seed=(mean.mean,), **mean.model_dump(exclude={"editor", "subset"}))
        for mean in of_run.means
        if mean.subset is None
    )
    group = SuiteGroup(
        label=run.spec.setting,
        run=run,
        seeds=(run.spec.seed,),
        digests=(run.digest,),
        failed={},
        means=means,
        comparisons=(),
    )
    return Results((group,), {run.digest: folder}, warnings(run, of_run))


def main_column(group: SuiteGroup, task: str, measure: Measure) -> Column | None:
    """Return the column shown for a measure on a task: by `MAIN`, dataset prompts before rule-generated ones."""
    found = {column_of(mean) for mean in group.means if mean.task == task and mean.measure == measure}
    for protocol in MAIN:
        for derived in (False, True):
            if Column(measure, derived, protocol) in found:
                return Column(measure, derived, protocol)
    return None


def number(group: SuiteGroup, row: str, task: str, column: Column, stage: str = "single") -> SeedMean | None:
    """Return the mean of a row on a task in a column, if there is one."""
    return next(
        (
            mean
            for mean in group.means
            if (mean.row, mean.task, mean.stage) == (row, task, stage) and column_of(mean) == column
        ),
        None,
    )


def tasks_of(group: SuiteGroup) -> list[str]:
    """Return the tasks of a group that have any number."""
    scored = {mean.task for mean in group.means}
    return [task for task in group.run.spec.tasks if task in scored]


def row_of(group: SuiteGroup, name: str) -> EditorSpec:
    """Return a row of a group by its name."""
    return next(row for row in group.run.spec.editors if row.name == name)


def csv_rows(numbers: Iterable[Number]) -> tuple[dict[str, Any], ...]:
    """Return numbers as rows of the CSV file, in the units of the records (shares, not percent)."""
    return tuple(
        {
            "series": one.series,
            "x": one.x,
            **one.mean.model_dump(exclude={"per_seed"}),
            "seeds": " ".join(map(str, one.group.seeds)),
            "setting": one.group.run.spec.setting,
            "schedule": one.group.run.spec.schedule,
            "runs": " ".join(one.group.digests),
        }
        for one in numbers
    )


def provenance(results: Results, groups: Iterable[SuiteGroup]) -> Iterator[str]:
    """Yield the last paragraphs of every caption: what the numbers are, and their runs and model."""
    once = {group.digests: group for group in groups}
    yield (
        "Numbers are means over n test cases, percent, with their 95 % interval over cases (and over seeds where there "
        "are several; none where the number holds by definition). Exact match is under teacher forcing; edit success "
        "is SERAC's; † marks prompts made by a rule. Scores of two protocols never share an axis."
    )
    for group in once.values():
        runs = ", ".join(f"{digest} (seed {seed})" for seed, digest in zip(group.seeds, group.digests, strict=True))
        yield f"Run, {group.label}: {runs}. Model: {model(group.run)}."
    yield from (f"**{warning}**" for warning in results.warnings)


class PooledMeans:
    """Means over several rows of a group and their paired differences, from the cases of its runs.

    Args:
        results: The results of the group.
        group: Whose rows.
    """

    def __init__(self, results: Results, group: SuiteGroup) -> None:
        self._group = group
        self._folders = [results.folders[digest] for digest in group.digests]
        self._cases: dict[tuple[str, str, Column], list[dict[str, float]]] = {}

    def mean(self, rows: Sequence[str], task: str, column: Column) -> SeedMean | None:
        """Return the mean over rows and cases with its interval; that of one row is the one in the summary.

        The value of a case is its mean over the rows; it has to be scored in all of them under every seed.
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

    def _values(self, rows: Sequence[str], task: str, column: Column) -> list[dict[str, float]]:
        """Return per seed the mean over rows of each case."""
        if not self._cases:
            self._read()
        nothing: list[dict[str, float]] = [{} for _ in self._folders]
        found = []
        for parts in zip(*(self._cases.get((row, task, column), nothing) for row in rows), strict=True):
            shared = set[str].intersection(*(set(part) for part in parts))
            found.append({case: math.fsum(part[case] for part in parts) / len(parts) for case in shared})
        return found

    def _read(self) -> None:
        for seed, folder in enumerate(self._folders):
            for record in RunFolder(folder).records(read_run(folder / "run.json")):
                for key, value in case_values(record) if record.status == "done" else ():
                    if key.subset is None:
                        place = (record.editor, record.task, Column(key.measure, key.derived, key.protocol))
                        self._cases.setdefault(place, [{} for _ in self._folders])[seed][record.case_id] = value


def _array(by_seed: Sequence[Mapping[str, float]]) -> NDArray[np.float64] | None:
    """Return the values by seed and case `[S, N]`, of the cases that all seeds have; None if there is none."""
    cases = sorted(set[str].intersection(*(set(of_seed) for of_seed in by_seed)))
    return np.array([[of_seed[case] for case in cases] for of_seed in by_seed]) if cases else None


def points(found: Paired) -> str:
    """Return a difference in points with its interval."""
    value, low, high = (round(100 * (part or 0.0), 1) + 0.0 for part in found[:3])
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"
