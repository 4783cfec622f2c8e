"""The command `embedded`: the embedded data and model, made again from a seed."""

from pathlib import Path
from typing import Annotated

from typer import Option, echo

from instructedit.editors.errors import InputError

from .options import Threads, given, quiet_libraries


def embedded(
    out: Annotated[Path, Option(metavar="DIR", help="Folder to write data/ and model/ to.")],
    seed: Annotated[int, Option(help="Seed of the data and of the training.")] = 0,
    threads: Threads = None,
) -> None:
    """Make the embedded data and model again from a seed (about a quarter of an hour on two cores)."""
    from instructedit.benchmark.embedded.make.make import make

    quiet_libraries()
    try:
        make(out, seed, **given(threads=threads))  # by default two, which are part of the recipe
    except OSError as error:
        raise InputError(f"{out}: cannot be written to ({error.strerror}); expected a folder.") from error
    echo(f"Written to {out}")
