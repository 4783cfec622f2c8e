"""Configuration of the training loop, its cases, and the order in which they are drawn."""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Literal

from pydantic import Field

from ..cases import EditCase, EditRequest, joint_rule
from ..editor import Options
from ..seeds import seed_of


class TrainingConfig(Options):
    """Configuration of the training loop; the defaults are those of MEND's original code for large models."""

    steps: int = Field(default=100_000, ge=1)
    """Maximum number of optimiser steps."""
    together: int = Field(default=1, ge=1)
    """Requests of one training edit. Above 1 each training edit is a joint edit of that many requests, evaluated on the
    probes of all their cases. Use the number that is tested (MEND's `data.n_edits`): a network trained for one request
    loses its locality in joint edits."""
    batch: int = Field(default=1, ge=1)
    """Edits in one pass."""
    accumulate: int = Field(default=10, ge=1)
    """Passes of one step; a step averages over batch x accumulate edits (joint edits if `together` is above 1)."""
    lr: float = Field(default=1e-6, gt=0)
    """Learning rate of Adam."""
    decay: Literal["none", "linear"] = "none"
    """`linear`: learning rates decrease linearly to zero at the last step, which reduces the noise of small batches."""
    clip: float = Field(default=100.0, gt=0)
    """Maximum norm of the gradient."""
    warmup: int = Field(default=0, ge=0)
    """Passes before the first step that only update the running statistics."""
    validate_every: int = Field(default=5_000, ge=1)
    """Steps between validations."""
    validation_cases: int = Field(default=500, ge=1)
    """Maximum number of validation cases, chosen by the sha256 of their ids, equally many of each task. They are edited
    `together` as in training; the last joint edit may be smaller, so that every case counts."""
    patience: int = Field(default=20_000, ge=1)
    """Steps without a lower validation loss after which training stops early."""
    keep: Literal["best", "last"] = "best"
    """Resulting weights: those with the lowest validation loss or, as in the code of EasyEdit, the last."""
    save_every: int = Field(default=1_000, ge=1)
    """Steps between saves; each validation saves too."""


@dataclass(frozen=True)
class TrainingSet:
    """The cases that an editor is trained on.

    Attributes:
        train: Cases to train on.
        validation: Cases to validate on; none of them is trained on.
        weights: Relative frequency of each task.
        instruct: Adds one of the training instructions to a request, by a seed; None leaves requests unchanged.
    """

    train: tuple[EditCase, ...]
    validation: tuple[EditCase, ...]
    weights: Mapping[str, float]
    instruct: Callable[[EditRequest, int], EditRequest] | None = None

    @cached_property
    def digest(self) -> str:
        """Sixteen hexadecimal digits of the sha256 over cases and weights."""
        content = [[case.content() for case in part] for part in (self.train, self.validation)]
        rule = joint_rule((*self.train, *self.validation))
        text = json.dumps([content, dict(self.weights), *([rule] if rule else [])], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def request(self, case: EditCase, seed: int) -> EditRequest:
        """Return a case's request with the instruction of a seed."""
        return case.request if self.instruct is None else self.instruct(case.request, seed)


class TaskSampler:
    """Draws cases of tasks in proportion to weights; the cases of a task are reshuffled after each epoch.

    The next task is the one with the largest deficit, so that frequencies are exact at all times. The numbers drawn are
    the whole state.
    """

    def __init__(self, cases: Sequence[EditCase], weights: Mapping[str, float], seed: int) -> None:
        self.cases: dict[str, list[EditCase]] = {}
        for case in cases:
            self.cases.setdefault(case.request.task, []).append(case)
        total = sum(weights[task] for task in self.cases)
        self.weights = {task: weights[task] / total for task in self.cases}
        self.seed = seed
        self.drawn: Counter[str] = Counter()
        self._orders: dict[str, tuple[int, list[int]]] = {}

    def draw(self) -> EditCase:
        """Return the next case."""
        count = sum(self.drawn.values()) + 1
        task = max(self.weights, key=lambda name: self.weights[name] * count - self.drawn[name])
        round_, place = divmod(self.drawn[task], len(self.cases[task]))
        if self._orders.get(task, (-1, []))[0] != round_:
            order = list(range(len(self.cases[task])))
            random.Random(seed_of(self.seed, "order", task, round_)).shuffle(order)
            self._orders[task] = (round_, order)
        self.drawn[task] += 1
        return self.cases[task][self._orders[task][1][place]]


def spread(cases: Sequence[EditCase], limit: int) -> list[EditCase]:
    """Return at most `limit` cases, equally many of each task where there are as many, by the sha256 of their ids."""
    by_task: dict[str, list[EditCase]] = {}
    for case in sorted(cases, key=lambda case: hashlib.sha256(case.request.case_id.encode()).digest()):
        by_task.setdefault(case.request.task, []).append(case)
    return [case for row in zip_longest(*by_task.values()) for case in row if case is not None][:limit]
