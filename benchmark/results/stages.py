"""Which cases of a run are scored at which stage. Known from the specification and the cases' ids alone."""

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


def place(case_id: str, seed: int) -> bytes:
    """Return what orders the stream of edited cases: the sha256 of seed and id."""
    return hashlib.sha256(f"{seed} {case_id}".encode()).digest()


def marks_of(spec: RunSpec, count: int) -> list[int]:
    """Return the numbers of edits after which a stream of `count` is scored; at its end it is anyway."""
    return sorted({mark for mark in spec.at if mark < count})


def batches(spec: RunSpec, cases: Mapping[str, Sequence[str]]) -> list[tuple[list[str], dict[str, list[str]]]]:
    """Return for each joint edit of `batch` the ids of the cases that it carries, and of those scored under it by task.

    The stream of edited cases is cut into batches of `batch_size`; the last may have fewer. Cases of tasks that are not
    edited are dealt to the batches in turn, by their place in their task.

    Args:
        spec: The run.
        cases: Ids of the evaluated cases of each task.
    """
    edited = [case for task in spec.edited or () for case in cases.get(task, ())]
    stream = sorted(edited, key=lambda case: place(case, spec.seed))
    size = spec.batch_size or max(len(stream), 1)
    carried = [stream[first : first + size] for first in range(0, len(stream), size)] or [[]]
    batch_of = {case: number for number, own in enumerate(carried) for case in own}
    for task, ids in cases.items():
        if task not in (spec.edited or ()):
            batch_of |= {case: number % len(carried) for number, case in enumerate(ids)}
    return [
        (own, {task: [case for case in ids if batch_of[case] == number] for task, ids in cases.items()})
        for number, own in enumerate(carried)
    ]


def scored(spec: RunSpec, cases: Mapping[str, Sequence[str]]) -> dict[str, dict[str, list[str]]]:
    """Return the ids of the cases that each row has a line of, by stage and task.

    Args:
        spec: The run.
        cases: Ids of the evaluated cases of each task.
    """
    every = {task: list(ids) for task, ids in cases.items()}
    if spec.schedule != "sequential":
        return {spec.schedule: every}
    task_of = {case: task for task in spec.edited or () for case in cases.get(task, ())}
    stream = sorted(task_of, key=lambda case: place(case, spec.seed))

    def first(count: int) -> dict[str, list[str]]:
        return {task: [case for case in stream[:count] if task_of[case] == task] for task in spec.edited or ()}

    marks = {after(mark): first(mark) for mark in marks_of(spec, len(stream))}
    return {AFTER_EDIT: first(len(stream)), **marks, AFTER_ALL: every}
