"""Greedy answers and sampled texts from many edited models in one batch.

One decoder reads every editor. It is transformers' own `generate`, with the edits' patches switched on: rows are padded
on the left, the codebook of a GRACE edit is asked once, at each prompt's last token, and the rest follows from the
cache of keys and values.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from .edits import Edits
from .engine import Segment, patched, segments
from .model import LanguageModel
from .patches import Span
from .rows import Row


def answers(
    model: LanguageModel,
    rows: Sequence[Row],
    edits: Edits,
    owners: Sequence[int | None],
    *,
    max_new_tokens: int,
    finished: Callable[[int, str], bool],
    batch: int = 64,
) -> list[str]:
    """Continue prompts greedily until they stop by themselves.

    A text stops at the end-of-text token, or when `finished` says that it holds all that will be read of it; else after
    `max_new_tokens`.

    Args:
        model: The model.
        rows: Prompts, as `LanguageModel.encode_prompt` gives them.
        edits: The edits.
        owners: For each row its edit, or None for the unedited model.
        max_new_tokens: Most new tokens.
        finished: From a row's index and its new text so far, whether to stop.
        batch: Rows in one call.

    Returns:
        New text of each row, without special tokens.
    """

    def stops(chosen: Sequence[int], prompt: int) -> _NaturalStop:
        return _NaturalStop(model, prompt, chosen, finished)

    settings = GenerationConfig(do_sample=False, max_new_tokens=max_new_tokens)
    return _generate(model, rows, edits, owners, settings, batch, stops=stops)


def texts(
    model: LanguageModel,
    rows: Sequence[Row],
    edits: Edits,
    owners: Sequence[int | None],
    *,
    new_tokens: int,
    top_k: int,
    seeds: Sequence[int],
    batch: int = 64,
) -> list[str]:
    """Continue prompts by top-k sampling, each row from its own seed and to a fixed number of new tokens.

    Sampling is done as the largest of logit plus Gumbel noise among the k most likely tokens. A row's noise depends on
    its seed and the step alone, so a text does not depend on its batch partners.

    Returns:
        New text of each row.
    """

    def noise(chosen: Sequence[int]) -> LogitsProcessor:
        return _GumbelTopK([seeds[i] for i in chosen], top_k, new_tokens)

    settings = GenerationConfig(do_sample=False, max_new_tokens=new_tokens, min_new_tokens=new_tokens)
    return _generate(model, rows, edits, owners, settings, batch, noise=noise)


def _generate(
    model: LanguageModel,
    rows: Sequence[Row],
    edits: Edits,
    owners: Sequence[int | None],
    settings: GenerationConfig,
    batch: int,
    stops: Callable[[Sequence[int], int], "_NaturalStop"] | None = None,
    noise: Callable[[Sequence[int]], LogitsProcessor] | None = None,
) -> list[str]:
    settings.eos_token_id = list(model.end_ids) or None
    settings.pad_token_id = (
        model.tokenizer.pad_token_id if model.tokenizer.pad_token_id is not None else (model.end_ids or (0,))[0]
    )
    found: dict[int, str] = {}
    # Rows of like length together, to pad little.
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i]), i))
    for first in range(0, len(order), batch):
        chosen = sorted(order[first : first + batch])
        width = max(2, *(len(rows[i]) for i in chosen))  # a pass over one token a row is a step of decoding
        ids = torch.full((len(chosen), width), int(settings.pad_token_id or 0))
        mask = torch.zeros_like(ids)
        for line, i in enumerate(chosen):
            ids[line, width - len(rows[i]) :] = torch.tensor(rows[i].ids)
            mask[line, width - len(rows[i]) :] = 1
        stop = stops(chosen, width) if stops else None
        lengths = [len(rows[i]) for i in chosen]
        with torch.no_grad(), ExitStack() as stack:
            if model.standing is not None:
                everywhere = _padded(lengths, [0] * len(lengths), width)
                stack.enter_context(patched(model.model, model.standing, everywhere))
            stack.enter_context(patched(model.model, edits, _padded(lengths, [owners[i] for i in chosen], width)))
            out = model.model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                generation_config=settings,
                stopping_criteria=StoppingCriteriaList([stop] if stop else []),
                logits_processor=LogitsProcessorList([noise(chosen)] if noise else []),
            )
        new = [str(text) for text in model.tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)]
        # A row that has stopped may be carried on while its partners go on.
        found.update(
            (i, text if stop is None else stop.texts.get(line, text))
            for line, (i, text) in enumerate(zip(chosen, new, strict=True))
        )
    return [found[i] for i in range(len(rows))]


def _padded(lengths: Sequence[int], owners: Sequence[int | None], width: int) -> Callable[[int], Sequence[Segment]]:
    """Return the layout of a left-padded batch: whole prompts in the first pass, then one new token a row."""
    prompts = segments([Span(width - length, width, width - 1) for length in lengths], owners)
    steps = segments([Span(0, 1, None) for _ in lengths], owners)
    return lambda tokens: prompts if tokens == len(lengths) * width else steps


class _NaturalStop(StoppingCriteria):
    """Stops each row by itself."""

    def __init__(
        self, model: LanguageModel, prompt: int, rows: Sequence[int], finished: Callable[[int, str], bool]
    ) -> None:
        self.tokenizer = model.tokenizer
        self.prompt = prompt
        self.rows = rows
        self.finished = finished
        self.texts: dict[int, str] = {}  # of the rows that have stopped, by their line in the batch

    def __call__(self, input_ids: Tensor, scores: object, **_: object) -> Tensor:
        for line, row in enumerate(self.rows):
            if line not in self.texts:
                text = str(self.tokenizer.decode(input_ids[line, self.prompt :], skip_special_tokens=True))
                if self.finished(row, text):
                    self.texts[line] = text
        return torch.tensor([line in self.texts for line in range(len(self.rows))], device=input_ids.device)


class _GumbelTopK(LogitsProcessor):
    """Turns greedy choice into a sample from the k most likely tokens, with noise of each row's own."""

    def __init__(self, seeds: Sequence[int], k: int, steps: int) -> None:
        draws = [
            torch.rand(steps, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in seeds
        ]
        self.noise = -torch.log(-torch.log(torch.stack(draws).clamp_min(1e-300)))  # [rows, steps, k]
        self.step = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        top = scores.double().topk(self.noise.shape[-1], dim=-1)
        noisy = top.values + self.noise[:, self.step].to(scores.device)
        self.step += 1
        chosen = top.indices.gather(1, noisy.argmax(dim=1, keepdim=True))
        return torch.full_like(scores, float("-inf")).scatter(1, chosen, 0.0)
