"""The command `table`: one table from result files, the paper's or one of a run's, in one of several formats."""

from pathlib import Path
from typing import Annotated

import typer

from instructedit.editors.errors import InputError

from .commands import clear


def one(name: str, given: list[str] | None, why: str) -> str | None:
    """Return the one value of an option that a column can take; typer alone would take the last of several.

    Raises:
        InputError: If there are several.
    """
    if given and len(set(given)) > 1:
        raise InputError(f"--{name}: found {' and '.join(given)}; {why}, so one was expected. Make a table of each.")
    return given[0] if given else None


@clear
def table(
    name: Annotated[
        str,
        typer.Argument(
            metavar="TABLE",
            help="paper:table3, paper:table1, paper:seen-unseen, paper:figure4c, tasks, subsets or protocols.",
        ),
    ],
    directories: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Folders of runs, or of a run, or suites in them: suites/NAME."),
    ],
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            help="teacher_forced_exact (default), teacher_forced_token, free_generation, or published: the paper's mix."
        ),
    ] = None,
    schedule: Annotated[
        list[str] | None, typer.Option(help="single, batch or sequential; single where a folder has several.")
    ] = None,
    setting: Annotated[list[str] | None, typer.Option(help="Only runs of this setting (again for more).")] = None,
    form: Annotated[str, typer.Option("--format", help="terminal, markdown, csv, json, html or latex.")] = "terminal",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write there instead of printing.")] = None,
) -> None:
    """Make one table from result files: the paper's tables, or a run's by task, subset or protocol."""
    from rich.console import Console

    from instructedit.reports.render.sheet import write
    from instructedit.reports.tables.build import make_table

    choice = one("protocol", protocol, "a column never mixes protocols, which count different things")
    plan = one("schedule", schedule, "a column never mixes schedules, which edit different models")
    sheet = make_table(name, directories, choice, plan, tuple(setting or ()) or None)
    write(sheet, form, out, Console())
    if out is not None:
        typer.echo(f"Written to {out}")
