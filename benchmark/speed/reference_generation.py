"""Reference answers and texts, one prompt at a time by transformers' own `generate`."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from instructedit.editors import EditCase, TokenSequence, seed_of

from ..results.records import GenerationSpec
from ..scoring.matching import finished
from .reference import UNEDITED, ReferenceEdit, ReferenceModel


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
