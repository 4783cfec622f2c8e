"""What every command does: one sentence instead of a traceback, options in common, and no progress bars but ours."""

import os
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints

import typer

from instructedit.editors.errors import InputError


def clear(function: Callable[..., None]) -> Callable[..., None]:
    """Turn an error of the input into one sentence and exit code 2."""

    @wraps(function)
    def call(*arguments: Any, **options: Any) -> None:
        try:
            function(*arguments, **options)
        except InputError as error:
            typer.echo(f"instructedit: {error}", err=True)
            raise typer.Exit(2) from error
        except KeyboardInterrupt:
            typer.echo(
                "instructedit: stopped; what is finished is on disk, the same command goes on from it.", err=True
            )
            raise typer.Exit(130) from None

    return call


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
