"""Tables of result folders: one table by its name, or the whole report, printed and written beside the results."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from instructedit.benchmark.results.integrity import read_finished, read_suite_summary
from instructedit.benchmark.results.records import find_run
from instructedit.benchmark.results.run_folder import write_record
from instructedit.benchmark.results.suite_results import SuiteSummary, find_suite
from instructedit.benchmark.results.suite_summary import summarise_suite
from instructedit.editors.errors import InputError

from ..catalogue import TABLES
from ..render import latex, markdown, terminal
from ..render.formats import write_text
from ..render.report import Report, Sheet
from .longform import run_csv, suite_csv
from .overview import run_overview, suite_overview
from .paper_numbers import SETTINGS
from .paper_tables import paper_table
from .protocol_choice import protocol_for
from .run_tables import run_report, run_table
from .sources import read_groups, read_runs, read_suites
from .suite_report import suite_report


def make_table(
    name: str,
    directories: Sequence[Path],
    protocol: str | None = None,
    schedule: str | None = None,
    settings: tuple[str, ...] | None = None,
) -> Sheet:
    """Make a table from result files.

    Args:
        name: One of the paper's tables (`paper:table3`), or a table of runs: `tasks`, `subsets` or `protocols`.
        directories: Folders of runs, folders of one run, or indices of suites.
        protocol: How answers are read, one of `protocol_choice.CHOICES`; None for exact match under teacher forcing.
        schedule: Which schedule; None for `single` of a folder of several runs.
        settings: Only runs of these settings.

    Raises:
        InputError: If there is no such table, protocol, or run, or the runs may not share a table.
    """
    if name not in TABLES:
        raise InputError(f"'{name}' is no table; expected one of {', '.join(TABLES)}.")
    protocol_for(protocol or "teacher_forced_exact", "reliability", attitude=False)  # refuses an unknown protocol
    if name not in SETTINGS:
        return run_table(name, read_runs(directories, settings, schedule), protocol)
    if settings is not None:
        raise InputError(f"--setting: {name} is made of {' and '.join(SETTINGS[name])}; expected none.")
    groups, warnings = read_groups(directories, SETTINGS[name], schedule)
    return paper_table(name, groups, protocol or "teacher_forced_exact", warnings)


class Written(NamedTuple):
    """What `report_folders` wrote."""

    files: list[Path]
    runs: list[Path]
    """The folders of the runs, in the order of the report."""


def report_folders(directories: Sequence[Path], console: Console, *, full: bool = False) -> Written:
    """Write and print one report of all runs of some folders.

    It is that of a run if there is one alone. That of a suite is over its seeds and settings; several suites are one
    below the other, `report.md`, `report.csv` and `report.tex` beside the runs of the first.

    One screen of it is printed, or all if `full`.

    Raises:
        InputError: If a folder holds no readable results, or the files cannot be written.
    """
    suites = read_suites(directories)
    runs = [out / entry.digest for out, suite in suites for entry in suite.runs]
    if len(runs) == 1:
        return Written(report_run(runs[0], console, full=full), runs)
    if len(suites) == 1:
        ((out, suite),) = suites
        path = write_record(out / "suite.json", summarise_suite(out, suite))
        return Written(report_suite(path, console, full=full), runs)
    names = [Path(suite.name).stem for _, suite in suites]
    if len(set(names)) < len(names):
        names = [f"{out.name}/{name}" for (out, _), name in zip(suites, names, strict=True)]
    groups, warnings = [], []
    for (out, suite), name in zip(suites, names, strict=True):
        found = summarise_suite(out, suite)
        groups += [group.model_copy(update={"label": f"{name}: {group.label}"}) for group in found.groups]
        warnings += [f"{name}: {warning}" for warning in found.warnings]
    merged = SuiteSummary(name=" and ".join(names), warnings=tuple(warnings), groups=tuple(groups))
    report = replace(suite_report(merged), title=f"Suites {merged.name}")
    terminal.draw(report if full else suite_overview(merged), console)
    return Written(_write(suites[0][0], "report", report, suite_csv(merged)), runs)


def summarise_folder(directory: Path) -> Path:
    """Return the folder of a run, or that of a suite's runs after writing its `suite.json`.

    Raises:
        InputError: If the folder holds no readable results.
    """
    suite = find_suite(directory)
    if suite is None:
        return find_run(directory)
    write_record(suite[0] / "suite.json", summarise_suite(*suite))
    return suite[0]


def report_run(directory: Path, console: Console | None = None, *, full: bool = False) -> list[Path]:
    """Write `report/table.md`, `table.csv` and `table.tex` into a run's folder; print one screen, or all if `full`.

    The same results give the same bytes.

    Raises:
        InputError: If the folder holds no readable results, or its `report/` cannot be written.
    """
    run, summary = read_finished(directory)
    report = run_report(run, summary)
    if console is not None:
        terminal.draw(report if full else run_overview(run, summary), console)
    return _write(directory / "report", "table", report, run_csv(run, summary))


def report_suite(path: Path, console: Console | None = None, *, full: bool = False) -> list[Path]:
    """Write `suite.md`, `suite.csv` and `suite.tex` beside a `suite.json`; print one screen, or all if `full`.

    Raises:
        InputError: If it cannot be read, or they cannot be written.
    """
    summary = read_suite_summary(path)
    report = suite_report(summary)
    if console is not None:
        terminal.draw(report if full else suite_overview(summary), console)
    return _write(path.parent, "suite", report, suite_csv(summary))


def first_case(folder: Path) -> str:
    """Return the id of the first case of a run, as an example of one; `CASE` if it has none."""
    path = folder / "cases.jsonl"
    if not path.is_file():
        return "CASE"
    with path.open(encoding="utf-8") as lines:
        return str(json.loads(lines.readline())["case_id"])


def _write(folder: Path, name: str, report: Report, csv: str) -> list[Path]:
    texts = {".md": markdown.render(report), ".csv": csv, ".tex": latex.render(report)}
    return [write_text(folder / f"{name}{suffix}", text, folder=True) for suffix, text in texts.items()]
