"""`manifest.json`: what a submission says of itself. All of it but names, notes and weights follows from its files."""

import math
from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import Field

from instructedit.benchmark.results.records import SCHEMA_VERSION, Record, RunFile, Schedule, Split, digest_of
from instructedit.benchmark.results.resources import Bytes, ChunkTime, Usage

from .base import BasePass


class PackedFile(Record):
    """One file of a submission, as it is packed."""

    sha256: str
    bytes: int


class TrainedRow(Record):
    """What a trained editor came from."""

    row: str
    tasks: tuple[str, ...]
    data: str
    """Digest of the cases and weights that it learnt from."""
    checkpoint: str
    """Name of the trained editor's folder: digests of base model, training set, and all that decides the weights."""
    weights: str | None
    """sha256 of the trained network's file, where it lay beside the run when this was packed."""


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
    """Largest resident memory, in bytes; None: unknown, the run did not write it down."""
    device_memory: Bytes | None
    """Largest memory allocated on the cards, in bytes; None: unknown or on a CPU."""


class Manifest(Record):
    """`manifest.json`."""

    schema_version: Literal[2] = SCHEMA_VERSION
    name: str
    """Name of the submission. Submissions of one name and the same authors are versions of each other."""
    authors: tuple[str, ...]
    notes: str = ""
    runs: tuple[RunEntry, ...]
    files: dict[str, PackedFile]
    """All others of the submission."""


def entry_of(
    run: RunFile,
    base: Mapping[str, BasePass],
    times: Iterable[ChunkTime],
    usage: Iterable[Usage],
    weights: Mapping[str, str],
) -> RunEntry:
    """Return what a manifest says of a run.

    Args:
        run: The run.
        base: Its base pass by task.
        times: Lines of its `timings.jsonl`.
        usage: Lines of its `usage.jsonl`; none if it has no such file.
        weights: sha256 of the trained network's file by checkpoint, as far as they are known.
    """
    spec, origin = run.spec, run.provenance
    seconds = [(time.edit_seconds, time.score_seconds) for time in times]
    starts = list(usage)
    cards = [start.device_memory for start in starts if start.device_memory is not None]
    return RunEntry(
        digest=run.digest,
        setting=spec.setting,
        split=spec.split,
        schedule=spec.schedule,
        seed=spec.seed,
        limit=spec.limit,
        data=spec.data,
        model_fingerprint=spec.model_fingerprint,
        tokenizer_fingerprint=spec.tokenizer_fingerprint,
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
        edit_seconds=math.fsum(edit for edit, _ in seconds),
        score_seconds=math.fsum(score for _, score in seconds),
        memory=max((start.memory for start in starts), default=None),
        device_memory=max(cards, default=None),
    )
