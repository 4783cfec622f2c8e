"""Options that a run's setting or schedule does not use: a mistake in them is a mistake all the same."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from instructedit.editors import EDITORS, Editor, InputError, make
from instructedit.editors.files.jsonfile import describe

from ..tasks.base import TASKS, make_task
from ..tasks.sources import MissingError
from .banks import check_condition, read_bank
from .config import PROBES, RunConfig, probes_of
from .settings import get_setting, trained_tasks


def check_options(config: RunConfig) -> None:
    """Check everything of a configuration that needs neither data nor model, used or not.

    Raises:
        InputError: With file, run, row and key.
    """
    at = config.origin.at
    with at("setting"):
        get_setting(config.setting)
    if not config.tasks:
        raise InputError(f"{config.origin.of('tasks')}: a run needs at least one task.")
    if not config.editors:
        raise InputError(f"{config.origin.of('editors')}: a run needs at least one editor.")
    named = {
        "tasks": config.tasks,
        "train": config.train,
        "held_out": config.held_out,
        "edited": config.edited or (),
        "train_limit": config.train_limit if isinstance(config.train_limit, dict) else (),
        "sampling": config.sampling if isinstance(config.sampling, dict) else (),
        "task_options": config.task_options,
    }
    for key, tasks in named.items():
        for task in tasks:
            with at(key):
                TASKS.get(task)
    for task in config.task_options:
        with at(f"task_options.{task}"):
            make_task(task, config.task_options)
    if config.edited == ():
        raise InputError(f"{config.origin.of('edited')}: found no task, at least one was expected.")
    with at("instruction"):
        check_condition(config.instruction)
    if config.instructions != "default":
        with at("instructions"):
            read_bank(Path(config.instructions))
    for row, options in {**config.origin.rows, **config.editors}.items():
        with at(f"editors.{row}", row):
            editor_of(row, options)
            probes_of(options, row)


def editor_of(row: str, options: Mapping[str, Any]) -> Editor[Any]:
    """Make the editor of a row from its options.

    Raises:
        InputError: If there is no such editor, or an option is wrong.
    """
    own = {key: value for key, value in options.items() if key not in (PROBES, "method")}
    method = options.get("method", row)
    if not isinstance(method, str):
        raise InputError(f"Option 'method': found {describe(method)}, the name of an editor was expected.")
    return make(EDITORS.get(method), own)


def asked_by(config: RunConfig, task: str) -> str:
    """Return the key for which the data of a task are read."""
    if task in config.tasks:
        return "tasks"
    return "train" if task in trained_tasks(config) else "held_out"


@contextmanager
def needing(config: RunConfig, task: str) -> Iterator[None]:
    """Say of data that are missing which key asked for them."""
    try:
        yield
    except MissingError as error:
        if error.asked:
            raise
        error.asked = True
        key = asked_by(config, task)
        how = "" if key in config.model_fields_set else f", not set and so as the setting '{config.setting}' has it,"
        error.args = (f"{config.origin.of(key)}{how} asks for the task '{task}': {error}",)
        raise
