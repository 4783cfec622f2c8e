"""Attention among the tokens of packed rows.

Maps, norms and activations treat each token by itself, so a pass holds its tokens as one list: each once, without
padding, whatever rows they belong to. Only attention has to know which tokens make up a row. In transformers a model's
attention function can be chosen by name (as vLLM does); the function registered here looks up each row's keys by
number, pads them within attention alone, and is told by the pass what they are.

It computes what transformers' `sdpa` and `eager` functions do: scaling, grouped heads, sliding windows and soft caps
included. Models whose attention has no such function are run with a mask instead; see `engine.packing_of`.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import AttentionInterface

from .pieces import integers

NAME = "instructedit_rows"

Keys = dict[nn.Module, tuple[Tensor, Tensor]]
"""Keys and values by attention module, [tokens, key heads, head width] each."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What a layer's attention computes besides q k v: factor of the scores, reach backwards, soft cap."""

    factor: float | None
    window: int | None
    cap: float | None


class Attention(Protocol):
    """What a pass puts in place of a model's attention."""

    def __call__(self, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, scale: Scale) -> Tensor:
        """Return what the queries find.

        Args:
            module: The layer's attention.
            q: Queries of the pass's tokens, [tokens, heads, head width].
            k: Their keys, [tokens, key heads, head width].
            v: Their values, likewise.
            scale: How scores are made.

        Returns:
            [tokens, heads, head width].
        """
        ...


class KeysReady(Exception):  # noqa: N818 - no error: a block has given its keys and values, and is left
    """Raised inside a block once its attention has the keys and values that were asked for."""


_ACTIVE: ContextVar[Attention] = ContextVar("attention")


@contextmanager
def attending(configs: Sequence[Any], attention: Attention | None) -> Iterator[None]:
    """Let models with these configurations attend by `attention`; None leaves them their own."""
    if attention is None:
        yield
        return
    before = [config._attn_implementation for config in configs]
    token = _ACTIVE.set(attention)
    for config in configs:
        config._attn_implementation = NAME
    try:
        yield
    finally:
        _ACTIVE.reset(token)
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """See transformers' attention interface: tensors are [1, heads, tokens, head width]; [1, tokens, ...] goes out."""
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    return _ACTIVE.get()(module, q, k, v, Scale(scaling, sliding_window, softcap))[None], None


AttentionInterface.register(NAME, _attend)


@dataclass(frozen=True, slots=True)
class Asking:
    """One row's part in attention.

    Attributes:
        queries: Numbers of the tokens that ask.
        at: Their positions in the row.
        known: Numbers of the row's first keys, which stand in front of the pass's own.
        keys: Numbers of the row's other keys.
    """

    queries: Sequence[int]
    at: Sequence[int]
    known: Sequence[int]
    keys: Sequence[int]


FAR = 1 << 30
"""Position of a key that is none: behind every token that asks."""


class _Group:
    """Rows of like length, filled up to the longest.

    Args:
        rows: The rows.
    """

    def __init__(self, rows: Sequence[Asking]) -> None:
        # by numbers of their own: what is not finite in another row would pass a weight of zero, forwards and back
        self.queries = _filled([row.queries for row in rows])
        self.known = _filled([row.known for row in rows])
        self.keys = _filled([row.keys for row in rows])
        self.at = _filled([row.at for row in rows])
        front, own = integers(len(row.known) for row in rows), integers(len(row.keys) for row in rows)
        self.key_at = torch.cat([_places(front, 0), _places(own, front)], dim=1)
        self.longest = max(len(row.known) + len(row.keys) for row in rows)
        self._masks: dict[int | None, Tensor] = {}
        self._front: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def to(self, device: torch.device) -> "_Group":
        """Return the group on a device."""
        twin = copy.copy(self)
        for name in ("queries", "known", "keys", "at", "key_at"):
            setattr(twin, name, getattr(self, name).to(device))
        twin._masks, twin._front = {}, {}
        return twin

    def mask(self, window: int | None) -> Tensor:
        """Return who may ask whom, [rows, 1, queries, keys]."""
        if window is not None and window >= self.longest:
            window = None
        if window not in self._masks:
            gap = self.at[:, None, :, None] - self.key_at[:, None, None, :]
            self._masks[window] = gap >= 0 if window is None else (gap >= 0) & (gap < window)
        return self._masks[window]

    def rows(self, module: nn.Module, k: Tensor, v: Tensor, frozen: tuple[Tensor, Tensor] | None) -> list[Tensor]:
        """Return keys and values by row, [rows, keys, key heads, head width] each."""
        if frozen is None or not self.known.shape[1]:
            return [k[self.keys], v[self.keys]]
        if module not in self._front:  # they are the same at every step of an optimiser
            self._front[module] = frozen[0][self.known], frozen[1][self.known]
        front = self._front[module]
        return [torch.cat([front[0], k[self.keys]], dim=1), torch.cat([front[1], v[self.keys]], dim=1)]


def _filled(rows: Sequence[Sequence[int]]) -> Tensor:
    """Return rows filled up to the longest, each by its own last number."""
    longest = max(map(len, rows))
    filled = ((row, repeat(row[-1] if row else 0, longest - len(row))) for row in rows)
    return integers(chain.from_iterable(chain.from_iterable(filled))).view(len(rows), longest)


def _places(counts: Tensor, first: Tensor | int) -> Tensor:
    """Return the positions of so many keys in each row, filled up to the most of a row by `FAR`."""
    number = torch.arange(int(counts.max()))
    place = number + (first if isinstance(first, int) else first[:, None])
    return place.where(number < counts[:, None], FAR)


class Pattern:
    """Who asks whom: every query token once, in its row.

    Args:
        asking: The rows; their queries together are 0, 1, 2 and so on.
        device: Where the pass begins; tensors follow to other devices when asked from there.
    """

    def __init__(self, asking: Sequence[Asking], device: torch.device) -> None:
        buckets: dict[tuple[int, int], list[Asking]] = {}
        for row in asking:
            if row.queries:
                like = (len(row.known) + len(row.keys) - 1).bit_length(), (len(row.queries) - 1).bit_length()
                buckets.setdefault(like, []).append(row)
        place, done = [0] * sum(len(row.queries) for row in asking), 0
        for rows in buckets.values():
            most = max(len(row.queries) for row in rows)
            for line, row in enumerate(rows):
                for column, query in enumerate(row.queries):
                    place[query] = done + line * most + column
            done += len(rows) * most
        self._plain = [_Group(rows) for rows in buckets.values()], integers(place)
        self._made: dict[torch.device, tuple[list[_Group], Tensor]] = {}
        self._on(device)

    def _on(self, device: torch.device) -> tuple[list[_Group], Tensor]:
        if device not in self._made:
            groups, place = self._plain
            self._made[device] = [group.to(device) for group in groups], place.to(device)
        return self._made[device]

    def __call__(
        self,
        module: nn.Module,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        scale: Scale,
        frozen: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Return what each query finds in its row.

        Args:
            module: The layer's attention.
            q: [queries, heads, head width].
            k: Keys by number, [keys, key heads, head width].
            v: Values by number, likewise.
            scale: How scores are made.
            frozen: Keys and values that stand in front, by number; always the same ones for a module.
        """
        groups, place = self._on(q.device)
        found = []
        for group in groups:
            parts = [q[group.queries], *group.rows(module, k, v, frozen)]
            one, two, three = (part.transpose(1, 2) for part in parts)
            found.append(scores(one, two, three, group.mask(scale.window), scale).transpose(1, 2).flatten(0, 1))
        return torch.cat(found)[place] if len(found) > 1 else found[0][place]


def scores(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: Scale) -> Tensor:
    """Return softmax(q k' * factor) v where the mask allows it, [rows, heads, queries, head width].

    Args:
        q: [rows, heads, queries, head width].
        k: [rows, key heads, keys, head width]; heads of a group share a key head.
        v: Likewise.
        mask: Broadcasts to [rows, heads, queries, keys].
        scale: Factor and soft cap; the window stands in the mask.
    """
    if scale.cap is None:
        grouped = q.shape[1] != k.shape[1]
        return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale.factor, enable_gqa=grouped)
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
    raw = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale.factor is None else scale.factor)
    capped = scale.cap * torch.tanh(raw / scale.cap)
    return capped.masked_fill(~mask, float("-inf")).softmax(-1, dtype=torch.float32).to(q.dtype) @ v
