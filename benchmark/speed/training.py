"""Training steps of two equal editors, one by the engine and one by the reference."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch

from instructedit.editors import EditCase, TrainedEditor, TrainingSet, seed_of
from instructedit.editors.hypernet.objective import Losses


class Learner:
    """An editor in training, with its optimiser.

    Args:
        editor: The editor; its own copy is trained.
        cases: Training cases.
        model: The model, or the reference.
        losses: `step_losses` of the engine or of the reference: returns the outer losses of an editor on a model for
            cases, training set and seeds, and adds the gradient of their mean.
    """

    def __init__(
        self, editor: TrainedEditor[Any], cases: Sequence[EditCase], model: Any, losses: Callable[..., Losses]
    ) -> None:
        self.editor: Any = copy.deepcopy(editor)
        self.cases, self.model, self.losses = cases, model, losses
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
        sums = self.losses(self.editor, self.model, chosen, self.training, seeds)
        norm = float(torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip))
        self.editor.before_step(sums)
        self.optimiser.step()
        self.number += 1
        return sums, norm


def largest_difference(engine: tuple[Losses, float], reference: tuple[Losses, float]) -> float:
    """Return the largest difference of two steps: of the losses in nats, or of the gradient's norm relative to it."""
    (own, norm), (other, expected) = engine, reference
    return max(abs(own.edit - other.edit), abs(own.locality - other.locality), abs(norm / expected - 1.0))
