"""What result files have to keep, whoever reads them: whose they are, which lines a run can have, how large a score is.

`run.json` is what its digest and its folder say, `summary.json` was made of the `cases.jsonl` beside it, each line is
of a case of the run and stands once, and every number lies where its protocol can put it. Files of older versions,
which do not say what they were made of, are read as they are.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from sys import intern
from typing import NamedTuple

from instructedit.editors.errors import InputError

from .records import CaseRecord, Comparison, Mean, Protocol, RunFile, RunSummary, TaskData, digest_of, read_record
from .stages import AFTER_ALL, AFTER_EDIT, after
from .statistics import bounds_of, span
from .suite_results import SeedComparison, SeedMean, SeedPair, SuiteSummary

ROWS = 1_000_000
"""Most rows of a split whose ids are worked out; the largest published one has 14,390."""
_CLOSE = 1e-9
"""How far rounding may carry a mean over the end of its range."""


class Key(NamedTuple):
    """What a line of `cases.jsonl` is the only one of."""

    case: str
    editor: str
    stage: str


class Break(NamedTuple):
    """A law that a line breaks: what is wrong, what was expected, what was found."""

    what: str
    expected: str
    found: str


class Content(NamedTuple):
    """What a file of lines holds: its sha256 and its number of lines."""

    sha256: str
    lines: int


def key_of(record: CaseRecord) -> Key:
    """Return the key of a line."""
    # Keys are kept, and each line that is read brings strings of its own: equal ones are kept once.
    return Key(intern(record.case_id), intern(record.editor), intern(record.stage))


def content_of(path: Path) -> Content | None:
    """Return what `cases.jsonl` holds; None if it is not there.

    Raises:
        InputError: If it cannot be read.
    """
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
    """Read `run.json`.

    Args:
        path: The file.
        named: Whether the folder's name has to be the run's digest.

    Raises:
        InputError: If it cannot be read, or is not what its digest or its folder's name says.
    """
    run = read_record(path, RunFile)
    check_identity(run, path, named=named)
    return run


def check_identity(run: RunFile, path: Path, *, named: bool) -> None:
    """Check that a run is what its digest and its folder's name say.

    Raises:
        InputError: If it is not.
    """
    if run.digest != run.spec.digest:
        raise InputError(
            f"{path}: field 'digest': {run.digest}, {run.spec.digest} was expected, the digest of what stands in "
            "'spec'; one of the two was changed."
        )
    if named and run.digest != (name := path.resolve().parent.name):
        raise InputError(f"{path}: holds the run {run.digest}, but its folder is named '{name}'; name it as the run.")


def read_finished(folder: Path) -> tuple[RunFile, RunSummary]:
    """Read `run.json` and `summary.json` of a run.

    Raises:
        InputError: If the run is not finished, a file cannot be read, the two are of different runs, `cases.jsonl` is
            not the file that the summary was made of, or a number is out of its range.
    """
    run, place = read_run(folder / "run.json"), folder / "summary.json"
    if not place.exists():
        raise InputError(
            f"{folder}: this run is not finished, there is no summary.json; the same run command goes on from where "
            "it is."
        )
    summary = read_record(place, RunSummary)
    if run.digest != summary.digest:
        raise InputError(f"In {folder} run.json is of run {run.digest} but summary.json of run {summary.digest}.")
    check_numbers(place, summary.means, summary.comparisons)
    if summary.content not in (None, digest_of(summary, {"content"})):
        raise InputError(
            f"{place}: was changed after it was written: its content has another digest than it says; start the run "
            "again, which sums up its lines anew."
        )
    if (found := changed(folder / "cases.jsonl", summary)) is not None:
        raise InputError(found)
    return run, summary


def read_suite_summary(path: Path) -> SuiteSummary:
    """Read `suite.json`.

    Raises:
        InputError: If it cannot be read, or a number is out of its range.
    """
    summary = read_record(path, SuiteSummary)
    for group in summary.groups:
        check_numbers(path, group.means, (*group.comparisons, *group.pairs))
    return summary


def changed(cases: Path, summary: RunSummary) -> str | None:
    """Return a sentence if `cases.jsonl` is there and is not what a summary was made of; None where it does not say."""
    if summary.cases_sha256 is None or (found := content_of(cases)) is None:
        return None
    if found == (summary.cases_sha256, summary.lines):
        return None
    return (
        f"{cases}: was changed after it was summed up: {found.lines} lines with the sha256 {found.sha256[:12]}, "
        f"summary.json was made of {summary.lines} with {summary.cases_sha256[:12]}; put that file back, or remove "
        "summary.json and start the run again, which checks and sums up what is there."
    )


def check_numbers(
    place: Path,
    means: Iterable[Mean | SeedMean],
    differences: Iterable[Comparison | SeedComparison | SeedPair],
) -> None:
    """Check that means, differences and their intervals lie where their protocol can put them.

    Raises:
        InputError: If one does not, or is not a number.
    """
    for mean in means:
        name = f"{place}, {mean.measure} of '{mean.task}' ({mean.protocol})"
        low, high = bounds_of(mean.protocol)
        values = [mean.mean, *(mean.per_seed if isinstance(mean, SeedMean) else ())]
        _check_within(name, (*values, mean.low, mean.high), low, high)
        if mean.n < 1:
            raise InputError(f"{name}: n is {mean.n}, at least 1 was expected.")
    for pair in differences:
        name = f"{place}, difference in {pair.measure} of '{pair.task}' ({pair.protocol})"
        low, high = span(bounds_of(pair.protocol))
        _check_within(name, (pair.difference, pair.low, pair.high), low, high)
        _check_within(f"{name}, p", (pair.p, pair.p_holm), 0.0, 1.0)


def _check_within(name: str, values: Iterable[float | None], low: float, high: float) -> None:
    for value in values:
        # a comparison with NaN is false
        if value is not None and not low - _CLOSE <= value <= high + _CLOSE:
            raise InputError(f"{name}: {value} is out of its range, a number from {low:g} to {high:g} was expected.")


def out_of_range(protocol: Protocol, value: float) -> Break | None:
    """Return why a score cannot be one of its protocol, None if it can."""
    low, high = bounds_of(protocol)
    if not low <= value <= high:
        expected = f"{protocol} of at least 0" if high > 1 else f"{protocol} within 0 and 1"
        return Break("value", expected, str(value))
    return None


def derived_ids(run: RunFile, data: TaskData) -> tuple[str, ...] | None:
    """Return the ids of a task's cases where they follow from the number of its rows: each row is a case."""
    spec = run.spec
    if data.cases != data.rows or spec.split == "validation" or not 0 <= data.rows <= ROWS:
        return None
    # As `choose` takes them, and every row being a case, their ids are known: task/split/row.
    ids = [f"{data.task}/{spec.split}/{row}" for row in range(data.rows)]
    ranked = sorted(ids, key=lambda case: hashlib.sha256(case.encode()).digest())
    return tuple(ranked[: spec.limit])


class Admission:
    """Which lines a run can have, told line by line.

    Args:
        run: The run.
        ids: The cases of each task, where the data are at hand. Else they follow from `run.json` where every row of the
            data is a case; of others it says how many there are.
        counts: Cases of each task that is described; by default as `run.json` describes them.
    """

    def __init__(
        self,
        run: RunFile,
        ids: Mapping[str, Collection[str] | None] | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        spec = run.spec
        if counts is None:
            most = [data.cases if spec.limit is None else min(data.cases, spec.limit) for data in run.data]
            counts = {data.task: count for data, count in zip(run.data, most, strict=True)}
        if ids is None:
            ids = {data.task: derived_ids(run, data) for data in run.data}
        self._run = run
        self._rows = {row.name: row for row in spec.editors}
        self._stages: set[str] = {spec.schedule}
        if spec.schedule == "sequential":
            self._stages = {AFTER_EDIT, AFTER_ALL, *map(after, spec.at)}
        self._known = {task for task in counts if ids.get(task) is not None}
        self._ids = {task: set(ids.get(task) or ()) for task in counts}
        self._counts = counts
        self._keys: set[Key] = set()

    def refused(self, record: CaseRecord) -> Break | None:
        """Return why a line cannot be of the run, None if it can; it is then known."""
        if broken := self._foreign(record) or self._unknown(record):
            return broken
        if (key := key_of(record)) in self._keys:
            return Break("case", "one line for each case, row and stage", "a second one")
        self._keys.add(key)
        return None

    def _foreign(self, record: CaseRecord) -> Break | None:
        row = self._rows.get(record.editor)
        if record.run != self._run.digest:
            return Break("run", self._run.digest, record.run)
        if row is None or record.task not in self._run.spec.tasks or not row.evaluates(record.task):
            return Break("row", "a row and task of run.json", f"row '{record.editor}', task '{record.task}'")
        if record.stage not in self._stages:
            return Break("stage", f"one that schedule '{self._run.spec.schedule}' has", f"'{record.stage}'")
        return None

    def _unknown(self, record: CaseRecord) -> Break | None:
        if record.task not in self._counts:
            return Break("task", "one whose data run.json describes", f"'{record.task}'")
        ids, count = self._ids[record.task], self._counts[record.task]
        if record.case_id not in ids:
            if record.task in self._known or len(ids) >= count:
                return Break("case_id", f"one of the {count} cases of the run", f"'{record.case_id}'")
            ids.add(record.case_id)
        return None

    def checked(self, record: CaseRecord, place: str) -> CaseRecord:
        """Return a line that the run can have, and all whose scores lie within their ranges.

        Raises:
            InputError: If it is no such line; with `place` in front.
        """
        broken = self.refused(record)
        for number, score in enumerate(record.scores):
            if broken is None and (found := out_of_range(score.protocol, score.value)):
                broken = found._replace(what=f"scores.{number}.{found.what}")
        if broken is not None:
            raise InputError(
                f"{place}, case '{record.case_id}' under '{record.editor}': {broken.what}: {broken.expected} was "
                f"expected, found {broken.found}."
            )
        return record
