"""A finished run on embedded cases without any model: answers are invented, every score follows from them."""

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from instructedit.benchmark.results.records import Answer, CaseRecord, EditorSpec, RunFile, RunSpec, Score, TrainingSpec
from instructedit.benchmark.results.stages import scored
from instructedit.benchmark.results.summary import summarise
from instructedit.benchmark.scoring.matching import generation_agreement, matches
from instructedit.benchmark.scoring.metrics import ngram_entropy
from instructedit.benchmark.tasks.base import TASKS, Split, TaskCases
from instructedit.benchmark.tasks.sampling import choose
from instructedit.benchmark.tasks.sources import Embedded
from instructedit.editors.cases import EditCase
from instructedit.reports.leaderboard.names import checkpoint_of

from ..conftest import run_file

LIMIT = 3
TEXT = "one two three four five six seven"


@cache
def read_once(task: str, split: Split = "test") -> TaskCases:
    return TASKS.get(task)().load(Embedded(), split)


def embedded(task: str, limit: int = LIMIT) -> tuple[Any, tuple[EditCase, ...]]:
    """What a task's embedded test split was read from, and the cases a limit leaves."""
    read = read_once(task)
    return read.data, choose(read.cases, limit)


def spec_of(
    tasks: Sequence[str] = ("counterfact", "convsent"), limit: int = LIMIT, seed: int = 0, **fields: Any
) -> RunSpec:
    data = [embedded(task, limit)[0] for task in tasks]
    spec = run_file().spec.model_copy(
        update={
            "setting": "multi-task",
            "tasks": tuple(tasks),
            "data": {entry.task: entry.sha256 for entry in data},
            "readers": {entry.task: entry.version for entry in data},
            "limit": limit,
            "seed": seed,
            **fields,
        }
    )
    return with_checkpoints(spec)


def with_checkpoints(spec: RunSpec) -> RunSpec:
    """The specification with rows none, ft-l and mend, the last with the name its checkpoint has."""
    training = TrainingSpec(
        label="recent",
        tasks=("recent",),
        weights={"recent": 1.0},
        cases={"recent": 300},
        validation={"recent": 33},
        limits={"recent": 333},
        digest="0123456789abcdef",
        checkpoint="",
    )
    mend = EditorSpec(name="mend", method="mend", config={"edit_lr": 1e-4}, training=training)
    named = training.model_copy(update={"checkpoint": checkpoint_of(mend, spec)})
    rows = (
        EditorSpec(name="none", method="none"),
        EditorSpec(name="ft-l", method="ft-l", config={"lr": 0.01}),
        mend.model_copy(update={"training": named}),
    )
    return spec.model_copy(update={"editors": rows})


def write(
    out: Path, spec: RunSpec, right: dict[str, int] | None = None, started: str = "2026-01-02T03:04:05+00:00"
) -> Path:
    """Write the run of a specification; `right` is the number of correct cases per task by row, all by default."""
    training = read_once("recent", "train").data
    base = run_file()
    run = RunFile(
        digest=spec.digest,
        name="made",
        spec=spec,
        data=tuple(embedded(task)[0] for task in spec.tasks),
        training=(training,),
        provenance=base.provenance.model_copy(update={"started": started}),
    )
    cases = {task: embedded(task, spec.limit or 0)[1] for task in spec.tasks}
    by_id = {case.request.case_id: case for own in cases.values() for case in own}
    ids = {task: [case.request.case_id for case in own] for task, own in cases.items()}
    records = [
        record_of(run, row, by_id[case], stage, index < (right or {}).get(row.name, 10**6))
        for stage, of_stage in scored(spec, ids).items()
        for own in of_stage.values()
        for row in spec.editors
        for index, case in enumerate(own)
    ]
    folder = out / run.digest
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(run.model_dump_json(indent=1) + "\n")
    (folder / "cases.jsonl").write_text("".join(record.model_dump_json() + "\n" for record in records))
    times = [
        {
            "task": task,
            "stage": "single",
            "first_case": own[0],
            "editor": row.name,
            "cases": len(own),
            "edit_seconds": 1.5,
            "score_seconds": 0.25,
        }
        for task, own in ids.items()
        for row in spec.editors
    ]
    (folder / "timings.jsonl").write_text("".join(json.dumps(time) + "\n" for time in times))
    (folder / "usage.jsonl").write_text('{"seconds":9.5,"memory":1073741824,"device_memory":null}\n')
    total = len(records)
    (folder / "summary.json").write_text(summarise(run, records, expected=total).model_dump_json(indent=1) + "\n")
    return folder


def record_of(run: RunFile, row: EditorSpec, case: EditCase, stage: str, right: bool) -> CaseRecord:
    """A line: without edit the model generates the name of a colour; an editor that is right generates the target."""
    edits = not row.is_base
    colour = ("red", "green", "blue")[int(hashlib.sha256(case.request.case_id.encode()).hexdigest(), 16) % 3]
    answers, scores = [], []
    for number, probe in enumerate(case.probes):
        head = {"subset": probe.subset, "derived": probe.derived, "probe": number}
        plain = {"role": probe.role, "subset": probe.subset, "derived": probe.derived, "prompt": probe.prompt}
        if probe.opposed:
            topic = 0.5 if edits else 1.0
            for protocol, value in (("edit_success", 0.75 * topic), ("z_sent", 0.75), ("z_topic", topic)):
                scores.append(Score(measure=probe.role, protocol=protocol, value=value, **head))
            answers.append(Answer(**plain, accepted=probe.answers, opposed=probe.opposed))
            continue
        before = f" {colour}."
        local = probe.role == "locality"
        changed = edits and right and probe.role in ("reliability", "generalization")
        said = f" {probe.answers[0]}." if changed else before
        lost = local and edits and number % 2 == 1
        exact = float(not lost) if local else float(changed)
        forced = {"teacher_forced_token": exact or 0.5, "teacher_forced_exact": exact}
        if local:
            forced["kl_divergence"] = 0.125 if lost else 0.0
            free = generation_agreement(before, said, probe.answers)
        else:
            free = matches(said, probe.answers)
        for protocol, value in {**forced, "free_generation": float(free)}.items():
            scores.append(Score(measure=probe.role, protocol=protocol, value=value, **head))
        answers.append(Answer(**plain, accepted=probe.answers, before=before, generated=said))
    scores.append(Score(measure="fluency", subset="text", protocol="ngram_entropy", value=ngram_entropy(TEXT)))
    return CaseRecord(
        run=run.digest,
        task=case.request.task,
        case_id=case.request.case_id,
        editor=row.name,
        stage=stage,
        prompt=case.request.prompt,
        target=case.request.target,
        subject=case.request.subject,
        old=case.request.old,
        scores=tuple(scores),
        answers=tuple(answers),
        text=TEXT,
    )
