"""The slow path: one request at a time through a plain model of transformers with dense edited weights.

It is what the engine is held against, for numbers and for time, and it is the fair form of it: nothing is copied that
need not be, but every row runs alone and unpadded through all blocks, before the edit and after it. An edit is written
into the weights of one twin of the model and taken back from the model itself, which is the kept copy; what is no
change of a weight is a hook.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from instructedit.editors import EditCase, LanguageModel, Probe, Row, Site

from ..results.records import Protocol
from ..scoring import metrics
from ..scoring.predictions import Reading

Hook = Callable[[nn.Module, Any, Tensor], Tensor]
"""A forward hook: from a module, its arguments and its output the output that stands instead."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a plain model computes instead under one edit.

    Attributes:
        weights: New weights by the name of their module, in the module's own layout.
        hooks: Hooks by the name of their module.
        steps: Steps of an optimiser that the edit took.
    """

    weights: dict[str, Tensor] = field(default_factory=dict)
    hooks: dict[str, Hook] = field(default_factory=dict)
    steps: int = 0


UNCHANGED = Change()


def plain(base: LanguageModel) -> PreTrainedModel:
    """Return a copy of a model as transformers makes it, without what the engine puts in place of parts of it."""
    model: Any = AutoModelForCausalLM.from_config(base.model.config, dtype=base.model.dtype)
    model.load_state_dict(base.model.state_dict())
    return cast(PreTrainedModel, model.to(base.device).eval().requires_grad_(False))


class Twin:
    """A copy of a model whose weights are written to.

    Attributes:
        base: The model, which stays as it is.
        model: The copy.
        prompt_end: Position of the last prompt token of the row that is run.
    """

    def __init__(self, base: LanguageModel) -> None:
        self.base = base
        self.model = plain(base)
        self.prompt_end = 0

    def weight(self, name: str) -> Tensor:
        """Return the weight of one of the twin's modules."""
        return cast(Tensor, self.model.get_submodule(name).weight)

    def plus(self, site: Site, change: Tensor) -> Tensor:
        """Return the unedited weight of a map plus a change [d_in, d_out], in the module's own layout."""
        module = self.base.model.get_submodule(site.name)
        weight = cast(Tensor, module.weight)
        return weight + (change if isinstance(module, Conv1D) else change.T).to(weight.dtype)

    @contextmanager
    def under(self, change: Change) -> Iterator[None]:
        """Let the twin compute as the change says as long as the context is open."""
        with ExitStack() as stack:
            for name, weight in change.weights.items():
                stack.callback(self._write, name, cast(Tensor, self.base.model.get_submodule(name).weight))
                self._write(name, weight)
            for name, hook in change.hooks.items():
                stack.callback(self.model.get_submodule(name).register_forward_hook(hook).remove)
            yield

    @torch.no_grad()
    def _write(self, name: str, weight: Tensor) -> None:
        self.weight(name).copy_(weight)

    def logits(self, row: Row) -> Tensor:
        """Return the logits at a row's scored positions, [scored, vocabulary]."""
        self.prompt_end = row.prompt_end
        ids = torch.tensor([row.ids], device=self.base.device)
        return cast(Tensor, self.model(input_ids=ids, use_cache=False).logits[0, list(row.scored)])

    def labels(self, row: Row) -> Tensor:
        """Return the tokens that the scored positions should predict, [scored]."""
        return torch.tensor(row.labels, device=self.base.device)


@torch.no_grad()
def read(twin: Twin, case: EditCase, change: Change = UNCHANGED) -> list[Reading]:
    """Read the probes of a case, one forward pass each; log-probabilities of locality probes are kept."""
    rows = [twin.base.encode(probe.prompt, probe.answers[0], probe.joint) for probe in case.probes]
    with twin.under(change):
        return [_reading(twin, probe, row) for probe, row in zip(case.probes, rows, strict=True)]


def _reading(twin: Twin, probe: Probe, row: Row) -> Reading:
    logits, labels = twin.logits(row), twin.labels(row)
    distribution = logits.float().log_softmax(dim=-1)
    log_p = distribution.gather(1, labels[:, None])[:, 0]
    kept = distribution if probe.role == "locality" else None
    finite = bool(logits.isfinite().all())
    return Reading(finite, labels.tolist(), logits.argmax(dim=-1).tolist(), log_p.tolist(), kept)


def scores(case: EditCase, before: Sequence[Reading], after: Sequence[Reading]) -> list[tuple[Protocol, float]]:
    """Return the teacher-forced scores of a case, probe by probe, in the order in which the engine's records have them.

    Args:
        case: The case.
        before: What the unedited model says to its probes.
        after: What the edited model says.
    """
    found: list[tuple[Protocol, float]] = []
    for probe, old, new in zip(case.probes, before, after, strict=True):
        reference = old.predicted if probe.role == "locality" else new.labels
        found.append(("teacher_forced_token", metrics.teacher_forced_token(new.predicted, reference)))
        found.append(("teacher_forced_exact", metrics.teacher_forced_exact(new.predicted, reference)))
        if old.distribution is not None and new.distribution is not None:
            found.append(("kl_divergence", metrics.divergence(old.distribution, new.distribution)))
    return found
