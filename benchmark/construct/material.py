"""What a construction loop works with: cases to learn from, to try candidates on and to test the result on.

Three parts of a task's data never meet: the trial editor learns from one part of the training split, candidates are
tried on another, and the test split is used once, when the loop has ended.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from instructedit.editors import EditCase, EditRequest, InputError, TrainingSet, seed_of

from ..config import RunConfig
from ..instructions import InstructionBank, instruct, read_bank
from ..selection import choose, divide
from ..settings import MIX, Arm
from ..tasks.base import TASKS, TaskCases, subjects
from ..tasks.sources import open_source
from ..training import TrainingCases, training_set
from .grammar import to_learn
from .proposal import Brief, Example
from .records import LoopConfig
from .rules import Rules, names

SHARE = 0.3
"""Share of the task's training cases that candidates are tried on."""
VARIED = 64
"""Descriptions that the trial editor is trained under."""


@dataclass(frozen=True, slots=True)
class Material:
    """What a loop works with.

    Attributes:
        brief: What the proposer is told, nothing tried yet.
        rules: What candidates are checked against, but for the description that is kept from training.
        arm: What the trial editor is trained on.
        training: Its cases; instructions are not set yet.
        trial: Cases that candidates are tried on.
        test: Cases that the result is tested on.
        bank: Where the other tasks' instructions come from, and the hand-written ones of this task.
        notes: Sentences for the user.
    """

    brief: Brief
    rules: Rules
    arm: Arm
    training: TrainingSet
    trial: tuple[EditCase, ...]
    test: tuple[EditCase, ...]
    bank: InstructionBank
    notes: tuple[str, ...]

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.brief.task

    def told(self, request: EditRequest, text: str) -> EditRequest:
        """Return a request under a description of its task."""
        return instruct(self.one(text), request, "seen-0", 0)

    def one(self, text: str) -> InstructionBank:
        """Return a bank in which the task has this description, and another that is never drawn."""
        own = {"title": self.brief.title, "descriptions": (text, "Nothing is said here."), "unseen": 1}
        return InstructionBank.model_validate(
            {"schema_version": 1, "name": "trial", "version": "1", "licence": "none", "tasks": {self.task: own}}
        )

    def taught(self, texts: Sequence[str]) -> TrainingSet:
        """Return the training cases, those of this task under one of these descriptions, drawn anew at each step."""

        def instructed(request: EditRequest, seed: int) -> EditRequest:
            if request.task != self.task:
                return instruct(self.bank, request, "seen", seed)
            return self.told(request, texts[seed_of(seed, "trial", request.case_id) % len(texts)])

        return replace(self.training, instruct=instructed)

    def varied(self, seed: int) -> tuple[str, ...]:
        """Return descriptions for the trial editor's training, from the grammar's part that candidates are not of."""
        dice = random.Random(seed_of(seed, "varied", self.task))
        slots = to_learn(self.brief)
        return tuple(" ".join(dice.choice(slot) for slot in slots) for _ in range(VARIED))


def gather(config: RunConfig, loop: LoopConfig) -> Material:
    """Read the data of a loop.

    Args:
        config: Data, validation share, sampling and bank of a run; what it evaluates is not asked for.
        loop: The loop.

    Raises:
        InputError: If a file, a task or the bank cannot be used, or there are too few cases.
    """
    kind = TASKS.get(loop.task)
    bank = read_bank(None if config.instructions == "default" else Path(config.instructions))
    source = open_source(None if config.data == "embedded" else config.data)
    mix = tuple(dict.fromkeys((*MIX, loop.task)))
    others = [task for task in mix if task != loop.task]
    if missing := [task for task in others if task not in bank.tasks]:
        raise InputError(f"Instruction bank '{bank.name}' has no descriptions of '{missing[0]}', which is trained on.")
    tests = {task: TASKS.get(task)().load(source) for task in mix}
    tested = [case for found in tests.values() for case in found.cases]
    cases = TrainingCases(source, subjects(tested), {case.request.subject for case in tested})
    learnt, trial = divide(cases.of(loop.task).cases, None, SHARE)
    if not learnt or len(trial) < 2:
        raise InputError(f"The task '{loop.task}' has {len(learnt) + len(trial)} training cases, too few for a loop.")
    arm = Arm("+".join(mix), mix, (loop.task,), {}, config.sampling)
    training = training_set(arm, _Without(cases, {loop.task: learnt}), config.validation)
    own = bank.tasks.get(loop.task)
    placeholders = ("[TOPIC]", "[LABEL]") if any(case.request.sentiment for case in learnt) else ()
    answers = names([answer for case in (*learnt, *trial, *tests[loop.task].cases) for answer in _answers(case)])
    return Material(
        brief=Brief(
            task=loop.task,
            title=own.title if own else kind.title,
            about=kind.about,
            placeholders=placeholders,
            examples=_examples(learnt, loop),
        ),
        rules=Rules(placeholders, answers, (own.descriptions[own.unseen],) if own else ()),
        arm=arm,
        training=training,
        trial=choose(trial, loop.cases),
        test=choose(tests[loop.task].cases, loop.test_cases),
        bank=bank,
        notes=(*cases.of(loop.task).notes, *tests[loop.task].notes),
    )


class _Without(TrainingCases):
    """Training cases of which some tasks have only a part."""

    def __init__(self, cases: TrainingCases, parts: Mapping[str, Collection[EditCase]]) -> None:
        self._all, self._parts = cases, parts

    def of(self, task: str) -> TaskCases:
        found = self._all.of(task)
        return replace(found, cases=tuple(self._parts[task])) if task in self._parts else found


def _answers(case: EditCase) -> list[str]:
    """Return the target and the accepted answers of a case's own question."""
    own = [probe.answers for probe in case.probes if probe.role == "reliability" and not probe.opposed]
    return [case.request.target, *(answer for answers in own for answer in answers)]


def _examples(cases: Sequence[EditCase], loop: LoopConfig) -> tuple[Example, ...]:
    drawn = sorted(cases, key=lambda case: seed_of(loop.seed, "example", case.request.case_id))[: loop.examples]
    return tuple(Example(case.request.prompt, case.request.target, case.request.sentiment) for case in drawn)
