"""The command `table`: one table from result files."""

from typing import Annotated

from typer import Argument, Option, echo

from .options import Format, OutFile, ResultFolders, Schedule, only


def table(
    name: Annotated[
        str,
        Argument(
            metavar="TABLE",
            help="paper:table3, paper:table1, paper:seen-unseen, paper:figure4c, tasks, subsets or protocols.",
        ),
    ],
    directories: ResultFolders,
    protocol: Annotated[
        list[str] | None,
        Option(
            help="teacher_forced_exact (default), teacher_forced_token, free_generation, or published: the paper's mix."
        ),
    ] = None,
    schedule: Schedule = None,
    setting: Annotated[list[str] | None, Option(help="Only runs of this setting (repeatable).")] = None,
    form: Format = "terminal",
    out: OutFile = None,
) -> None:
    """Make one table: one of the paper's, or runs by task, subset or protocol."""
    from rich.console import Console

    from instructedit.reports.render.formats import write
    from instructedit.reports.tables.build import make_table

    settings = tuple(setting) if setting else None
    sheet = make_table(name, directories, only("protocol", protocol), only("schedule", schedule), settings)
    write(sheet, form, out, Console())
    if out is not None:
        echo(f"Written to {out}")
