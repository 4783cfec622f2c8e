"""The data of a construction loop: cases to train on, cases for trials, and cases to test the result on.

The three parts have no subject in common: the trial editor is trained on one part of the training split, candidates
are tried on another, and the test split is used once, after the loop. The filter that keeps test subjects out of a
training keeps the subjects of the trials out of it too, in every task and every probe.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from instructedit.editors import EditCase, EditRequest, InputError, TrainingSet, seed_of

from ..results.loop_results import LoopConfig
from ..setup.banks import InstructionBank, TaskInstructions, instruct, read_bank
from ..setup.config import RunConfig
from ..setup.leakage import training_cases
from ..setup.settings import MIX, TrainingTasks
from ..setup.training_sets import training_set
from ..tasks.base import make_task, subject_key, subjects
from ..tasks.sampling import choose
from ..tasks.sources import open_source
from .offline import held_out_description, training_slots
from .proposer import Brief, Example, Rules, revealing, words_of

SHARE = 0.3
"""Share of the subjects of the task's training split that is used for trials."""
VARIED = 64
"""Descriptions that the trial editor is trained under."""
RANDOM = 9
"""Random texts that the chosen descriptions are compared with."""


@dataclass(frozen=True, slots=True)
class Material:
    """The data of a loop: cases of the trial editor's training, of trials and of the test, and what proposers receive.

    `held_out` is the description that is held out of training, from the bank or, for a task without any, the grammar.
    The bank has the instructions of the other tasks, and the hand-written ones of this task.
    """

    brief: Brief
    rules: Rules
    held_out: str
    training: TrainingSet
    trial: tuple[EditCase, ...]
    test: tuple[EditCase, ...]
    bank: InstructionBank
    notes: tuple[str, ...]

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.brief.task

    @property
    def hand_written(self) -> tuple[str, ...]:
        """The bank's descriptions of the task, without the held-out one; none for a user's own task."""
        own = self.bank.tasks.get(self.task)
        return tuple(own.descriptions[index] for index in own.seen) if own else ()

    def instructed(self, request: EditRequest, text: str) -> EditRequest:
        """Return a request with a description of its task."""
        # a task needs a second description; it is never drawn
        own = TaskInstructions(title=self.brief.title, descriptions=(text, "Nothing is said here."), unseen=1)
        return instruct(self.bank.model_copy(update={"tasks": {self.task: own}}), request, "seen-0", 0)

    def training_under(self, texts: Sequence[str]) -> TrainingSet:
        """Return the training set, with one of these descriptions drawn at each step for the cases of this task."""

        def instructed(request: EditRequest, seed: int) -> EditRequest:
            if request.task != self.task:
                return instruct(self.bank, request, "seen", seed)
            return self.instructed(request, texts[seed_of(seed, "trial", request.case_id) % len(texts)])

        return replace(self.training, instruct=instructed)

    def random_texts(self, like: Sequence[str], seed: int) -> tuple[str, ...]:
        """Return random words of the bank, each text as long as one of the given ones, with the task's placeholders."""
        words, marks = self.bank.words, self.brief.placeholders
        found = []
        for number in range(RANDOM):
            length = len(words_of(like[number % len(like)])) - len(marks)
            drawn = [words[seed_of(seed, "random", number, place) % len(words)] for place in range(length)]
            found.append(" ".join([*drawn, *marks]))
        return tuple(found)

    def training_descriptions(self, seed: int) -> tuple[str, ...]:
        """Return descriptions for the trial editor's training; no candidate of the grammar is among them."""
        dice = random.Random(seed_of(seed, "varied", self.task))
        slots = training_slots(self.brief)
        return tuple(" ".join(dice.choice(slot) for slot in slots) for _ in range(VARIED))


def gather(config: RunConfig, loop: LoopConfig) -> Material:
    """Read the data of a loop; of the run's configuration, data, validation share, sampling and bank are used.

    Raises:
        InputError: If a file, a task or the bank cannot be used, or there are too few cases.
    """
    kind = make_task(loop.task, config.task_options)
    bank = read_bank(None if config.instructions == "default" else Path(config.instructions))
    source = open_source(config.data)
    mix = tuple(dict.fromkeys((*MIX, loop.task)))
    if missing := [task for task in mix if task != loop.task and task not in bank.tasks]:
        raise InputError(f"Instruction bank '{bank.name}' has no descriptions of '{missing[0]}', which is trained on.")
    tests = {task: make_task(task, config.task_options).load(source) for task in mix}
    tested = [case for found in tests.values() for case in found.cases]
    whole = training_cases(loop.task, source, tested, config.task_options)
    # the subjects whose keys have the smallest sha256; see `choose`
    keys = sorted(subjects(whole.cases), key=lambda key: hashlib.sha256(key.encode()).digest())
    held = set(keys[: round(SHARE * len(keys))])
    trial = tuple(case for case in whole.cases if subject_key(case.request.subject) in held)
    barred = [*tested, *trial]
    cases = {task: training_cases(task, source, barred, config.task_options).cases for task in mix}
    learnt = cases[loop.task]
    if len(learnt) < 2 or len(trial) < 2:
        raise InputError(
            f"The task '{loop.task}' has {len(learnt)} training cases and {len(trial)} cases of other subjects for "
            "trials; expected at least two of each."
        )
    tasks = TrainingTasks("+".join(mix), mix, (loop.task,), {}, config.sampling)
    training = training_set(tasks, cases, config.validation)
    own = bank.tasks.get(loop.task)
    all_cases = (*learnt, *trial, *tests[loop.task].cases)
    answers = {answer for case in all_cases for probe in case.probes for answer in probe.answers}
    answers |= {case.request.target for case in all_cases}
    shown = sorted((case.request for case in learnt), key=lambda own: seed_of(loop.seed, "example", own.case_id))
    brief = Brief(
        task=loop.task,
        title=own.title if own else kind.title,
        about=kind.about,
        placeholders=("[TOPIC]", "[LABEL]") if all(case.request.sentiment for case in all_cases) else (),
        examples=tuple(Example(r.prompt, r.target, r.sentiment) for r in shown[: loop.examples]),
    )
    held_out = own.descriptions[own.unseen] if own else held_out_description(brief)
    return Material(
        brief=brief,
        rules=Rules(brief.placeholders, revealing(answers, bank.words), (held_out,)),
        held_out=held_out,
        training=training,
        trial=choose(trial, loop.cases),
        test=choose(tests[loop.task].cases, loop.test_cases),
        bank=bank,
        notes=(*whole.notes, *tests[loop.task].notes),
    )
