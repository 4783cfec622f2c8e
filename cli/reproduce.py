"""The command `reproduce`: results beside the published ones."""

from pathlib import Path
from typing import Annotated

import typer

from .commands import clear
from .table import one


@clear
def reproduce(
    table: Annotated[
        str,
        typer.Argument(metavar="TABLE", help="paper:table3, paper:table1, paper:seen-unseen or paper:figure4c."),
    ],
    directories: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Folders of runs, or of a run, or suites in them: suites/NAME."),
    ],
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            help="published (default: each measure as the paper seems to read it), teacher_forced_exact, "
            "teacher_forced_token or free_generation."
        ),
    ] = None,
    schedule: Annotated[
        list[str] | None, typer.Option(help="single, batch or sequential; single where a folder has several.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(metavar="T", help="Points within which a value is near a published one.")
    ] = 5.0,
    form: Annotated[str, typer.Option("--format", help="terminal, markdown, csv, json, html or latex.")] = "terminal",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write there instead of printing.")] = None,
) -> None:
    """Compare results with the paper's: values if the base model is one of its models, else who beats whom."""
    from rich.console import Console

    from instructedit.reports.render.sheet import write
    from instructedit.reports.reproduction.reproduce import reproduce as compare

    choice = one("protocol", protocol, "a number is read by one protocol")
    plan = one("schedule", schedule, "a column never mixes schedules, which edit different models")
    write(compare(table, directories, choice, plan, tolerance), form, out, Console())
    if out is not None:
        typer.echo(f"Written to {out}")
