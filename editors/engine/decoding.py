"""Growing many rows token by token, each under its own edit, with one cache of keys and values.

Prompts that the unedited model has read are run again only from the first patched block; what they left in the blocks
before is the same under every edit. A step runs one token of every row that has not ended, whatever edit it belongs to.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..edits import Edits
from ..models.structure import Cut
from ..models.tokens import Row
from ..patches import Span
from .attention import Keys, Scale, scores
from .packed_batch import Segment
from .passes import BasePass, by_row

if TYPE_CHECKING:
    from .model import LanguageModel

SPARSE = 0.75
"""Share of rows that have not ended below which the cache is copied without the others."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts that the unedited model has read, to be continued under many edits.

    Attributes:
        base: The pass, with all keys and values.
        logits: What the unedited model says behind each prompt, [vocabulary].
    """

    base: BasePass
    logits: list[Tensor]


def read_prompts(model: "LanguageModel", rows: Sequence[Row], cuts: Sequence[Cut]) -> Prompts | None:
    """Let the unedited model read prompts once for all editors.

    Args:
        model: The model.
        rows: Prompts, as `LanguageModel.encode_prompt` gives them.
        cuts: Those of the edits under which they will be continued.

    Returns:
        The prompts; None if this model's texts are not generated with our cache, and prompts are read anew each time.
    """
    ways = model.engine.ways
    if ways.generation != "cache" or not ways.late or not rows:
        return None
    base, run = model.base(rows, cuts, late=0)
    logits = {index: found[-1].clone() for index, found in run}
    return Prompts(base, [logits[index] for index in range(len(rows))])


class Cache:
    """Keys and values of rows that grow; an `attention.Attention` of one new token for each row.

    Args:
        lines: Number of rows.
        room: Most tokens of a row.
        device: Where the model begins.
    """

    def __init__(self, lines: int, room: int, device: torch.device) -> None:
        self.lines, self.room = lines, room
        self.lengths = torch.zeros(lines, dtype=torch.long, device=device)
        self._made: dict[nn.Module, tuple[Tensor, Tensor]] = {}  # [lines, room, key heads, head width]
        self._masks: dict[tuple[int | None, torch.device], Tensor] = {}

    def fill(self, keys: Keys, lines: Sequence[int], paths: Sequence[Sequence[int]]) -> None:
        """Take over the keys and values of some rows' prompts.

        Args:
            keys: By number, [keys, key heads, head width].
            lines: Which rows.
            paths: For each of them the numbers of its prompt's tokens.
        """
        longest = max(map(len, paths))
        index = torch.tensor([[*path, *[path[-1]] * (longest - len(path))] for path in paths])
        self.lengths[torch.tensor(lines)] = torch.tensor([len(path) for path in paths], device=self.lengths.device)
        for module, pair in keys.items():
            if module not in self._made:
                self._made[module] = tuple(t.new_zeros(self.lines, self.room, *t.shape[1:]) for t in pair)  # type: ignore[assignment]
            for store, found in zip(self._made[module], pair, strict=True):
                store[torch.tensor(lines, device=store.device), :longest] = found[index.to(found.device)]

    def grow(self) -> None:
        """Make room for one more token of each row."""
        self.lengths += 1
        self._masks.clear()

    def select(self, lines: Sequence[int]) -> None:
        """Keep some rows only."""
        index = torch.tensor(lines)
        self.lines, self.lengths = len(lines), self.lengths[index.to(self.lengths.device)]
        self._masks.clear()
        for module in list(self._made):  # one after another, so that no more than one stands there twice
            self._made[module] = tuple(t[index.to(t.device)] for t in self._made.pop(module))  # type: ignore[assignment]

    def __call__(self, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, scale: Scale) -> Tensor:
        """See `attention.Attention`; tokens are the rows' latest."""
        last = self.lengths.to(q.device)
        lines = torch.arange(self.lines, device=q.device)
        stop = int(self.lengths.max()) + 1
        keys, values = self._made[module]
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
    rows: Sequence[Row],
    edits: Edits,
    owners: Sequence[int | None],
    *,
    steps: int,
    choose: Callable[[Sequence[int], Tensor, int], Tensor],
    ended: Callable[[int, list[int]], bool],
    prompts: Prompts | None = None,
    among: Sequence[int] | None = None,
    batch: int = 64,
) -> list[list[int]]:
    """Continue prompts, each under its edit.

    Under edits of whole rows (`Patch.whole_rows`), or where our cache does not give a model's own numbers
    (`Ways.generation`), each step reads the rows again from their beginning, without a cache.

    Args:
        model: The model.
        rows: Prompts.
        edits: The edits.
        owners: For each row its edit, or None for the unedited model.
        steps: Most new tokens.
        choose: From indices of rows, logits [rows, vocabulary] and the number of the step, the next tokens [rows].
        ended: From a row's index and its new tokens, whether it has ended.
        prompts: The same rows, read by the unedited model.
        among: Indices of the rows that are continued; all by default.
        batch: Rows in one batch.

    Returns:
        New tokens of each row; none of those that are not continued.
    """
    new: list[list[int]] = [[] for _ in rows]
    if reread(model, edits):
        _reread(model, rows, edits, owners, range(len(rows)) if among is None else among, steps, choose, ended, new)
        return new
    # rows of like length together, to leave little of the cache empty; those of one edit next to each other
    order = sorted(range(len(rows)) if among is None else among, key=lambda i: (len(rows[i]), i))
    with torch.no_grad():
        for first in range(0, len(order), batch):
            _grow(model, rows, edits, owners, sorted(order[first : first + batch]), steps, choose, ended, prompts, new)
    return new


def reread(model: "LanguageModel", edits: Edits) -> bool:
    """Tell whether each step reads whole rows: for want of a cache, or as an answer's tokens depend on the prompt's."""
    if model.engine.ways.generation == "recompute":
        return True
    return edits.whole_rows or (model.standing is not None and model.standing.whole_rows)


def _reread(
    model: "LanguageModel",
    rows: Sequence[Row],
    edits: Edits,
    owners: Sequence[int | None],
    among: Sequence[int],
    steps: int,
    choose: Callable[[Sequence[int], Tensor, int], Tensor],
    ended: Callable[[int, list[int]], bool],
    new: list[list[int]],
) -> None:
    """Continue some rows by a full pass for each token; their new tokens are put into `new`."""
    open_ = list(among)
    for step in range(steps):
        if not open_:
            return
        texts = []
        for index in open_:
            ids, end = (*rows[index].ids, *new[index]), rows[index].prompt_end
            # the prompt's end is read too: the last block computes tokens that are read, and the key is looked up there
            texts.append(Row(ids, tuple(sorted({end, len(ids) - 1})), end))
        with torch.no_grad():
            passes = model.forward(texts, edits, [owners[index] for index in open_])
            last = {number: logits[-1] for number, logits in passes}
        tokens = choose(open_, torch.stack([last[number] for number in range(len(open_))]), step).tolist()
        for index, token in zip(open_, tokens, strict=True):
            new[index].append(token)
        open_ = [index for index in open_ if not ended(index, new[index])]


def _grow(
    model: "LanguageModel",
    rows: Sequence[Row],
    edits: Edits,
    owners: Sequence[int | None],
    chosen: list[int],
    steps: int,
    choose: Callable[[Sequence[int], Tensor, int], Tensor],
    ended: Callable[[int, list[int]], bool],
    prompts: Prompts | None,
    new: list[list[int]],
) -> None:
    """Continue some rows; their new tokens are put into `new`."""
    cache, logits = _prefill(model, rows, edits, owners, chosen, steps, prompts)
    open_: set[int] = set(chosen)
    with model.patched_lines(edits) as lines:
        for step in range(steps):
            tokens = choose(chosen, logits, step).tolist()
            for index, token in zip(chosen, tokens, strict=True):
                if index in open_:
                    new[index].append(token)
                    if ended(index, new[index]):
                        open_.discard(index)
            if not open_ or step + 1 == steps:
                return
            if len(open_) < SPARSE * len(chosen):
                kept = [line for line, index in enumerate(chosen) if index in open_]
                cache.select(kept)
                chosen, tokens = [chosen[line] for line in kept], [tokens[line] for line in kept]
            lines[:] = one_token_each([owners[index] for index in chosen])
            logits = model.engine.step(tokens, cache.lengths.tolist(), cache)
            cache.grow()


def one_token_each(owners: Sequence[int | None]) -> list[Segment]:
    """Return the segments of a step: one token of each row."""
    found: list[Segment] = []
    for line, owner in enumerate(owners):
        if owner is None:
            continue
        if found and found[-1].edit == owner and found[-1].stop == line:
            found.append(Segment(owner, (last := found.pop()).start, line + 1, last.spans))
        else:
            found.append(Segment(owner, line, line + 1, (Span(0, 1, None),)))
    return found


def _prefill(
    model: "LanguageModel",
    rows: Sequence[Row],
    edits: Edits,
    owners: Sequence[int | None],
    chosen: Sequence[int],
    steps: int,
    prompts: Prompts | None,
) -> tuple[Cache, Tensor]:
    """Return the cache of some prompts and the logits behind them, [rows, vocabulary]."""
    cache = Cache(len(chosen), max(len(rows[index]) for index in chosen) + steps, model.device)
    line = {index: number for number, index in enumerate(chosen)}
    everything = range(len(chosen))
    logits: dict[int, Tensor] = {}
    keys: Keys = {}
    if prompts is None:
        passes = model.passes([rows[index] for index in chosen], edits, [owners[index] for index in chosen], keys)
        line = {number: number for number in everything}
    else:
        base, first = prompts.base, edits.first_block
        known = base.kept.keys_and_values()
        paths = [base.paths[index] for index in chosen]
        if first is None:
            cache.fill(known, everything, paths)
            return cache, torch.stack([prompts.logits[index] for index in chosen])
        start = model.engine.start_of(max(c.block for c in base.cuts if c.block <= first))
        # those of the first block stand until the replay has others
        there = {m: pair for m, pair in known.items() if start is not None and model.engine.block_of[m] <= start}
        if there:
            cache.fill(there, everything, paths)
        passes = model.replay_passes(base, edits, owners, among=chosen, keys=keys)
    for layout, read in passes:
        lines = [line[index] for index in layout.rows]
        cache.fill(keys, lines, layout.paths)
        logits.update((line[index], found[-1]) for index, found in by_row(layout, read))
    return cache, torch.stack([logits[number] for number in everything])
