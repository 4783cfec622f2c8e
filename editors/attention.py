"""Attention among the tokens of packed rows.

Maps, norms and activations treat each token by itself, so a pass holds its tokens as one list: each once, without
padding, whatever rows they belong to. Only attention has to know which tokens make up a row. In transformers a model's
attention function can be chosen by name (as vLLM does); the function registered here looks up each row's keys by
number, pads them within attention alone, and is told by the pass what they are.

It computes what transformers' `sdpa` and `eager` functions do: scaling, grouped heads, sliding windows and soft caps
included. Models whose attention has no such function are run with a mask instead; see `engine.packing_of`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import AttentionInterface

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
class _Group:
    """Rows of like length.

    Attributes:
        queries: Numbers of the tokens that ask, [rows, most]; filled up with 0.
        at: Their positions in the row, [rows, most].
        keys: Numbers of the row's keys, [rows, longest]; filled up with 0, behind every position in `at`.
        masks: [rows, 1, most, longest] by window, made when first asked for.
    """

    queries: Tensor
    at: Tensor
    keys: Tensor
    masks: dict[int | None, Tensor] = field(default_factory=dict)

    def mask(self, window: int | None) -> Tensor:
        longest = self.keys.shape[1]
        if window is not None and window >= longest:
            window = None
        if window not in self.masks:
            gap = self.at[:, None, :, None] - torch.arange(longest, device=self.at.device)
            self.masks[window] = gap >= 0 if window is None else (gap >= 0) & (gap < window)
        return self.masks[window]


@dataclass(frozen=True, slots=True)
class Asking:
    """One row's part in attention: numbers and positions of the tokens that ask, and numbers of the row's keys."""

    queries: Sequence[int]
    at: Sequence[int]
    keys: Sequence[int]


class Pattern:
    """Who asks whom: every query token once, in its row.

    Args:
        asking: The rows; their queries together are 0, 1, 2 and so on.
        device: Where the pass begins; tensors follow to other devices when asked from there.
    """

    def __init__(self, asking: Sequence[Asking], device: torch.device) -> None:
        buckets: dict[int, list[Asking]] = {}
        for row in asking:
            if row.queries:
                buckets.setdefault((len(row.keys) - 1).bit_length(), []).append(row)
        groups, place, done = [], [0] * sum(len(row.queries) for row in asking), 0
        for rows in buckets.values():
            most, longest = max(len(row.queries) for row in rows), max(len(row.keys) for row in rows)
            for line, row in enumerate(rows):
                for column, query in enumerate(row.queries):
                    place[query] = done + line * most + column
            done += len(rows) * most
            parts = (
                ([row.queries for row in rows], most),
                ([row.at for row in rows], most),
                ([r.keys for r in rows], longest),
            )
            groups.append(
                [torch.tensor([[*line, *[0] * (width - len(line))] for line in part]) for part, width in parts]
            )
        self._made: dict[torch.device, tuple[list[_Group], Tensor]] = {}
        self._plain = groups, torch.tensor(place)
        self._on(device)

    def _on(self, device: torch.device) -> tuple[list[_Group], Tensor]:
        if device not in self._made:
            groups, place = self._plain
            self._made[device] = [_Group(*(t.to(device) for t in group)) for group in groups], place.to(device)
        return self._made[device]

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, scale: Scale) -> Tensor:
        """Return what each query finds in its row.

        Args:
            q: [queries, heads, head width].
            k: Keys by number, [keys, key heads, head width].
            v: Values by number, likewise.
            scale: How scores are made.
        """
        groups, place = self._on(q.device)
        found = []
        for group in groups:
            one, two, three = (
                t[index].transpose(1, 2) for t, index in ((q, group.queries), (k, group.keys), (v, group.keys))
            )
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
