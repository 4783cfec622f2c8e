"""Checks of a configuration that need neither data nor model, on every option, used or not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from instructedit.editors import EDITORS, Editor, InputError, InstructedProbes, did_you_mean, make
from instructedit.editors.chat import check_chat
from instructedit.editors.files.jsonfile import describe

from ..tasks.base import TASKS, make_task
from .banks import check_condition, read_bank
from .config import PROBES, RunConfig
from .settings import get_setting


def check_options(config: RunConfig) -> None:
    """Check all options of a configuration; an `InputError` names file, run, row and key."""
    at = config.origin.at
    with at("setting"):
        get_setting(config.setting)
    if not config.tasks:
        raise InputError(
            f"{config.origin.place}: nothing to evaluate; name a file of own facts (`instructedit run facts.csv`, or "
            "--facts FILE) or a task (--task NAME)."
        )
    if not config.editors:
        raise InputError(f"{config.origin.of('editors')}: a run needs at least one editor.")
    if config.facts is not None and config.split != "test":
        raise InputError(f"{config.origin.of('split')}: own facts have the split 'test' alone, found '{config.split}'.")
    named = {
        "tasks": [task for task in config.tasks if task != config.facts_task],
        "train": config.train,
        "held_out": config.held_out,
        "edited": [task for task in config.edited or () if task != config.facts_task],
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
        raise InputError(f"{config.origin.of('edited')}: found no task, expected at least one.")
    with at("chat"):
        check_chat(config.chat)
    with at("instruction"):
        check_condition(config.instruction)
    if config.instructions != "default":
        with at("instructions"):
            read_bank(Path(config.instructions))
    for row, options in {**config.origin.rows, **config.editors}.items():
        with at(f"editors.{row}", row):
            _editor_of(row, options)


def make_editor(config: RunConfig, row: str) -> Editor[Any]:
    """Make the editor of a row of the configuration; `InputError` if there is no such editor, or an option is wrong."""
    with config.origin.at(f"editors.{row}", row):
        return _editor_of(row, config.editors[row])


def _editor_of(row: str, options: Mapping[str, Any]) -> Editor[Any]:
    own = {key: value for key, value in options.items() if key not in (PROBES, "method")}
    method = options.get("method", row)
    if not isinstance(method, str):
        raise InputError(f"Option 'method': found {describe(method)}, the name of an editor was expected.")
    editor = make(EDITORS.get(method), own)
    probes, known = options.get(PROBES), get_args(InstructedProbes)
    if probes is not None and probes not in known:
        raise InputError(
            f"Option '{PROBES}' of the row '{row}': found {probes!r}, one of {', '.join(map(repr, known))} was "
            f"expected.{did_you_mean(str(probes), list(known))}"
        )
    return editor
