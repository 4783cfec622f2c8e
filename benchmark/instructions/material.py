"""What a construction loop works with: cases to learn from, to try candidates on and to test the result on.

Three parts of a task's data never meet, in no subject: the trial editor learns from one part of the training split,
candidates are tried on another, and the test split is used once, when the loop has ended. What keeps test subjects out
of a training keeps the subjects of the trials out of it too, from every task and every probe.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from instructedit.editors import EditCase, EditRequest, InputError, TrainingSet, seed_of

from ..setup.banks import InstructionBank, instruct, read_bank
from ..setup.config import RunConfig
from ..setup.leakage import TrainingCases
from ..setup.sampling import choose
from ..setup.settings import MIX, TrainingTasks
from ..setup.training_sets import training_set
from ..tasks.base import make_task, subject_key, subjects
from ..tasks.sources import open_source
from .grammar import to_learn, unseen
from .proposal import Brief, Example
from .records import LoopConfig
from .rules import Rules, telling

SHARE = 0.3
"""Share of the subjects of the task's training split that candidates are tried on."""
VARIED = 64
"""Descriptions that the trial editor is trained under."""


@dataclass(frozen=True, slots=True)
class Material:
    """What a loop works with.

    Attributes:
        brief: What the proposer is told, nothing tried yet.
        rules: What candidates are checked against.
        kept: The description that is kept from training: the bank's own or, for a task without any, the grammar's.
        arm: What the trial editor is trained on.
        training: Its cases; instructions are not set yet.
        trial: Cases that candidates are tried on.
        test: Cases that the result is tested on.
        bank: Where the other tasks' instructions come from, and the hand-written ones of this task.
        notes: Sentences for the user.
    """

    brief: Brief
    rules: Rules
    kept: str
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
    kind = make_task(loop.task, config.task_options)
    bank = read_bank(None if config.instructions == "default" else Path(config.instructions))
    source = open_source(None if config.data == "embedded" else config.data)
    mix = tuple(dict.fromkeys((*MIX, loop.task)))
    others = [task for task in mix if task != loop.task]
    if missing := [task for task in others if task not in bank.tasks]:
        raise InputError(f"Instruction bank '{bank.name}' has no descriptions of '{missing[0]}', which is trained on.")
    tests = {task: make_task(task, config.task_options).load(source) for task in mix}
    tested = [case for found in tests.values() for case in found.cases]
    options = config.task_options
    whole = TrainingCases(source, tested, options).of(loop.task)
    trial = _tried_on(whole.cases)
    barred = [*tested, *trial]
    cases = TrainingCases(source, barred, options)
    learnt = cases.of(loop.task).cases
    if len(learnt) < 2 or len(trial) < 2:
        raise InputError(
            f"The task '{loop.task}' has {len(learnt)} training cases to learn from and {len(trial)} of other subjects "
            "to try candidates on; two of each were expected at least."
        )
    tasks = TrainingTasks("+".join(mix), mix, (loop.task,), {}, config.sampling)
    training = training_set(tasks, {task: cases.of(task).cases for task in mix}, config.validation)
    own = bank.tasks.get(loop.task)
    all_cases = (*learnt, *trial, *tests[loop.task].cases)
    placeholders = ("[TOPIC]", "[LABEL]") if all(case.request.sentiment for case in all_cases) else ()
    answers = telling({answer for case in all_cases for answer in (case.request.target, *_answers(case))}, bank.words)
    brief = Brief(
        task=loop.task,
        title=own.title if own else kind.title,
        about=kind.about,
        placeholders=placeholders,
        examples=_examples(learnt, loop),
    )
    kept = own.descriptions[own.unseen] if own else unseen(brief)
    return Material(
        brief=brief,
        rules=Rules(placeholders, answers, (kept,)),
        kept=kept,
        training=training,
        trial=choose(trial, loop.cases),
        test=choose(tests[loop.task].cases, loop.test_cases),
        bank=bank,
        notes=(*whole.notes, *tests[loop.task].notes),
    )


def _tried_on(cases: Sequence[EditCase]) -> tuple[EditCase, ...]:
    """Return the cases of a share of the subjects, those whose keys have the smallest sha256; see `choose`."""
    keys = sorted(subjects(cases), key=lambda key: hashlib.sha256(key.encode()).digest())
    held = set(keys[: round(SHARE * len(keys))])
    return tuple(case for case in cases if subject_key(case.request.subject) in held)


def _answers(case: EditCase) -> Iterator[str]:
    """Yield what is accepted as an answer to any question of a case."""
    for probe in case.probes:
        yield from probe.answers


def _examples(cases: Sequence[EditCase], loop: LoopConfig) -> tuple[Example, ...]:
    drawn = sorted(cases, key=lambda case: seed_of(loop.seed, "example", case.request.case_id))[: loop.examples]
    return tuple(Example(case.request.prompt, case.request.target, case.request.sentiment) for case in drawn)
