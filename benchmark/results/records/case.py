"""A line of `cases.jsonl`: one case under one editor at one stage.

Nothing that differs between two equal runs (times, paths, machine) is part of it, so equal runs write equal bytes.
Scores are `float | None`, never NaN, because JSON cannot read NaN back.
"""

from typing import Literal

from pydantic import FiniteFloat

from instructedit.editors import Role

from .base import FileRecord, Measure, Protocol, Record, SparseRecord


class Score(Record):
    """One number of one probe (or of the whole case, for fluency)."""

    measure: Measure
    subset: str
    derived: bool = False
    protocol: Protocol
    value: FiniteFloat
    probe: int | None = None
    """Index into `CaseRecord.answers`; None for fluency."""


class Answer(SparseRecord):
    """The answers of the unedited and the edited model to one probe, and the accepted ones."""

    sparse = frozenset({"reference"})

    role: Role
    subset: str
    derived: bool = False
    prompt: str
    accepted: tuple[str, ...]
    opposed: tuple[str, ...] = ()
    reference: str | None = None
    """Of a locality probe without an accepted answer the unedited model's own, which teacher forcing reads; else None
    and not written."""
    before: str | None = None
    """Greedy continuation of the unedited model."""
    generated: str | None = None
    """Greedy continuation of the edited model; the metrics cut it at its natural stop. None if it is not generated."""


class CaseRecord(SparseRecord, FileRecord):
    """One line of `cases.jsonl`: one case under one editor at one stage."""

    sparse = frozenset({"remarks", "old"})

    run: str
    task: str
    case_id: str
    editor: str
    stage: str = "single"
    """When it was scored: `single`, after an edit of this case alone; `batch`, under a joint edit; `after-edit`,
    `after-K` and `after-all`, right after its own edit, after K and after all edits of a sequence."""
    prompt: str
    target: str
    subject: str
    old: str | None = None
    """The answer before the edit; not written where the data set has none."""
    instruction: str | None = None
    """Instruction of the edit, or of the probes alone."""
    status: Literal["done", "skipped", "failed"] = "done"
    reason: str | None = None
    """Why the case was skipped or failed, one sentence."""
    scores: tuple[Score, ...] = ()
    answers: tuple[Answer, ...] = ()
    text: str | None = None
    """The fluency text."""
    unscored: dict[str, int] = {}
    """Probes that could not be scored, counted by reason."""
    remarks: dict[str, int] = {}
    """What qualifies scores of probes, counted by sentence; not written if empty."""
    edit: dict[str, float] = {}
    """Facts about the edit itself, e.g. `delta_norm`; `docs/metrics.md` explains each."""
