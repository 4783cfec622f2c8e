"""Decoding of many sequences token by token, each under its own edit.

Prompts that the unedited model has read are run again from the first patched block only; their keys and values in the
blocks before are the same under every edit. A step runs one token of every sequence that has not ended. Where a model
does not support our attention function, transformers' own `generate` runs with the edits' patches, over left-padded
batches or one sequence at a time. Edits of whole sequences, and models whose cache is wrong, read the sequences again
at each step. The trial of a model (`trial.py`) finds what it needs (`Ways.generation`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from ..edits import Edits
from ..models.structure import ReplayStart
from ..models.tokens import TokenSequence
from ..patches import Span
from .attention import Keys, Scale, round_up, scores
from .engine import BasePass, Group
from .hooks import patched
from .packed_batch import Segment, by_row, step_segments

if TYPE_CHECKING:
    from .model import LanguageModel

SPARSE = 0.75
"""Fraction of sequences that have not ended below which the cache is copied without the others."""

Choose = Callable[[Sequence[int], Tensor, int], Tensor]
"""From indices of sequences, logits [sequences, vocabulary] and the number of the step, the next tokens [sequences]."""
Ended = Callable[[int, list[int]], bool]
"""From a sequence's index and its new tokens, whether it has ended."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts that the unedited model has read: the pass, and the logits [vocabulary] after those it continues."""

    base: BasePass
    logits: dict[int, Tensor]


def read_prompts(
    model: "LanguageModel",
    rows: Sequence[TokenSequence],
    cuts: Sequence[ReplayStart],
    groups: Sequence[Group] | None = None,
) -> Prompts | None:
    """Let the unedited model read prompts once for all editors.

    `cuts` are those of the edits under which they will be continued, `groups` as in `Engine.base`: those that are read
    the unedited model continues too. None if this model's texts are not generated with our cache.
    """
    ways = model.engine.runner.ways
    if ways.generation != "cache" or not ways.late or not rows:
        return None
    base, run = model.base(rows, cuts, 0, groups)
    return Prompts(base, {index: found[-1].clone() for index, found in run})


class Cache:
    """Keys and values of `lines` sequences of at most `room` tokens; an `attention.Attention` of a new token for each.

    `device` is that of the model's embeddings.
    """

    def __init__(self, lines: int, room: int, device: torch.device) -> None:
        self.lines, self.room = lines, round_up(room)
        self.lengths = torch.zeros(lines, dtype=torch.long, device=device)
        self._stored: Keys = {}  # [lines, room, key heads, head width]
        self._masks: dict[tuple[int | None, torch.device], Tensor] = {}

    def fill(self, keys: Keys, lines: Sequence[int], paths: Sequence[Sequence[int]]) -> None:
        """Copy the keys and values [keys, key heads, head width] of some prompts, each given by its indices in them."""
        longest = max(map(len, paths))
        index = torch.tensor([[*path, *[path[-1]] * (longest - len(path))] for path in paths])
        self.lengths[torch.tensor(lines)] = torch.tensor([len(path) for path in paths], device=self.lengths.device)
        for module, (k, v) in keys.items():
            if module not in self._stored:
                shape = self.lines, self.room, *k.shape[1:]
                self._stored[module] = k.new_zeros(shape), v.new_zeros((*shape[:-1], v.shape[-1]))
            for store, found in zip(self._stored[module], (k, v), strict=True):
                store[torch.tensor(lines, device=store.device), :longest] = found[index.to(found.device)]

    def grow(self) -> None:
        """Make room for one more token of each sequence."""
        self.lengths += 1
        self._masks.clear()

    def select(self, lines: Sequence[int]) -> None:
        """Keep some sequences only."""
        index = torch.tensor(lines)
        self.lines, self.lengths = len(lines), self.lengths[index.to(self.lengths.device)]
        self._masks.clear()
        for module in list(self._stored):  # one after another, so that no more than one is in memory twice
            k, v = self._stored.pop(module)
            self._stored[module] = k[index.to(k.device)], v[index.to(v.device)]

    def __call__(self, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, scale: Scale) -> Tensor:
        """See `attention.Attention`; tokens are the sequences' latest."""
        last = self.lengths.to(q.device)
        lines = torch.arange(self.lines, device=q.device)
        stop = round_up(int(self.lengths.max()) + 1)
        keys, values = self._stored[module]
        keys[lines, last], values[lines, last] = k, v
        if (scale.window, q.device) not in self._masks:
            gap = last[:, None] - torch.arange(stop, device=q.device)
            allowed = (gap >= 0) & (gap < (scale.window or stop + 1))
            self._masks[scale.window, q.device] = allowed[:, None, None]
        mask = self._masks[scale.window, q.device]
        found = scores(q[:, :, None], keys[:, :stop].transpose(1, 2), values[:, :stop].transpose(1, 2), mask, scale)
        return found[:, :, 0]


def decode(
    model: "LanguageModel",
    rows: Sequence[TokenSequence],
    edits: Edits,
    owners: Sequence[int | None],
    *,
    steps: int,
    choose: Choose,
    ended: Ended,
    prompts: Prompts | None = None,
    among: Iterable[int] | None = None,
    batch: int = 64,
) -> list[list[int]]:
    """Continue prompts, each under its edit, or None for the unedited model.

    Args:
        model: The model.
        rows: Prompts.
        edits: The edits.
        owners: For each prompt its edit.
        steps: Maximum number of new tokens.
        choose: Chooses the next tokens.
        ended: Ends a sequence.
        prompts: The same prompts, read by the unedited model.
        among: Indices of the prompts that are continued; all by default.
        batch: Sequences in one batch.

    Returns:
        New tokens of each prompt; none of those that are not continued.
    """
    decoder = _Decoder(model, rows, edits, owners, steps, choose, ended, prompts, [[] for _ in rows])
    chosen = range(len(rows)) if among is None else among
    engine = model.engine
    by_row = edits.by_row or (engine.active is not None and engine.active.by_row)
    kind = "recompute" if by_row else engine.runner.ways.generation
    with torch.no_grad():
        if kind == "recompute":
            decoder.reread(list(chosen))
            return decoder.new
        run = decoder.cached if kind == "cache" else decoder.padded
        size = 1 if kind == "alone" else batch
        # sequences of similar length together, so that little is padded; those of one edit consecutive
        order = sorted(chosen, key=lambda i: (len(rows[i]), i))
        for first in range(0, len(order), size):
            run(sorted(order[first : first + size]))
    return decoder.new


@dataclass(frozen=True, slots=True)
class _Decoder:
    """The arguments of `decode`, and the new tokens of each prompt."""

    model: "LanguageModel"
    rows: Sequence[TokenSequence]
    edits: Edits
    owners: Sequence[int | None]
    steps: int
    choose: Choose
    ended: Ended
    prompts: Prompts | None
    new: list[list[int]]

    def _append(self, chosen: Sequence[int], going: set[int], tokens: Sequence[int]) -> None:
        """Append the next tokens of some sequences; those that end are removed from `going`."""
        for index, token in zip(chosen, tokens, strict=True):
            if index in going:
                self.new[index].append(token)
                if self.ended(index, self.new[index]):
                    going.discard(index)

    def reread(self, chosen: list[int]) -> None:
        """Continue some prompts by a full pass for each token."""
        going = set(chosen)
        for step in range(self.steps):
            chosen = [index for index in chosen if index in going]
            if not chosen:
                return
            texts = []
            for index in chosen:
                ids, end = (*self.rows[index].ids, *self.new[index]), self.rows[index].prompt_end
                # the prompt's end is read too: the last block runs only tokens that are read, and a codebook queries it
                texts.append(TokenSequence(ids, tuple(sorted({end, len(ids) - 1})), end))
            passes = self.model.forward(texts, self.edits, [self.owners[index] for index in chosen])
            last = {number: logits[-1] for number, logits in passes}
            tokens = self.choose(chosen, torch.stack([last[number] for number in range(len(chosen))]), step)
            self._append(chosen, going, tokens.tolist())

    def cached(self, chosen: list[int]) -> None:
        """Continue some prompts with a cache."""
        cache, logits = self._prefill(chosen)
        going = set(chosen)
        for step in range(self.steps):
            tokens = self.choose(chosen, logits, step).tolist()
            self._append(chosen, going, tokens)
            if not going or step + 1 == self.steps:
                return
            if len(going) < SPARSE * len(chosen):
                kept = [line for line, index in enumerate(chosen) if index in going]
                cache.select(kept)
                chosen, tokens = [chosen[line] for line in kept], [tokens[line] for line in kept]
            owners = [self.owners[index] for index in chosen]
            logits = self.model.engine.step(tokens, cache.lengths.tolist(), cache, self.edits, owners)
            cache.grow()

    def _prefill(self, chosen: Sequence[int]) -> tuple[Cache, Tensor]:
        """Return the cache of some prompts and the logits after them, [prompts, vocabulary]."""
        room = max(len(self.rows[index]) for index in chosen) + self.steps
        cache = Cache(len(chosen), room, self.model.engine.runner.device)
        if self.prompts is None:
            rows, owners = [self.rows[index] for index in chosen], [self.owners[index] for index in chosen]
            line = {number: number for number in range(len(chosen))}
            passes = self.model.engine.passes(rows, self.edits, owners, cache_keys=True)
        else:
            base, block = self.prompts.base, self.edits.first_block
            place = self.model.engine.runner.block_of
            unchanged = {m: pair for m, pair in base.keys.items() if block is None or place[m] < block}
            cache.fill(unchanged, range(len(chosen)), [base.paths[index] for index in chosen])
            if block is None:
                return cache, torch.stack([self.prompts.logits[index] for index in chosen])
            line = {index: number for number, index in enumerate(chosen)}
            passes = self.model.engine.replays(base, self.edits, self.owners, among=chosen, cache_keys=True)
        logits: dict[int, Tensor] = {}
        for batch, output in passes:
            cache.fill(output.keys, [line[index] for index in batch.rows], batch.paths)
            logits.update((line[index], found[-1]) for index, found in by_row(batch, output.logits))
        return cache, torch.stack([logits[number] for number in range(len(chosen))])

    def padded(self, chosen: list[int]) -> None:
        """Continue some prompts, padded on the left, by transformers' own `generate`."""
        model, going, step = self.model, set(chosen), count()
        # some models mistake a prompt of one token for a step of decoding
        least = 1 if model.engine.runner.ways.generation == "alone" else 2
        width = max(least, *(len(self.rows[index]) for index in chosen))
        pad = model.tokenizer.pad_token_id
        pad = pad if pad is not None else (model.end_ids or (0,))[0]
        ids = torch.full((len(chosen), width), pad)
        mask = torch.zeros_like(ids)
        for line, index in enumerate(chosen):
            ids[line, width - len(self.rows[index]) :] = torch.tensor(self.rows[index].ids)
            mask[line, width - len(self.rows[index]) :] = 1

        def choose(logits: Tensor) -> Tensor:
            tokens = self.choose(chosen, logits, next(step))
            self._append(chosen, going, tokens.tolist())
            segments[:] = step_segments(owners)
            return tokens

        def stops() -> Tensor:
            return torch.tensor([index not in going for index in chosen], device=model.device)

        edits, owners = model.engine.under(self.edits, [self.owners[index] for index in chosen])
        # of the padded prompts; after them each pass has one token of each sequence
        segments = [
            Segment(owner, line * width, (line + 1) * width, (Span(width - len(self.rows[index]), width, width - 1),))
            for line, (index, owner) in enumerate(zip(chosen, owners, strict=True))
            if owner is not None
        ]
        with patched(model.model, edits, lambda _: segments, model.structure.routers):
            model.model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                generation_config=GenerationConfig(do_sample=False, max_new_tokens=self.steps, pad_token_id=pad),
                logits_processor=LogitsProcessorList([_Chosen(choose)]),
                stopping_criteria=StoppingCriteriaList([_Stop(stops)]),
            )


class _Chosen(LogitsProcessor):
    """Turns the greedy choice of `generate` into that of a function of the logits."""

    def __init__(self, choose: Callable[[Tensor], Tensor]) -> None:
        self.choose = choose

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        return torch.full_like(scores, float("-inf")).scatter(1, self.choose(scores)[:, None], 0.0)


class _Stop(StoppingCriteria):
    """Ends the sequences of `generate` for which a function returns True."""

    def __init__(self, ended: Callable[[], Tensor]) -> None:
        self.ended = ended

    def __call__(self, input_ids: Tensor, scores: object, **_: object) -> Tensor:
        return self.ended()
