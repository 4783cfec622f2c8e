"""Which rows of a setting are compared over seeds, and for what: the questions that the paper's tables answer."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

from .forms import OURS, trained_for
from .records import EditorSpec
from .suite_results import Question

THEIRS = "mend"
"""The method it is held against: the same hypernetwork without instructions."""
_SEEN = "seen-"
_UNSEEN = "unseen"


class Asked(NamedTuple):
    """A comparison that is wanted.

    Attributes:
        question: What for.
        first: Name of the first side.
        second: Name of the second.
        rows: Rows of the first side; a case's value is the mean over them.
        others: Rows of the second side.
        tasks: Tasks on which the sides are compared.
    """

    question: Question
    first: str
    second: str
    rows: tuple[str, ...]
    others: tuple[str, ...]
    tasks: tuple[str, ...]


class _Side(NamedTuple):
    name: str
    rows: tuple[EditorSpec, ...]
    told: str | None = None
    """Instruction of the rows."""


def questions(setting: str, editors: Sequence[EditorSpec], tasks: Sequence[str]) -> Iterator[Asked]:
    """Yield the comparisons of a run's rows.

    InstructEdit is held against MEND where both learnt from the same tasks: each form of it against MEND with bare
    probes, and against MEND whose probes carry the instruction as its own do, not against every other form. Where an
    editor has a row for each instruction, the mean over the seen descriptions and the unseen description are each a
    side, and the unseen description and each control of InstructEdit are held against the mean over the seen ones.
    Where a row is trained on one task, it is held on every other task against the row that is trained on that one
    (setting `single-task`).

    Args:
        setting: The setting of the run.
        editors: Its rows.
        tasks: Its tasks, in their order.
    """
    for rows in _variants(editors, OURS):
        yield from _instructions(rows, tasks)
        for side, others in product(_told(rows), _variants(editors, THEIRS)):
            for other in _told(others):
                if _label(others[0]) == _label(rows[0]) and _alike(side, other):
                    yield _asked("mend", side, other, tasks)
    if setting == "single-task":
        yield from _drops(editors, tasks)


def _variants(editors: Sequence[EditorSpec], method: str) -> list[list[EditorSpec]]:
    """Return the rows of a method, those that differ in the instruction alone together."""
    found: dict[str, list[EditorSpec]] = defaultdict(list)
    for row in editors:
        if row.method == method:
            found[row.name.partition("#")[0]].append(row)
    return list(found.values())


def _alike(ours: _Side, theirs: _Side) -> bool:
    """Tell whether both are trained for equal edits, and MEND's probes are bare or carry what InstructEdit's do."""
    first, second = ours.rows[0], theirs.rows[0]
    ours_for, theirs_for = trained_for(first), trained_for(second)
    if ours_for != theirs_for or (ours_for > 1 and first.config.get("joint") != second.config.get("joint")):
        return False
    probes = second.instructed_probes
    return probes == "none" or (probes == ours.rows[0].instructed_probes and theirs.told == ours.told)


def base_name(row: EditorSpec) -> str:
    """Return the name of a row's editor in the configuration, without the marks of training and instruction."""
    return row.name.partition("#")[0].removesuffix(f"@{_label(row)}")


def _label(row: EditorSpec) -> str | None:
    return row.training.label if row.training else None


def _seen(rows: Sequence[EditorSpec]) -> _Side:
    told = tuple(row for row in rows if (row.instruction or "").startswith(_SEEN))
    return _Side(f"{rows[0].name.partition('#')[0]}, seen descriptions", told, "seen")


def _told(rows: Sequence[EditorSpec]) -> Iterator[_Side]:
    """Yield the sides that stand for an editor: its one row, or the seen descriptions and the unseen one."""
    if len(rows) == 1:
        yield _Side(rows[0].name, (rows[0],), rows[0].instruction)
        return
    if (seen := _seen(rows)).rows:
        yield seen
    yield from _unseen(rows)


def _unseen(rows: Iterable[EditorSpec]) -> Iterator[_Side]:
    for row in rows:
        if row.instruction == _UNSEEN:
            yield _Side(f"{row.name.partition('#')[0]}, unseen description", (row,), _UNSEEN)


def _instructions(rows: Sequence[EditorSpec], tasks: Sequence[str]) -> Iterator[Asked]:
    seen = _seen(rows)
    if not seen.rows:
        return
    for side in _unseen(rows):
        yield _asked("unseen", side, seen, tasks)
    for row in rows:
        if row not in seen.rows and row.instruction != _UNSEEN:
            yield _asked("control", _Side(row.name, (row,)), seen, tasks)


def _drops(editors: Sequence[EditorSpec], tasks: Sequence[str]) -> Iterator[Asked]:
    trained = [row for row in editors if row.training and len(row.training.tasks) == 1]
    for own, row in product(trained, repeat=2):
        at_home = tuple(task for task in tasks if own.training and task in own.training.tasks)
        if at_home and row is not own and base_name(row) == base_name(own):
            yield _asked("drop", _Side(row.name, (row,)), _Side(own.name, (own,)), at_home)


def _asked(question: Question, first: _Side, second: _Side, tasks: Sequence[str]) -> Asked:
    rows = (*first.rows, *second.rows)
    return Asked(
        question,
        first.name,
        second.name,
        tuple(row.name for row in first.rows),
        tuple(row.name for row in second.rows),
        tuple(task for task in tasks if all(row.evaluates(task) for row in rows)),
    )
