"""What every command does: one sentence instead of a traceback, and no progress bars but ours."""

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

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


def quiet_libraries() -> None:
    """Keep libraries from printing progress of their own into ours; a user's own setting wins."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    logging.disable_progress_bar()
