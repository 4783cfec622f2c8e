"""Answers and texts one prompt at a time, by transformers' own `generate` on the twin."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from instructedit.editors import EditCase, Row, seed_of

from ..results.records import GenerationSpec
from ..scoring.matching import finished
from .slow import Twin


@torch.no_grad()
def continued(twin: Twin, case: EditCase, generation: GenerationSpec, seed: int) -> tuple[list[str], str]:
    """Return the greedy answer to each prompt of a case, each prompt once, and the sampled text of the edit's own."""
    accepted: dict[str, list[str]] = {}
    for probe in case.probes:
        accepted.setdefault(probe.prompt, []).extend(probe.answers)
    new = generation.max_new_tokens
    answers = []
    for prompt, aliases in accepted.items():
        row = twin.base.encode_prompt(prompt, room=new)
        answers.append(_generate(twin, row, GenerationConfig(max_new_tokens=new), _Stop(twin, len(row), aliases)))
    new = generation.fluency_tokens
    row = twin.base.encode_prompt(case.request.prompt, room=new)
    noise = _Noise(seed_of(seed, "fluency", case.request.case_id), generation.fluency_top_k, new)
    return answers, _generate(twin, row, GenerationConfig(max_new_tokens=new, min_new_tokens=new), noise=noise)


def _generate(
    twin: Twin, row: Row, settings: GenerationConfig, stop: "_Stop | None" = None, noise: "_Noise | None" = None
) -> str:
    settings.do_sample = False
    settings.eos_token_id = list(twin.base.end_ids) or None
    settings.pad_token_id = (twin.base.end_ids or (0,))[0]
    twin.prompt_end = row.prompt_end
    ids = torch.tensor([row.ids], device=twin.base.device)
    generate: Any = twin.model.generate
    out = generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        generation_config=settings,
        stopping_criteria=StoppingCriteriaList([stop] if stop else []),
        logits_processor=LogitsProcessorList([noise] if noise else []),
    )
    return str(twin.base.tokenizer.decode(out[0, len(row) :], skip_special_tokens=True))


class _Stop(StoppingCriteria):
    """Stops an answer that holds all that will be read of it."""

    def __init__(self, twin: Twin, prompt: int, accepted: Sequence[str]) -> None:
        self.tokenizer, self.prompt, self.accepted = twin.base.tokenizer, prompt, accepted

    def __call__(self, input_ids: Tensor, scores: object, **_: object) -> Tensor:
        text = str(self.tokenizer.decode(input_ids[0, self.prompt :], skip_special_tokens=True))
        return torch.tensor([finished(text, self.accepted)], device=input_ids.device)


class _Noise(LogitsProcessor):
    """Leaves the one token that has the largest sum of logit and Gumbel noise among the k most likely."""

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
