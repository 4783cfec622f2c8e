"""Names of what tables hold, in place of digests: models, data, tasks, methods and their options.

Titles of the built-in editors and tasks are the package's own: a submission could give MEND's name to another method.
"""

import json
from collections.abc import Iterable
from typing import Any

from instructedit.benchmark.results.records import EditorSpec, RunFile
from instructedit.benchmark.tasks.base import TASKS
from instructedit.editors.errors import InputError

from ..tables.run_facts import rows
from ..titles import short_model
from .run_checks import embedded_digests
from .training import TRAINED, UNTRAINED

TITLES = {**UNTRAINED, **TRAINED}


def task_name(task: str) -> str:
    """Return the title of a task; its name where the package does not have it."""
    return TASKS.get(task).title if task in TASKS else task


def method_name(row: EditorSpec) -> str:
    """Return the title of a row's method, with what the row's name adds to the method's in brackets."""
    title = TITLES.get(row.method, row.method)
    if row.name == row.method:
        return title
    mark = row.name.removeprefix(row.method)
    return f"{title}{mark}" if mark[:1] in ("@", "#") else f"{title} ({mark.lstrip('-').replace('-', ' ')})"


def model_name(runs: Iterable[RunFile]) -> str:
    """Return the names that runs give their model; of a folder the last part."""
    return " or ".join(sorted({short_model(run.provenance.model) for run in runs}))


def data_name(run: RunFile, task: str) -> str:
    """Return where the cases of a task are from; embedded data are known by their content."""
    if is_embedded_data(task, run.spec.data[task].values()):
        return "embedded"
    (data,) = (data for data in run.data if data.task == task)
    source = {"folder": "local", "file": "own"}.get(data.source, data.source)
    return source + (f" at {data.revision[:8]}" if data.revision else "")


def is_embedded_data(task: str, digests: Iterable[str]) -> bool:
    """Tell whether tested files are those of the package."""
    try:
        return sorted(digests) == sorted(embedded_digests(task, "test").values())
    except InputError:
        return False


def options(row: EditorSpec) -> list[tuple[str, str]]:
    """Return the method, its training and its options, as pairs of a word and a value."""
    found = [("Method", f"{row.method}, version {row.version}"), *rows((row,))]
    shown = ", ".join(f"{key} = {_plain(value)}" for key, value in row.config.items())
    return [(word, value.removeprefix(f"{row.name}: ")) for word, value in found] + [("Options", shown or "none")]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
