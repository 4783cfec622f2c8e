"""Statistics over the runs of a suite: runs that differ in the seed alone form a group.

A run that is not finished or not valid is left out. A number is over the cases that were scored under every seed, so
the seeds of a row are means over the same cases.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from instructedit.editors.errors import InputError

from .crossed import crossed_difference
from .decision import adjust, family
from .health import HealthTally
from .integrity import read_finished
from .planned_comparisons import PlannedComparison, questions
from .records import EditorSpec, RunFile, digest_of
from .run_folder import RunFolder
from .statistics import bounds_of
from .suite_results import SeedComparison, SeedMean, SeedPair, SideMean, SuiteFile, SuiteGroup, SuiteSummary
from .summary import CaseValues, Column, pairs, row_mean


class _Run(NamedTuple):
    label: str
    folder: Path
    file: RunFile


def summarise_suite(out: Path, suite: SuiteFile) -> SuiteSummary:
    """Summarise the runs of a suite, in the folder `out` of all runs.

    Warnings name what is left out and in what the runs differ. A comparison is over the cases that were scored in all
    its rows under every seed.

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
    """Return the digest of a run's specification without its seed and checkpoints, whose names hold the seed."""
    editors = tuple(
        row.model_copy(update={"training": row.training.model_copy(update={"checkpoint": ""})}) if row.training else row
        for row in file.spec.editors
    )
    return digest_of(file.spec.model_copy(update={"seed": 0, "editors": editors}))


def _unlike(groups: Sequence[Sequence[_Run]]) -> Iterator[str]:
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
    values = CaseValues(seeds=len(runs))
    failed: dict[str, Counter[str]] = defaultdict(Counter)
    health = HealthTally(spec)
    for seed, run in enumerate(runs):
        for record in RunFolder(run.folder).records(run.file):
            health.take(record)
            if record.status == "done":
                values.add(record, seed, subsets=False)
            else:
                failed[record.task][record.editor] += 1
    cells = [(task, column) for task in spec.tasks for column in values.columns(task)]
    planned = list(questions(spec.setting, spec.editors, spec.tasks))
    editors = {row.name: row for row in spec.editors}
    compared = adjust(
        SeedPair(row=first.name, other=second.name, task=task, **column.fields(), **found._asdict())
        for task, column in cells
        if column.protocol != "ngram_entropy" and column.compared  # of fluency, more is not always better
        for first, second in pairs(spec.editors)
        if (found := values.difference(first, second, task, column))
    )
    comparisons = [
        comparison
        for task, column in cells
        for question in planned
        if task in question.tasks and column.compared
        if (comparison := _comparison(task, column, question, editors, values))
    ]
    return SuiteGroup(
        label=runs[0].label,
        run=runs[0].file,
        seeds=tuple(run.file.spec.seed for run in runs),
        digests=tuple(run.file.digest for run in runs),
        failed={task: dict(sorted(counts.items())) for task, counts in failed.items()},
        means=tuple(
            SeedMean(row=row.name, task=task, **column.fields(), **mean[0]._asdict(), per_seed=_per_seed(mean[1]))
            for task, column in cells
            for row in spec.editors
            if row.evaluates(task) and (mean := values.mean(row, task, column))
        ),
        comparisons=_tested(comparisons, compared),
        pairs=compared,
        health=tuple(health.summed()),
    )


def _comparison(
    task: str, column: Column, planned: PlannedComparison, editors: Mapping[str, EditorSpec], values: CaseValues
) -> SeedComparison | None:
    first, second = values.matrices(task, column, planned.rows, planned.others)
    if not first.size:
        return None
    sides = []
    for name, rows, own in ((planned.first, planned.rows, first), (planned.second, planned.others, second)):
        row = editors[rows[0]]
        row = row if len(rows) == 1 else row.model_copy(update={"name": name})
        mean = row_mean(row, task, column, own)._asdict()
        del mean["n"]
        sides.append(SideMean(**mean, per_seed=_per_seed(own)))
    return SeedComparison(
        **{name: value for name, value in planned._asdict().items() if name != "tasks"},
        task=task,
        **column.fields(),
        **crossed_difference(first - second, bounds_of(column.protocol))._asdict(),
        per_seed=_per_seed(first - second),
        sides=(sides[0], sides[1]),
    )


def _tested(found: Sequence[SeedComparison], pairs: Sequence[SeedPair]) -> tuple[SeedComparison, ...]:
    """Return comparisons with adjusted p-values: those of the pair where a comparison is one of two rows.

    A mean of several rows is in no pair, so these comparisons are a family of their own in each column.
    """
    of_pair: dict[Any, SeedPair] = {(family(pair), frozenset((pair.row, pair.other))): pair for pair in pairs}
    known = [of_pair.get((family(one), frozenset((*one.rows, *one.others)))) for one in found]
    rest = iter(adjust(one for one, pair in zip(found, known, strict=True) if pair is None))
    return tuple(
        next(rest) if pair is None else one.model_copy(update={"p": pair.p, "p_holm": pair.p_holm})
        for one, pair in zip(found, known, strict=True)
    )


def _per_seed(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(map(fmean, values))
