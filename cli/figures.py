"""The command `instructedit figures`."""

from pathlib import Path
from typing import Annotated

import typer

from .commands import clear


@clear
def figures(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A run's folder, the folder of all runs, or a suite in it: suites/NAME."),
    ],
    only: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this figure (again for more).")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of the figures; by default figures/ in DIR.")
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", metavar="svg,pdf,png", help="Formats, with commas between them.")
    ] = "svg,pdf,png",
) -> None:
    """Draw the figures that the results hold data for, from the files alone, each with its caption and numbers."""
    from instructedit.benchmark.results.records import find_run
    from instructedit.benchmark.results.run_folder import write_record
    from instructedit.benchmark.results.suite_results import find_suite
    from instructedit.benchmark.results.suite_summary import summarise_suite
    from instructedit.reports.figures.write import write_figures

    suite = find_suite(directory)
    if suite is not None:
        write_record(suite[0] / "suite.json", summarise_suite(*suite))
    folder = out or (suite[0] if suite else find_run(directory)) / "figures"
    formats = [name.strip() for name in format_.split(",")]
    paths, without = write_figures(directory, folder, only or (), formats)
    for sentence in without:
        typer.echo(sentence)
    drawn = [path.stem for path in paths if path.suffix == ".md"]
    typer.echo(f"Figures in {folder}: {', '.join(drawn)}" if drawn else f"{directory}: there is nothing to draw.")
