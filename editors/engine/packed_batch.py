"""Packed batches: the tokens of many sequences in one pass, each token once.

Sequences with a common prefix under the same edit have the same hidden states there; these tokens are computed once.
Tokens after a sequence's last scored position are not computed. Where an edit changes a sequence from the end of its
prompt on only, the tokens before it are taken from the unedited model's pass.
"""

from array import array
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from ..models.tokens import TokenSequence
from ..patches import Span

KEYS_PER_TOKEN = 8
"""Maximum number of keys of all sequences of a batch, per token of its limit: it bounds the memory of attention."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive tokens [start, stop) of one edit in a batch, with the sequences in it."""

    edit: int
    start: int
    stop: int
    spans: tuple[Span, ...]


class Queries(NamedTuple):
    """The part of one sequence in a batch's attention: its query tokens and their positions in the sequence.

    `cached` are the indices of its first keys in an earlier pass, `keys` those of its other keys in the batch.
    """

    tokens: Sequence[int]
    positions: Sequence[int]
    cached: Sequence[int]
    keys: Sequence[int]


@dataclass(slots=True)
class PackedBatch:
    """The tokens of one pass.

    Attributes:
        rows: Indices of the sequences.
        ids: Token ids, [tokens].
        positions: Position of each token in its sequence.
        sources: Index of each token in the base pass; empty without one.
        paths: For each sequence the indices of its keys: those of the base pass, then, from `cached` on, the batch's.
        own: For each sequence the indices of the tokens that no earlier sequence has.
        scored: For each sequence the tokens at its scored positions.
        prompt_ends: For each sequence its last prompt token; None if an earlier sequence has it.
        cached: Number of keys of the base pass that precede the batch's own.
    """

    rows: list[int] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)
    own: list[range] = field(default_factory=list)
    scored: list[list[int]] = field(default_factory=list)
    prompt_ends: list[int | None] = field(default_factory=list)
    cached: int = 0
    _children: dict[tuple[Hashable, int, bool], int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def read(self) -> list[int]:
        """Tokens whose logits are read, each once, in order."""
        return sorted({token for tokens in self.scored for token in tokens})

    def prefix(self, row: TokenSequence, root: Hashable, start: int) -> list[int]:
        """Return the tokens of a sequence, from position `start` on, that earlier sequences have."""
        found: list[int] = []
        node = root
        for position in range(start, length(row)):
            token = self._children.get((node, row.ids[position], position == row.prompt_end))
            if token is None:
                break
            found.append(token)
            node = token
        return found

    def add(
        self, index: int, row: TokenSequence, root: Hashable, start: int, base: Sequence[int], prefix: Sequence[int]
    ) -> None:
        """Add the sequence `row` of some index, whose tokens are computed from position `start` on.

        `root` is what sequences must have in common to share tokens, `base` the indices of its tokens in the base pass
        (empty without one), and `prefix` what the method `prefix` returned.
        """
        begin, stop, first = start + len(prefix), length(row), len(self.ids)
        own = range(first, first + stop - begin)
        node = prefix[-1] if prefix else root
        for position, token in zip(range(begin, stop), own, strict=True):
            self._children[node, row.ids[position], position == row.prompt_end] = token
            node = token
        tokens, end = [*prefix, *own], row.prompt_end - start
        self.rows.append(index)
        self.ids += row.ids[begin:stop]
        self.positions += range(begin, stop)
        self.sources += base[begin:stop]
        self.paths.append([*base[:start], *(self.cached + token for token in tokens)])
        self.own.append(own)
        self.scored.append([tokens[position - start] for position in row.scored])
        self.prompt_ends.append(tokens[end] if len(prefix) <= end < len(tokens) else None)

    def segments(self, owners: Sequence[int | None]) -> list[Segment]:
        """Group consecutive tokens of one edit, given that of each sequence of the batch, or None."""
        found: list[Segment] = []
        for row, own, end, owner in zip(self.rows, self.own, self.prompt_ends, owners, strict=True):
            if owner is None or not own:
                continue
            joins = bool(found) and found[-1].edit == owner and found[-1].stop == own.start
            last = found.pop() if joins else Segment(owner, own.start, own.start, ())
            prompt_end = None if end is None else end - last.start
            span = Span(own.start - last.start, own.stop - last.start, prompt_end, row)
            found.append(Segment(owner, last.start, own.stop, (*last.spans, span)))
        return found

    def queries(self) -> list[Queries]:
        """Return the attention of each sequence; a token of several is a query of the first."""
        found = []
        for path, own in zip(self.paths, self.own, strict=True):
            cached = sum(key < self.cached for key in path)
            keys = [key - self.cached for key in path[cached:]]
            found.append(Queries(own, self.positions[own.start : own.stop], path[:cached], keys))
        return found


def batches(
    rows: Sequence[TokenSequence],
    owners: Sequence[Hashable],
    limit: int,
    *,
    share: bool = True,
    whole_prompts: bool = False,
    paths: Sequence[Sequence[int]] | None = None,
    starts: Sequence[int] | None = None,
    cached: int = 0,
) -> Iterator[PackedBatch]:
    """Pack sequences into batches of at most `limit` tokens each; a longer sequence has one of its own.

    The sequences of one owner are not divided where one batch can hold them: the order in which their gradients are
    added does not depend on other owners.

    Args:
        rows: The sequences; those of one edit next to each other.
        owners: What sequences must have in common to share tokens, e.g. the edit of each.
        limit: Maximum number of tokens of a batch.
        share: Whether sequences may share tokens.
        whole_prompts: Whether they share nothing but whole prompts, because what happens to a prompt's tokens depends
            on its end.
        paths: For each sequence the indices of its tokens in a base pass, if there is one.
        starts: For each sequence the first position that is computed; 0 by default.
        cached: Number of keys of the base pass that precede a batch's own.
    """
    current = PackedBatch(cached=cached)
    firsts = starts or [0] * len(rows)
    ends = [0, *accumulate(length(row) - first for row, first in zip(rows, firsts, strict=True))]
    last = {owner: index + 1 for index, owner in enumerate(owners)}
    for index, (row, owner) in enumerate(zip(rows, owners, strict=True)):
        start = firsts[index]
        begins = index == 0 or owners[index - 1] != owner
        if begins and current.rows and len(current) + ends[last[owner]] - ends[index] > limit:
            yield current
            current = PackedBatch(cached=cached)
        base = paths[index] if paths else ()
        # tokens are nodes too, so a root is no integer
        root = (
            owner,
            base[start - 1] if start else None,
            row.ids[: row.prompt_end + 1] if whole_prompts else None,
            None if share else index,
        )
        prefix = current.prefix(row, root, start)
        tokens = len(current) + length(row) - start - len(prefix)
        keys = sum(map(len, current.paths)) + length(row)  # attention copies shared keys for each sequence
        if current.rows and (tokens > limit or keys > KEYS_PER_TOKEN * limit):
            yield current
            current, prefix = PackedBatch(cached=cached), []
        current.add(index, row, root, start, base, prefix)
    if current.rows:
        yield current


def length(row: TokenSequence) -> int:
    """Return how many tokens of a sequence are computed: up to its last scored position."""
    return max(row.scored, default=len(row) - 1) + 1


def by_row(batch: PackedBatch, logits: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield the index and the logits [scored, vocabulary] of each sequence, from those of the tokens that are read."""
    if [token for tokens in batch.scored for token in tokens] == batch.read:
        # split and not slices: the gradient of a slice is as large as the whole tensor
        yield from zip(batch.rows, logits.split([len(tokens) for tokens in batch.scored]), strict=True)
        return
    place = {token: number for number, token in enumerate(batch.read)}
    for index, tokens in zip(batch.rows, batch.scored, strict=True):
        yield index, logits[[place[token] for token in tokens]]


def step_segments(owners: Sequence[int | None]) -> list[Segment]:
    """Return the segments of a decoding step: one token of each sequence, none of which is in a prompt."""
    found: list[Segment] = []
    for token, owner in enumerate(owners):
        if owner is None:
            continue
        start = found.pop().start if found and found[-1].edit == owner and found[-1].stop == token else token
        found.append(Segment(owner, start, token + 1, (Span(0, 1, None),)))
    return found


def integers(values: Iterable[int]) -> Tensor:
    """Return integers as a tensor on the CPU, in an eighth of the time of `torch.tensor`."""
    flat = array("q", values)
    return torch.frombuffer(flat, dtype=torch.int64) if flat else torch.empty(0, dtype=torch.int64)
