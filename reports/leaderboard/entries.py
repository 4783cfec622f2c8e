"""From accepted submissions to the entries of tables. A table holds only numbers that may be compared."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from instructedit.benchmark.results.records import EditorSpec, Measure, Protocol, RunFile, digest_of
from instructedit.benchmark.results.statistics import Interval
from instructedit.benchmark.results.summary import Column as CaseColumn
from instructedit.benchmark.results.summary import case_values

from ..tables.columns import Column
from ..tables.health import Finding, findings, is_attitude
from .names import Exposure, exposure
from .validate import Verdict

_OF_TASKS: dict[str, Any] = {
    **{"setting": "", "tasks": (), "data": {}, "readers": {}, "task_options": {}, "limit": None, "edited": None},
    **{"joints": None, "old_answers": None, "references": None},
}
"""Fields of a specification in which runs of one method on different tasks may differ."""


class Board(NamedTuple):
    """What all entries of a table have in common. Numbers that differ in any of it are never in one table."""

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
    chat: str = ""
    """Text around every prompt, as JSON; empty for bare prompts."""

    @property
    def column(self) -> Column:
        """Head and format of its numbers."""
        return Column(self.measure, self.derived, self.protocol)


@dataclass
class SeedResult:
    """A column of a row of one run."""

    run: str
    """Digest of the run."""
    values: dict[str, float]
    """Value by case."""
    failed: int
    """Cases that failed or were skipped."""
    mean: Interval
    findings: tuple[Finding, ...] = ()
    """Warnings about the edits."""


@dataclass
class Entry:
    """One row of a submission in one table."""

    submission: Verdict
    row: EditorSpec
    exposure: Exposure
    """Whether it was trained on the task."""
    key: tuple[str, str, str, str] = ("", "", "", "")
    """Identifies it within a table, and its numbers in other tables of the task."""
    method: tuple[str, str, str] = ("", "", "")
    """What it has in common with the same method's entries on other tasks: submission, row with training and options,
    and all else of the specification that may differ within a submission."""
    seeds: dict[int, SeedResult] = field(default_factory=dict)
    again: dict[int, list[str]] = field(default_factory=dict)
    """Further runs of a seed, which are not counted."""

    @property
    def failed(self) -> int:
        """Cases that failed or were skipped, over all seeds."""
        return sum(result.failed for result in self.seeds.values())

    @property
    def flag(self) -> str:
        """Warnings about its edits in a few words; empty if there are none."""
        return ", ".join(dict.fromkeys(f.flag for result in self.seeds.values() for f in result.findings if f.flag))

    @property
    def flag_sentence(self) -> str:
        """The same as sentences, seed by seed where there are several."""
        texts = {seed: "; ".join(f.sentence for f in self.seeds[seed].findings) for seed in sorted(self.seeds)}
        several = len(self.seeds) > 1
        return " ".join(f"Seed {seed}: {text}." if several else f"{text}." for seed, text in texts.items() if text)

    @property
    def run(self) -> RunFile:
        """Its run under the first seed."""
        return self.submission.runs[self.seeds[min(self.seeds)].run]

    @property
    def control(self) -> bool:
        """Whether it edits nothing and so is never ranked."""
        return self.row.method == "none"

    def cases(self) -> tuple[str, ...]:
        """Return the cases that were scored under every seed, sorted."""
        return tuple(sorted(set[str].intersection(*(set(result.values) for result in self.seeds.values()))))


def entries_of(submissions: Iterable[Verdict]) -> dict[Board, list[Entry]]:
    """Return the entries of each table, in the order of submissions and rows.

    Runs of a submission that differ only in the seed and in other rows make one entry of a row with the same training
    and options. Where two have the same seed too, the first run by digest counts and the others are named.
    """
    found: dict[Board, dict[tuple[str, str, str, str], Entry]] = defaultdict(dict)
    for submission in submissions:
        for digest, run in sorted(submission.runs.items()):
            # What the runs of one entry have in common: all of the specification but the seed and the other rows.
            shared = run.spec.model_copy(update={"seed": 0, "editors": ()})
            common, alike = shared.digest, digest_of(shared.model_copy(update=_OF_TASKS))
            for board, row, result in _results(submission, run):
                key = (submission.id, row.name, _identity(row), common)
                method = submission.id, _identity(row.model_copy(update={"tasks": None})), alike
                entry = found[board].setdefault(key, Entry(submission, row, exposure(row, board.task), key, method))
                if run.spec.seed in entry.seeds:
                    entry.again.setdefault(run.spec.seed, []).append(digest)
                else:
                    entry.seeds[run.spec.seed] = result
    return {board: list(entries.values()) for board, entries in found.items()}


def _identity(row: EditorSpec) -> str:
    """Return the digest of a row without the seed, which is part of a checkpoint's name."""
    training = row.training and row.training.model_copy(update={"checkpoint": ""})
    return digest_of(row.model_copy(update={"training": training}))


def _results(submission: Verdict, run: RunFile) -> Iterator[tuple[Board, EditorSpec, SeedResult]]:
    """Yield each column of each row of a run."""
    rows, summary = {row.name: row for row in run.spec.editors}, submission.summaries[run.digest]
    values: dict[tuple[str, str, CaseColumn], dict[str, float]] = defaultdict(dict)
    failed: dict[tuple[str, str, str], int] = defaultdict(int)
    for record in submission.records(run.digest):
        if record.status != "done":
            failed[record.editor, record.task, record.stage] += 1
            continue
        for column, value in case_values(record):
            if column.subset is None:
                values[record.editor, record.task, column][record.case_id] = value
    means = {
        (m.editor, m.task, CaseColumn(*(getattr(m, name) for name in CaseColumn._fields))): m for m in summary.means
    }
    warnings = {
        (health.editor, health.task, health.stage): tuple(
            findings(
                rows[health.editor],
                health,
                run.defaults.get(health.editor),
                attitude=is_attitude(summary.means, health.task),
            )
        )
        for health in summary.health
    }
    for (name, task, column), by_case in values.items():
        mean, place = means[name, task, column], (name, task, column.stage)
        interval = Interval(mean.mean, mean.low, mean.high, mean.n, mean.method)
        result = SeedResult(run.digest, by_case, failed[place], interval, warnings.get(place, ()))
        yield board_of(run, task, column), rows[name], result


def board_of(run: RunFile, task: str, column: CaseColumn) -> Board:
    """Return the table of a number of a run."""
    spec, decoding = run.spec, ""
    if column.protocol in ("free_generation", "reversion"):
        decoding = f"greedy, at most {spec.generation.max_new_tokens} new tokens"
    elif column.protocol == "ngram_entropy":
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
        decoding=decoding,
        **column.fields(),
        batch_size=spec.batch_size,
        chat="" if spec.chat is None else _json(spec.chat.model_dump()),
    )


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
