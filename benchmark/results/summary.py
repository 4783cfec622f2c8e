"""From the lines of `cases.jsonl` to `summary.json`: means with intervals, and editors compared on the same cases.

The aggregation is KnowEdit's (arXiv 2401.01286): within a case the mean over the probes of a subset, then the mean over
the subsets the case has, then the mean over the cases that have any. Derived and given probes, scores of different
protocols and of different stages are never put into one mean.
"""

import json
import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from instructedit.editors.errors import InputError

from .consistency import Tally as ConsistencyTally
from .crossed import crossed_mean
from .decision import adjust, by_definition
from .guard import Key, key_of
from .health import Tally
from .records import CaseRecord, Comparison, EditorSpec, Mean, Measure, Protocol, RunFile, RunSummary
from .statistics import Interval, bounds_of, paired

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
        """Sort key: as the records list measures and protocols, each stage apart, over subsets before each subset."""
        return (
            self.stage,
            _MEASURES.index(self.measure),
            self.derived,
            _PROTOCOLS.index(self.protocol),
            self.subset is not None,
            self.subset or "",
        )


class Values:
    """The values of cases in one column, in 12 bytes each; a dict from ids to floats would take 55."""

    def __init__(self) -> None:
        self._cases = array("i")
        self._values = array("d")

    def add(self, case: int, value: float) -> None:
        """Take the value of a case, which has a number in the run."""
        self._cases.append(case)
        self._values.append(value)

    def all(self) -> list[float]:
        """Return the values."""
        return self._values.tolist()

    def by_case(self, names: Sequence[str]) -> dict[str, float]:
        """Return the values by the ids of the cases, which stand at the cases' numbers."""
        return {names[case]: value for case, value in zip(self._cases, self._values, strict=True)}


def summarise(
    run_file: RunFile,
    records: Iterable[CaseRecord],
    valid: bool = True,
    invalid_reason: str | None = None,
    expected: int | None = None,
) -> RunSummary:
    """Compute a run's summary from its records.

    Means and comparisons read the lines with status `done`. Means stand in the order editor, task, measure, given
    before derived, protocol, over all subsets before each subset, each stage apart; comparisons in the order task, pair
    of editors, column. Editors and tasks are in the order of the run. The order of the records has no influence, and no
    number is rounded, so equal runs give equal bytes. The p-values of a column are adjusted together, `decide.adjust`.

    A comparison is `editor` minus `other` over the cases both have, for the means over subsets only. Each pair of rows
    that `pairs` yields stands once, the row that comes first in the run first.

    `counts` counts *lines* per task, a line being one case under one editor: always `done`, `skipped` and `failed`;
    where there are any, `failed under <editor>`; and probes by `unscored: <reason>` and `remark: <sentence>`, over all
    lines.

    Args:
        run_file: The run the records belong to.
        records: All lines of its `cases.jsonl`, in any order.
        valid: Whether the base model came out of the run as it went in.
        invalid_reason: Why not, one sentence.
        expected: Lines a complete run has. None: cases read, cut to the run's limit, times the rows that evaluate the
            task, summed over tasks.

    Raises:
        InputError: If a record belongs to another run, names an editor or a task the run does not have, or stands
            twice.
    """
    spec = run_file.spec
    editors = {editor.name: editor for editor in spec.editors}
    values: dict[tuple[str, str], dict[Column, Values]] = defaultdict(lambda: defaultdict(Values))
    numbers: dict[str, int] = {}
    counts = {task: Counter(done=0, skipped=0, failed=0) for task in spec.tasks}
    seen: set[Key] = set()
    tally = Tally(spec)
    consistency = ConsistencyTally(editors)
    for record in records:
        _check(record, run_file, editors, seen)
        tally.take(record)
        consistency.take(record)
        counts[record.task][record.status] += 1
        if record.status == "failed":
            counts[record.task][f"failed under {record.editor}"] += 1
        for reason, probes in record.unscored.items():
            counts[record.task][f"unscored: {reason}"] += probes
        for sentence, probes in record.remarks.items():
            counts[record.task][f"remark: {sentence}"] += probes
        if record.status == "done":
            number = numbers.setdefault(record.case_id, len(numbers))
            for column, value in case_values(record):
                values[record.editor, record.task][column].add(number, value)
    if expected is None:
        expected = sum(
            min(data.cases, spec.limit or data.cases)
            for data in run_file.data
            for editor in spec.editors
            if editor.evaluates(data.task)
        )
    compared = list(pairs(spec.editors))
    names = list(numbers)
    return RunSummary(
        digest=run_file.digest,
        valid=valid,
        invalid_reason=invalid_reason,
        complete=len(seen) == expected,
        counts={task: dict(sorted(count.items())) for task, count in counts.items()},
        means=tuple(
            mean
            for editor in spec.editors
            for task in spec.tasks
            for mean in _means(editor, task, values[editor.name, task])
        ),
        comparisons=adjust(
            comparison
            for task in spec.tasks
            for first, second in compared
            for comparison in _comparisons(
                first.name, second.name, task, values[first.name, task], values[second.name, task], names
            )
        ),
        health=tuple(tally.summed()),
        consistency=tuple(consistency.summed()),
    )


def pairs(rows: Sequence[EditorSpec]) -> Iterator[tuple[EditorSpec, EditorSpec]]:
    """Yield the rows of a run that are compared: those that differ in editor, training or instruction, in one alone.

    An editor whose probes carry the instruction counts as another one than the same editor with bare probes.
    Rows of one editor that differ in the training are compared throughout. Where an editor gets several instructions,
    its row of the unseen (or of the seen) one stands for it: the other descriptions and the controls are compared with
    that row, and other editors too. Rows of two editors are compared where both learnt from the same cases and are told
    under the same condition; an editor that is not trained, or reads no instruction, meets every one of the others.
    All pairs of 20 rows would be 190 and take minutes; these are 34 in the setting `unseen-instruction`.
    """
    told: dict[str, set[str | None]] = defaultdict(set)
    for row in rows:
        told[_method(row)].add(row.instruction)

    def stands(row: EditorSpec) -> bool:
        return len(told[_method(row)]) == 1 or row.instruction in ("seen", "unseen")

    for first, second in combinations(rows, 2):
        same_set = _set(first) == _set(second)
        same_instruction = first.instruction == second.instruction
        if _method(first) == _method(second):
            if (same_set and (stands(first) or stands(second))) or (same_instruction and not same_set):
                yield first, second
        elif stands(first) and stands(second):
            free = None in (_set(first), _set(second))
            silent = None in (first.instruction, second.instruction)
            if (same_set or free) and (same_instruction or silent):
                yield first, second


def _method(row: EditorSpec) -> str:
    return json.dumps([row.method, row.version, row.config, row.instructed_probes], sort_keys=True)


def _set(row: EditorSpec) -> str | None:
    return row.training.digest if row.training else None


def _check(record: CaseRecord, run: RunFile, editors: Mapping[str, EditorSpec], seen: set[Key]) -> None:
    line = f"The line of case '{record.case_id}' under editor '{record.editor}'"
    if record.run != run.digest:
        raise InputError(f"{line} belongs to run {record.run}, but this is run {run.digest}.")
    row = editors.get(record.editor)
    if row is None or record.task not in run.spec.tasks or not row.evaluates(record.task):
        raise InputError(f"{line} (task '{record.task}') is not of this run: its editor or task is not in run.json.")
    key = key_of(record)
    if key in seen:
        raise InputError(f"{line} stands in cases.jsonl twice; one line per case and editor was expected.")
    seen.add(key)


def case_values(record: CaseRecord) -> Iterator[tuple[Column, float]]:
    """Yield a case's value in every column it has: the mean over the probes of each subset, then over subsets."""
    probes: dict[Column, list[float]] = defaultdict(list)
    for score in record.scores:
        probes[Column(record.stage, score.measure, score.derived, score.protocol, score.subset)].append(score.value)
    subsets: dict[Column, list[float]] = defaultdict(list)
    for column, scores in probes.items():
        mean = _mean(scores)
        subsets[column._replace(subset=None)].append(mean)
        yield column, mean
    for column, means in subsets.items():
        yield column, _mean(means)


def _means(editor: EditorSpec, task: str, values: Mapping[Column, Values]) -> Iterator[Mean]:
    for column in sorted(values, key=Column.order):
        interval = row_mean(editor, task, column, np.array([values[column].all()]))
        yield Mean(editor=editor.name, task=task, **column._asdict(), **interval._asdict())


def row_mean(editor: EditorSpec, task: str, column: Column, values: NDArray[np.float64]) -> Interval:
    """Return the mean of a row's values, one per seed and case `[S, N]`, with its interval.

    What the unedited model has by definition has no interval: no other case could be another.
    """
    given = 0.0 if column.protocol == "kl_divergence" else 1.0
    if editor.method == CONTROL and by_definition(column.measure, column.protocol) and bool((values == given).all()):
        return Interval(given, None, None, values.shape[1], "definition")
    return crossed_mean(values, _key("mean", editor.name, task, column), bounds_of(column.protocol))


def _comparisons(
    first: str,
    second: str,
    task: str,
    ours: Mapping[Column, Values],
    theirs: Mapping[Column, Values],
    names: Sequence[str],
) -> Iterator[Comparison]:
    shared = [column for column in ours.keys() & theirs.keys() if column.subset is None]
    for column in sorted(shared, key=Column.order):
        result = paired(ours[column].by_case(names), theirs[column].by_case(names), bounds_of(column.protocol))
        if result is not None:
            fields = column._asdict()
            del fields["subset"]
            yield Comparison(editor=first, other=second, task=task, **fields, **result._asdict())


def _key(kind: str, editor: str, task: str, column: Column) -> str:
    # Without the run's digest: the same scores get the same interval whatever else was run beside them.
    return "|".join([kind, editor, task, *map(str, column)])


def _mean(values: list[float]) -> float:
    # fsum is exact before its one rounding, so the order of the values cannot show.
    return math.fsum(values) / len(values)
