"""The command `list`: what can be run."""

import shutil
import sys
from typing import Annotated

import typer


def list_(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[editors|tasks|presets|settings|options]", help="What to list; by default all except options."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Argument(metavar="[EDITOR]", help="After 'options': the editor whose options are listed.")
    ] = None,
) -> None:
    """List what can be run, or the options of an editor."""
    from instructedit.benchmark.setup.listing import lines

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    typer.echo("\n".join(lines(what, name, width)))
