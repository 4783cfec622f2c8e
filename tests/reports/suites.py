"""Finished suites as files, written through the records: each value is said by a function of row, seed and case."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from instructedit.benchmark.results.records import CaseRecord, EditorSpec, RunFile, RunSummary, Score, TrainingSpec
from instructedit.benchmark.results.suite_results import SuiteEntry, SuiteFile
from instructedit.benchmark.results.summary import summarise

from .conftest import line, run_file

Value = Callable[[str, str, int, int], float | None]
"""From row, task, seed and number of the case to the value; None fails the case."""
Reads = dict[str, Any]
"""Fields of a score besides subset and value."""
PUBLISHED_OPTIONS = {"convsent": {"edit": "all replies"}}
_RELIABILITY: tuple[Reads, ...] = ({"measure": "reliability", "protocol": "teacher_forced_exact"},)


def trained(
    name: str, *tasks: str, instruction: str | None = None, only: Sequence[str] | None = None, **changes: Any
) -> EditorSpec:
    """A row of MEND or InstructEdit, by its name, that is trained on tasks; of its published form."""
    training = TrainingSpec(
        label="+".join(tasks),
        tasks=tasks,
        weights=dict.fromkeys(tasks, 1 / len(tasks)),
        cases=dict.fromkeys(tasks, 90),
        validation=dict.fromkeys(tasks, 10),
        digest="-".join(tasks),
        checkpoint="of seed 0",
    )
    method = name.partition("@")[0].partition("#")[0]
    fields: dict[str, Any] = {"training": training, "instruction": instruction}
    fields |= {"tasks": None if only is None else tuple(only)}
    if method == "instructedit":
        fields |= {"config": {"instruct": "edit and queries"}, "instructed_probes": "all but locality"}
    return EditorSpec(**{"name": name, "method": method, **fields, **changes})


def write_run(
    out: Path,
    setting: str,
    rows: Sequence[EditorSpec],
    seed: int,
    value: Value,
    *,
    cases: int = 10,
    tasks: Sequence[str] = ("counterfact",),
    changes: Mapping[str, object] | None = None,
    parameters: int = 2_190_000,
    reads: Mapping[str, Sequence[Reads]] | None = None,
) -> SuiteEntry:
    """Write one finished run and return its entry in the index.

    A case has the same value in all that `reads` names for its task; without it, exact match reliability alone.
    """
    base = run_file()
    rows = [
        row.model_copy(update={"training": row.training.model_copy(update={"checkpoint": f"of seed {seed}"})})
        if row.training
        else row
        for row in rows
    ]
    spec = base.spec.model_copy(
        update={
            "setting": setting,
            "editors": tuple(rows),
            "tasks": tuple(tasks),
            "task_options": PUBLISHED_OPTIONS,
            "seed": seed,
            "limit": max(cases, base.spec.limit or 0),
            **(changes or {}),
        }
    )
    data = tuple(base.data[0].model_copy(update={"task": task, "cases": cases}) for task in tasks)
    origin = base.provenance.model_copy(update={"parameters": parameters})
    run = base.model_copy(update={"digest": spec.digest, "spec": spec, "data": data, "provenance": origin})
    records = [
        _record(run, task, row.name, index, value(row.name, task, seed, index), (reads or {}).get(task, _RELIABILITY))
        for task in tasks
        for row in rows
        if row.evaluates(task)
        for index in range(cases)
    ]
    folder = out / run.digest
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(run.model_dump_json())
    (folder / "cases.jsonl").write_text("".join(record.model_dump_json() + "\n" for record in records))
    (folder / "summary.json").write_text(summarise(run, records).model_dump_json())
    return SuiteEntry(label=setting, setting=setting, schedule=spec.schedule, seed=seed, digest=run.digest)


def change_summary(out: Path, entry: SuiteEntry, **changes: object) -> None:
    """Change fields of a run's summary on disk."""
    path = out / entry.digest / "summary.json"
    summary = RunSummary.model_validate_json(path.read_text())
    path.write_text(summary.model_copy(update=changes).model_dump_json())


def write_index(out: Path, *entries: SuiteEntry, name: str = "full") -> SuiteFile:
    """Write the index of a suite."""
    suite = SuiteFile(name=name, runs=entries)
    (out / "suites").mkdir(exist_ok=True)
    (out / "suites" / f"{name}.json").write_text(suite.model_dump_json())
    return suite


def _record(run: RunFile, task: str, row: str, index: int, value: float | None, reads: Sequence[Reads]) -> CaseRecord:
    scores = () if value is None else tuple(Score(subset="edit", value=value, **names) for names in reads)
    status = {"status": "failed", "reason": "The loss is not a number."} if value is None else {}
    return line(run, task, index, row, scores, stage=run.spec.schedule, **status)
