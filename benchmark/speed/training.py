"""Training steps of two equal editors: the engine's, and a plain pass for each text with dense edited weights."""

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from instructedit.editors import EditCase, TokenSequence, TrainedEditor, TrainingSet, seed_of
from instructedit.editors.hypernet.objective import Losses, outer_rows

from .reference import ReferenceModel
from .reference_edits import changes_of, factors


class Learner:
    """An own copy of an editor in training, with its optimiser, on the model or on the reference.

    `losses` is `step_losses` of the engine or `reference_losses`: it returns the outer losses of an editor on a model
    for cases, training set and seeds, and adds the gradient of their mean.
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


def reference_losses(
    editor: Any, reference: ReferenceModel, cases: Sequence[EditCase], training: TrainingSet, seeds: Sequence[int]
) -> Losses:
    """Return the outer losses of a step's cases and add the gradient of their mean to the network's parameters."""
    sums, size = Losses(), editor.config.training.batch
    for first in range(0, len(cases), size):
        part = slice(first, first + size)
        sums.add(_batch(reference, editor, cases[part], training, seeds[part], 1 / len(cases)))
    return sums


def _batch(
    reference: ReferenceModel,
    editor: Any,
    cases: Sequence[EditCase],
    training: TrainingSet,
    seeds: Sequence[int],
    share: float,
) -> Losses:
    """Do the same for a batch; running statistics are updated with all of it before its first case is edited."""
    requests = [training.request(case, seed) for case, seed in zip(cases, seeds, strict=True)]
    rows = [editor.encode(reference.base, request) for request in requests]
    found = [factors(reference, row, editor.shape.sites) for row in rows]
    if editor.name != "ke":
        for own in found:
            for site in editor.shape.sites:
                editor.network.of(site).observe(*own[site.name])
    sums = Losses(cases=len(cases), local=len(cases))
    c_edit, c_loc = editor.loss_weights()
    for number, case in enumerate(cases):
        changes = changes_of(editor, found[number], rows[number])
        weights = {f"{site.name}.weight": reference.plus(site, changes[site.name]) for site in editor.shape.sites}
        dice = random.Random(seed_of(seeds[number], "outer"))
        context = editor.context(requests[number])
        terms: list[Tensor] = []
        for outer in outer_rows(reference.base, case, requests[number], 0, context, editor.config.objective, dice):
            new = _edited(reference, weights, outer.row)
            if outer.kind == "locality":
                with torch.no_grad():
                    old = reference.logits(outer.bare or outer.row).log_softmax(dim=-1)
                term = outer.scale * (old.exp() * (old - new)).sum()
                sums.locality += float(term.detach())
                sums.agreement += outer.scale * int((old.argmax(-1) == new.argmax(-1)).sum())
                terms.append(c_loc * term)
            else:
                labels = reference.labels(outer.row)
                term = -outer.scale * new.gather(1, labels[:, None]).sum()
                sums.edit += float(term.detach())
                sums.exact += float((new.argmax(-1) == labels).all())
                terms.append(c_edit * term)
        (share * torch.stack(terms).sum()).backward()
    return sums


def _edited(reference: ReferenceModel, weights: dict[str, Tensor], row: TokenSequence) -> Tensor:
    ids = torch.tensor([row.ids], device=reference.base.device)
    out = functional_call(reference.model, weights, (), {"input_ids": ids, "use_cache": False})
    logits: Tensor = out.logits[0, list(row.scored)]
    return logits.to(reference.base.edit_dtype).log_softmax(dim=-1)
