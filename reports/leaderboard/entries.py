"""From accepted submissions to the entries of tables: one table for each thing that may be compared, and no other."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from instructedit.benchmark.results.health import HealthTally
from instructedit.benchmark.results.records import (
    CaseRecord,
    EditorSpec,
    Measure,
    Protocol,
    RunFile,
    RunSummary,
    digest_of,
    parse_record,
)
from instructedit.benchmark.results.statistics import Interval
from instructedit.benchmark.results.summary import case_values

from ..tables.columns import Column
from ..tables.health import Finding, findings, is_attitude
from .archive import Archive, document, lines
from .manifest import Manifest
from .training import Exposure, exposure


class Board(NamedTuple):
    """What all entries of a table have in common. Two numbers that differ in any of it are never set side by side."""

    task: str
    data: str
    """Digests of the tested files, as JSON."""
    reader: str
    """Version of the task's reader."""
    model: str
    """Fingerprint of the base model."""
    tokenizer: str
    dtype: str
    split: str
    limit: int | None
    schedule: str
    edited: str
    """Digests of the files of all tasks that are edited together, as JSON; empty for the schedule `single`."""
    stage: str
    decoding: str
    """How texts were generated, for protocols that read texts."""
    measure: Measure
    derived: bool
    protocol: Protocol
    batch_size: int | None = None
    """Edits of one joint edit of the schedule `batch`; None: all in one, or another schedule."""

    @property
    def column(self) -> Column:
        """Head and format of its numbers."""
        return Column(self.measure, self.derived, self.protocol)


@dataclass(frozen=True, slots=True)
class Submission:
    """An accepted submission.

    Attributes:
        id: Twelve hexadecimal digits of the sha256 of its manifest.
        manifest: The manifest.
        archive: Its files.
        runs: Its runs by digest.
        notes: What the check has to say besides.
    """

    id: str
    manifest: Manifest
    archive: Archive
    runs: dict[str, RunFile]
    notes: tuple[str, ...] = ()

    @property
    def author(self) -> tuple[str, tuple[str, ...]]:
        """What versions of a submission have in common: name and authors."""
        return self.manifest.name, self.manifest.authors

    @property
    def date(self) -> datetime:
        """When its last run was begun."""
        return max(_date(run) for run in self.runs.values())


@dataclass(slots=True)
class Entry:
    """One row of a submission in one table.

    Attributes:
        submission: The submission.
        row: The row, as in the run.
        setting: Setting of its runs.
        exposure: Whether it was trained on the task.
        runs: The run of each seed.
        again: Further runs of a seed, which are not counted.
        values: Value of each case under each seed.
        failed: Cases that failed or were skipped, over all seeds.
        summary: Mean and interval by seed, from the run's summary.
        findings: What is to be said of its edits, by seed; computed from the records, whatever the summary says.
    """

    submission: Submission
    row: EditorSpec
    setting: str
    exposure: Exposure
    runs: dict[int, str] = field(default_factory=dict)
    again: dict[int, list[str]] = field(default_factory=dict)
    values: dict[int, dict[str, float]] = field(default_factory=dict)
    failed: int = 0
    summary: dict[int, Interval] = field(default_factory=dict)
    findings: dict[int, tuple[Finding, ...]] = field(default_factory=dict)

    @property
    def flag(self) -> str:
        """What is to be said of its edits in a few words; empty if nothing is."""
        return ", ".join(dict.fromkeys(f.flag for found in self.findings.values() for f in found if f.flag))

    @property
    def flag_sentence(self) -> str:
        """The same in a sentence, seed by seed where there are several."""
        told = {seed: "; ".join(f.sentence for f in found) for seed, found in sorted(self.findings.items()) if found}
        several = len(self.runs) > 1
        return " ".join(f"Seed {seed}: {words}." if several else f"{words}." for seed, words in told.items())

    @property
    def control(self) -> bool:
        """Whether it edits nothing and so is never ranked."""
        return self.row.method == "none"


def entries_of(submissions: Iterable[Submission]) -> dict[Board, list[Entry]]:
    """Return the entries of each table, in the order of submissions and rows.

    A row that stands in several runs of a submission, with the same training and options, is one entry if nothing but
    the seed and the other rows tells the runs apart. Where two have the same seed too, the first run by digest counts
    and the others are named.
    """
    found: dict[Board, dict[tuple[str, str, str, str], Entry]] = defaultdict(dict)
    for submission in submissions:
        for digest in sorted(submission.runs):
            run = submission.runs[digest]
            # What two runs of one entry have in common: all of the specification but the seed and the other rows.
            common = run.spec.model_copy(update={"seed": 0, "editors": ()}).digest
            for board, row, values, failed, mean, told in _numbers(submission, run):
                key = (submission.id, row.name, _identity(row), common)
                entry = found[board].get(key)
                if entry is None:
                    exposed = exposure(row, board.task)
                    entry = found[board][key] = Entry(submission, row, run.spec.setting, exposed)
                if run.spec.seed in entry.runs:
                    entry.again.setdefault(run.spec.seed, []).append(digest)
                    continue
                entry.runs[run.spec.seed] = digest
                entry.values[run.spec.seed] = values
                entry.summary[run.spec.seed] = mean
                entry.findings[run.spec.seed] = told
                entry.failed += failed
    return {board: list(entries.values()) for board, entries in found.items()}


def _identity(row: EditorSpec) -> str:
    """Return what a row has in common under all seeds; the seed is part of a checkpoint's name."""
    if row.training is None:
        return digest_of(row)
    return digest_of(row.model_copy(update={"training": row.training.model_copy(update={"checkpoint": ""})}))


Number = tuple[Board, EditorSpec, dict[str, float], int, Interval, tuple[Finding, ...]]


def _numbers(submission: Submission, run: RunFile) -> Iterator[Number]:
    """Yield each column of each row of a run: values by case, failed lines, mean with interval, what its edits were."""
    rows = {row.name: row for row in run.spec.editors}
    values: dict[tuple[Board, str], dict[str, float]] = defaultdict(dict)
    failed: dict[tuple[str, str, str], int] = defaultdict(int)
    tally, place = HealthTally(run.spec), f"runs/{run.digest}"
    for _, line in lines(submission.archive, f"{place}/cases.jsonl.gz"):
        record = parse_record(line, CaseRecord, place)
        tally.take(record)
        at = (record.editor, record.task, record.stage)
        if record.status != "done":
            failed[at] += 1
            continue
        for column, value in case_values(record):
            if column.subset is None:
                board = board_of(run, record.task, column.stage, column.measure, column.derived, column.protocol)
                values[board, record.editor][record.case_id] = value
    summary = parse_record(document(submission.archive, f"{place}/summary.json"), RunSummary, place)
    means = {
        (board_of(run, m.task, m.stage, m.measure, m.derived, m.protocol), m.editor): Interval(
            m.mean, m.low, m.high, m.n, m.method
        )
        for m in summary.means
        if m.subset is None
    }
    told = {
        (health.editor, health.task, health.stage): tuple(
            findings(
                rows[health.editor],
                health,
                run.defaults.get(health.editor),
                attitude=is_attitude(summary.means, health.task),
            )
        )
        for health in tally.summed()
    }
    for (board, name), by_case in values.items():
        at = (name, board.task, board.stage)
        yield board, rows[name], by_case, failed[at], means[board, name], told.get(at, ())


def board_of(run: RunFile, task: str, stage: str, measure: Measure, derived: bool, protocol: Protocol) -> Board:
    """Return the table that a number of a run stands in."""
    spec, decoding = run.spec, ""
    if protocol == "free_generation":
        decoding = f"greedy, at most {spec.generation.max_new_tokens} new tokens"
    elif protocol == "ngram_entropy":
        decoding = f"{spec.generation.fluency_tokens} tokens sampled from the top {spec.generation.fluency_top_k}"
    return Board(
        task=task,
        data=_json(spec.data[task]),
        reader=spec.readers[task],
        model=spec.model_fingerprint,
        tokenizer=spec.tokenizer_fingerprint,
        dtype=spec.dtype,
        split=spec.split,
        limit=spec.limit,
        schedule=spec.schedule,
        edited=_json({other: spec.data[other] for other in spec.edited}) if spec.edited else "",
        stage=stage,
        decoding=decoding,
        measure=measure,
        derived=derived,
        protocol=protocol,
        batch_size=spec.batch_size,
    )


def _date(run: RunFile) -> datetime:
    found = datetime.fromisoformat(run.provenance.started)
    # The runner writes the offset; without one it is taken for UTC, so that any two can be compared.
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
