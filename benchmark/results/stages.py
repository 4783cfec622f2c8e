"""Which cases of a run are scored at which stage; it follows from the specification and the cases' ids alone."""

import hashlib
from collections.abc import Mapping, Sequence

from .records import RunSpec

SINGLE = "single"
"""Stage of a case that is edited and scored on its own."""
BATCH = "batch"
AFTER_EDIT = "after-edit"
AFTER_ALL = "after-all"


def after(edits: int) -> str:
    """Return the stage after a number of edits."""
    return f"after-{edits}"


def stages_of(spec: RunSpec) -> set[str]:
    """Return all stages that a run can have."""
    return {AFTER_EDIT, AFTER_ALL, *map(after, spec.at)} if spec.schedule == "sequential" else {spec.schedule}


def stream_key(case_id: str, seed: int) -> bytes:
    """Return the sort key of an edited case: the sha256 of seed and id."""
    return hashlib.sha256(f"{seed} {case_id}".encode()).digest()


def marks_of(spec: RunSpec, count: int) -> list[int]:
    """Return the numbers of edits below `count` after which a sequence of `count` edits is scored."""
    return sorted({mark for mark in spec.at if mark < count})


def batches(spec: RunSpec, cases: Mapping[str, Sequence[str]]) -> list[tuple[list[str], dict[str, list[str]]]]:
    """Return for each joint edit of `batch` the ids of its cases, and by task of the cases that are scored under it.

    The edited cases in the order of `stream_key` are cut into batches of `batch_size`; the last may have fewer. Cases
    of tasks that are not edited are assigned to the batches in turn, by their index in their task.
    """
    order = _order(spec, cases)
    size = spec.batch_size or max(len(order), 1)
    carried = [order[first : first + size] for first in range(0, len(order), size)] or [[]]
    batch_of = {case: number for number, own in enumerate(carried) for case in own}
    for task, ids in cases.items():
        if task not in (spec.edited or ()):
            batch_of |= {case: number % len(carried) for number, case in enumerate(ids)}
    return [
        (own, {task: [case for case in ids if batch_of[case] == number] for task, ids in cases.items()})
        for number, own in enumerate(carried)
    ]


def scored(spec: RunSpec, cases: Mapping[str, Sequence[str]]) -> dict[str, dict[str, list[str]]]:
    """Return the ids of the cases that each row has a line of, by stage and task."""
    every = {task: list(ids) for task, ids in cases.items()}
    if spec.schedule != "sequential":
        return {spec.schedule: every}
    task_of = {case: task for task in spec.edited or () for case in cases.get(task, ())}
    order = _order(spec, cases)

    def first(count: int) -> dict[str, list[str]]:
        return {task: [case for case in order[:count] if task_of[case] == task] for task in spec.edited or ()}

    marks = {after(mark): first(mark) for mark in marks_of(spec, len(order))}
    return {AFTER_EDIT: first(len(order)), **marks, AFTER_ALL: every}


def _order(spec: RunSpec, cases: Mapping[str, Sequence[str]]) -> list[str]:
    edited = [case for task in spec.edited or () for case in cases.get(task, ())]
    return sorted(edited, key=lambda case: stream_key(case, spec.seed))
