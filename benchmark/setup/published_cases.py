"""Stand-ins for KnowEdit's cases where its files are not at hand: as many as published, each of the usual length.

They are measured and counted, never run.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from instructedit.editors import EditCase, EditRequest, InputError, Probe, Role

from ..results.records import TaskData
from ..run.trainings import TrainingCases
from ..tasks.base import Split, Task, TaskCases, make_task
from ..tasks.convsent import ConvSentOptions
from ..tasks.sources import Embedded


class Usual(NamedTuple):
    """Probes of a role in a record, on average: how many, and characters of prompt and answer."""

    role: Role
    number: float
    prompt: int
    answer: int


class Record(NamedTuple):
    """A record, on average: characters of the edit's prompt and target, and its probes."""

    prompt: int
    target: int
    probes: tuple[Usual, ...]


def _record(
    prompt: int,
    target: int,
    *,
    generalization: tuple[float, int, int],
    locality: tuple[float, int, int],
    portability: tuple[float, int, int] = (0, 0, 0),
) -> Record:
    probes = Usual("generalization", *generalization), Usual("locality", *locality), Usual("portability", *portability)
    return Record(prompt, target, probes)


RECORDS = {
    ("recent", "test"): _record(
        50, 15, generalization=(1.8, 41, 15), portability=(6.2, 64, 14), locality=(4.8, 52, 14)
    ),
    ("recent", "train"): _record(
        54, 12, generalization=(1.4, 41, 13), portability=(1.2, 75, 13), locality=(3.4, 51, 13)
    ),
    ("counterfact", "test"): _record(
        47, 17, generalization=(1.7, 38, 16), portability=(5.4, 56, 15), locality=(6.9, 48, 16)
    ),
    ("counterfact", "train"): _record(
        46, 17, generalization=(1.8, 42, 16), portability=(1.5, 58, 16), locality=(1.4, 58, 14)
    ),
    ("zsre", "test"): _record(45, 13, generalization=(1, 44, 13), portability=(1, 64, 17), locality=(2, 35, 14)),
    ("zsre", "train"): _record(45, 13, generalization=(1, 44, 13), locality=(2, 35, 14)),
    ("convsent", "test"): _record(46, 73, generalization=(1, 49, 73), locality=(4, 46, 75)),
    ("convsent", "train"): _record(47, 71, generalization=(1, 50, 71), locality=(4, 47, 70)),
}
"""By task and split, as this package's readers find KnowEdit's files. ZsRE's training split is not among them; its
records are taken to be like the test split's."""
PUBLISHED = "published sizes"
"""What stands for the source of stand-ins."""
REPLIES = 9
"""Replies of each sentiment of a record of ConvSent."""


def stand_ins(kind: Task, split: Split) -> TaskCases:
    """Return as many cases as the published split has rows, of the usual length.

    Raises:
        InputError: If nothing is known of the task.
    """
    task = kind.name
    if (task, split) not in RECORDS:
        raise InputError(f"The data of '{task}' are not there, and no published sizes of it are known.")
    edit = kind.options.edit if isinstance(kind.options, ConvSentOptions) else None
    cases = _cases(task, split, kind.published_rows[split], edit)
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
        options=kind.options.recorded(),
    )
    return TaskCases(cases, data)


class PublishedCases(TrainingCases):
    """Stand-ins for training cases."""

    def __init__(self, options: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        super().__init__(Embedded(), (), (), options)

    def of(self, task: str) -> TaskCases:
        """Return the stand-ins of a task's training split."""
        return stand_ins(make_task(task, self.options), "train")


@cache
def _cases(task: str, split: Split, count: int, edit: str | None) -> tuple[EditCase, ...]:
    return tuple(_case(f"{task}/{split}/{n}", task, n, RECORDS[task, split], edit) for n in range(count))


def _case(name: str, task: str, number: int, record: Record, edit: str | None) -> EditCase:
    good, bad = (
        tuple(_text(f"{name} {mood} {reply}", record.target) for reply in range(REPLIES if task == "convsent" else 0))
        for mood in ("good", "bad")
    )
    prompt, target = _text(name, record.prompt), _text(f"{name} to", record.target)
    request = EditRequest(name, task, prompt, target, name, sentiment="positive" if bad else None)
    if edit == "all replies":
        request = replace(request, replies=(target, *good[1:]), opposed=bad)
    probes = [Probe("reliability", "edit", request.prompt, (request.target,))]
    if bad:
        probes.append(Probe("reliability", "sentiment", request.prompt, good, opposed=bad))
    for usual in record.probes:
        for place in range(
            int(usual.number * (number + 1)) - int(usual.number * number)
        ):  # `number` of them on average
            text = _text(f"{name} {usual.role} {place}", usual.prompt)
            probes.append(Probe(usual.role, "usual", text, (_text(f"{name} {place}", usual.answer),)))
            if bad and usual.role == "generalization":
                probes.append(Probe(usual.role, "sentiment", text, good, opposed=bad))
    return EditCase(request, tuple(probes))


def _text(words: str, characters: int) -> str:
    """Return words that differ from case to case, of so many characters."""
    return (f"{words} " + "the name of a place " * (characters // 20 + 1))[:characters].strip()
