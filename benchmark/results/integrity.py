"""Integrity checks of result files.

`run.json` agrees with its digest and its folder, `summary.json` was computed from the `cases.jsonl` beside it, each
line is of a case of the run and occurs once, and every number is within the range of its protocol. Older files without
digests of their content are read without that check.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from sys import intern
from typing import NamedTuple

from instructedit.editors.errors import InputError

from .records import CaseRecord, Comparison, Mean, RunFile, RunSummary, TaskData, digest_of, read_record
from .stages import stages_of
from .statistics import bounds_of, span
from .suite_results import SeedComparison, SeedMean, SeedPair, SuiteSummary

ROWS = 1_000_000
"""Maximum number of rows of a split whose case ids are derived; the largest published split has 14,390."""
LARGEST = 1_000_000
"""Maximum score; KL and entropy are some bits or nats. A sum of larger ones may exceed any float."""
_ROUNDING = 1e-9
"""How far rounding may move a mean beyond the end of its range."""


class Key(NamedTuple):
    """Identity of a line of `cases.jsonl`; each occurs once."""

    case: str
    editor: str
    stage: str


class FailedCheck(NamedTuple):
    """A failed check: the field, what was expected, what was found."""

    what: str
    expected: str
    found: str


class Content(NamedTuple):
    """Content of a file of lines: its sha256 and its number of lines."""

    sha256: str
    lines: int


def key_of(record: CaseRecord) -> Key:
    """Return the key of a line."""
    # Interned, because keys are kept and every parsed line has strings of its own.
    return Key(intern(record.case_id), intern(record.editor), intern(record.stage))


def content_of(path: Path) -> Content | None:
    """Return the content of `cases.jsonl`, None if the file is missing; `InputError` if it cannot be read."""
    found, lines = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
                lines += block.count(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    return Content(found.hexdigest(), lines)


def read_run(path: Path, *, named: bool = True) -> RunFile:
    """Read `run.json`; `named` tells whether the folder's name has to be the run's digest.

    Raises:
        InputError: If it cannot be read, or disagrees with its digest or its folder's name.
    """
    run = read_record(path, RunFile)
    check_identity(run, path, named=named)
    return run


def check_identity(run: RunFile, path: Path, *, named: bool) -> None:
    """Check that a run agrees with its digest and its folder's name; `InputError` if it does not."""
    if run.digest != run.spec.digest:
        raise InputError(
            f"{path}: field 'digest': {run.digest}, {run.spec.digest} was expected, the digest of 'spec'; one of the "
            "two was changed."
        )
    if named and run.digest != (name := path.resolve().parent.name):
        raise InputError(f"{path}: holds the run {run.digest}, but its folder is named '{name}'; name it as the run.")


def read_finished(folder: Path) -> tuple[RunFile, RunSummary]:
    """Read `run.json` and `summary.json` of a run.

    Raises:
        InputError: If the run is not finished, a file cannot be read, the two are of different runs, `cases.jsonl` is
            not the file that the summary was computed from, or a number is out of its range.
    """
    run, place = read_run(folder / "run.json"), folder / "summary.json"
    if not place.exists():
        raise InputError(
            f"{folder}: this run is not finished, there is no summary.json; the same run command resumes it."
        )
    summary = read_record(place, RunSummary)
    if run.digest != summary.digest:
        raise InputError(f"In {folder} run.json is of run {run.digest} but summary.json of run {summary.digest}.")
    check_numbers(place, summary.means, summary.comparisons)
    if summary.content not in (None, digest_of(summary, {"content"})):
        raise InputError(
            f"{place}: was changed after it was written: its content has another digest than recorded; run the same "
            "command again, which writes it from the lines."
        )
    if (found := changed(folder / "cases.jsonl", summary)) is not None:
        raise InputError(found)
    return run, summary


def read_suite_summary(path: Path) -> SuiteSummary:
    """Read `suite.json`; `InputError` if it cannot be read, or a number is out of its range."""
    summary = read_record(path, SuiteSummary)
    for group in summary.groups:
        check_numbers(path, group.means, (*group.comparisons, *group.pairs))
    return summary


def changed(cases: Path, summary: RunSummary) -> str | None:
    """Return a sentence if `cases.jsonl` exists and is not the file that a summary was computed from."""
    if summary.cases_sha256 is None or (found := content_of(cases)) is None:
        return None
    if found == (summary.cases_sha256, summary.lines):
        return None
    return (
        f"{cases}: was changed after it was summarised: {found.lines} lines with the sha256 {found.sha256[:12]}, "
        f"summary.json was computed from {summary.lines} with {summary.cases_sha256[:12]}; restore it, or remove "
        "summary.json and run the same command again, which checks and summarises the lines."
    )


def check_numbers(
    place: Path, means: Iterable[Mean | SeedMean], differences: Iterable[Comparison | SeedComparison | SeedPair]
) -> None:
    """Check that means, differences and their intervals are within their protocols' ranges; `InputError` if not."""
    for mean in means:
        name = f"{place}, {mean.measure} of '{mean.task}' ({mean.protocol})"
        values = [mean.mean, *(mean.per_seed if isinstance(mean, SeedMean) else ())]
        _check_within(name, (*values, mean.low, mean.high), *bounds_of(mean.protocol))
        if mean.n < 1:
            raise InputError(f"{name}: n is {mean.n}, at least 1 was expected.")
    for pair in differences:
        name = f"{place}, difference in {pair.measure} of '{pair.task}' ({pair.protocol})"
        _check_within(name, (pair.difference, pair.low, pair.high), *span(bounds_of(pair.protocol)))
        _check_within(f"{name}, p", (pair.p, pair.p_holm), 0.0, 1.0)


def _check_within(name: str, values: Iterable[float | None], low: float, high: float) -> None:
    for value in values:
        # A comparison with NaN is false.
        if value is not None and not low - _ROUNDING <= value <= high + _ROUNDING:
            raise InputError(f"{name}: {value} is out of its range, a number from {low:g} to {high:g} was expected.")


def _wrong_score(record: CaseRecord) -> FailedCheck | None:
    for number, score in enumerate(record.scores):
        low, high = bounds_of(score.protocol)
        if not low <= score.value <= min(high, LARGEST):
            expected = f"{score.protocol} within {low:g} and {int(min(high, LARGEST)):,}"
            return FailedCheck(f"scores.{number}.value", expected, str(score.value))
        if score.probe is not None and not 0 <= score.probe < len(record.answers):
            return FailedCheck(f"scores.{number}.probe", f"one of {len(record.answers)} answers", str(score.probe))
    return None


def derived_ids(run: RunFile, data: TaskData) -> tuple[str, ...] | None:
    """Return the ids of a task's cases if its number of rows determines them, each row being a case; else None."""
    spec = run.spec
    if data.cases != data.rows or spec.split == "validation" or not 0 <= data.rows <= ROWS:
        return None
    # In the order of `tasks.sampling.choose`.
    ids = [f"{data.task}/{spec.split}/{row}" for row in range(data.rows)]
    ranked = sorted(ids, key=lambda case: hashlib.sha256(case.encode()).digest())
    return tuple(ranked[: spec.limit])


class LineChecks:
    """Checks line by line that `cases.jsonl` is of a run.

    Args:
        run: The run.
        ids: The cases of each task, where the data are available. Else they follow from `run.json` where every row of
            the data is a case; of other tasks only their number is known.
    """

    def __init__(self, run: RunFile, ids: Mapping[str, Collection[str] | None] | None = None) -> None:
        if ids is None:
            ids = {data.task: derived_ids(run, data) for data in run.data}
        self._run = run
        self._rows = {row.name: row for row in run.spec.editors}
        self._stages = stages_of(run.spec)
        self._counts = run.counts
        self._known = {task for task in self._counts if ids.get(task) is not None}
        self._ids = {task: set(ids.get(task) or ()) for task in self._counts}
        self._keys: set[Key] = set()

    def refused(self, record: CaseRecord) -> FailedCheck | None:
        """Return the failed check of a line; None if it passes, and then its key is remembered."""
        if failed := self._wrong_run(record) or _wrong_score(record) or self._wrong_case(record):
            return failed
        if (key := key_of(record)) in self._keys:
            return FailedCheck("case", "one line for each case, row and stage", "a second one")
        self._keys.add(key)
        return None

    def _wrong_run(self, record: CaseRecord) -> FailedCheck | None:
        row = self._rows.get(record.editor)
        if record.run != self._run.digest:
            return FailedCheck("run", self._run.digest, record.run)
        if row is None or record.task not in self._run.spec.tasks or not row.evaluates(record.task):
            return FailedCheck("row", "a row and task of run.json", f"row '{record.editor}', task '{record.task}'")
        if record.stage not in self._stages:
            return FailedCheck("stage", f"one that schedule '{self._run.spec.schedule}' has", f"'{record.stage}'")
        return None

    def _wrong_case(self, record: CaseRecord) -> FailedCheck | None:
        if record.task not in self._counts:
            return FailedCheck("task", "one whose data run.json describes", f"'{record.task}'")
        ids, count = self._ids[record.task], self._counts[record.task]
        if record.case_id not in ids:
            if record.task in self._known or len(ids) >= count:
                return FailedCheck("case_id", f"one of the {count} cases of the run", f"'{record.case_id}'")
            ids.add(record.case_id)
        return None

    def checked(self, record: CaseRecord, place: str) -> CaseRecord:
        """Return a line that passes all checks; else an `InputError` with `place`."""
        if failed := self.refused(record):
            raise InputError(
                f"{place}, case '{record.case_id}' under '{record.editor}': {failed.what}: {failed.expected} was "
                f"expected, found {failed.found}."
            )
        return record
