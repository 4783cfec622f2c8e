"""The reference: one request and one sequence at a time through a plain transformers model with dense edited weights.

The engine is compared with it, for numbers and for time. It does no avoidable work (nothing is copied without need),
but every sequence runs alone and unpadded through all blocks, before the edit and after it. An edit of weights is
written into a copy of the model and undone from the model itself; every other edit is a forward hook.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from instructedit.editors import Context, EditCase, LanguageModel, Site, TokenSequence

from ..results.records import Protocol
from ..scoring import metrics
from ..scoring.predictions import Prediction

Hook = Callable[[nn.Module, Any, Tensor], Tensor]
"""A forward hook: from a module, its arguments and its output to the new output."""


@dataclass(frozen=True, slots=True)
class ReferenceEdit:
    """One edit of a plain model: new weights and forward hooks by the name of their module, and optimiser steps."""

    weights: dict[str, Tensor] = field(default_factory=dict)
    hooks: dict[str, Hook] = field(default_factory=dict)
    steps: int = 0


UNEDITED = ReferenceEdit()


class ReferenceModel:
    """A copy of a model `base`, as transformers builds it, whose weights are written to.

    Hooks read `prompt_end`, the index of the last prompt token of the current sequence.
    """

    def __init__(self, base: LanguageModel) -> None:
        self.base = base
        model: Any = AutoModelForCausalLM.from_config(base.model.config, dtype=base.model.dtype)
        model.load_state_dict(base.model.state_dict())
        self.model: Any = model.to(base.device).eval().requires_grad_(False)
        self.prompt_end = 0

    def weight(self, name: str) -> Tensor:
        """Return the weight of one of the copy's modules."""
        return cast(Tensor, self.model.get_submodule(name).weight)

    def plus(self, site: Site, change: Tensor) -> Tensor:
        """Return the unedited weight of a linear layer plus a change [d_in, d_out], in the module's own layout."""
        module = self.base.model.get_submodule(site.name)
        weight = cast(Tensor, module.weight)
        return weight + (change if isinstance(module, Conv1D) else change.T).to(weight.dtype)

    @contextmanager
    def edited(self, edit: ReferenceEdit) -> Iterator[None]:
        """Apply an edit to the copy within the context."""
        with ExitStack() as stack:
            for name, weight in edit.weights.items():
                stack.callback(self._write, name, cast(Tensor, self.base.model.get_submodule(name).weight))
                self._write(name, weight)
            for name, hook in edit.hooks.items():
                stack.callback(self.model.get_submodule(name).register_forward_hook(hook).remove)
            yield

    @torch.no_grad()
    def _write(self, name: str, weight: Tensor) -> None:
        self.weight(name).copy_(weight)

    def logits(self, row: TokenSequence) -> Tensor:
        """Return the logits at a sequence's scored positions, [scored, vocabulary]."""
        self.prompt_end = row.prompt_end
        ids = torch.tensor([row.ids], device=self.base.device)
        return cast(Tensor, self.model(input_ids=ids, use_cache=False).logits[0, list(row.scored)])

    def labels(self, row: TokenSequence) -> Tensor:
        """Return the tokens that the scored positions should predict, [scored]."""
        return torch.tensor(row.labels, device=self.base.device)


@torch.no_grad()
def probe_predictions(
    reference: ReferenceModel, case: EditCase, edit: ReferenceEdit = UNEDITED, context: Context | None = None
) -> list[Prediction]:
    """Return the predictions for each probe of a case, one forward pass each, after the context's prefix."""
    prefixes = [context.prompt_prefix(probe.role) if context else "" for probe in case.probes]
    rows = [
        reference.base.encode(prefix + probe.prompt, probe.answers[0], probe.joint)
        for prefix, probe in zip(prefixes, case.probes, strict=True)
    ]
    found = []
    with reference.edited(edit):
        for row in rows:
            logits, labels = reference.logits(row), reference.labels(row)
            distribution = logits.float().log_softmax(dim=-1)
            log_p = distribution.gather(1, labels[:, None])[:, 0]
            predicted = logits.argmax(dim=-1).tolist()
            found.append(Prediction(True, labels.tolist(), predicted, log_p.tolist(), distribution))
    return found


def scores(case: EditCase, before: Sequence[Prediction], after: Sequence[Prediction]) -> list[tuple[Protocol, float]]:
    """Return the teacher-forced scores of a case before and after an edit, in the order of the engine's records."""
    found: list[tuple[Protocol, float]] = []
    for probe, old, new in zip(case.probes, before, after, strict=True):
        expected = old.predicted if probe.role == "locality" else new.labels
        found.append(("teacher_forced_token", metrics.teacher_forced_token(new.predicted, expected)))
        found.append(("teacher_forced_exact", metrics.teacher_forced_exact(new.predicted, expected)))
        if probe.role == "locality":
            distributions = cast(Tensor, old.distribution), cast(Tensor, new.distribution)
            found.append(("kl_divergence", metrics.divergence(*distributions)))
    return found
