"""Which cases a run has to have, in every row and at every stage, and what the data ask in each of them."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from instructedit.benchmark.results.guard import ROWS, derived_ids
from instructedit.benchmark.results.records import RunFile, TaskData
from instructedit.benchmark.results.stages import scored
from instructedit.benchmark.tasks.base import TASKS, TaskCases, make_task
from instructedit.benchmark.tasks.sampling import choose
from instructedit.benchmark.tasks.sources import Embedded, Source
from instructedit.editors.cases import EditCase
from instructedit.editors.errors import InputError

from .findings import Findings, listed

SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of the evaluated cases of a task.

    Attributes:
        count: How many there are.
        ids: Their ids; None where they do not follow from what is at hand.
        cases: The cases themselves by id, where the data were read again.
    """

    count: int
    ids: tuple[str, ...] | None
    cases: Mapping[str, EditCase] | None = None


def expected_cases(run: RunFile, file: str, source: Source | None, findings: Findings) -> dict[str, Expected]:
    """Return what is known of the evaluated cases of each task, and check what the run says of its data.

    Args:
        run: The run.
        file: Name of its `run.json`.
        source: Where the data are, besides those of the package.
        findings: Takes what is wrong.
    """
    spec, found = run.spec, {}
    described = {data.task: data for data in run.data}
    if len(described) != len(run.data) or set(described) != set(spec.tasks):
        findings.add(
            file, "data", f"one entry for each of {', '.join(spec.tasks)}", ", ".join(d.task for d in run.data)
        )
    for task in spec.tasks:
        if (data := described.get(task)) is None:
            continue
        if data.sha256 != spec.data.get(task):
            findings.add(file, f"data of '{task}', sha256", spec.data.get(task), data.sha256)
        check_digests(data.sha256, f"data of '{task}', sha256", file, findings)
        if data.version != spec.readers.get(task):
            findings.add(file, f"data of '{task}', version", spec.readers.get(task), data.version)
        if not 0 <= data.cases <= data.rows:
            findings.add(file, f"data of '{task}', cases", f"at most {data.rows}, the rows", data.cases)
        if data.rows > ROWS:
            findings.add(file, f"data of '{task}', rows", f"at most {ROWS:,}", data.rows)
            continue
        found[task] = _again(run, data, file, source, findings) or _derived(run, data, findings)
    return found


def check_digests(digests: Mapping[str, str], what: str, file: str, findings: Findings) -> None:
    """Check that data are named by at least one sha256."""
    if not digests or not all(map(SHA256.fullmatch, digests.values())):
        findings.add(file, what, "a sha256 of each file that was read", digests)


def _derived(run: RunFile, data: TaskData, findings: Findings) -> Expected:
    """Return what follows from the number of rows alone: the ids, if each row is a case."""
    spec = run.spec
    count = data.cases if spec.limit is None else min(data.cases, spec.limit)
    findings.note(
        f"The data of '{data.task}' in run {run.digest} were not read again: targets and accepted answers are as the "
        "submission says. Give them with --data."
    )
    return Expected(count, derived_ids(run, data))


def _again(run: RunFile, data: TaskData, file: str, source: Source | None, findings: Findings) -> Expected | None:
    """Read a task's test split again; None where its data are not at hand."""
    if run.spec.split != "test" or data.task not in TASKS:
        return None
    try:
        # By content, whatever the run says of the source: nothing that it says of it is in a digest.
        ours = is_embedded(data, "test")
        if not ours and source is None:
            return None
        options = run.spec.task_options
        read = _embedded(data.task, options) if ours or source is None else make_task(data.task, options).load(source)
    except InputError as error:
        findings.note(f"The data of '{data.task}' cannot be read again: {error}")
        return None
    if sorted(read.data.sha256.values()) != sorted(data.sha256.values()):
        findings.add(file, f"data of '{data.task}', sha256", f"{read.data.sha256}, of the data here", data.sha256)
        return None
    for field in ("version", "rows", "cases", "skipped", "options"):
        if getattr(read.data, field) != getattr(data, field):
            expected = f"{getattr(read.data, field)}, of the data here"
            findings.add(file, f"data of '{data.task}', {field}", expected, getattr(data, field))
    cases = {case.request.case_id: case for case in choose(read.cases, run.spec.limit)}
    return Expected(len(cases), tuple(cases), cases)


def is_embedded(data: TaskData, split: Literal["test", "train"]) -> bool:
    """Tell whether a split is, or says that it is, of the data of the package.

    Raises:
        InputError: If it says so, and the package has no such data.
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


def _embedded(task: str, options: Mapping[str, Mapping[str, Any]]) -> TaskCases:
    """Read embedded data once: they are the same for all submissions of the same options."""
    return _read(task, json.dumps(options.get(task, {}), sort_keys=True))


@cache
def _read(task: str, options: str) -> TaskCases:
    return make_task(task, {task: json.loads(options)}).load(Embedded())


def check_coverage(
    run: RunFile,
    seen: Mapping[tuple[str, str, str], set[str]],
    expected: Mapping[str, Expected],
    file: str,
    findings: Findings,
) -> int:
    """Check that every row has each of its cases once at each stage.

    Args:
        run: The run.
        seen: The ids of the cases by row, task and stage.
        expected: What is known of the cases.
        file: Name of the file of cases.
        findings: Takes what is wrong.

    Returns:
        Lines that the finished run has.
    """
    spec = run.spec
    ids = {task: _ids(run, task, of_task, seen, file, findings) for task, of_task in expected.items()}
    wanted = {
        (row.name, task, stage): set(cases)
        for stage, of_stage in scored(spec, ids).items()
        for task, cases in of_stage.items()
        for row in spec.editors
        if row.evaluates(task)
    }
    for key in sorted(wanted.keys() | {key for key in seen if key[1] in expected}):
        row, task, stage = key
        found, needed = seen.get(key, set()), wanted.get(key)
        place = f"row '{row}', task '{task}', stage '{stage}'"
        if needed is None:
            findings.add(file, "stage", f"one that schedule '{spec.schedule}' has", f"'{stage}'", place)
            continue
        if lost := sorted(needed - found):
            findings.add(file, "cases", f"each of {len(needed)} cases once", f"none of {listed(lost)}", place)
        if more := sorted(found - needed):
            findings.add(file, "cases", f"the {len(needed)} cases of the run", f"also {listed(more)}", place)
    return sum(len(cases) for cases in wanted.values())


def _ids(
    run: RunFile,
    task: str,
    of_task: Expected,
    seen: Mapping[tuple[str, str, str], set[str]],
    file: str,
    findings: Findings,
) -> list[str]:
    """Return the ids of a task's cases: known, or else those that any row has, whose number has to be right."""
    if of_task.ids is not None:
        return list(of_task.ids)
    ids = sorted(set().union(*_of(task, seen)))
    if len(ids) != of_task.count:
        findings.add(file, f"cases of '{task}'", f"{of_task.count}, from run.json", len(ids), "all rows")
    findings.note(
        f"Which rows of the data of '{task}' are cases in run {run.digest} does not follow from run.json; that none "
        "was exchanged for another one is not checked."
    )
    return ids


def _of(task: str, seen: Mapping[tuple[str, str, str], set[str]]) -> Iterator[set[str]]:
    return (ids for key, ids in seen.items() if key[1] == task)
