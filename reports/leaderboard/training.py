"""What the rows of a run were trained on, and its checks: by digests, on no tested file, under the right name."""

import math
from typing import Literal

from instructedit.benchmark.results.checkpoint import Checkpoint
from instructedit.benchmark.results.records import EditorSpec, RunFile, RunSpec, TaskData, TrainingSpec
from instructedit.benchmark.tasks.base import TASKS
from instructedit.editors.errors import InputError

from .data_checks import check_digests, embedded_digests, is_embedded
from .findings import Findings

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

Exposure = Literal["yes", "no", "unknown"]
"""Whether a row's editor was trained on the training split of the tested task."""


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
    ).name


def check_training(run: RunFile, file: str, findings: Findings) -> None:
    """Check the trainings of a run, and note what cannot be checked and which rows were trained on a tested task."""
    for row in run.spec.editors:
        place, training = f"row '{row.name}'", row.training
        if row.method not in (*UNTRAINED, *TRAINED):
            claim = "its training as described" if training else "that it was trained on nothing"
            findings.note(
                f"Row '{row.name}' of run {run.digest}: the editor '{row.method}' is not one of the package; {claim} "
                "cannot be checked."
            )
        elif training is None and row.method in TRAINED:
            findings.add(file, "training", f"what '{row.method}' was trained on, with its digests", "none", place)
        elif training is not None and row.method in UNTRAINED:
            findings.add(file, "training", f"none, '{row.method}' is not trained", training.label, place)
        if training is not None:
            if (bank := training.instructions) is not None:
                findings.equal(file, "training.instructions", run.spec.instructions, bank, place)
            if (name := checkpoint_of(row, run.spec)) != training.checkpoint:
                findings.add(file, "training.checkpoint", name, f"'{training.checkpoint}'", place)
            _check_counts(run, training, file, place, findings)
    for data in run.training:
        check_training_data(run, data, file, findings)
    for task in run.spec.tasks:
        rows = [row.name for row in run.spec.editors if row.evaluates(task) and exposure(row, task) == "yes"]
        if rows:
            findings.note(f"Run {run.digest}, trained on the training split of the tested '{task}': {', '.join(rows)}.")


def _check_counts(run: RunFile, training: TrainingSpec, file: str, place: str, findings: Findings) -> None:
    """Check that the counts and weights of a training fit each other and the training data."""
    tasks, data = sorted(training.tasks), {data.task: data for data in run.training}
    for part in (training.cases, training.validation, training.weights):
        if sorted(part) != tasks:
            expected, found = (f"for {', '.join(sorted(names))}" for names in (tasks, part))
            findings.add(file, "training", f"numbers {expected}", found, place)
    if not tasks or len(set(tasks)) != len(tasks):
        findings.add(file, "training.tasks", "one task or more, each once", ", ".join(tasks) or "none", place)
    for what, counts, least in (("cases", training.cases, 1), ("validation", training.validation, 0)):
        for task, count in counts.items():
            if count < least:
                findings.add(file, f"training.{what} of '{task}'", f"at least {least}", count, place)
    for task, weight in training.weights.items():
        if not (math.isfinite(weight) and weight > 0):
            findings.add(file, f"training.weights of '{task}'", "a finite number above 0", weight, place)
    for task in training.tasks:
        if task not in data:
            findings.add(file, "training", f"the training data of '{task}'", "none", place)
            continue
        available = min(training.limits.get(task, data[task].cases), data[task].cases)
        count = training.cases.get(task, 0) + training.validation.get(task, 0)
        findings.equal(file, f"training.cases of '{task}'", available, count, f"{place}, with validation")


def check_training_data(run: RunFile, data: TaskData, file: str, findings: Findings) -> None:
    """Check that a training split has digests, is no tested file and, if it is embedded, the package's own file."""
    what = f"training data of '{data.task}', sha256"
    check_digests(data.sha256, what, file, findings)
    # Options are chosen on `train` and `validation`, whose file is that of the training.
    tested_data = run.data if run.spec.split == "test" else ()
    tested = {digest: other.task for other in tested_data for digest in other.sha256.values()}
    # Tasks with a test share divide one file into both splits, by the hash of the subjects.
    shares_file = data.task in TASKS and TASKS.get(data.task).test_share is not None
    for name, digest in data.sha256.items():
        if digest in tested and not shares_file:
            found = f"the file that '{tested[digest]}' is tested on"
            findings.add(file, f"training file {name} of '{data.task}'", "another file than a tested one", found)
    if data.task not in TASKS:
        return
    try:
        if is_embedded(data, "train"):
            ours = embedded_digests(data.task, "train")
            if sorted(data.sha256.values()) != sorted(ours.values()):
                findings.add(file, what, f"{dict(ours)}, of the data here", data.sha256)
    except InputError as error:
        findings.note(f"The training data of '{data.task}' cannot be read again: {error}")
