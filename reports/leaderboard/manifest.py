"""`manifest.json`: what a submission says of itself. All of it but names, notes and weights follows from its files."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Literal

from instructedit.benchmark.results import SCHEMA_VERSION, CaseRecord, Record, RunFile, Schedule, Split, digest_of
from instructedit.benchmark.usage import ChunkTime, Usage

DISCRETE = ("teacher_forced_token", "teacher_forced_exact", "free_generation")
"""Protocols that count right tokens or answers: two machines agree on them exactly, unless two tokens tie."""


class PackedFile(Record):
    """One file of a submission, as it is packed."""

    sha256: str
    bytes: int


class BasePass(Record):
    """What the unedited model says to the cases of a task, as digests.

    A digest is the sha256 over the lines `CASE DIGEST`, sorted by case id, where DIGEST is the sha256 over the
    canonical JSON of what stands below for that case.
    """

    cases: int
    """Cases that were scored under some row."""
    answers: str | None
    """Per case `[role, subset, prompt, before]` of each probe in its order. None where nothing was generated."""
    scores: str | None
    """Per case `[probe, protocol, value]` of each score of the first row of the method `none` that is of one of the
    protocols `DISCRETE`, in their order. None where no such row is in the run."""


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
    """Per row: digest of its method, version, configuration, training and instruction."""
    trained: tuple[TrainedRow, ...]
    base: dict[str, BasePass]
    """Per task."""
    started: str
    versions: dict[str, str]
    """Of this program (with its commit), of Python and of the packages."""
    device: str
    edit_seconds: float
    score_seconds: float
    memory: int | None
    """Largest resident memory, in bytes; None: unknown, the run did not write it down."""
    device_memory: int | None
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


class BaseReader:
    """Gathers what the unedited model said from the lines of a run, in any order.

    Attributes:
        answers: Digest of the answers by task and case.
        scores: Digest of the scores of the row without edit by task and case.
        floats: The other scores of that row by case, in the order of its probes.
    """

    def __init__(self, run: RunFile) -> None:
        tasks = run.spec.tasks
        self.answers: dict[str, dict[str, str]] = {task: {} for task in tasks}
        self.scores: dict[str, dict[str, str]] = {task: {} for task in tasks}
        self.floats: dict[str, dict[str, list[float]]] = {task: {} for task in tasks}
        self._generated = run.spec.generation.max_new_tokens > 0
        # A row may be of some tasks only: the first one of each.
        self._unedited = {
            task: next((row.name for row in run.spec.editors if row.method == "none" and row.evaluates(task)), None)
            for task in tasks
        }

    def take(self, record: CaseRecord) -> None:
        """Take a line in; a case counts once, whatever rows and stages it stands in."""
        if record.status != "done":
            return
        if record.case_id not in self.answers[record.task]:
            said = [[answer.role, answer.subset, answer.prompt, answer.before] for answer in record.answers]
            self.answers[record.task][record.case_id] = _sha256(said)
        if record.editor == self._unedited[record.task] and record.case_id not in self.scores[record.task]:
            scores = [[s.probe, s.protocol, s.value] for s in record.scores if s.protocol in DISCRETE]
            self.scores[record.task][record.case_id] = _sha256(scores)
            self.floats[record.task][record.case_id] = [s.value for s in record.scores if s.protocol == "z_sent"]

    def passes(self) -> dict[str, BasePass]:
        """Return the base pass of each task."""
        return {
            task: BasePass(
                cases=len(answers),
                answers=_over(answers) if self._generated else None,
                scores=_over(self.scores[task]) if self._unedited[task] else None,
            )
            for task, answers in self.answers.items()
        }


def _sha256(value: object) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _over(cases: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(f"{case} {cases[case]}\n" for case in sorted(cases)).encode()).hexdigest()


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
