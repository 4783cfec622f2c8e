"""Training steps of two equal editors, one by the engine and one by the reference."""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from instructedit.editors import EditCase, LanguageModel, TrainedEditor, TrainingSet, seed_of
from instructedit.editors.hypernet.objective import Losses
from instructedit.editors.hypernet.trainer import step_losses

from . import reference_training
from .reference import ReferenceModel


class Learner:
    """An editor in training, with its optimiser.

    Args:
        editor: The editor; its own copy is trained.
        cases: Training cases.
        losses: Returns the outer losses of an editor for cases, training set and seeds, and adds the gradient of their
            mean.
    """

    def __init__(self, editor: TrainedEditor[Any], cases: Sequence[EditCase], losses: Callable[..., Losses]) -> None:
        self.editor: Any = copy.deepcopy(editor)
        self.losses, self.cases = losses, cases
        self.training = TrainingSet(tuple(cases), (), {"speed": 1.0})
        self.optimiser = torch.optim.Adam(self.editor.parameter_groups(), fused=True)
        self.number = 0

    def step(self) -> tuple[Losses, float]:
        """Take one step as `hypernet.trainer` does; return the sums of its losses and the norm of its gradient."""
        config, network = self.editor.config.training, self.editor.network
        self.optimiser.zero_grad()
        network.train()
        count = config.batch * config.accumulate
        chosen = [self.cases[(count * self.number + slot) % len(self.cases)] for slot in range(count)]
        seeds = [seed_of(0, "step", self.number, slot) for slot in range(count)]
        sums = self.losses(self.editor, chosen, self.training, seeds)
        norm = float(torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip))
        self.editor.before_step(sums)
        self.optimiser.step()
        self.number += 1
        return sums, norm


def engine_learner(editor: TrainedEditor[Any], cases: Sequence[EditCase], model: LanguageModel) -> Learner:
    """Return an editor that is trained by the engine."""
    return Learner(editor, cases, lambda own, *arguments: step_losses(own, model, *arguments))


def reference_learner(editor: TrainedEditor[Any], cases: Sequence[EditCase], reference: ReferenceModel) -> Learner:
    """Return an editor that is trained by the reference."""
    return Learner(editor, cases, partial(reference_training.losses, reference))


def largest_difference(engine: tuple[Losses, float], reference: tuple[Losses, float]) -> float:
    """Return the largest difference of two steps: of the losses in nats, or of the gradient's norm relative to it."""
    (own, norm), (other, expected) = engine, reference
    return max(abs(own.edit - other.edit), abs(own.locality - other.locality), abs(norm / expected - 1.0))
