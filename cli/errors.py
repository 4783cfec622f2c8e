"""The group of all commands: one sentence and an exit code for errors of the input, the machine or a signal."""

import os
from typing import Any

import typer
from typer.core import TyperGroup

from instructedit.benchmark.run.out_of_memory import is_exhausted, reason
from instructedit.editors.errors import InputError

from .stopping import SENTENCE, stopped_by


class Commands(TyperGroup):
    """A group of commands that turns errors into sentences.

    Exit code 2 for an error of the input, a file that cannot be read or written, and memory that runs out; 130 for
    Ctrl-C, 143 for SIGTERM. An error of the program keeps its traceback.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except BaseException as error:
            number = stopped_by(error)
            sentence = SENTENCE if number else _sentence(error)
            if sentence is None:
                raise
            typer.echo(sentence, err=True)
            raise typer.Exit(128 + number if number else 2) from None


def _sentence(error: BaseException) -> str | None:
    """Return an error as a sentence for the user; None for an error of the program."""
    if isinstance(error, InputError):
        return f"instructedit: {error}"
    if is_exhausted(error):
        return (
            f"instructedit: out of memory ({reason(error)}); use a smaller 'chunk', 'batch' or 'training.batch', a "
            "smaller model or dtype, or a machine with more memory. Finished results are on disk."
        )
    if isinstance(error, OSError) and error.strerror:
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
        where = " to ".join(name if len(name) <= 200 else f"{name[:100]} ... {name[-90:]}" for name in names)
        return f"instructedit: {where or 'a file'}: cannot be used ({error.strerror})."
    return None
