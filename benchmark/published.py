"""Stand-ins for KnowEdit's cases where its files are not at hand: as many as published, each of the usual length.

They are measured and counted, never run.
"""

from functools import cache
from typing import NamedTuple

from instructedit.editors import EditCase, EditRequest, InputError, Probe, Role

from .results import TaskData
from .tasks.base import TASKS, Split, TaskCases
from .tasks.sources import Embedded
from .training import TrainingCases


class Usual(NamedTuple):
    """Probes of a role in a record, on average: how many, and characters of prompt and answer."""

    role: Role
    count: float
    prompt: int
    answer: int


FACTS = {
    ("recent", "test"): (
        50,
        15,
        [("generalization", 1.8, 41, 15), ("portability", 6.2, 64, 14), ("locality", 4.8, 52, 14)],
    ),
    ("recent", "train"): (
        54,
        12,
        [("generalization", 1.4, 41, 13), ("portability", 1.2, 75, 13), ("locality", 3.4, 51, 13)],
    ),
    ("counterfact", "test"): (
        47,
        17,
        [("generalization", 1.7, 38, 16), ("portability", 5.4, 56, 15), ("locality", 6.9, 48, 16)],
    ),
    ("counterfact", "train"): (
        46,
        17,
        [("generalization", 1.8, 42, 16), ("portability", 1.5, 58, 16), ("locality", 1.4, 58, 14)],
    ),
    ("zsre", "test"): (45, 13, [("generalization", 1, 44, 13), ("portability", 1, 64, 17), ("locality", 2, 35, 14)]),
    ("zsre", "train"): (45, 13, [("generalization", 1, 44, 13), ("locality", 1, 35, 14)]),
    ("convsent", "test"): (46, 73, [("generalization", 1, 49, 73), ("locality", 4, 46, 75)]),
    ("convsent", "train"): (47, 71, [("generalization", 1, 50, 71), ("locality", 4, 47, 70)]),
}
"""By task and split: characters of the edit's prompt and target, and `Usual` probes. Measured on KnowEdit's files, by
the readers of this package; no file of ZsRE's training split is published with them, its row is that of the test split."""
PUBLISHED = "published sizes"
"""What stands for the source of stand-ins."""
REPLIES = 9
"""Replies of each sentiment of a record of ConvSent."""


@cache
def stand_ins(task: str, split: Split) -> TaskCases:
    """Return as many cases as the published split has rows, of the usual length.

    Raises:
        InputError: If nothing is known of the task.
    """
    kind = TASKS.get(task)
    if (task, split) not in FACTS:
        raise InputError(f"The data of '{task}' are not there, and no published sizes of it are known.")
    prompt, target, usual = FACTS[task, split]
    probes = [Usual(*entry) for entry in usual]  # type: ignore[arg-type]
    cases = tuple(_case(task, split, number, prompt, target, probes) for number in range(kind.published_rows[split]))
    data = TaskData(
        task=task,
        version=kind.version,
        source=PUBLISHED,
        revision=None,
        sha256={},
        licence=kind.licence,
        citation=kind.citation,
        rows=len(cases),
        cases=len(cases),
    )
    return TaskCases(cases, data)


class PublishedCases(TrainingCases):
    """Stand-ins for training cases."""

    def __init__(self) -> None:
        super().__init__(Embedded(), (), ())

    def of(self, task: str) -> TaskCases:
        """Return the stand-ins of a task's training split."""
        return stand_ins(task, "train")


def _case(task: str, split: Split, number: int, prompt: int, target: int, usual: list[Usual]) -> EditCase:
    name = f"{task}/{split}/{number}"
    opposed = tuple(_text(f"{name} bad {reply}", target) for reply in range(REPLIES)) if task == "convsent" else ()
    replies = tuple(_text(f"{name} good {reply}", target) for reply in range(REPLIES)) if task == "convsent" else ()
    request = EditRequest(name, task, _text(name, prompt), _text(f"{name} to", target), name)
    probes = [Probe("reliability", "edit", request.prompt, (request.target,))]
    if opposed:
        probes.append(Probe("reliability", "sentiment", request.prompt, replies, opposed=opposed))
    for kind in usual:
        for place in range(int(kind.count * (number + 1)) - int(kind.count * number)):  # `count` of them on average
            text = _text(f"{name} {kind.role} {place}", kind.prompt)
            probes.append(Probe(kind.role, "usual", text, (_text(f"{name} {place}", kind.answer),)))
            if opposed and kind.role == "generalization":
                probes.append(Probe(kind.role, "sentiment", text, replies, opposed=opposed))
    return EditCase(request, tuple(probes))


def _text(words: str, characters: int) -> str:
    """Return words that differ from case to case, of so many characters."""
    return (f"{words} " + "the name of a place " * (characters // 20 + 1))[:characters].strip()
