"""What a pass computes: which tokens of which rows, each once.

Two rows that begin alike, under the same edit, have the same hidden states there; such tokens are computed once. What
stands behind a row's last scored position is never read and not computed. Of a row that an edit changes from the end of
its prompt only, the tokens in front are known from the unedited model.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from ..models.tokens import Row
from ..patches import Span
from .attention import Asking, Pattern

T = TypeVar("T")

COPIES = 8
"""Most keys of all rows of a pass, as a multiple of its most tokens: what bounds the memory of attention."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Neighbouring tokens of one edit in a pass: tokens [start, stop), with the rows in it."""

    edit: int
    start: int
    stop: int
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """Hidden states that are known from a base pass.

    Attributes:
        paths: For each row the numbers of its tokens in the base pass.
        starts: For each row the first position that is computed again; 0 for all of it.
    """

    paths: Sequence[Sequence[int]]
    starts: Sequence[int]


@dataclass(slots=True)
class Layout:
    """The tokens of one pass.

    Attributes:
        rows: Indices of the rows.
        ids: Token ids, [tokens].
        positions: Position of each token in its row.
        sources: Where hidden states are known: the number of each token in the base pass.
        paths: For each row the numbers of its keys: of this pass's tokens behind those of the base pass, if any.
        own: For each row the numbers and positions of the tokens that it was the first to need.
        scored: For each row the tokens at its scored positions.
        prompts: For each row the place of its last prompt token, if it is the first to need it.
        shared: Number of keys that stand in front of this pass's own.
    """

    rows: list[int] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)
    own: list[range] = field(default_factory=list)
    scored: list[list[int]] = field(default_factory=list)
    prompts: list[int | None] = field(default_factory=list)
    shared: int = 0
    _index: dict[Hashable, int] = field(default_factory=dict)
    _made: dict[Hashable, Any] = field(default_factory=dict)

    @property
    def read(self) -> list[int]:
        """Tokens whose logits are wanted, each once, in order."""
        return self.once("read", lambda: sorted({token for tokens in self.scored for token in tokens}))

    @property
    def ends(self) -> list[int] | None:
        """Tokens that end a prompt, in order; None if a module could not tell them from others by their number."""
        found = sorted({token for token in self.prompts if token is not None})
        alike = [tokens for tokens in (self.read, list(range(len(self.ids)))) if len(tokens) == len(found)]
        return None if any(tokens != found for tokens in alike) else found

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is made once; a layout is run again at every step of an optimiser."""
        if key not in self._made:
            self._made[key] = make()
        found: T = self._made[key]
        return found

    def walk(self, row: Row, root: Hashable, start: int) -> tuple[list[int], list[Hashable]]:
        """Return the tokens of a row that are there already, from `start` on, and the keys of those that are not."""
        there: list[int] = []
        keys: list[Hashable] = []
        node: Hashable = root
        for position in range(start, length(row)):
            node = (node, row.ids[position], position == row.prompt_end)
            if not keys and node in self._index:
                there.append(self._index[node])
                node = there[-1]  # a number stands for the whole way to it
            else:
                keys.append(node)
                node = len(self.ids) + len(keys) - 1
        return there, keys

    def add(
        self, index: int, row: Row, start: int, base: Sequence[int], found: tuple[list[int], list[Hashable]]
    ) -> None:
        """Add a row that `walk` has looked up.

        Args:
            index: Index of the row.
            row: The row.
            start: First position that is computed.
            base: Numbers of the row's tokens in the base pass; empty without one.
            found: What `walk` returned.
        """
        there, keys = found
        first, begin = len(self.ids), start + len(there)
        self._index.update((key, first + number) for number, key in enumerate(keys))
        own = range(first, first + len(keys))
        self.rows.append(index)
        self.ids += row.ids[begin : length(row)]
        self.positions += range(begin, length(row))
        self.sources += base[begin : length(row)]
        tokens = [*there, *own]
        self.paths.append([*base[:start], *(self.shared + token for token in tokens)])
        self.own.append(own)
        self.scored.append([tokens[position - start] for position in row.scored])
        end = row.prompt_end - start
        self.prompts.append(tokens[end] if 0 <= end < len(tokens) and tokens[end] >= first else None)

    def segments(self, owners: Sequence[int | None]) -> Callable[[int], list[Segment]]:
        """Group the neighbouring tokens of one edit; tokens of rows without an owner belong to none.

        Args:
            owners: The edit of each row of the pass, or None.

        Returns:
            From the number of tokens that a module gets, their segments: all (and padding behind them, as Reformer's),
            those that end a prompt (`Start.behind`), or behind the last block those that are read.
        """

        def make() -> dict[int, list[Segment]]:
            some = [tokens for tokens in (self.ends, self.read) if tokens is not None]
            return {len(t): self._segments(owners, t) for t in some} | {len(self.ids): self._segments(owners, None)}

        found = self.once(("segments", *owners), make)
        return lambda tokens: found[min(tokens, len(self.ids))]

    def _segments(self, owners: Sequence[int | None], among: Sequence[int] | None) -> list[Segment]:
        place = None if among is None else {token: number for number, token in enumerate(among)}
        found: list[Segment] = []
        for row, own, end, owner in zip(self.rows, self.own, self.prompts, owners, strict=True):
            tokens = own if place is None else [place[token] for token in own if token in place]
            if owner is None or not tokens:
                continue
            first, stop = tokens[0], tokens[-1] + 1
            prompt_end = end if place is None or end is None else place.get(end)
            start = first
            spans: tuple[Span, ...] = ()
            if found and found[-1].edit == owner and found[-1].stop == first:
                last = found.pop()
                start, spans = last.start, last.spans
            span = Span(first - start, stop - start, None if prompt_end is None else prompt_end - start, row)
            found.append(Segment(owner, start, stop, (*spans, span)))
        return found

    def whole(self, device: torch.device) -> Pattern:
        """Return the attention of all tokens."""

        def make() -> Pattern:
            asked = [(own, [self.positions[token] for token in own]) for own in self.own]
            return Pattern([self._asking(*q, path) for q, path in zip(asked, self.paths, strict=True)], device)

        return self.once("whole", make)

    def _asking(self, queries: Sequence[int], at: Sequence[int], path: Sequence[int]) -> Asking:
        front = sum(number < self.shared for number in path)
        return Asking(queries, at, path[:front], [number - self.shared for number in path[front:]])

    def reading(self, device: torch.device) -> Pattern:
        """Return the attention of the tokens that are read, numbered as in `read`."""
        return self.once("reading", lambda: Pattern(self._readers(), device))

    def _readers(self) -> list[Asking]:
        place = {token: number for number, token in enumerate(self.read)}
        rows = []
        for tokens, path in zip(self.scored, self.paths, strict=True):
            new = [token for token in dict.fromkeys(tokens) if token in place]
            rows.append(self._asking([place.pop(t) for t in new], [self.positions[t] for t in new], path))
        return rows


def length(row: Row) -> int:
    """Return how many tokens of a row are computed: up to its last scored position."""
    return max(row.scored, default=len(row) - 1) + 1


def layouts(
    rows: Sequence[Row],
    owners: Sequence[Hashable],
    limit: int,
    *,
    share: bool = True,
    whole_prompts: bool = False,
    known: Known | None = None,
    shared: int = 0,
) -> Iterator[Layout]:
    """Lay rows out in passes of at most `limit` tokens each (a longer row gets one of its own).

    Args:
        rows: The rows; those of one edit next to each other.
        owners: What tokens of different rows must have in common to be shared, e.g. the edit of each row.
        limit: Most tokens of a pass.
        share: Whether rows may share tokens; where they may not, each has all of its own.
        whole_prompts: Whether rows share nothing but whole prompts, because what happens to a prompt's tokens depends
            on its end.
        known: Hidden states that are known.
        shared: Number of keys of the base pass that stand in front of a pass's own.
    """
    current = Layout(shared=shared)
    for index, (row, owner) in enumerate(zip(rows, owners, strict=True)):
        start = known.starts[index] if known else 0
        base = known.paths[index] if known else ()
        root: Hashable = (owner, base[start - 1] if start else None)
        if whole_prompts:
            root = (root, row.ids[: row.prompt_end + 1], row.prompt_end)
        if not share:
            root = (root, index)
        found = current.walk(row, root, start)
        keys = sum(map(len, current.paths)) + length(row)  # each row has its own copy of the keys that it shares
        if current.rows and (len(current.ids) + len(found[1]) > limit or keys > COPIES * limit):
            yield current
            current = Layout(shared=shared)
            found = current.walk(row, root, start)
        current.add(index, row, start, base, found)
    if current.rows:
        yield current
