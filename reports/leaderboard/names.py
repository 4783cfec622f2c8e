"""What the package knows by itself of methods, tasks and data, whatever a submission calls them; and names in tables.

Titles of the built-in editors and tasks are the package's own: a submission could give MEND's name to another method.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal

from instructedit.benchmark.results.checkpoint import Checkpoint
from instructedit.benchmark.results.records import EditorSpec, RunFile, RunSpec
from instructedit.benchmark.tasks.base import TASKS
from instructedit.benchmark.tasks.sources import Embedded
from instructedit.editors.errors import InputError

from ..tables.run_facts import rows
from ..titles import short_model

UNTRAINED = {
    "none": "no edit",
    "in-context": "in-context edit",
    "ft-l": "FT-L",
    "ft-m": "FT-M",
    "calinet": "CaliNet",
    "grace": "GRACE",
}
"""Built-in editors without training, with their titles: a submission could give them others. A test compares both lists
with the registered editors."""
TRAINED = {"ke": "KE", "mend": "MEND", "instructedit": "InstructEdit"}
"""Built-in editors that are trained."""

TITLES = {**UNTRAINED, **TRAINED}

Exposure = Literal["yes", "no", "unknown"]
"""Whether a row's editor was trained on the training split of the tested task."""


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


@cache
def embedded_digests(task: str, split: Literal["test", "train"]) -> Mapping[str, str]:
    """Return the sha256 of the embedded file of a split, by its name.

    Raises:
        InputError: If the package has no such file.
    """
    name, path = Embedded().find(TASKS.get(task).files[split])
    return {name: hashlib.sha256(path.read_bytes()).hexdigest()}


def exposure(row: EditorSpec, task: str) -> Exposure:
    """Tell whether a row was trained on a task."""
    if row.training is not None:
        return "yes" if task in row.training.tasks else "no"
    return "no" if row.method in UNTRAINED else "unknown"


def checkpoint_of(row: EditorSpec, spec: RunSpec) -> str | None:
    """Return the name of the folder of a row's trained editor, from what decides its weights."""
    if row.training is None:
        return None
    return Checkpoint(
        editor=row.method,
        version=row.version,
        config=row.config,
        base=spec.model_fingerprint,
        tokenizer=spec.tokenizer_fingerprint,
        training=row.training.digest,
        instructions=row.training.instructions,
        seed=spec.seed,
        chat=spec.chat,
    ).folder_name
