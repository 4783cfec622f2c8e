"""What the rows of a run learnt from: named by digests, unknown, or what no row may learn from."""

import math
from typing import Literal

from instructedit.benchmark.results.checkpoint import Checkpoint
from instructedit.benchmark.results.records import EditorSpec, RunFile, RunSpec, TaskData, TrainingSpec
from instructedit.benchmark.tasks.base import TASKS
from instructedit.editors.errors import InputError

from .coverage import check_digests, embedded_digests, is_embedded
from .findings import Findings

UNTRAINED = ("none", "in-context", "ft-l", "ft-m", "calinet", "grace")
"""Built-in editors without training. A test holds both lists to the registered editors."""
TRAINED = ("ke", "mend", "instructedit")
"""Built-in editors that are trained."""

Exposure = Literal["yes", "no", "unknown"]
"""Whether a row's editor was trained on the training split of the tested task."""


def exposure(row: EditorSpec, task: str) -> Exposure:
    """Tell whether a row was trained on a task."""
    if row.training is not None:
        return "yes" if task in row.training.tasks else "no"
    return "no" if row.method in UNTRAINED else "unknown"


def checkpoint_of(row: EditorSpec, spec: RunSpec) -> str | None:
    """Return the name that the folder of a row's trained editor has, from what decides its weights."""
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
    ).name


def check_training(run: RunFile, file: str, findings: Findings) -> None:
    """Check what the rows of a run say of their training, and note what is not known of it."""
    for row in run.spec.editors:
        if row.method not in (*UNTRAINED, *TRAINED):
            findings.note(
                f"Row '{row.name}' of run {run.digest}: the editor '{row.method}' is not one of the package; "
                + ("what is said of its training" if row.training else "that it was trained on nothing")
                + " cannot be checked."
            )
        elif row.training is None and row.method in TRAINED:
            found = f"what '{row.method}' was trained on, with its digests"
            findings.add(file, "training", found, "none", f"row '{row.name}'")
        elif row.training is not None and row.method in UNTRAINED:
            expected = f"none, '{row.method}' is not trained"
            findings.add(file, "training", expected, row.training.label, f"row '{row.name}'")
        if row.training is not None:
            if (bank := row.training.instructions) not in (None, run.spec.instructions):
                findings.add(file, "training.instructions", run.spec.instructions, bank, f"row '{row.name}'")
            _check_row(run, row, row.training, file, findings)
    for data in run.training:
        _check_data(run, data, file, findings)


def _check_row(run: RunFile, row: EditorSpec, training: TrainingSpec, file: str, findings: Findings) -> None:
    """Check that a training's numbers fit each other, the training data and the name of its checkpoint."""
    place, read = f"row '{row.name}'", {data.task: data for data in run.training}
    if (name := checkpoint_of(row, run.spec)) != training.checkpoint:
        findings.add(file, "training.checkpoint", name, f"'{training.checkpoint}'", place)
    for part in (training.cases, training.validation, training.weights):
        if sorted(part) != sorted(training.tasks):
            expected = f"numbers for {', '.join(sorted(training.tasks))}"
            findings.add(file, "training", expected, f"for {', '.join(sorted(part))}", place)
    if not training.tasks or len(set(training.tasks)) != len(training.tasks):
        findings.add(file, "training.tasks", "one task or more, each once", ", ".join(training.tasks) or "none", place)
    for what, part, least in (("cases", training.cases, 1), ("validation", training.validation, 0)):
        for task, count in part.items():
            if count < least:
                findings.add(file, f"training.{what} of '{task}'", f"at least {least}", count, place)
    for task, weight in training.weights.items():
        if not (math.isfinite(weight) and weight > 0):
            findings.add(file, f"training.weights of '{task}'", "a finite number above 0", weight, place)
    for task in training.tasks:
        if (data := read.get(task)) is None:
            findings.add(file, "training", f"the training data of '{task}'", "none", place)
            continue
        count = training.cases.get(task, 0) + training.validation.get(task, 0)
        most = min(training.limits.get(task, data.cases), data.cases)
        if count != most:
            findings.add(file, f"training.cases of '{task}'", most, count, f"{place}, with validation")


def _check_data(run: RunFile, data: TaskData, file: str, findings: Findings) -> None:
    """Check that a training split is named, no tested file and, if it is of the package, the package's own."""
    check_digests(data.sha256, f"training data of '{data.task}', sha256", file, findings)
    # Options are chosen on `train` and `validation`, whose file is that of the training.
    of_test = run.data if run.spec.split == "test" else ()
    tested = {digest: other.task for other in of_test for digest in other.sha256.values()}
    for name, digest in data.sha256.items():
        if digest in tested and not _one_file(data.task):
            found = f"the file that '{tested[digest]}' is tested on"
            findings.add(file, f"training file {name} of '{data.task}'", "another file than a tested one", found)
    if data.task not in TASKS:
        return
    try:
        embedded = is_embedded(data, "train")
    except InputError as error:
        findings.note(f"The training data of '{data.task}' cannot be read again: {error}")
        return
    if embedded:
        ours = dict(embedded_digests(data.task, "train"))
        if sorted(data.sha256.values()) != sorted(ours.values()):
            findings.add(file, f"training data of '{data.task}', sha256", f"{ours}, of the data here", data.sha256)


def _one_file(task: str) -> bool:
    """Tell whether both splits of a task are parts of one file, divided by the subjects' hash."""
    return task in TASKS and TASKS.get(task).test_share is not None


def note_exposure(run: RunFile, findings: Findings) -> None:
    """Note which rows were trained on a tested task."""
    for task in run.spec.tasks:
        rows = [row.name for row in run.spec.editors if row.evaluates(task) and exposure(row, task) == "yes"]
        if rows:
            findings.note(f"Run {run.digest}, trained on the training split of the tested '{task}': {', '.join(rows)}.")
