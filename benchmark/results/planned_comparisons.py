"""Which rows of a setting are compared over seeds, and for which question of the paper's tables."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from .forms import OURS, trained_for
from .records import EditorSpec
from .suite_results import Question

THEIRS = "mend"
"""The method that InstructEdit is compared with: the same hypernetwork without instructions."""
_UNSEEN = "unseen"


class PlannedComparison(NamedTuple):
    """A comparison of two sides, each the mean over its rows, on the tasks that all of them evaluate."""

    question: Question
    first: str
    second: str
    rows: tuple[str, ...]
    others: tuple[str, ...]
    tasks: tuple[str, ...]


class _Side(NamedTuple):
    name: str
    rows: tuple[EditorSpec, ...]
    instruction: str | None = None


def questions(setting: str, editors: Sequence[EditorSpec], tasks: Sequence[str]) -> Iterator[PlannedComparison]:
    """Yield the comparisons of a run's rows.

    InstructEdit is compared with MEND where both were trained on the same tasks: each form of it with MEND under bare
    probes, and with MEND whose probes carry the instruction as its own do, not with every other form. Where an editor
    has a row for each instruction, the mean over the seen descriptions and the unseen description are each a side, and
    the unseen description and each control of InstructEdit are compared with the mean over the seen ones. A row that is
    trained on one task is compared on every other task with the row that is trained on that task (`single-task`).
    """
    for rows in _variants(editors, OURS):
        sides = _sides(rows)
        if seen := next((side for side in sides if side.instruction == "seen"), None):
            controls = (row for row in rows if row not in seen.rows and row.instruction != _UNSEEN)
            yield from (_planned("unseen", side, seen, tasks) for side in sides if side.instruction == _UNSEEN)
            yield from (_planned("control", _Side(row.name, (row,)), seen, tasks) for row in controls)
        for side, others in product(sides, _variants(editors, THEIRS)):
            for other in _sides(others):
                if _label(others[0]) == _label(rows[0]) and _alike(side, other):
                    yield _planned("mend", side, other, tasks)
    if setting == "single-task":
        yield from _drops(editors, tasks)


def base_name(row: EditorSpec) -> str:
    """Return the name of a row's editor in the configuration, without the marks of training and instruction."""
    return row.name.partition("#")[0].removesuffix(f"@{_label(row)}")


def _variants(editors: Sequence[EditorSpec], method: str) -> list[list[EditorSpec]]:
    """Return the rows of a method, those that differ in the instruction alone in one list."""
    found: dict[str, list[EditorSpec]] = defaultdict(list)
    for row in editors:
        if row.method == method:
            found[row.name.partition("#")[0]].append(row)
    return list(found.values())


def _sides(rows: Sequence[EditorSpec]) -> list[_Side]:
    """Return the sides that represent an editor: its one row, or the seen descriptions and the unseen one."""
    if len(rows) == 1:
        return [_Side(rows[0].name, (rows[0],), rows[0].instruction)]
    name = rows[0].name.partition("#")[0]
    seen = tuple(row for row in rows if (row.instruction or "").startswith("seen-"))
    unseen = [row for row in rows if row.instruction == _UNSEEN]
    return [
        *([_Side(f"{name}, seen descriptions", seen, "seen")] if seen else []),
        *(_Side(f"{name}, unseen description", (row,), _UNSEEN) for row in unseen),
    ]


def _alike(ours: _Side, theirs: _Side) -> bool:
    """Return whether both are trained for equal edits, and MEND's probes are bare or carry what InstructEdit's do."""
    first, second = ours.rows[0], theirs.rows[0]
    if trained_for(first) != trained_for(second):
        return False
    if trained_for(first) > 1 and first.config.get("joint") != second.config.get("joint"):
        return False
    probes = second.instructed_probes
    return probes == "none" or (probes == first.instructed_probes and theirs.instruction == ours.instruction)


def _drops(editors: Sequence[EditorSpec], tasks: Sequence[str]) -> Iterator[PlannedComparison]:
    trained = [row for row in editors if row.training and len(row.training.tasks) == 1]
    for own, row in product(trained, repeat=2):
        own_tasks = tuple(task for task in tasks if own.training and task in own.training.tasks)
        if own_tasks and row is not own and base_name(row) == base_name(own):
            yield _planned("drop", _Side(row.name, (row,)), _Side(own.name, (own,)), own_tasks)


def _label(row: EditorSpec) -> str | None:
    return row.training.label if row.training else None


def _planned(question: Question, first: _Side, second: _Side, tasks: Sequence[str]) -> PlannedComparison:
    rows, others = (tuple(row.name for row in side.rows) for side in (first, second))
    shared = tuple(task for task in tasks if all(row.evaluates(task) for row in (*first.rows, *second.rows)))
    return PlannedComparison(question, first.name, second.name, rows, others, shared)
