"""The command `reproduce`: measured beside published numbers."""

from typing import Annotated

from typer import Argument, Option, echo

from .options import Format, OutFile, ResultFolders, Schedule, only


def reproduce(
    table: Annotated[
        str, Argument(metavar="TABLE", help="paper:table3, paper:table1, paper:seen-unseen or paper:figure4c.")
    ],
    directories: ResultFolders,
    protocol: Annotated[
        list[str] | None,
        Option(
            help="published (default: each measure as the paper appears to read it), teacher_forced_exact, "
            "teacher_forced_token or free_generation."
        ),
    ] = None,
    schedule: Schedule = None,
    tolerance: Annotated[
        float, Option(metavar="T", help="Points within which a value is near the published one.")
    ] = 5.0,
    form: Format = "terminal",
    out: OutFile = None,
) -> None:
    """Compare results with the paper's: values if the base model is one of its models, else which editor is better."""
    from rich.console import Console

    from instructedit.reports.render.formats import write
    from instructedit.reports.reproduction.reproduce import reproduce

    sheet = reproduce(table, directories, only("protocol", protocol), only("schedule", schedule), tolerance)
    write(sheet, form, out, Console())
    if out is not None:
        echo(f"Written to {out}")
