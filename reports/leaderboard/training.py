"""What the rows of a run learnt from: named by digests, unknown, or what no row may learn from."""

from typing import Literal

from instructedit.benchmark.checkpoint import Checkpoint
from instructedit.benchmark.results import EditorSpec, RunFile, RunSpec

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
        instructions=spec.instructions if row.instruction is not None else None,
        seed=spec.seed,
    ).name


def check_training(run: RunFile, file: str, findings: Findings) -> None:
    """Check what the rows of a run say of their training, and note what is not known of it."""
    spec = run.spec
    read = {data.task: data for data in run.training}
    tested = {digest: data.task for data in run.data for digest in data.sha256.values()}
    for row in spec.editors:
        place = f"row '{row.name}'"
        if row.method not in (*UNTRAINED, *TRAINED):
            findings.note(
                f"Row '{row.name}' of run {run.digest}: the editor '{row.method}' is not one of the package; "
                + ("what is said of its training" if row.training else "that it was trained on nothing")
                + " cannot be checked."
            )
        if row.training is None:
            if row.method in TRAINED:
                findings.add(file, "training", f"what '{row.method}' was trained on, with its digests", "none", place)
            continue
        if row.method in UNTRAINED:
            findings.add(file, "training", f"none, '{row.method}' is not trained", row.training.label, place)
        if (name := checkpoint_of(row, spec)) != row.training.checkpoint:
            findings.add(file, "training.checkpoint", name, f"'{row.training.checkpoint}'", place)
        for task in row.training.tasks:
            if (data := read.get(task)) is None:
                findings.add(file, "training", f"the training data of '{task}'", "none", place)
                continue
            count = row.training.cases.get(task, 0) + row.training.validation.get(task, 0)
            expected = min(row.training.limits.get(task, data.cases), data.cases)
            if count != expected:
                findings.add(file, f"training.cases of '{task}'", expected, count, f"{place}, with validation")
    for data in run.training:
        for name, digest in data.sha256.items():
            if digest in tested:
                findings.add(
                    file,
                    f"training file {name} of '{data.task}'",
                    "another file than a tested one",
                    f"the file that '{tested[digest]}' is tested on",
                )


def note_exposure(run: RunFile, findings: Findings) -> None:
    """Note which rows were trained on a tested task."""
    for task in run.spec.tasks:
        rows = [row.name for row in run.spec.editors if row.evaluates(task) and exposure(row, task) == "yes"]
        if rows:
            findings.note(f"Run {run.digest}, trained on the training split of the tested '{task}': {', '.join(rows)}.")
