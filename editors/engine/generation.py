"""Greedy answers and sampled texts of many edited models in one batch.

The decoder of `decoding.py` serves every editor. Where a model does not support our attention function, transformers'
own `generate` runs with the edits' patches, over left-padded batches or one sequence at a time. All give the same
texts; the trial of a model (`trial.py`) finds which of them it needs. The codebook of a GRACE edit is queried once, at
each prompt's last token; the answer follows from the cache of keys and values.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from ..edits import Edits
from ..models.tokens import TokenSequence
from ..patches import Span
from .decoding import Prompts, decode, rereads
from .hooks import Segments, patched
from .packed_batch import Segment, step_segments

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
    prompts: Prompts | None = None,
    among: Sequence[int] | None = None,
    batch: int = 64,
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
        prompts: The same prompts, read by the unedited model (`decoding.read_prompts`).
        among: Indices of the prompts that are continued; all by default.
        batch: Sequences in one batch.

    Returns:
        New text of each prompt, without special tokens; '' for prompts that are not continued.
    """
    if _decodes(model, edits):

        def greedy(_: Sequence[int], logits: Tensor, __: int) -> Tensor:
            return logits.argmax(dim=-1)

        def ended(row: int, new: list[int]) -> bool:
            return new[-1] in model.stop_ids or finished(row, _text(model, new))

        options: dict[str, Any] = {"prompts": prompts, "among": among, "batch": batch}
        new = decode(model, rows, edits, owners, steps=max_new_tokens, choose=greedy, ended=ended, **options)
        return [_text(model, tokens) for tokens in new]

    def stops(chosen: Sequence[int], prompt: int) -> _NaturalStop:
        return _NaturalStop(model, prompt, chosen, finished)

    settings = GenerationConfig(do_sample=False, max_new_tokens=max_new_tokens)
    return generate(model, rows, edits, owners, settings, batch, stops=stops, among=among)


def texts(
    model: "LanguageModel",
    rows: Sequence[TokenSequence],
    edits: Edits,
    owners: Sequence[int | None],
    *,
    new_tokens: int,
    top_k: int,
    seeds: Sequence[int],
    prompts: Prompts | None = None,
    among: Sequence[int] | None = None,
    batch: int = 64,
) -> list[str]:
    """Continue prompts by top-k sampling, each with its own seed and to a fixed number of new tokens.

    A sample is the largest of logit plus Gumbel noise among the k most likely tokens. The noise depends on the prompt's
    seed and the step alone, so a text does not depend on its batch partners.

    Returns:
        New text of each prompt; '' for prompts that are not continued (see `answers`).
    """
    if not rows:
        return []
    if _decodes(model, edits):
        noise = gumbel_noise(seeds, top_k, new_tokens)

        def sample(chosen: Sequence[int], logits: Tensor, step: int) -> Tensor:
            logits = logits.clone()
            logits[:, list(model.stop_ids)] = float("-inf")
            return gumbel_top_k(logits, noise[list(chosen), step])

        def never(_: int, __: list[int]) -> bool:
            return False

        options: dict[str, Any] = {"prompts": prompts, "among": among, "batch": batch}
        new = decode(model, rows, edits, owners, steps=new_tokens, choose=sample, ended=never, **options)
        return [_text(model, tokens) for tokens in new]

    def sampler(chosen: Sequence[int]) -> LogitsProcessor:
        return _GumbelTopK([seeds[i] for i in chosen], top_k, new_tokens)

    settings = GenerationConfig(do_sample=False, max_new_tokens=new_tokens, min_new_tokens=new_tokens)
    return generate(model, rows, edits, owners, settings, batch, noise=sampler, among=among)


def _decodes(model: "LanguageModel", edits: Edits) -> bool:
    """Return whether our own decoder generates this model's texts."""
    return model.engine.runner.ways.generation == "cache" or rereads(model, edits)


def generate(
    model: "LanguageModel",
    rows: Sequence[TokenSequence],
    edits: Edits,
    owners: Sequence[int | None],
    settings: GenerationConfig,
    batch: int,
    stops: Callable[[Sequence[int], int], "_NaturalStop"] | None = None,
    noise: Callable[[Sequence[int]], LogitsProcessor] | None = None,
    among: Sequence[int] | None = None,
) -> list[str]:
    """Continue prompts by transformers' own `generate` over left-padded batches.

    Args:
        model: The model.
        rows: Prompts.
        edits: The edits.
        owners: For each prompt its edit, or None for the unedited model.
        settings: Of `generate`; the end tokens and padding are set here.
        batch: Sequences in one call.
        stops: From the prompts of a call and their padded length, what stops them.
        noise: From the prompts of a call, what chooses their tokens.
        among: Indices of the prompts that are continued; all by default.

    Returns:
        New text of each prompt; '' for prompts that are not continued.
    """
    pad = model.tokenizer.pad_token_id
    settings.eos_token_id = list(model.stop_ids) or None
    settings.pad_token_id = pad if pad is not None else (model.end_ids or (0,))[0]
    # some models mistake a prompt of one token for a step of decoding
    batch, shortest = (1, 1) if model.engine.runner.ways.generation == "alone" else (batch, 2)
    chosen = range(len(rows)) if among is None else among
    order = sorted(chosen, key=lambda i: (len(rows[i]), i))  # similar lengths together, to pad little
    found: dict[int, str] = {}
    for first in range(0, len(order), batch):
        chosen = sorted(order[first : first + batch])
        width = max(shortest, *(len(rows[i]) for i in chosen))
        ids = torch.full((len(chosen), width), int(settings.pad_token_id or 0))
        mask = torch.zeros_like(ids)
        for line, i in enumerate(chosen):
            ids[line, width - len(rows[i]) :] = torch.tensor(rows[i].ids)
            mask[line, width - len(rows[i]) :] = 1
        stop = stops(chosen, width) if stops else None
        starts = [width - len(rows[i]) for i in chosen]
        with torch.no_grad(), _patched_batch(model, starts, width, edits, [owners[i] for i in chosen]):
            out = model.model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                generation_config=settings,
                stopping_criteria=StoppingCriteriaList([stop] if stop else []),
                logits_processor=LogitsProcessorList([noise(chosen)] if noise else []),
            )
        new = [str(text) for text in model.tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)]
        # `generate` may continue a sequence that has stopped while its partners go on
        found |= {i: stop.texts.get(line, new[line]) if stop else new[line] for line, i in enumerate(chosen)}
    return [found.get(i, "") for i in range(len(rows))]


@contextmanager
def _patched_batch(
    model: "LanguageModel", starts: Sequence[int], width: int, edits: Edits, owners: Sequence[int | None]
) -> Iterator[None]:
    """Apply edits to a call of `generate`: its first pass runs the padded prompts, each other one token a sequence.

    Args:
        model: The model.
        starts: Position of each prompt's first token.
        width: Padded length of the prompts.
        edits: The edits.
        owners: The edit of each prompt, or None.
    """
    passes = 0

    def begins(*_: object) -> None:
        nonlocal passes
        passes += 1

    def segments(edited: Sequence[int | None]) -> Segments:
        prompts = [
            Segment(owner, line * width, (line + 1) * width, (Span(start, width, width - 1),))
            for line, (start, owner) in enumerate(zip(starts, edited, strict=True))
            if owner is not None
        ]
        steps = step_segments(edited)
        return lambda _: prompts if passes <= 1 else steps

    routers = model.structure.routers
    with ExitStack() as stack:
        stack.callback(model.model.register_forward_pre_hook(begins).remove)
        if model.engine.active is not None:
            stack.enter_context(patched(model.model, model.engine.active, segments([0] * len(starts)), routers))
        stack.enter_context(patched(model.model, edits, segments(owners), routers))
        yield


class _NaturalStop(StoppingCriteria):
    """Stops each sequence by itself.

    Attributes:
        texts: New texts of the sequences that have stopped, by their line in the batch.
    """

    def __init__(
        self, model: "LanguageModel", prompt: int, rows: Sequence[int], finished: Callable[[int, str], bool]
    ) -> None:
        self.tokenizer, self.prompt, self.rows, self.finished = model.tokenizer, prompt, rows, finished
        self.texts: dict[int, str] = {}

    def __call__(self, input_ids: Tensor, scores: object, **_: object) -> Tensor:
        for line, row in enumerate(self.rows):
            if line not in self.texts:
                text = str(self.tokenizer.decode(input_ids[line, self.prompt :], skip_special_tokens=True))
                if self.finished(row, text):
                    self.texts[line] = text
        return torch.tensor([line in self.texts for line in range(len(self.rows))], device=input_ids.device)


class _GumbelTopK(LogitsProcessor):
    """Turns greedy choice into a sample from the k most likely tokens, with noise of each sequence's own."""

    def __init__(self, seeds: Sequence[int], k: int, steps: int) -> None:
        self.noise = gumbel_noise(seeds, k, steps)
        self.step = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        chosen = gumbel_top_k(scores, self.noise[:, self.step])
        self.step += 1
        return torch.full_like(scores, float("-inf")).scatter(1, chosen[:, None], 0.0)


def gumbel_noise(seeds: Sequence[int], k: int, steps: int) -> Tensor:
    """Return noise of each sequence's own, [sequences, steps, k]."""
    draws = [torch.rand(steps, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in seeds]
    return -torch.log(-torch.log(torch.stack(draws).clamp_min(1e-300)))


def gumbel_top_k(logits: Tensor, noise: Tensor) -> Tensor:
    """Return a sample from the k most likely tokens: the largest of logit plus noise, [sequences].

    Args:
        logits: [sequences, vocabulary].
        noise: [sequences, k], for the most likely token first.
    """
    top = logits.double().topk(noise.shape[-1], dim=-1)
    noisy = top.values + noise.to(logits.device)
    return top.indices.gather(1, noisy.argmax(dim=1, keepdim=True))[:, 0]


def _text(model: "LanguageModel", tokens: Sequence[int]) -> str:
    return str(model.tokenizer.decode(list(tokens), skip_special_tokens=True))
