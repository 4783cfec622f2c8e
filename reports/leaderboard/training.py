"""What the rows of a run were trained on: whether on a tested task, and the name of their checkpoint."""

from typing import Literal

from instructedit.benchmark.results.checkpoint import Checkpoint
from instructedit.benchmark.results.records import EditorSpec, RunSpec

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
        chat=spec.chat,
    ).name
