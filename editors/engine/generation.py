"""Greedy answers and sampled texts from many edited models in one batch.

One decoder reads every editor: that of `decoding.py`. Where a model's attention cannot be told who asks whom, it is
transformers' own `generate`, with the edits' patches switched on and rows padded on the left, or one row at a time;
all give the same texts. Which of them is used is found out when the model is loaded (`trial.py`).
The codebook of a GRACE edit is asked once, at each prompt's last token, and the rest follows from the cache of keys and
values.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from ..edits import Edits
from ..models.tokens import Row
from ..patches import Span
from .decoding import Prompts, decode, reread
from .hooks import patched
from .packed_batch import Segment

if TYPE_CHECKING:
    from .model import LanguageModel


def answers(
    model: "LanguageModel",
    rows: Sequence[Row],
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

    A text stops at the end-of-text token, or when `finished` says that it holds all that will be read of it; else after
    `max_new_tokens`.

    Args:
        model: The model.
        rows: Prompts, as `LanguageModel.encode_prompt` gives them.
        edits: The edits.
        owners: For each row its edit, or None for the unedited model.
        max_new_tokens: Most new tokens.
        finished: From a row's index and its new text so far, whether to stop.
        prompts: The same rows, read by the unedited model (`decoding.read_prompts`).
        among: Indices of the rows that are continued, where the model's attention can be told; all by default.
        batch: Rows in one call.

    Returns:
        New text of each row, without special tokens; '' for rows that are not continued.
    """
    if model.engine.ways.generation == "cache" or reread(model, edits):

        def greedy(_: Sequence[int], logits: Tensor, __: int) -> Tensor:
            return logits.argmax(dim=-1)

        def ended(row: int, new: list[int]) -> bool:
            return new[-1] in model.end_ids or finished(row, _decoded(model, new))

        new = decode(
            model,
            rows,
            edits,
            owners,
            steps=max_new_tokens,
            choose=greedy,
            ended=ended,
            prompts=prompts,
            among=among,
            batch=batch,
        )
        return [_decoded(model, tokens) for tokens in new]

    def stops(chosen: Sequence[int], prompt: int) -> _NaturalStop:
        return _NaturalStop(model, prompt, chosen, finished)

    settings = GenerationConfig(do_sample=False, max_new_tokens=max_new_tokens)
    return generate(model, rows, edits, owners, settings, batch, stops=stops)


def texts(
    model: "LanguageModel",
    rows: Sequence[Row],
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
    """Continue prompts by top-k sampling, each row from its own seed and to a fixed number of new tokens.

    Sampling is done as the largest of logit plus Gumbel noise among the k most likely tokens. A row's noise depends on
    its seed and the step alone, so a text does not depend on its batch partners.

    Returns:
        New text of each row; '' for rows that are not among those that are continued (see `answers`).
    """
    if not rows:
        return []
    if model.engine.ways.generation == "cache" or reread(model, edits):

        def sample(chosen: Sequence[int], logits: Tensor, step: int) -> Tensor:
            logits = logits.clone()
            logits[:, list(model.end_ids)] = float("-inf")
            return gumbel_top_k(logits, torch.stack([draws[index][step] for index in chosen]))

        draws = gumbel_noise(seeds, top_k, new_tokens)
        new = decode(
            model,
            rows,
            edits,
            owners,
            steps=new_tokens,
            choose=sample,
            ended=lambda _row, _new: False,
            prompts=prompts,
            among=among,
            batch=batch,
        )
        return [_decoded(model, tokens) for tokens in new]

    def noise(chosen: Sequence[int]) -> LogitsProcessor:
        return _GumbelTopK([seeds[i] for i in chosen], top_k, new_tokens)

    settings = GenerationConfig(do_sample=False, max_new_tokens=new_tokens, min_new_tokens=new_tokens)
    return generate(model, rows, edits, owners, settings, batch, noise=noise)


def generate(
    model: "LanguageModel",
    rows: Sequence[Row],
    edits: Edits,
    owners: Sequence[int | None],
    settings: GenerationConfig,
    batch: int,
    stops: Callable[[Sequence[int], int], "_NaturalStop"] | None = None,
    noise: Callable[[Sequence[int]], LogitsProcessor] | None = None,
) -> list[str]:
    """Continue prompts by transformers' own `generate`.

    Args:
        model: The model.
        rows: Prompts.
        edits: The edits.
        owners: For each row its edit, or None for the unedited model.
        settings: Of `generate`; the end tokens and padding are set here.
        batch: Rows in one call.
        stops: From the rows of a call and the width of their prompts, what stops them.
        noise: From the rows of a call, what chooses their tokens.

    Returns:
        New text of each row.
    """
    settings.eos_token_id = list(model.end_ids) or None
    settings.pad_token_id = (
        model.tokenizer.pad_token_id if model.tokenizer.pad_token_id is not None else (model.end_ids or (0,))[0]
    )
    found: dict[int, str] = {}
    alone = model.engine.ways.generation == "alone"
    batch, least = (1, 1) if alone else (batch, 2)  # some take one token a row for a step of decoding
    # Rows of like length together, to pad little.
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i]), i))
    for first in range(0, len(order), batch):
        chosen = sorted(order[first : first + batch])
        width = max(least, *(len(rows[i]) for i in chosen))
        ids = torch.full((len(chosen), width), int(settings.pad_token_id or 0))
        mask = torch.zeros_like(ids)
        for line, i in enumerate(chosen):
            ids[line, width - len(rows[i]) :] = torch.tensor(rows[i].ids)
            mask[line, width - len(rows[i]) :] = 1
        stop = stops(chosen, width) if stops else None
        lengths, passes = [len(rows[i]) for i in chosen], _Passes()
        with torch.no_grad(), ExitStack() as stack:
            stack.callback(model.model.register_forward_pre_hook(lambda *_, passes=passes: passes.add()).remove)
            if model.standing is not None:
                everywhere = _padded(lengths, [0] * len(lengths), width, passes)
                stack.enter_context(patched(model.model, model.standing, everywhere, model.structure.routers))
            own = _padded(lengths, [owners[i] for i in chosen], width, passes)
            stack.enter_context(patched(model.model, edits, own, model.structure.routers))
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


class _Passes:
    """Number of passes of a call of `generate`."""

    number = 0

    def add(self) -> None:
        self.number += 1


def _padded(
    lengths: Sequence[int], owners: Sequence[int | None], width: int, passes: _Passes
) -> Callable[[int], Sequence[Segment]]:
    """Return the layout of a left-padded batch: whole prompts in the first pass, then one new token a row."""
    prompts = _lines([Span(width - length, width, width - 1) for length in lengths], owners)
    steps = _lines([Span(0, 1, None) for _ in lengths], owners)
    return lambda _: prompts if passes.number <= 1 else steps


def _lines(lines: Sequence[Span], owners: Sequence[int | None]) -> list[Segment]:
    """Return the segments of lines that stand behind one another, each over the positions [0, stop) of its span."""
    found, token = [], 0
    for line, owner in zip(lines, owners, strict=True):
        if owner is not None:
            found.append(Segment(owner, token, token + line.stop, (line,)))
        token += line.stop
    return found


class _NaturalStop(StoppingCriteria):
    """Stops each row by itself."""

    def __init__(
        self, model: "LanguageModel", prompt: int, rows: Sequence[int], finished: Callable[[int, str], bool]
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
        self.noise = gumbel_noise(seeds, k, steps)
        self.step = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        chosen = gumbel_top_k(scores, self.noise[:, self.step])
        self.step += 1
        return torch.full_like(scores, float("-inf")).scatter(1, chosen[:, None], 0.0)


def gumbel_noise(seeds: Sequence[int], k: int, steps: int) -> Tensor:
    """Return noise of each row's own, [rows, steps, k]."""
    draws = [torch.rand(steps, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in seeds]
    return -torch.log(-torch.log(torch.stack(draws).clamp_min(1e-300)))


def gumbel_top_k(logits: Tensor, noise: Tensor) -> Tensor:
    """Return a sample from the k most likely tokens: the largest of logit plus noise, [rows].

    Args:
        logits: [rows, vocabulary].
        noise: [rows, k], for the most likely token first.
    """
    top = logits.double().topk(noise.shape[-1], dim=-1)
    noisy = top.values + noise.to(logits.device)
    return top.indices.gather(1, noisy.argmax(dim=1, keepdim=True))[:, 0]


def _decoded(model: "LanguageModel", tokens: Sequence[int]) -> str:
    return str(model.tokenizer.decode(list(tokens), skip_special_tokens=True))
