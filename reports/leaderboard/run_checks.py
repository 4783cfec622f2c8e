"""Checks of `run.json`: its digests, its data read again where possible, its trainings; and that no case is missing."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Literal, NamedTuple

from instructedit.benchmark.results.integrity import ROWS, derived_ids
from instructedit.benchmark.results.records import EditorSpec, RunFile, TaskData, TrainingSpec
from instructedit.benchmark.results.stages import scored
from instructedit.benchmark.tasks.base import TASKS, TaskCases, make_task
from instructedit.benchmark.tasks.sampling import choose
from instructedit.benchmark.tasks.sources import Embedded, Source
from instructedit.editors.cases import EditCase
from instructedit.editors.errors import InputError

from .findings import Findings, listed
from .names import TRAINED, UNTRAINED, checkpoint_of, embedded_digests, exposure

SHA256 = re.compile("[0-9a-f]{64}")
EDITORS = 200
"""Maximum number of rows of a run, and of stages: pairs of rows are compared. `unseen-instruction` has 16 rows."""
Seen = Mapping[tuple[str, str, str], set[str]]
"""The ids of the cases by row, task and stage."""


class Expected(NamedTuple):
    """What is known of the evaluated cases of a task."""

    size: int
    ids: tuple[str, ...] | None
    """None where they do not follow from what is available."""
    cases: Mapping[str, EditCase] = {}
    """The cases by id, where the data were read again."""


def check_run(run: RunFile, name: str, file: str, findings: Findings) -> bool:
    """Check `run.json` by itself; return whether its results can be checked within bounds."""
    spec = run.spec
    for what, count, unit in (("spec.editors", len(spec.editors), "rows"), ("spec.at", len(spec.at), "stages")):
        if count > EDITORS:
            findings.add(file, what, f"at most {EDITORS} {unit}", count)
            return False
    findings.equal(file, "digest, the name of its folder", name, run.digest)
    findings.equal(file, "digest of its specification", spec.digest, run.digest)
    names = [row.name for row in spec.editors]
    findings.equal(file, "spec.editors", sorted(set(names)), sorted(names))
    for task in {*(spec.edited or ()), *(task for row in spec.editors for task in row.tasks or ())}:
        if task not in spec.tasks:
            findings.add(file, "tasks of rows, and spec.edited", ", ".join(spec.tasks), task)
    try:
        datetime.fromisoformat(run.provenance.started)
    except ValueError:
        findings.add(file, "provenance.started", "a date and time of ISO 8601", f"'{run.provenance.started}'")
    if not any(row.is_base for row in spec.editors):
        findings.note(f"Run {name} has no row without edit: less of its base pass can be checked.")
    for row in spec.editors:
        _check_training(run, row, file, findings)
    for data in run.training:
        check_training_data(run, data, file, findings)
    for task in spec.tasks:
        rows = [row.name for row in spec.editors if row.evaluates(task) and exposure(row, task) == "yes"]
        if rows:
            findings.note(f"Run {run.digest}, trained on the training split of the tested '{task}': {', '.join(rows)}.")
    return True


def _check_training(run: RunFile, row: EditorSpec, file: str, findings: Findings) -> None:
    """Check the training of a row, or note why it cannot be checked."""
    place, training = f"row '{row.name}'", row.training
    if row.method not in (*UNTRAINED, *TRAINED):
        claim = "its training as described" if training else "that it was trained on nothing"
        findings.note(
            f"Row '{row.name}' of run {run.digest}: the editor '{row.method}' is not one of the package; {claim} "
            "cannot be checked."
        )
    elif training is None and row.method in TRAINED:
        findings.add(file, "training", f"what '{row.method}' was trained on, with its digests", "none", place)
    elif training is not None and row.method in UNTRAINED:
        findings.add(file, "training", f"none, '{row.method}' is not trained", training.label, place)
    if training is not None:
        if training.instructions is not None:
            findings.equal(file, "training.instructions", run.spec.instructions, training.instructions, place)
        findings.equal(file, "training.checkpoint", checkpoint_of(row, run.spec), training.checkpoint, place)
        _check_counts(run, training, file, place, findings)


def _check_counts(run: RunFile, training: TrainingSpec, file: str, place: str, findings: Findings) -> None:
    """Check that the numbers of a training are those of its tasks and of the training data."""
    cases = {data.task: data.cases for data in run.training}
    if not training.tasks:
        findings.add(file, "training.tasks", "at least one task", "none", place)
    for what in ("cases", "validation", "weights"):
        findings.equal(
            file, f"tasks of training.{what}", sorted(training.tasks), sorted(getattr(training, what)), place
        )
    for task in training.tasks:
        count = training.cases.get(task, 0) + training.validation.get(task, 0)
        if task not in cases:
            findings.add(file, "training", f"the training data of '{task}'", "none", place)
        else:
            available = min(training.limits.get(task, cases[task]), cases[task])
            findings.equal(file, f"training.cases of '{task}'", available, count, f"{place}, with validation")


def check_training_data(run: RunFile, data: TaskData, file: str, findings: Findings) -> None:
    """Check that a training split has digests, is no tested file and, if it is embedded, the package's own file."""
    what = f"training data of '{data.task}', sha256"
    _check_digests(data, what, file, findings)
    # Options are chosen on `train` and `validation`, whose file is that of the training.
    tested_data = run.data if run.spec.split == "test" else ()
    tested = {digest: other.task for other in tested_data for digest in other.sha256.values()}
    # Tasks with a test share divide one file into both splits, by the hash of the subjects.
    shares_file = data.task in TASKS and TASKS.get(data.task).test_share is not None
    for name, digest in data.sha256.items():
        if digest in tested and not shares_file:
            found = f"the file that '{tested[digest]}' is tested on"
            findings.add(file, f"training file {name} of '{data.task}'", "another file than a tested one", found)
    try:
        if data.task in TASKS and _is_embedded(data, "train"):
            ours = embedded_digests(data.task, "train")
            findings.equal(file, what, sorted(ours.values()), sorted(data.sha256.values()))
    except InputError as error:
        findings.note(f"The training data of '{data.task}' cannot be read again: {error}")


def expected_cases(run: RunFile, file: str, source: Source | None, findings: Findings) -> dict[str, Expected]:
    """Check the data of a run, and return what is known of the evaluated cases of each task.

    `source` is where the data are, if not in the package.
    """
    spec, found = run.spec, {}
    findings.equal(file, "data, tasks", sorted(spec.tasks), sorted(data.task for data in run.data))
    for data in (data for data in run.data if data.task in spec.tasks):
        what = f"data of '{data.task}'"
        findings.equal(file, f"{what}, sha256", spec.data.get(data.task), data.sha256)
        findings.equal(file, f"{what}, version", spec.readers.get(data.task), data.version)
        _check_digests(data, f"{what}, sha256", file, findings)
        if data.rows > ROWS or not 0 <= data.cases <= data.rows:
            findings.add(file, f"{what}, rows", f"at most {ROWS:,}, and no more cases", f"{data.rows}, {data.cases}")
            continue
        if (read := _read_again(run, data, file, source, findings)) is not None:
            cases = {case.request.case_id: case for case in choose(read.cases, spec.limit)}
            found[data.task] = Expected(len(cases), tuple(cases), cases)
            continue
        findings.note(
            f"The data of '{data.task}' in run {run.digest} were not read again: targets and accepted answers are as "
            "submitted. Give them with --data."
        )
        found[data.task] = Expected(run.counts[data.task], derived_ids(run, data))
    return found


def _check_digests(data: TaskData, what: str, file: str, findings: Findings) -> None:
    """Check that data are named by at least one sha256."""
    if not data.sha256 or not all(map(SHA256.fullmatch, data.sha256.values())):
        findings.add(file, what, "a sha256 of each file that was read", data.sha256)


def _read_again(run: RunFile, data: TaskData, file: str, source: Source | None, findings: Findings) -> TaskCases | None:
    """Read the test split of a task again; None where its data are not available."""
    if run.spec.split != "test" or data.task not in TASKS:
        return None
    options = {data.task: dict(run.spec.task_options.get(data.task, {}))}
    try:
        # By content, whatever the run claims of its source, which is in no digest.
        if _is_embedded(data, "test"):
            read = _read_embedded(data.task, json.dumps(options, sort_keys=True))
        elif source is not None:
            read = make_task(data.task, options).load(source)
        else:
            return None
    except InputError as error:
        findings.note(f"The data of '{data.task}' cannot be read again: {error}")
        return None
    what = f"data of '{data.task}'"
    if sorted(read.data.sha256.values()) != sorted(data.sha256.values()):
        findings.add(file, f"{what}, sha256", f"{read.data.sha256}, of the data here", data.sha256)
        return None
    for field in ("version", "rows", "cases", "skipped", "options"):
        findings.equal(file, f"{what}, {field}", getattr(read.data, field), getattr(data, field))
    return read


def _is_embedded(data: TaskData, split: Literal["test", "train"]) -> bool:
    """Tell whether a split has the content of the package's data, or claims to be of them.

    Raises:
        InputError: If it claims so, and the package has no such data.
    """
    try:
        ours = embedded_digests(data.task, split)
    except InputError:
        if data.source == "embedded":
            raise
        return False
    return data.source == "embedded" or sorted(data.sha256.values()) == sorted(ours.values())


@cache
def _read_embedded(task: str, options: str) -> TaskCases:
    """Read embedded data once for all submissions; `options` are JSON."""
    return make_task(task, json.loads(options)).load(Embedded())


def check_coverage(run: RunFile, seen: Seen, expected: Mapping[str, Expected], file: str, findings: Findings) -> None:
    """Check that every row has each of its cases once at each stage."""
    ids = {task: _ids(run, task, of_task, seen, file, findings) for task, of_task in expected.items()}
    wanted = {
        (row.name, task, stage): set(cases)
        for stage, of_stage in scored(run.spec, ids).items()
        for task, cases in of_stage.items()
        for row in run.spec.editors
        if row.evaluates(task)
    }
    for key in sorted(wanted.keys() | {key for key in seen if key[1] in expected}):
        row, task, stage = key
        found, needed = seen.get(key, set()), wanted.get(key, set())
        place = f"row '{row}', task '{task}', stage '{stage}'"
        if lost := needed - found:
            findings.add(file, "cases", f"each of {len(needed)} cases once", f"none of {listed(lost)}", place)
        if more := found - needed:
            findings.add(file, "cases", f"the {len(needed)} cases of the run", f"also {listed(more)}", place)


def _ids(run: RunFile, task: str, expected: Expected, seen: Seen, file: str, findings: Findings) -> list[str]:
    """Return the ids of a task's cases: known, or else those of all rows, whose number has to be right."""
    if expected.ids is not None:
        return list(expected.ids)
    ids = sorted({case for (_, of, _), cases in seen.items() if of == task for case in cases})
    findings.equal(file, f"number of cases of '{task}'", expected.size, len(ids), "all rows")
    findings.note(
        f"Which rows of the data of '{task}' are cases in run {run.digest} does not follow from run.json; that none "
        "was replaced by another one is not checked."
    )
    return ids
