"""The command `figures`: every figure the results support."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Results


def figures(
    directory: Results,
    only: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this figure (repeatable).")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of the figures; by default figures/ in DIR.")
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", metavar="svg,pdf,png", help="Formats, separated by commas.")
    ] = "svg,pdf,png",
) -> None:
    """Draw every figure the results support, from their files alone, each with its caption and numbers."""
    from instructedit.reports.figures.write import write_figures
    from instructedit.reports.tables.build import summarise_folder

    place = summarise_folder(directory)  # writes the suite.json that figures read
    folder = out or place / "figures"
    formats = [name.strip() for name in format_.split(",")]
    paths, without = write_figures(directory, folder, only or (), formats)
    for sentence in without:
        typer.echo(sentence)
    drawn = [path.stem for path in paths if path.suffix == ".md"]
    typer.echo(f"Figures in {folder}: {', '.join(drawn)}" if drawn else f"{directory}: there is nothing to draw.")
