"""The command `report`: the tables of a run or suite, or a site for the browser."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from typer import Option, echo

from instructedit.editors.errors import InputError

from .options import File, Full, ResultFolders


def report(
    directories: ResultFolders,
    html: Annotated[File, Option(metavar="SITE", help="Write a site for the browser into this folder instead.")] = None,
    full: Full = False,
) -> None:
    """Write and print the report of runs, or of suites over their seeds and settings, from their files alone."""
    from rich.console import Console

    from instructedit.reports.tables.build import report_folders, summarise_folder

    if html is not None:
        if len(directories) > 1:
            raise InputError(f"--html: a site is made of one DIR, found {len(directories)}.")
        (directory,) = directories
        from instructedit.benchmark.results.suite_results import find_suite
        from instructedit.reports.site.write import write_site

        if find_suite(directory):
            summarise_folder(directory)
        echo(f"Site: {write_site(directory, html)}")
    else:
        written = report_folders(directories, Console(), full=full)
        show_pointers(directories, written.runs, written.files, full=full)


def show_pointers(directories: Sequence[Path], runs: Sequence[Path], files: Sequence[Path], *, full: bool) -> None:
    """Print what shows the rest of a report: commands, and its files."""
    from instructedit.reports.tables.build import first_case

    places, run = shlex.join(map(str, directories)), shlex.quote(str(runs[0]))
    if not full:
        echo(f"Whole report: instructedit report {places} --full")
    if len(runs) > 1:
        echo(f"One run:      instructedit report {run}")
    echo(f"One case:     instructedit show {run} {first_case(runs[0])}")
    echo(f"In a browser: instructedit view {shlex.quote(str(directories[0]))}")
    echo(f"Files:        {files[0].parent}: {', '.join(path.name for path in files)}")
