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
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.pytorch_utils import Conv1D

from instructedit.editors import Context, EditCase, LanguageModel, Site, TokenSequence, seed_of

from ..results.records import GenerationSpec, Protocol
from ..scoring import metrics
from ..scoring.matching import finished
from ..scoring.predictions import Prediction

Hook = Callable[[nn.Module, Any, Tensor], Tensor]
"""A forward hook: from a module, its arguments and its output to the new output."""


@dataclass(frozen=True, slots=True)
class ReferenceEdit:
    """One edit of a plain model: new weights and forward hooks by the name of their module."""

    weights: dict[str, Tensor] = field(default_factory=dict)
    hooks: dict[str, Hook] = field(default_factory=dict)


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


@torch.no_grad()
def continuations(
    reference: ReferenceModel, case: EditCase, generation: GenerationSpec, seed: int, edit: ReferenceEdit = UNEDITED
) -> list[str]:
    """Return the greedy answer to each probe of a case, each prompt run once, then the text sampled after its edit."""
    accepted: dict[str, list[str]] = {}
    for probe in case.probes:
        accepted.setdefault(probe.prompt, []).extend(probe.answers)
    answers = {}
    with reference.edited(edit):
        new = generation.max_new_tokens
        for prompt, aliases in accepted.items():
            row = reference.base.encode_prompt(prompt, room=new)
            stop = _Stop(reference, len(row), aliases)
            answers[prompt] = _generate(reference, row, GenerationConfig(max_new_tokens=new), stop)
        new = generation.fluency_tokens
        row = reference.base.encode_prompt(case.request.prompt, room=new)
        noise = _Noise(seed_of(seed, "fluency", case.request.case_id), generation.fluency_top_k, new)
        text = _generate(reference, row, GenerationConfig(max_new_tokens=new, min_new_tokens=new), noise=noise)
    return [*(answers[probe.prompt] for probe in case.probes), text]


def _generate(
    reference: ReferenceModel,
    row: TokenSequence,
    settings: GenerationConfig,
    stop: "_Stop | None" = None,
    noise: "_Noise | None" = None,
) -> str:
    settings.do_sample = False
    settings.eos_token_id = list(reference.base.end_ids) or None
    settings.pad_token_id = (reference.base.end_ids or (0,))[0]
    reference.prompt_end = row.prompt_end
    ids = torch.tensor([row.ids], device=reference.base.device)
    out = reference.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        generation_config=settings,
        stopping_criteria=StoppingCriteriaList([stop] if stop else []),
        logits_processor=LogitsProcessorList([noise] if noise else []),
    )
    return str(reference.base.tokenizer.decode(out[0, len(row) :], skip_special_tokens=True))


class _Stop(StoppingCriteria):
    """Stops an answer as soon as its score is decided."""

    def __init__(self, reference: ReferenceModel, prompt: int, accepted: Sequence[str]) -> None:
        self.tokenizer, self.prompt, self.accepted = reference.base.tokenizer, prompt, accepted

    def __call__(self, input_ids: Tensor, scores: object, **_: object) -> Tensor:
        text = str(self.tokenizer.decode(input_ids[0, self.prompt :], skip_special_tokens=True))
        return torch.tensor([finished(text, self.accepted)], device=input_ids.device)


class _Noise(LogitsProcessor):
    """Top-k sampling with given noise: keeps the token with the largest sum of logit and Gumbel noise."""

    def __init__(self, seed: int, k: int, steps: int) -> None:
        drawn = torch.rand(steps, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        self.noise, self.step = -(-drawn.clamp_min(1e-300).log()).log(), 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        values, tokens = scores[0].double().topk(self.noise.shape[1])
        chosen = tokens[(values + self.noise[self.step].to(values.device)).argmax()]
        self.step += 1
        only = torch.full_like(scores, float("-inf"))
        only[0, chosen] = 0.0
        return only
