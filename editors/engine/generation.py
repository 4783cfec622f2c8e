"""Greedy answers and sampled texts of many edited models in one batch.

The codebook of a GRACE edit is queried once, at each prompt's last token; the answer follows from the cache of keys and
values.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..edits import Edits
from ..models.tokens import TokenSequence
from .decoding import decode

if TYPE_CHECKING:
    from .model import LanguageModel


def answers(
    model: "LanguageModel",
    rows: Sequence[TokenSequence],
    edits: Edits,
    owners: Sequence[int | None],
    *,
    max_new_tokens: int,
    finished: Callable[[int, str], bool],
    **options: Any,
) -> list[str]:
    """Continue prompts greedily until they stop by themselves.

    A text stops at the end-of-text token, or when `finished` returns that it holds all that will be read of it; else
    after `max_new_tokens`.

    Args:
        model: The model.
        rows: Prompts, as `LanguageModel.encode_prompt` gives them.
        edits: The edits.
        owners: For each prompt its edit, or None for the unedited model.
        max_new_tokens: Maximum number of new tokens.
        finished: From a prompt's index and its new text so far, whether to stop.
        options: `prompts`, `among` and `batch` of `decoding.decode`.

    Returns:
        New text of each prompt, without special tokens; '' for prompts that are not continued.
    """

    def greedy(_: Sequence[int], logits: Tensor, __: int) -> Tensor:
        return logits.argmax(dim=-1)

    def ended(row: int, new: list[int]) -> bool:
        return new[-1] in model.stop_ids or finished(row, _text(model, new))

    new = decode(model, rows, edits, owners, steps=max_new_tokens, choose=greedy, ended=ended, **options)
    return [_text(model, tokens) for tokens in new]


def texts(
    model: "LanguageModel",
    rows: Sequence[TokenSequence],
    edits: Edits,
    owners: Sequence[int | None],
    *,
    new_tokens: int,
    top_k: int,
    seeds: Sequence[int],
    **options: Any,
) -> list[str]:
    """Continue prompts by top-k sampling, each with its own seed and to a fixed number of new tokens; see `answers`.

    A sample is the largest of logit plus Gumbel noise among the k most likely tokens. The noise depends on the prompt's
    seed and the step alone, so a text does not depend on its batch partners.
    """
    if not rows:
        return []
    noise = gumbel_noise(seeds, top_k, new_tokens)

    def sample(chosen: Sequence[int], logits: Tensor, step: int) -> Tensor:
        logits = logits.clone()
        logits[:, list(model.stop_ids)] = float("-inf")
        return gumbel_top_k(logits, noise[list(chosen), step])

    def never(_: int, __: list[int]) -> bool:
        return False

    new = decode(model, rows, edits, owners, steps=new_tokens, choose=sample, ended=never, **options)
    return [_text(model, tokens) for tokens in new]


def gumbel_noise(seeds: Sequence[int], k: int, steps: int) -> Tensor:
    """Return noise of each sequence's own, [sequences, steps, k]."""
    draws = [torch.rand(steps, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in seeds]
    return -torch.log(-torch.log(torch.stack(draws).clamp_min(1e-300)))


def gumbel_top_k(logits: Tensor, noise: Tensor) -> Tensor:
    """Return a sample from the k most likely tokens: the largest of logit plus noise, [sequences].

    Logits are [sequences, vocabulary]; noise is [sequences, k], for the most likely token first.
    """
    top = logits.double().topk(noise.shape[-1], dim=-1)
    noisy = top.values + noise.to(logits.device)
    return top.indices.gather(1, noisy.argmax(dim=1, keepdim=True))[:, 0]


def _text(model: "LanguageModel", tokens: Sequence[int]) -> str:
    return str(model.tokenizer.decode(list(tokens), skip_special_tokens=True))
