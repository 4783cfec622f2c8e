"""Small results of every setting that a figure is made of, with values that can be worked out by hand."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from instructedit.benchmark.results.direction_results import FILE, Directions, DirectionSet, write_directions
from instructedit.benchmark.results.records import EditorSpec, Measure, Protocol, RunFile
from instructedit.benchmark.results.suite_results import SeedMean, SuiteGroup
from instructedit.reports.figures.results import Results

from ..conftest import run_file
from ..suites import trained

FACTS = ("recent", "counterfact")
MIX = ("recent", "counterfact", "convsent")
PLAIN = [EditorSpec(name=name, method=name) for name in ("none", "ft-l", "grace")]
TITLES = {
    "none": "no edit",
    "ft-l": "FT-L",
    "grace": "GRACE",
    "mend": "MEND",
    "instructedit": "InstructEdit",
    "recent": "Recent",
    "counterfact": "CounterFact",
    "convsent": "ConvSent",
}
EXACT: Protocol = "teacher_forced_exact"


def mean(
    row: str,
    task: str,
    measure: Measure,
    value: float,
    *,
    stage: str = "single",
    n: int = 10,
    derived: bool = False,
    protocol: Protocol | None = None,
) -> SeedMean:
    """A mean with an interval of a twentieth on both sides; edit success where ConvSent has it."""
    told = "edit_success" if task == "convsent" and measure in ("reliability", "generalization") else EXACT
    return SeedMean(
        row=row,
        task=task,
        stage=stage,
        measure=measure,
        derived=derived,
        protocol=protocol or told,
        mean=value,
        low=max(0.0, value - 0.05),
        high=min(1.0, value + 0.05),
        n=n,
        per_seed=(value,),
    )


def group(
    setting: str,
    rows: Sequence[EditorSpec],
    means: Iterable[SeedMean],
    tasks: Sequence[str] = FACTS,
    digest: str | None = None,
    **changes: object,
) -> SuiteGroup:
    base = run_file()
    spec = base.spec.model_copy(update={"setting": setting, "editors": tuple(rows), "tasks": tuple(tasks), **changes})
    data = tuple(base.data[0].model_copy(update={"task": task}) for task in tasks)
    own = {"digest": digest or spec.digest, "spec": spec, "data": data, "titles": TITLES}
    run: RunFile = base.model_copy(update=own)
    label = setting if spec.schedule == "single" else spec.schedule
    return SuiteGroup(
        label=label,
        run=run,
        seeds=(spec.seed,),
        digests=(run.digest,),
        failed={},
        means=tuple(means),
        comparisons=(),
    )


def results(*groups: SuiteGroup, folders: Mapping[str, Path] | None = None, warnings: Sequence[str] = ()) -> Results:
    return Results(groups, folders or {g.digests[0]: Path(g.digests[0]) for g in groups}, tuple(warnings))


def scaling() -> SuiteGroup:
    """MEND and InstructEdit on one and two tasks: 0.2, 0.4 and 0.6, 0.8; a tenth less for InstructEdit."""
    rows = [PLAIN[0]]
    means = [mean("none", task, "reliability", 0.0) for task in FACTS]
    for editor, less in (("mend", 0.0), ("instructedit", 0.1)):
        for count, value in ((1, 0.4), (2, 0.8)):
            row = trained(f"{editor}@{'+'.join(FACTS[:count])}", *FACTS[:count])
            rows.append(row)
            means += [mean(row.name, task, "reliability", value - less) for task in FACTS]
            means += [mean(row.name, task, "generalization", value / 2, derived=True) for task in FACTS]
    return group("task-scaling", rows, means)


def balanced() -> SuiteGroup:
    rows = [trained(f"{editor}@{label}", *MIX) for editor in ("mend", "instructedit") for label in ("full", "balanced")]
    rows = [
        row.model_copy(update={"training": row.training.model_copy(update={"label": row.name.partition("@")[2]})})
        for row in rows
        if row.training
    ]
    values = {"mend@full": 0.9, "mend@balanced": 0.5, "instructedit@full": 0.7, "instructedit@balanced": 0.6}
    means = [mean(row, task, "reliability", value) for row, value in values.items() for task in MIX]
    means += [mean("none", task, "reliability", 0.25) for task in MIX]
    means += [mean(row, "recent", "portability", value / 2, n=7) for row, value in values.items()]
    return group("balanced", [PLAIN[0], *rows], means, MIX)


def multi_task() -> SuiteGroup:
    """ft-l and grace have the very same means on recent."""
    values = {"none": (0.0, 1.0), "ft-l": (0.5, 0.75), "grace": (0.5, 0.75)}
    means = []
    for row, (reliability, locality) in values.items():
        for task in MIX:
            means += [mean(row, task, "reliability", reliability), mean(row, task, "locality", locality)]
    return group("multi-task", PLAIN, means, MIX)


def sequential() -> SuiteGroup:
    """Twelve edits of each of two tasks; of ft-l only one case could be scored right after its own edit."""
    means = []
    for row, value in (("none", 0.0), ("ft-l", 0.5), ("grace", 0.75)):
        for task in FACTS:
            for stage, n in (("after-edit", 12), ("after-13", 9), ("after-20", 11), ("after-all", 12)):
                n_own = 1 if (row, stage) == ("ft-l", "after-edit") else n
                means.append(mean(row, task, "reliability", value, stage=stage, n=n_own))
                means.append(mean(row, task, "locality", 1 - value / 2, stage=stage, n=n_own))
    return group("multi-task", PLAIN, means, FACTS, schedule="sequential", edited=FACTS, at=(13, 20), limit=12)


def directions(folder: Path, each: int = 6) -> Results:
    """Single-task MEND whose tasks are at right angles, and the two multi-task editors with edits at random."""
    # The intervals are drawn by the run's digest, which would change with every new field of a specification.
    single = group("single-task", [trained(f"mend@{task}", task) for task in FACTS], [], digest="1" * 16)
    mixed = group("multi-task", [trained("mend", *FACTS), trained("instructedit", *FACTS)], [], digest="2" * 16)
    tasks = tuple(task for task in FACTS for _ in range(each))
    cases = tuple(f"{task}/test/{number}" for number, task in enumerate(tasks))
    apart = np.kron(np.eye(len(FACTS)), np.full((each, each), 0.5)) + 0.5 * np.eye(len(tasks))
    folders = {}
    for one, sets in (
        (single, [("mend", True, tuple(f"mend@{task}" for task in tasks), apart)]),
        (mixed, [(name, False, (name,) * len(tasks), cosines(len(tasks), name)) for name in ("mend", "instructedit")]),
    ):
        folders[one.digests[0]] = folder / one.digests[0]
        folders[one.digests[0]].mkdir(parents=True, exist_ok=True)
        found = [
            Directions(DirectionSet(name=name, own_task=own, rows=rows, tasks=tasks, cases=cases, left_out={}), matrix)
            for name, own, rows, matrix in sets
        ]
        write_directions(folders[one.digests[0]] / FILE, one.digests[0], each, found)
    return results(single, mixed, folders=folders)


def cosines(n: int, key: str) -> np.ndarray:
    """Cosines of n directions at random."""
    vectors = np.random.default_rng(len(key)).normal(size=(n, 30))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = vectors @ vectors.T
    np.fill_diagonal(found, 1.0)
    return (found + found.T) / 2
