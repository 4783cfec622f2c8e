"""The command `report`: the tables of a run or suite, or a site for the browser."""

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
        echo(f"Report: {', '.join(map(str, report_folders(directories, Console(), full=full)))}")
