"""Checks of the tested data of a run: read again where possible, and each case in every row and at every stage."""

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Literal, NamedTuple

from instructedit.benchmark.results.integrity import ROWS, derived_ids
from instructedit.benchmark.results.records import RunFile, TaskData
from instructedit.benchmark.results.stages import scored
from instructedit.benchmark.tasks.base import TASKS, TaskCases, make_task
from instructedit.benchmark.tasks.sampling import choose
from instructedit.benchmark.tasks.sources import Embedded, Source
from instructedit.editors.cases import EditCase
from instructedit.editors.errors import InputError

from .findings import Findings, listed

SHA256 = re.compile("[0-9a-f]{64}")
Seen = Mapping[tuple[str, str, str], set[str]]
"""The ids of the cases by row, task and stage."""


class Expected(NamedTuple):
    """What is known of the evaluated cases of a task."""

    size: int
    ids: tuple[str, ...] | None
    """None where they do not follow from what is available."""
    cases: Mapping[str, EditCase] = {}
    """The cases by id, where the data were read again."""


def expected_cases(run: RunFile, file: str, source: Source | None, findings: Findings) -> dict[str, Expected]:
    """Check the data of a run, and return what is known of the evaluated cases of each task.

    `source` is where the data are, if not in the package.
    """
    spec, found = run.spec, {}
    described = {data.task: data for data in run.data}
    if len(described) != len(run.data) or set(described) != set(spec.tasks):
        found_tasks = ", ".join(data.task for data in run.data)
        findings.add(file, "data", f"one entry for each of {', '.join(spec.tasks)}", found_tasks)
    for task in spec.tasks:
        if (data := described.get(task)) is None:
            continue
        what = f"data of '{task}'"
        findings.equal(file, f"{what}, sha256", spec.data.get(task), data.sha256)
        check_digests(data.sha256, f"{what}, sha256", file, findings)
        findings.equal(file, f"{what}, version", spec.readers.get(task), data.version)
        if not 0 <= data.cases <= data.rows:
            findings.add(file, f"{what}, cases", f"at most {data.rows}, the rows", data.cases)
        if data.rows > ROWS:
            findings.add(file, f"{what}, rows", f"at most {ROWS:,}", data.rows)
            continue
        if (read := _read_again(run, data, file, source, findings)) is not None:
            cases = {case.request.case_id: case for case in choose(read.cases, spec.limit)}
            found[task] = Expected(len(cases), tuple(cases), cases)
            continue
        findings.note(
            f"The data of '{task}' in run {run.digest} were not read again: targets and accepted answers are as "
            "submitted. Give them with --data."
        )
        count = data.cases if spec.limit is None else min(data.cases, spec.limit)
        found[task] = Expected(count, derived_ids(run, data))
    return found


def check_digests(digests: Mapping[str, str], what: str, file: str, findings: Findings) -> None:
    """Check that data are named by at least one sha256."""
    if not digests or not all(map(SHA256.fullmatch, digests.values())):
        findings.add(file, what, "a sha256 of each file that was read", digests)


def _read_again(run: RunFile, data: TaskData, file: str, source: Source | None, findings: Findings) -> TaskCases | None:
    """Read the test split of a task again; None where its data are not available."""
    if run.spec.split != "test" or data.task not in TASKS:
        return None
    options = {data.task: dict(run.spec.task_options.get(data.task, {}))}
    try:
        # By content, whatever the run claims of its source, which is in no digest.
        if is_embedded(data, "test"):
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
        ours, theirs = getattr(read.data, field), getattr(data, field)
        if ours != theirs:
            findings.add(file, f"{what}, {field}", f"{ours}, of the data here", theirs)
    return read


def is_embedded(data: TaskData, split: Literal["test", "train"]) -> bool:
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
def embedded_digests(task: str, split: Literal["test", "train"]) -> Mapping[str, str]:
    """Return the sha256 of the embedded file of a split, by its name.

    Raises:
        InputError: If the package has no such file.
    """
    name, path = Embedded().find(TASKS.get(task).files[split])
    return {name: hashlib.sha256(path.read_bytes()).hexdigest()}


@cache
def _read_embedded(task: str, options: str) -> TaskCases:
    """Read embedded data once for all submissions; `options` are JSON."""
    return make_task(task, json.loads(options)).load(Embedded())


def check_coverage(run: RunFile, seen: Seen, expected: Mapping[str, Expected], file: str, findings: Findings) -> int:
    """Check that every row has each of its cases once at each stage; return the number of lines of the finished run."""
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
        found, place = seen.get(key, set()), f"row '{row}', task '{task}', stage '{stage}'"
        if (needed := wanted.get(key)) is None:
            findings.add(file, "stage", f"one that schedule '{run.spec.schedule}' has", f"'{stage}'", place)
            continue
        if lost := needed - found:
            findings.add(file, "cases", f"each of {len(needed)} cases once", f"none of {listed(lost)}", place)
        if more := found - needed:
            findings.add(file, "cases", f"the {len(needed)} cases of the run", f"also {listed(more)}", place)
    return sum(map(len, wanted.values()))


def _ids(run: RunFile, task: str, expected: Expected, seen: Seen, file: str, findings: Findings) -> list[str]:
    """Return the ids of a task's cases: known, or else those of all rows, whose number has to be right."""
    if expected.ids is not None:
        return list(expected.ids)
    ids = sorted({case for (_, of, _), cases in seen.items() if of == task for case in cases})
    if len(ids) != expected.size:
        findings.add(file, f"cases of '{task}'", f"{expected.size}, from run.json", len(ids), "all rows")
    findings.note(
        f"Which rows of the data of '{task}' are cases in run {run.digest} does not follow from run.json; that none "
        "was replaced by another one is not checked."
    )
    return ids
