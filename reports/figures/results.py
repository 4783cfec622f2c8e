"""What figures are made of: the groups of a suite, or of one run, and the folders their runs lie in."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from instructedit.benchmark.results.guard import read_suite_summary
from instructedit.benchmark.results.records import EditorSpec, Measure, Protocol, find_run
from instructedit.benchmark.results.suite_results import SeedMean, SuiteGroup, find_suite
from instructedit.editors.errors import InputError

from ..tables.columns import Column, column_of
from ..tables.run_facts import model, warnings
from ..tables.sources import load

MAIN: tuple[Protocol, ...] = ("edit_success", "teacher_forced_exact")
"""What stands for a measure: SERAC's edit success where a task has it, else exact match under teacher forcing."""
WORDS: Mapping[Protocol, str] = {"edit_success": "edit success", "teacher_forced_exact": "exact match"}


class NoDataError(InputError):
    """The results hold nothing for a figure; the sentence says what is missing."""


@dataclass(frozen=True, slots=True)
class Results:
    """The results that figures are made of.

    Attributes:
        name: Of the suite or run.
        groups: Runs that differ in the seed alone, together.
        folders: Folder of each run, by its digest.
        warnings: What makes the numbers unfit for use.
    """

    name: str
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
    """A number of a figure, with what it is drawn as."""

    series: str
    x: str
    group: SuiteGroup
    mean: SeedMean


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure with all that is said of it.

    Attributes:
        name: Of its files.
        figure: The picture.
        caption: What it shows and how to read it, paragraphs of Markdown.
        numbers: Every number in it, a row of the CSV file each.
    """

    name: str
    figure: Figure
    caption: tuple[str, ...]
    numbers: tuple[Mapping[str, Any], ...]

    def __post_init__(self) -> None:
        # Laid out once, for all formats: a layout that starts from another one ends a little elsewhere.
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
        return Results(
            summary.name, summary.groups, {run.digest: out / run.digest for run in index.runs}, summary.warnings
        )
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
    return Results(run.digest, (group,), {run.digest: folder}, warnings(run, of_run))


def main_column(group: SuiteGroup, task: str, measure: Measure) -> Column | None:
    """Return the column that stands for a measure on a task: by `MAIN`, given prompts before derived ones."""
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


def made_of(results: Results, groups: Iterable[SuiteGroup]) -> Iterator[str]:
    """Yield the paragraphs that every caption ends with: what the numbers are, and of which runs and model."""
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
