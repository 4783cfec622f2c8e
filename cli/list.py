"""The command `list`: what can be run."""

import shutil
import sys
from typing import Annotated

from typer import Argument, echo

from .options import Json


def list_(
    what: Annotated[
        str | None,
        Argument(
            metavar="[WHAT]",
            help="editors, tasks, presets, settings, metrics, tables, figures or options; by default all but options.",
        ),
    ] = None,
    name: Annotated[
        str | None, Argument(metavar="[EDITOR]", help="After 'options': the editor whose options are listed.")
    ] = None,
    json: Json = False,
) -> None:
    """List what can be run and shown, or the options of an editor."""
    from instructedit.benchmark.setup.listing import content, lines
    from instructedit.reports.catalogue import LISTS

    if json:
        import json as text

        echo(text.dumps(content(what, name, LISTS), indent=1, ensure_ascii=False))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    echo("\n".join(lines(what, name, width, LISTS)))
