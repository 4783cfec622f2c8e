"""From the lines of `cases.jsonl` to `summary.json`: means with intervals, and editors compared on the same cases.

The aggregation is KnowEdit's (arXiv 2401.01286): within a case the mean over the probes of a subset, then the mean over
the subsets that the case has, then the mean over the cases that have any. Derived and given probes, scores of different
protocols and of different stages are never averaged together.
"""

import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from .consistency import ConsistencyTally
from .crossed import crossed_difference, crossed_mean
from .decision import adjust, by_definition
from .health import HealthTally
from .records import CaseRecord, Comparison, EditorSpec, Mean, Measure, Protocol, RunFile, RunSummary
from .statistics import Interval, Paired, bounds_of

CONTROL = "none"
"""The method that edits nothing."""
_MEASURES: tuple[Measure, ...] = get_args(Measure)
_PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)


class Column(NamedTuple):
    """What a mean is over; `subset` None is the mean over subsets."""

    stage: str
    measure: Measure
    derived: bool
    protocol: Protocol
    subset: str | None

    def order(self) -> tuple[str, int, bool, int, bool, str]:
        """Sort key: each stage apart, measures and protocols in the order of the records, all subsets before each."""
        measure, protocol = _MEASURES.index(self.measure), _PROTOCOLS.index(self.protocol)
        return self.stage, measure, self.derived, protocol, self.subset is not None, self.subset or ""

    @property
    def compared(self) -> bool:
        """Whether rows are compared: not by what the unedited model knows, which is the same in every row."""
        return self.protocol != "known_before"

    def fields(self) -> dict[str, Any]:
        """Return the fields of a comparison, which is over all subsets."""
        return {name: value for name, value in self._asdict().items() if name != "subset"}


def case_values(record: CaseRecord) -> Iterator[tuple[Column, float]]:
    """Yield a case's value in every column that it has: the mean over the probes of each subset, then over subsets."""
    probes: dict[Column, list[float]] = defaultdict(list)
    for score in record.scores:
        probes[Column(record.stage, score.measure, score.derived, score.protocol, score.subset)].append(score.value)
    subsets: dict[Column, list[float]] = defaultdict(list)
    for column, scores in probes.items():
        mean = fmean(scores)  # exact before its one rounding, so that the order of the values has no influence
        subsets[column._replace(subset=None)].append(mean)
        yield column, mean
    for column, means in subsets.items():
        yield column, fmean(means)


class CaseValues:
    """The values of cases by task, row and column, of `seeds` runs that differ in the seed alone.

    A value takes 12 bytes; a dict from ids to floats would take 55.
    """

    def __init__(self, seeds: int = 1) -> None:
        self._seeds = range(seeds)
        self._numbers: dict[str, dict[str, int]] = defaultdict(dict)
        self._cells: dict[tuple[str, Column, str, int], tuple[array[int], array[float]]] = {}
        self._columns: dict[str, set[Column]] = defaultdict(set)

    def add(self, record: CaseRecord, seed: int = 0, *, subsets: bool = True) -> None:
        """Add the values of a line with status `done`; without `subsets` those over all subsets alone."""
        numbers = self._numbers[record.task]
        number = numbers.setdefault(record.case_id, len(numbers))
        for column, value in case_values(record):
            if subsets or column.subset is None:
                self._columns[record.task].add(column)
                key = record.task, column, record.editor, seed
                cases, values = self._cells.setdefault(key, (array("i"), array("d")))
                cases.append(number)
                values.append(value)

    def columns(self, task: str) -> list[Column]:
        """Return the columns of a task in order."""
        return sorted(self._columns[task], key=Column.order)

    def matrices(self, task: str, column: Column, *sides: Sequence[str]) -> list[NDArray[np.float64]]:
        """Return the values of sides on the cases that all of their rows have under every seed, sorted by id.

        A side's value is the mean over its rows; there is one array [seeds, cases] for each side.
        """
        numbers = self._numbers[task]
        keys = [(task, column, row, seed) for rows in sides for row in rows for seed in self._seeds]
        values = np.full((len(keys), len(numbers)), np.nan)
        for line, key in zip(values, keys, strict=True):
            if key in self._cells:
                cases, own = self._cells[key]
                line[np.asarray(cases)] = own
        by_id = [numbers[case] for case in sorted(numbers)]
        values = values[:, by_id]
        # Contiguous, so that sums over cases are added in one order.
        values = np.ascontiguousarray(values[:, ~np.isnan(values).any(axis=0)])
        ends = np.cumsum([len(rows) * len(self._seeds) for rows in sides])[:-1]
        parts = zip(sides, np.split(values, ends), strict=True)
        by_row = [own.reshape(len(rows), len(self._seeds), -1) for rows, own in parts]
        return [own[0] if len(own) == 1 else np.apply_along_axis(fmean, 0, own) for own in by_row]

    def mean(self, row: EditorSpec, task: str, column: Column) -> tuple[Interval, NDArray[np.float64]] | None:
        """Return a row's mean with its interval, and its values [seeds, cases]; None if it has no case."""
        (own,) = self.matrices(task, column, [row.name])
        return (row_mean(row, task, column, own), own) if own.size else None

    def difference(self, first: EditorSpec, second: EditorSpec, task: str, column: Column) -> Paired | None:
        """Compare two rows on the cases that both have; None if they share none."""
        ours, theirs = self.matrices(task, column, [first.name], [second.name])
        return crossed_difference(ours - theirs, bounds_of(column.protocol)) if ours.size else None


def summarise(
    run_file: RunFile,
    records: Iterable[CaseRecord],
    valid: bool = True,
    invalid_reason: str | None = None,
    expected: int | None = None,
) -> RunSummary:
    """Compute a run's summary from its records.

    `records` are all lines of its `cases.jsonl` in any order, checked by `integrity.LineChecks`; `expected` is the
    number of lines of a complete run, by default the cases read, cut to the run's limit, times the rows that evaluate
    the task.

    Means and comparisons read the lines with status `done`. Means are ordered by editor, task and column (each stage
    apart, then measure, given before derived, protocol, over all subsets before each subset), comparisons by task, pair
    of editors and column; editors and tasks as in the run. The order of the records has no influence, and no number is
    rounded, so equal runs give equal bytes.

    A comparison is `editor` minus `other` over the cases that both have, for the means over subsets only, of each pair
    of rows that `pairs` yields. The p-values of a column are adjusted together by `decision.adjust`.

    `counts` counts *lines* per task, a line being one case under one editor: always `done`, `skipped` and `failed`;
    where there are any, `failed under <editor>`; and probes by `unscored: <reason>` and `remark: <sentence>`, over all
    lines.
    """
    spec = run_file.spec
    values, lines = CaseValues(), 0
    counts = {task: Counter(done=0, skipped=0, failed=0) for task in spec.tasks}
    health, consistency = HealthTally(spec), ConsistencyTally(spec.editors)
    for record in records:
        lines += 1
        health.take(record)
        consistency.take(record)
        count = counts[record.task]
        count[record.status] += 1
        if record.status == "failed":
            count[f"failed under {record.editor}"] += 1
        count.update({f"unscored: {reason}": probes for reason, probes in record.unscored.items()})
        count.update({f"remark: {sentence}": probes for sentence, probes in record.remarks.items()})
        if record.status == "done":
            values.add(record)
    if expected is None:
        expected = sum(count * row.evaluates(task) for task, count in run_file.counts.items() for row in spec.editors)
    return RunSummary(
        digest=run_file.digest,
        valid=valid,
        invalid_reason=invalid_reason,
        complete=lines == expected,
        counts={task: dict(sorted(count.items())) for task, count in counts.items()},
        means=tuple(
            Mean(editor=row.name, task=task, **column._asdict(), **mean[0]._asdict())
            for row in spec.editors
            for task in spec.tasks
            for column in values.columns(task)
            if (mean := values.mean(row, task, column))
        ),
        comparisons=adjust(
            Comparison(editor=first.name, other=second.name, task=task, **column.fields(), **found._asdict())
            for task in spec.tasks
            for first, second in pairs(spec.editors)
            for column in values.columns(task)
            if column.subset is None and column.compared and (found := values.difference(first, second, task, column))
        ),
        health=tuple(health.summed()),
        consistency=tuple(consistency.summed()),
    )


def pairs(rows: Sequence[EditorSpec]) -> Iterator[tuple[EditorSpec, EditorSpec]]:
    """Yield the rows of a run that are compared: those that differ in editor, training or instruction, in one alone.

    An editor whose probes carry the instruction counts as another one than the same editor with bare probes.
    Rows of one editor that differ in the training are compared throughout. Where an editor gets several instructions,
    its row of the unseen (or of the seen) one represents it: the other descriptions and the controls are compared with
    that row, and other editors too. Rows of two editors are compared if both were trained on the same cases and have
    the same condition; an editor that is not trained, or reads no instruction, is compared with every one of the
    others. All pairs of 20 rows would be 190 and take minutes; these are 34 in the setting `unseen-instruction`.
    """
    conditions: dict[str, set[str | None]] = defaultdict(set)
    for row in rows:
        conditions[_method(row)].add(row.instruction)

    def represents(row: EditorSpec) -> bool:
        return len(conditions[_method(row)]) == 1 or row.instruction in ("seen", "unseen")

    for first, second in combinations(rows, 2):
        cases = [row.training.digest if row.training else None for row in (first, second)]
        instructions = [first.instruction, second.instruction]
        same_cases, same_instruction = cases[0] == cases[1], instructions[0] == instructions[1]
        if _method(first) == _method(second):
            if (same_cases and (represents(first) or represents(second))) or (same_instruction and not same_cases):
                yield first, second
        elif represents(first) and represents(second):
            if (same_cases or None in cases) and (same_instruction or None in instructions):
                yield first, second


def row_mean(editor: EditorSpec, task: str, column: Column, values: NDArray[np.float64]) -> Interval:
    """Return the mean of a row's values, one per seed and case `[S, N]`, with its interval.

    What the unedited model has by definition has no interval: no other case could differ.
    """
    given = 0.0 if column.protocol == "kl_divergence" else 1.0
    if editor.method == CONTROL and by_definition(column.measure, column.protocol) and bool((values == given).all()):
        return Interval(given, None, None, values.shape[1], "definition")
    # Without the run's digest: the same scores get the same interval in every run.
    key = "|".join(["mean", editor.name, task, *map(str, column)])
    return crossed_mean(values, key, bounds_of(column.protocol))


def _method(row: EditorSpec) -> str:
    return json.dumps([row.method, row.version, row.config, row.instructed_probes], sort_keys=True)
