"""A step of training, by the engine and one by one."""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from instructedit.editors import EditCase, LanguageModel, TrainedEditor, TrainingSet, seed_of
from instructedit.editors.hypernet.objective import Losses

from . import fast, slow_training
from .record import Phase
from .samples import Samples
from .slow import Twin
from .watch import Watch
from .work import Needed


class Learner:
    """An editor that learns, with its optimiser.

    Args:
        editor: The editor; it is changed.
        losses: From cases, training set and seeds their outer losses; the gradient of the mean is added.
        cases: What it learns from.
    """

    def __init__(self, editor: TrainedEditor[Any], losses: Callable[..., Losses], cases: Sequence[EditCase]) -> None:
        assert editor.network is not None
        self.editor, self.network, self.losses, self.cases = editor, editor.network, losses, cases
        self.training = TrainingSet(tuple(cases), (), {"speed": 1.0})
        self.optimiser = torch.optim.Adam(editor.parameter_groups(), fused=True)
        self.number = 0

    def step(self) -> tuple[Losses, float]:
        """Take one step as `editors.trainer` does; return the sums of its losses and the norm of its gradient."""
        config = self.editor.config.training
        self.optimiser.zero_grad()
        self.network.train()
        count = config.batch * config.accumulate
        chosen = [self.cases[(count * self.number + slot) % len(self.cases)] for slot in range(count)]
        seeds = [seed_of(0, "step", self.number, slot) for slot in range(count)]
        sums = self.losses(chosen, self.training, seeds)
        norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.clip))
        self.editor.before_step(sums)
        self.optimiser.step()
        self.number += 1
        return sums, norm


class Training:
    """Pairs of steps of two learners that begin alike."""

    phase: Phase = "train"

    def __init__(
        self,
        name: str,
        editor: TrainedEditor[Any],
        cases: Sequence[EditCase],
        model: LanguageModel,
        twin: Twin | None,
        watch: Watch,
    ) -> None:
        self.name, self.watch = name, watch
        self.chunk = editor.config.training.batch * editor.config.training.accumulate
        own = copy.deepcopy(editor)
        self.fast = Learner(own, partial(fast.losses, model, own), cases)
        self.slow: Learner | None = None
        if twin is not None:
            own = copy.deepcopy(editor)
            self.slow = Learner(own, partial(slow_training.losses, twin, own), cases)

    def work(self, needed: Needed) -> float:
        """Return the operations that one case needs."""
        return needed.train()

    def measure(self, samples: Samples) -> None:
        """Take a step of each."""
        first = not samples.fast
        held = self.watch.begin() if first else None
        (sums, norm), seconds = self.watch.time(self.fast.step)
        samples.peak = self.watch.end(held) if first else samples.peak
        samples.fast.append(seconds / self.chunk)
        if self.slow is None:
            return
        (reference, expected), seconds = self.watch.time(self.slow.step)
        samples.slow.append(seconds / self.chunk)
        # losses are in nats; a gradient's norm has no unit
        samples.compared.numbers([sums.edit, sums.locality, norm / expected], [reference.edit, reference.locality, 1.0])
