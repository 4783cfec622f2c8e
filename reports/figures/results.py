"""Data of figures: the groups of a suite or of one run, their means, and means pooled over several rows."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from instructedit.benchmark.results.crossed import crossed_difference, crossed_mean
from instructedit.benchmark.results.integrity import read_finished, read_run, read_suite_summary
from instructedit.benchmark.results.records import Measure, Protocol, find_run
from instructedit.benchmark.results.run_folder import RunFolder
from instructedit.benchmark.results.statistics import Paired
from instructedit.benchmark.results.suite_results import SeedMean, SuiteGroup, find_suite
from instructedit.benchmark.results.summary import CaseValues
from instructedit.benchmark.results.summary import Column as CaseColumn
from instructedit.editors.errors import InputError

from ..tables.captions import DAGGER
from ..tables.columns import Column, column_of
from ..tables.overview import main_columns
from ..tables.protocol_choice import short
from ..tables.run_facts import model, warnings
from ..tables.sources import group_of
from ..titles import model_title

FEW = 10
"""Cases below which a mean has a hollow mark and no line."""
_READ: Mapping[Protocol, str] = {
    "teacher_forced_exact": "exact match under teacher forcing",
    "edit_success": "SERAC's edit success",
}


class NoDataError(InputError):
    """The results do not support a figure; the message names what is missing."""


@dataclass(frozen=True, slots=True)
class Results:
    """The results of a suite or run."""

    groups: tuple[SuiteGroup, ...]
    """Runs that differ only in the seed, as one group each."""
    folders: Mapping[str, Path]
    """Folder of each run, by its digest."""
    warnings: tuple[str, ...]
    """Why the numbers should not be used."""

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
    """A figure with its caption, notes and numbers."""

    name: str
    figure: Figure
    caption: tuple[str, ...]
    """Paragraphs that a paper can use."""
    notes: tuple[str, ...]
    """Further paragraphs: how to read it, and the runs and models."""
    numbers: tuple[Mapping[str, Any], ...]
    """Every number in it, one per row of the CSV file."""

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
    run, of_run = read_finished(folder)
    if not of_run.valid:
        raise InputError(f"{folder}: the run is INVALID ({of_run.invalid_reason}); no figure or paper is made of it.")
    return Results((group_of(run, of_run),), {run.digest: folder}, warnings(run, of_run))


def main_column(group: SuiteGroup, task: str, measure: Measure) -> Column | None:
    """Return the column shown for a measure on a task, by edit success or exact match, dataset prompts first."""
    columns = main_columns(list({column_of(mean) for mean in group.means if mean.task == task}))
    return next((column for column in columns if column.measure == measure), None)


def words(column: Column) -> str:
    """Return the protocol of a column in words, with the mark of prompts made by a rule."""
    return f"{short(column.protocol)}{DAGGER if column.derived else ''}"


def number(group: SuiteGroup, row: str, task: str, column: Column, stage: str = "single") -> SeedMean | None:
    """Return the mean of a row on a task in a column, if there is one."""
    wanted = row, task, stage, column
    return next((mean for mean in group.means if (mean.row, mean.task, mean.stage, column_of(mean)) == wanted), None)


def tasks_of(group: SuiteGroup) -> list[str]:
    """Return the tasks of a group that have any number."""
    scored = {mean.task for mean in group.means}
    return [task for task in group.run.spec.tasks if task in scored]


def drawing(
    results: Results,
    groups: Iterable[SuiteGroup],
    name: str,
    figure: Figure,
    numbers: Sequence[Number],
    *sentences: str,
    notes: Sequence[str] = (),
) -> Drawing:
    """Return a figure of some groups with its caption, notes and numbers, in the units of the records (shares).

    The caption is the sentences that are not empty, then how the numbers are read, of which models, and warnings.
    """
    means = [one.mean for one in numbers]
    seeds = " and over seeds" if any(len(mean.per_seed) > 1 for mean in means) else ""
    kinds = dict.fromkeys(_READ[mean.protocol] for mean in means)
    models = dict.fromkeys(model_title(one.group.run) for one in numbers)
    closing = [
        f"Means in percent with 95 % intervals over cases{seeds}: {' and '.join(kinds)}.",
        *([f"{DAGGER} Prompts made by a rule."] if any(mean.derived for mean in means) else []),
        f"Model: {', '.join(models)}.",
    ]
    caption = " ".join(filter(None, (*sentences, *closing)))
    rows = tuple(
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
    return Drawing(name, figure, (caption, *warned(results)), (*notes, *sources(groups)), rows)


def warned(results: Results) -> tuple[str, ...]:
    """Return the warnings of results as paragraphs of a caption."""
    return tuple(f"Warning: {warning}" for warning in results.warnings)


def few(numbers: Sequence[Number]) -> str:
    """Return the sentence on hollow marks; empty if there is none."""
    return f"Hollow marks: fewer than {FEW} cases." if any(one.mean.n < FEW for one in numbers) else ""


def sources(groups: Iterable[SuiteGroup]) -> Iterator[str]:
    """Yield the runs and the model of each group, a paragraph each."""
    for group in {group.digests: group for group in groups}.values():
        runs = ", ".join(f"{digest} (seed {seed})" for seed, digest in zip(group.seeds, group.digests, strict=True))
        yield f"Run, {group.label}: {runs}. Model: {model(group.run)}."


class PooledMeans:
    """Means over several rows of a group and their paired differences, from the cases of its runs."""

    def __init__(self, results: Results, group: SuiteGroup) -> None:
        self._group = group
        self._folders = [results.folders[digest] for digest in group.digests]

    @cached_property
    def _values(self) -> CaseValues:
        values = CaseValues(len(self._folders))
        for seed, folder in enumerate(self._folders):
            for record in RunFolder(folder).records(read_run(folder / "run.json")):
                if record.status == "done":
                    values.add(record, seed, subsets=False)
        return values

    def mean(self, rows: Sequence[str], task: str, column: Column) -> SeedMean | None:
        """Return the mean over rows and cases with its interval; that of one row is the one in the summary.

        The value of a case is its mean over the rows; it has to be scored in all of them under every seed.
        """
        if len(rows) < 2:
            return number(self._group, rows[0], task, column) if rows else None
        (values,) = self._values.matrices(task, CaseColumn("single", *column, None), rows)
        if not values.size:
            return None
        found = crossed_mean(values, "|".join((*rows, task, *map(str, column))))
        per_seed = tuple(math.fsum(of_seed) / len(of_seed) for of_seed in values)
        return SeedMean(row=", ".join(rows), task=task, **column._asdict(), **found._asdict(), per_seed=per_seed)

    def difference(self, first: Sequence[str], second: Sequence[str], task: str, column: Column) -> Paired | None:
        """Return the mean of the differences, `first` minus `second`, paired by case and seed."""
        ours, theirs = self._values.matrices(task, CaseColumn("single", *column, None), first, second)
        return crossed_difference(ours - theirs) if ours.size else None
