"""`manifest.json`: the description of a submission. All but names, notes and weights follows from its files."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from instructedit.benchmark.results.records import FileRecord, Record, RunFile, Schedule, Split, digest_of
from instructedit.benchmark.results.resources import Bytes, ChunkTime, Usage

from .base_pass import BasePass

_Name = Annotated[str, Field(pattern=r"\S")]
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_OF_SPEC = ("setting", "split", "schedule", "seed", "limit", "data", "model_fingerprint", "tokenizer_fingerprint")
"""Fields of a run's entry that are fields of its specification."""


class PackedFile(Record):
    """One file of a submission, as it is packed."""

    sha256: str
    bytes: int


class TrainedRow(Record):
    """The training of a row."""

    row: str
    tasks: tuple[str, ...]
    data: str
    """Digest of the training cases and weights."""
    checkpoint: str
    """Name of the checkpoint's folder: digests of base model, training set, and all else that decides the weights."""
    weights: _Sha256 | None
    """sha256 of the trained network's file, if it was beside the run when the run was packed."""


class RunEntry(Record):
    """One run of a submission."""

    digest: str
    setting: str
    split: Split
    schedule: Schedule
    seed: int
    limit: int | None
    data: dict[str, dict[str, str]]
    """Per task: sha256 by file."""
    model_fingerprint: str
    tokenizer_fingerprint: str
    rows: dict[str, str]
    """Per row: digest of its method, version, configuration, training, instruction and instructed probes."""
    trained: tuple[TrainedRow, ...]
    base: dict[str, BasePass]
    """Per task."""
    started: str
    versions: dict[str, str]
    """Of this program (with its commit), of Python and of the packages."""
    device: str
    edit_seconds: float = Field(ge=0, allow_inf_nan=False)
    score_seconds: float = Field(ge=0, allow_inf_nan=False)
    memory: Bytes | None
    """Peak resident memory, in bytes; None: not recorded."""
    device_memory: Bytes | None
    """Peak memory allocated on the GPUs, in bytes; None: not recorded, or on a CPU."""


class Manifest(FileRecord):
    """`manifest.json`."""

    name: _Name
    """Name of the submission. Submissions of the same name and authors are versions of each other."""
    authors: Annotated[tuple[_Name, ...], Field(min_length=1)]
    notes: str = ""
    runs: Annotated[tuple[RunEntry, ...], Field(min_length=1)]
    files: dict[str, PackedFile]
    """All files but the manifest."""


def entry_of(
    run: RunFile,
    base: Mapping[str, BasePass],
    times: Sequence[ChunkTime],
    usage: Sequence[Usage],
    weights: Mapping[str, str],
) -> RunEntry:
    """Return the entry of a run in a manifest.

    `base` is by task; `weights`, the sha256 of the trained network's file, by checkpoint as far as they are known.
    """
    spec, origin = run.spec, run.provenance
    return RunEntry(
        digest=run.digest,
        **{name: getattr(spec, name) for name in _OF_SPEC},
        rows={row.name: digest_of(row) for row in spec.editors},
        trained=tuple(
            TrainedRow(
                row=row.name,
                tasks=row.training.tasks,
                data=row.training.digest,
                checkpoint=row.training.checkpoint,
                weights=weights.get(row.training.checkpoint),
            )
            for row in spec.editors
            if row.training
        ),
        base=dict(base),
        started=origin.started,
        versions={
            "instructedit-bench": f"{origin.version} (git {origin.git_revision or 'unknown'})",
            "python": origin.python,
            **origin.packages,
        },
        device=origin.device,
        edit_seconds=math.fsum(time.edit_seconds for time in times),
        score_seconds=math.fsum(time.score_seconds for time in times),
        memory=max((start.memory for start in usage), default=None),
        device_memory=max((start.device_memory for start in usage if start.device_memory is not None), default=None),
    )
