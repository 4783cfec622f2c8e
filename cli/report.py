"""The command `report`: the tables of a run or suite, or a site for the browser."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Full, Results


def report(
    directory: Results,
    html: Annotated[
        Path | None, typer.Option(metavar="SITE", help="Write a site for the browser into this folder instead.")
    ] = None,
    full: Full = False,
) -> None:
    """Write and print the report of a run, or of a suite over its seeds and settings, from its files alone."""
    from rich.console import Console

    from instructedit.reports.tables.build import report_folder, summarise_folder

    if html is not None:
        from instructedit.benchmark.results.suite_results import find_suite
        from instructedit.reports.site.write import write_site

        if find_suite(directory):
            summarise_folder(directory)
        typer.echo(f"Site: {write_site(directory, html)}")
    else:
        typer.echo(f"Report: {', '.join(map(str, report_folder(directory, Console(), full=full)))}")
