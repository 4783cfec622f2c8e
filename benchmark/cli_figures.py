"""The command `instructedit figures`."""

from pathlib import Path
from typing import Annotated

import typer

from .commands import clear


@clear
def figures(directory: Annotated[Path, typer.Argument(metavar="DIR")]) -> None:
    """Draw."""
