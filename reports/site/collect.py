"""The runs of a site: one, all of a folder, or those of a suite."""

from dataclasses import dataclass
from pathlib import Path

from instructedit.benchmark.results.integrity import read_finished, read_suite_summary
from instructedit.benchmark.results.records import RunFile, RunSummary, run_folders
from instructedit.benchmark.results.suite_results import SuiteEntry, SuiteSummary, find_suite
from instructedit.editors.errors import InputError

from ..tables.run_facts import warnings


@dataclass(frozen=True, slots=True)
class SiteRun:
    """One finished run."""

    folder: Path
    label: str
    """Its label in its suite; without a suite its setting."""
    file: RunFile
    summary: RunSummary

    @property
    def digest(self) -> str:
        """The run's digest, sixteen hexadecimal digits."""
        return self.file.digest

    @property
    def described(self) -> str:
        """Its label, schedule and seed."""
        return ", ".join(dict.fromkeys([self.label, self.file.spec.schedule, f"seed {self.file.spec.seed}"]))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why its numbers should not be used."""
        return warnings(self.file, self.summary)


@dataclass(frozen=True, slots=True)
class Collected:
    """What a site is made from: one run or more."""

    title: str
    runs: tuple[SiteRun, ...]
    suite: SuiteSummary | None
    """Statistics over the seeds of the runs, if they are of a suite."""
    warnings: tuple[str, ...]
    """Runs that are left out, and warnings of the others; each names its run if there are several."""
    folder: Path
    """Folder of the runs, or of the one run."""


def collect(directory: Path) -> Collected:
    """Read the records of all runs of a folder, but not their cases.

    Args:
        directory: A run's folder, a folder of runs, or the index of a suite in it, `suites/NAME`. A folder of runs that
            has an index is that suite; its `suite.json` has to lie beside the runs.

    Raises:
        InputError: If there is no finished run, or a file cannot be read.
    """
    found = find_suite(directory)
    left_out: list[str] = []
    suite: SuiteSummary | None = None
    if found is not None:
        folder, index = found
        suite = read_suite_summary(folder / "suite.json")
        if suite.name != Path(index.name).stem:
            raise InputError(
                f"{folder / 'suite.json'}: field 'name': '{suite.name}', '{Path(index.name).stem}' was expected."
            )
        places = {folder / entry.digest: entry for entry in index.runs}
        runs = [_run(place, entry) for place, entry in places.items() if (place / "summary.json").is_file()]
        left_out += suite.warnings
        title = f"Suite {suite.name}"
    else:
        folder = directory
        alone = (directory / "run.json").is_file()
        folders = run_folders(directory)
        # A run given by itself has to be finished; unfinished runs of a folder are left out.
        unfinished = [] if alone else [place for place in folders if not (place / "summary.json").is_file()]
        left_out += [f"Run {place.name} is left out: it is not finished." for place in unfinished]
        runs = [_run(place) for place in folders if place not in unfinished]
        title = f"Run {runs[0].digest}" if len(runs) == 1 else f"{len(runs)} runs"
    if not runs:
        raise InputError(
            f"{directory}: no finished run in it; a folder with a run.json and a summary.json was expected."
        )
    several = len(runs) > 1
    own = [f"Run {run.digest}: {warning}" if several else warning for run in runs for warning in run.warnings]
    return Collected(title, tuple(runs), suite, (*left_out, *own), folder)


def _run(folder: Path, entry: SuiteEntry | None = None) -> SiteRun:
    file, summary = read_finished(folder)
    return SiteRun(folder, entry.label if entry else file.spec.setting, file, summary)
