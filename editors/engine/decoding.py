"""Decoding of many sequences token by token, each under its own edit, with one cache of keys and values.

Prompts that the unedited model has read are run again from the first patched block only; their keys and values in the
blocks before are the same under every edit. A step runs one token of every sequence that has not ended.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..edits import Edits
from ..models.structure import ReplayStart
from ..models.tokens import TokenSequence
from .attention import Keys, Scale, round_up, scores
from .engine import BasePass, Engine, Group
from .packed_batch import by_row

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
    """Prompts that the unedited model has read, to be continued under many edits.

    Attributes:
        base: The pass, with all keys and values.
        logits: The unedited model's logits after prompts, [vocabulary], by their index.
    """

    base: BasePass
    logits: dict[int, Tensor]


def read_prompts(
    model: "LanguageModel",
    rows: Sequence[TokenSequence],
    cuts: Sequence[ReplayStart],
    groups: Sequence[Group] | None = None,
) -> Prompts | None:
    """Let the unedited model read prompts once for all editors.

    Args:
        model: The model.
        rows: Prompts, as `LanguageModel.encode_prompt` gives them.
        cuts: Those of the edits under which they will be continued.
        groups: As in `Engine.base`; those that are read the unedited model continues too.

    Returns:
        The prompts; None if this model's texts are not generated with our cache, and prompts are read each time.
    """
    ways = model.engine.runner.ways
    if ways.generation != "cache" or not ways.late or not rows:
        return None
    base, run = model.base(rows, cuts, 0, groups)
    return Prompts(base, {index: found[-1].clone() for index, found in run})


class Cache:
    """Keys and values of growing sequences; an `attention.Attention` of one new token for each.

    Args:
        lines: Number of sequences.
        room: Maximum number of tokens of a sequence.
        device: Device of the model's embeddings.
    """

    def __init__(self, lines: int, room: int, device: torch.device) -> None:
        self.lines, self.room = lines, round_up(room)
        self.lengths = torch.zeros(lines, dtype=torch.long, device=device)
        self._stored: Keys = {}  # [lines, room, key heads, head width]
        self._masks: dict[tuple[int | None, torch.device], Tensor] = {}

    def fill(self, keys: Keys, lines: Sequence[int], paths: Sequence[Sequence[int]]) -> None:
        """Copy the keys and values of some sequences' prompts.

        Args:
            keys: Keys and values, [keys, key heads, head width].
            lines: The sequences.
            paths: For each of them the indices of its prompt's keys.
        """
        longest = max(map(len, paths))
        index = torch.tensor([[*path, *[path[-1]] * (longest - len(path))] for path in paths])
        self.lengths[torch.tensor(lines)] = torch.tensor([len(path) for path in paths], device=self.lengths.device)
        for module, (k, v) in keys.items():
            if module not in self._stored:
                self._stored[module] = self._empty(k), self._empty(v)
            for store, found in zip(self._stored[module], (k, v), strict=True):
                store[torch.tensor(lines, device=store.device), :longest] = found[index.to(found.device)]

    def _empty(self, like: Tensor) -> Tensor:
        return like.new_zeros(self.lines, self.room, *like.shape[1:])

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


def rereads(model: "LanguageModel", edits: Edits) -> bool:
    """Return whether each step reads whole sequences: without a cache, or because answers depend on their prompt."""
    engine = model.engine
    if engine.runner.ways.generation == "recompute":
        return True
    return edits.by_row or (engine.active is not None and engine.active.by_row)


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
    """Continue prompts, each under its edit.

    Under edits of whole sequences (`Patch.by_row`), or where our cache does not give a model's own numbers
    (`Ways.generation`), each step reads the sequences again from their beginning, without a cache.

    Args:
        model: The model.
        rows: Prompts.
        edits: The edits.
        owners: For each prompt its edit, or None for the unedited model.
        steps: Maximum number of new tokens.
        choose: Chooses the next tokens.
        ended: Ends a sequence.
        prompts: The same prompts, read by the unedited model.
        among: Indices of the prompts that are continued; all by default.
        batch: Sequences in one batch.

    Returns:
        New tokens of each prompt; none of those that are not continued.
    """
    decoder = _Decoder(model.engine, rows, edits, owners, steps, choose, ended, prompts, [[] for _ in rows])
    chosen = range(len(rows)) if among is None else among
    with torch.no_grad():
        if rereads(model, edits):
            decoder.reread(list(chosen))
            return decoder.new
        # sequences of similar length together, so that little of the cache is empty; those of one edit consecutive
        order = sorted(chosen, key=lambda i: (len(rows[i]), i))
        for first in range(0, len(order), batch):
            decoder.grow(sorted(order[first : first + batch]))
    return decoder.new


@dataclass(frozen=True, slots=True)
class _Decoder:
    """The arguments of `decode`, and the new tokens of each prompt."""

    engine: Engine
    rows: Sequence[TokenSequence]
    edits: Edits
    owners: Sequence[int | None]
    steps: int
    choose: Choose
    ended: Ended
    prompts: Prompts | None
    new: list[list[int]]

    def reread(self, going: list[int]) -> None:
        """Continue some prompts by a full pass for each token."""
        for step in range(self.steps):
            if not going:
                return
            texts = []
            for index in going:
                ids, end = (*self.rows[index].ids, *self.new[index]), self.rows[index].prompt_end
                # the prompt's end is read too: the last block runs only tokens that are read, and a codebook queries it
                texts.append(TokenSequence(ids, tuple(sorted({end, len(ids) - 1})), end))
            passes = self.engine.forward(texts, self.edits, [self.owners[index] for index in going])
            last = {number: logits[-1] for number, logits in passes}
            tokens = self.choose(going, torch.stack([last[number] for number in range(len(going))]), step)
            for index, token in zip(going, tokens.tolist(), strict=True):
                self.new[index].append(token)
            going = [index for index in going if not self.ended(index, self.new[index])]

    def grow(self, chosen: list[int]) -> None:
        """Continue some prompts with a cache."""
        cache, logits = self._prefill(chosen)
        going = set(chosen)
        for step in range(self.steps):
            tokens = self.choose(chosen, logits, step).tolist()
            for index, token in zip(chosen, tokens, strict=True):
                if index in going:
                    self.new[index].append(token)
                    if self.ended(index, self.new[index]):
                        going.discard(index)
            if not going or step + 1 == self.steps:
                return
            if len(going) < SPARSE * len(chosen):
                kept = [line for line, index in enumerate(chosen) if index in going]
                cache.select(kept)
                chosen, tokens = [chosen[line] for line in kept], [tokens[line] for line in kept]
            owners = [self.owners[index] for index in chosen]
            logits = self.engine.step(tokens, cache.lengths.tolist(), cache, self.edits, owners)
            cache.grow()

    def _prefill(self, chosen: Sequence[int]) -> tuple[Cache, Tensor]:
        """Return the cache of some prompts and the logits after them, [prompts, vocabulary]."""
        room = max(len(self.rows[index]) for index in chosen) + self.steps
        cache = Cache(len(chosen), room, self.engine.runner.device)
        if self.prompts is None:
            rows, owners = [self.rows[index] for index in chosen], [self.owners[index] for index in chosen]
            line = {number: number for number in range(len(chosen))}
            passes = self.engine.passes(rows, self.edits, owners, cache_keys=True)
        else:
            base, block = self.prompts.base, self.edits.first_block
            place = self.engine.runner.block_of
            unchanged = {m: pair for m, pair in base.keys.items() if block is None or place[m] < block}
            cache.fill(unchanged, range(len(chosen)), [base.paths[index] for index in chosen])
            if block is None:
                return cache, torch.stack([self.prompts.logits[index] for index in chosen])
            line = {index: number for number, index in enumerate(chosen)}
            passes = self.engine.replays(base, self.edits, self.owners, among=chosen, cache_keys=True)
        logits: dict[int, Tensor] = {}
        for batch, output in passes:
            cache.fill(output.keys, [line[index] for index in batch.rows], batch.paths)
            logits.update((line[index], found[-1]) for index, found in by_row(batch, output.logits))
        return cache, torch.stack([logits[number] for number in range(len(chosen))])
