"""What every command does: one sentence instead of a traceback, options in common, and no progress bars but ours."""

import os
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_type_hints

import typer

from instructedit.benchmark.run.out_of_memory import is_exhausted, reason
from instructedit.editors.errors import InputError
from instructedit.editors.models.threads import use_threads

from .stopping import SENTENCE, stopped_by


def clear(function: Callable[..., None]) -> Callable[..., None]:
    """Turn what the input, the machine or a signal ends into one sentence and an exit code.

    2 for an error of the input, a file that cannot be read or written, and memory that runs out; 130 for Ctrl-C, 143
    for SIGTERM. An error of the program keeps its traceback.
    """

    @wraps(function)
    def call(*arguments: Any, **options: Any) -> None:
        try:
            function(*arguments, **options)
        except BaseException as error:
            number = stopped_by(error)
            sentence = SENTENCE if number else _sentence(error)
            if sentence is None:
                raise
            typer.echo(sentence, err=True)
            raise typer.Exit(128 + number if number else 2) from None

    return call


def _sentence(error: BaseException) -> str | None:
    """Return what a user is told of an error; None for an error of the program."""
    if isinstance(error, InputError):
        return f"instructedit: {error}"
    if is_exhausted(error):
        return (
            f"instructedit: out of memory ({reason(error)}); a smaller 'chunk', 'batch' or 'training.batch', a smaller "
            "model or dtype, or a machine with more memory is needed. What is finished is on disk."
        )
    if isinstance(error, OSError) and error.strerror:
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
        where = " to ".join(name if len(name) <= 200 else f"{name[:100]} ... {name[-90:]}" for name in names)
        return f"instructedit: {where or 'a file'}: cannot be used ({error.strerror})."
    return None


def _threads(count: int | None) -> int | None:
    if count is not None:
        use_threads(count)  # before the command imports torch
    return count


Threads = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        callback=_threads,
        help="Threads on a CPU; by default OMP_NUM_THREADS, or else one, which no other process can hold up.",
    ),
]
"""The option `--threads` of every command that computes: its callback does all there is to do."""


def takes(kind: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Spread the fields of a dataclass, the type of a command's first parameter, into options of the command."""

    def spread(function: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(kind, include_extras=True)
        options = [
            Parameter(
                field.name,
                Parameter.KEYWORD_ONLY,
                default=Parameter.empty if field.default is MISSING else field.default,
                annotation=hints[field.name],
            )
            for field in fields(kind)
        ]
        _, *own = signature(function, eval_str=True).parameters.values()

        @wraps(function)
        def call(**given: Any) -> None:
            function(kind(**{option.name: given.pop(option.name) for option in options}), **given)

        parameters = [*own, *options]
        call.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return call

    return spread


def quiet_libraries() -> None:
    """Keep libraries from printing progress of their own into ours; a user's own setting wins."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    logging.disable_progress_bar()
