"""Statistics over the runs of a suite: runs that differ in the seed alone are put together.

A run that is not finished or not valid is left out. A number is over the cases that were scored under every seed, so
the seeds of a row are means over the same cases.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instructedit.editors.errors import InputError

from .comparisons import Asked, questions
from .crossed import crossed_difference
from .decision import adjust, family
from .guard import read_finished
from .health import Tally
from .records import EditorSpec, Health, RunFile, digest_of
from .run_folder import Store
from .statistics import Interval, Paired, bounds_of
from .suite_results import SeedComparison, SeedMean, SeedPair, SideMean, SuiteFile, SuiteGroup, SuiteSummary
from .summary import Column, case_values, pairs, row_mean

_Values = dict[Column, dict[str, dict[str, float]]]
"""Per column, row and case the value, of one task under one seed."""


class _Run(NamedTuple):
    label: str
    folder: Path
    file: RunFile


def summarise_suite(out: Path, suite: SuiteFile) -> SuiteSummary:
    """Put the runs of a suite together.

    Whatever is left out, or keeps the runs from being alike, is said in a warning. A comparison is over the cases that
    were scored in all its rows under every seed.

    Args:
        out: Folder of all runs.
        suite: Which of them belong together.

    Raises:
        InputError: If no run can be used, or a file of a run cannot be read.
    """
    warnings: list[str] = []
    together: dict[str, list[_Run]] = defaultdict(list)
    for run in _readable(out, suite, warnings):
        together[run.label + _without_seed(run.file)].append(run)
    if not together:
        raise InputError(f"{out}: no run of the suite '{Path(suite.name).stem}' can be used. {' '.join(warnings)}")
    groups = [sorted(runs, key=lambda run: run.file.spec.seed) for runs in together.values()]
    warnings += _unlike(groups)
    return SuiteSummary(
        name=Path(suite.name).stem, warnings=tuple(warnings), groups=tuple(_group(runs) for runs in groups)
    )


def _readable(out: Path, suite: SuiteFile, warnings: list[str]) -> Iterator[_Run]:
    for entry in suite.runs:
        folder = out / entry.digest
        name = f"Run {entry.digest} ('{entry.label}', seed {entry.seed})"
        if not (folder / "summary.json").is_file():
            warnings.append(f"{name} is left out: it is not finished, or its folder is not there.")
            continue
        run, summary = read_finished(folder)
        if not summary.valid:
            warnings.append(f"{name} is left out, it is INVALID: {summary.invalid_reason or 'no reason was recorded.'}")
            continue
        if not summary.complete:
            warnings.append(f"{name} is INCOMPLETE: not every case has been run under every editor.")
        yield _Run(entry.label, folder, run)


def _without_seed(file: RunFile) -> str:
    """Return the digest of a run's specification without its seed; a checkpoint's name has the seed in it."""
    editors = tuple(
        row.model_copy(update={"training": row.training.model_copy(update={"checkpoint": ""})}) if row.training else row
        for row in file.spec.editors
    )
    return digest_of(file.spec.model_copy(update={"seed": 0, "editors": editors}))


def _unlike(groups: Sequence[Sequence[_Run]]) -> Iterator[str]:
    """Yield a warning for whatever keeps the runs of a suite from being alike."""
    labels = Counter(runs[0].label for runs in groups)
    for label in (label for label, count in labels.items() if count > 1):
        yield f"The runs '{label}' differ in more than the seed; they stand in {labels[label]} groups."
    seeds = {run.file.spec.seed for runs in groups for run in runs}
    without: dict[str, list[str]] = defaultdict(list)
    for runs in groups:
        for seed in sorted(seeds - {run.file.spec.seed for run in runs}):
            without[str(seed)].append(f"'{runs[0].label}'")
    for missing, names in without.items():
        yield f"There is no run of seed {missing} for {', '.join(names)}, but for others."
    origins = [run.file.provenance for runs in groups for run in runs]
    for what, found in (
        (
            "versions of instructedit-bench",
            {f"{o.version} (git {(o.git_revision or 'unknown')[:12]})" for o in origins},
        ),
        ("devices", {o.device for o in origins}),
        *((name, {o.packages.get(name, "none") for o in origins}) for name in ("torch", "transformers")),
    ):
        if len(found) > 1:
            yield f"The runs were made with different {what}: {', '.join(sorted(found))}."


def _group(runs: Sequence[_Run]) -> SuiteGroup:
    spec = runs[0].file.spec
    asked = list(questions(spec.setting, spec.editors, spec.tasks))
    values, failed, health = _values(runs)
    means: list[SeedMean] = []
    comparisons: list[SeedComparison] = []
    paired: list[SeedPair] = []
    editors = {row.name: row for row in spec.editors}
    for task in spec.tasks:
        found = {column for of_seed in values[task] for column in of_seed}
        for column in sorted(found, key=Column.order):
            of_column = [of_seed[column] for of_seed in values[task]]
            rows = [row for row in spec.editors if row.evaluates(task)]
            means += (mean for row in rows for mean in _mean(task, column, row, of_column))
            comparisons += (
                comparison
                for question in asked
                if task in question.tasks
                for comparison in _comparison(task, column, question, editors, of_column)
            )
            if column.protocol != "ngram_entropy":
                compared = [(first.name, second.name) for first, second in pairs(spec.editors)]
                paired += _pairs(task, column, compared, of_column)
    adjusted = adjust(paired)
    return SuiteGroup(
        label=runs[0].label,
        run=runs[0].file,
        seeds=tuple(run.file.spec.seed for run in runs),
        digests=tuple(run.file.digest for run in runs),
        failed={task: dict(sorted(counts.items())) for task, counts in failed.items()},
        means=tuple(means),
        comparisons=_tested(comparisons, adjusted),
        pairs=adjusted,
        health=health,
    )


def _values(runs: Sequence[_Run]) -> tuple[dict[str, list[_Values]], dict[str, Counter[str]], tuple[Health, ...]]:
    """Read the lines of all seeds: per task and seed the values over subsets, who failed how often, how edits fared."""
    tasks = runs[0].file.spec.tasks
    values: dict[str, list[_Values]] = {task: [defaultdict(lambda: defaultdict(dict)) for _ in runs] for task in tasks}
    failed: dict[str, Counter[str]] = defaultdict(Counter)
    tally = Tally(runs[0].file.spec)
    for number, run in enumerate(runs):
        for record in Store(run.folder).records(run.file):
            tally.take(record)
            if record.status != "done":
                failed[record.task][record.editor] += 1
                continue
            for column, value in case_values(record):
                if column.subset is None:
                    values[record.task][number][column][record.editor][record.case_id] = value
    return values, failed, tuple(tally.summed())


def _side(rows: Sequence[str], of_column: Sequence[Mapping[str, Mapping[str, float]]]) -> list[dict[str, float]]:
    """Return per seed the value of each case, the mean over the rows; of the cases that all rows have."""
    found = []
    for of_seed in of_column:
        parts = [of_seed.get(row, {}) for row in rows]
        shared = set[str].intersection(*(set(part) for part in parts))
        found.append({case: math.fsum(part[case] for part in parts) / len(parts) for case in shared})
    return found


def _shared(*sides: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the cases that have a value on all sides under every seed, sorted."""
    return sorted(set[str].intersection(*(set(of_seed) for side in sides for of_seed in side)))


def _mean(
    task: str, column: Column, row: EditorSpec, of_column: Sequence[Mapping[str, Mapping[str, float]]]
) -> Iterator[SeedMean]:
    side = _side((row.name,), of_column)
    if cases := _shared(side):
        found, per_seed = _over(side, cases, task, column, row)
        yield SeedMean(row=row.name, task=task, **_named(column), **found._asdict(), per_seed=per_seed)


def _over(
    side: Sequence[Mapping[str, float]], cases: Sequence[str], task: str, column: Column, row: EditorSpec
) -> tuple[Interval, tuple[float, ...]]:
    """Return a side's mean over seeds and cases with its interval, and that of each seed.

    `row` stands for the side: the row, or one of the name and the method of several rows together.
    """
    values = _array(side, cases)
    return row_mean(row, task, column, values), _per_seed(values)


def _compared(
    first: Sequence[Mapping[str, float]], second: Sequence[Mapping[str, float]], cases: Sequence[str], column: Column
) -> tuple[Paired, tuple[float, ...]]:
    """Return the paired difference over seeds and cases, and that of each seed."""
    values = _array(first, cases) - _array(second, cases)
    return crossed_difference(values, bounds_of(column.protocol)), _per_seed(values)


def _comparison(
    task: str,
    column: Column,
    asked: Asked,
    editors: Mapping[str, EditorSpec],
    of_column: Sequence[Mapping[str, Mapping[str, float]]],
) -> Iterator[SeedComparison]:
    first, second = _side(asked.rows, of_column), _side(asked.others, of_column)
    if cases := _shared(first, second):
        found, per_seed = _compared(first, second, cases, column)
        sides = []
        for side, name, rows in ((first, asked.first, asked.rows), (second, asked.second, asked.others)):
            row = editors[rows[0]]
            row = row if len(rows) == 1 else row.model_copy(update={"name": name})
            one, of_seeds = _over(side, cases, task, column, row)
            sides.append(SideMean(mean=one.mean, low=one.low, high=one.high, method=one.method, per_seed=of_seeds))
        yield SeedComparison(
            question=asked.question,
            first=asked.first,
            second=asked.second,
            rows=asked.rows,
            others=asked.others,
            task=task,
            **_named(column),
            **found._asdict(),
            per_seed=per_seed,
            sides=(sides[0], sides[1]),
        )


def _pairs(
    task: str,
    column: Column,
    compared: Sequence[tuple[str, str]],
    of_column: Sequence[Mapping[str, Mapping[str, float]]],
) -> Iterator[SeedPair]:
    """Yield the differences of the given pairs of rows."""
    sides = {row: _side((row,), of_column) for pair in compared for row in pair}
    for row, other in compared:
        if cases := _shared(sides[row], sides[other]):
            found, _ = _compared(sides[row], sides[other], cases, column)
            yield SeedPair(row=row, other=other, task=task, **_named(column), **found._asdict())


def _tested(found: Sequence[SeedComparison], pairs: Sequence[SeedPair]) -> tuple[SeedComparison, ...]:
    """Return what was asked with adjusted p-values: those of the pair where a comparison is one of two rows.

    A mean of several rows is in no pair, so these comparisons are a family of their own in each column.
    """
    of_pair = {(family(pair), frozenset((pair.row, pair.other))): pair for pair in pairs}
    known: list[tuple[SeedComparison, SeedPair | None]] = []
    for one in found:
        alone = len(one.rows) == len(one.others) == 1
        known.append((one, of_pair.get((family(one), frozenset((*one.rows, *one.others)))) if alone else None))
    rest = iter(adjust(one for one, pair in known if pair is None))
    return tuple(
        next(rest) if pair is None else one.model_copy(update={"p": pair.p, "p_holm": pair.p_holm})
        for one, pair in known
    )


def _array(side: Sequence[Mapping[str, float]], cases: Sequence[str]) -> NDArray[np.float64]:
    return np.array([[of_seed[case] for case in cases] for of_seed in side])


def _named(column: Column) -> dict[str, Any]:
    fields = column._asdict()
    del fields["subset"]
    return fields


def _per_seed(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(math.fsum(of_seed) / len(of_seed) for of_seed in values)
