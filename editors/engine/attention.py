"""Attention within the sequences of a packed batch.

Linear layers, norms and activations treat each token by itself, so a packed batch is one list of tokens, unpadded. Only
attention has to know which tokens form a sequence. transformers selects a model's attention function by name, as vLLM
does; the function registered here gathers the keys of each sequence by index and pads within attention alone.

It computes what transformers' `sdpa` and `eager` functions do, with scaling, grouped heads, sliding windows and soft
caps. Models that do not support custom attention functions are run with a mask instead; see `forward_pass.Ways`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import AttentionInterface

from ..products import LEAST_ROWS
from .packed_batch import Queries, integers

NAME = "instructedit_rows"

Keys = dict[nn.Module, tuple[Tensor, Tensor]]
"""Keys and values by attention module, [tokens, key heads, head width] each."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How a layer computes scores: factor, sliding window (tokens), soft cap."""

    factor: float | None
    window: int | None
    cap: float | None


class Attention(Protocol):
    """What a pass uses in place of a model's attention."""

    def __call__(self, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, scale: Scale) -> Tensor:
        """Return the output of a layer's attention for a pass's tokens, [tokens, heads, head width].

        Queries are [tokens, heads, head width]; keys and values are [tokens, key heads, head width].
        """
        ...


_ACTIVE: ContextVar[Attention] = ContextVar("attention")


@contextmanager
def attending(configs: Sequence[Any], attention: Attention | None) -> Iterator[None]:
    """Let models with these configurations use `attention` within the context; None leaves them their own."""
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
    """Implement transformers' attention interface: [1, heads, tokens, head width] in, [1, tokens, ...] out."""
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    return _ACTIVE.get()(module, q, k, v, Scale(scaling, sliding_window, softcap))[None], None


AttentionInterface.register(NAME, _attend)

LANES = 16
"""Keys are padded to a multiple of it, the most numbers in a register of a CPU: their sums are then taken in the same
order whatever the length of the other sequences."""
NEVER = 1 << 30
"""Position of a padding key: later than every query."""


def round_up(number: int) -> int:
    """Return the smallest multiple of `LANES` that is not less than a number."""
    return -(-number // LANES) * LANES


def _queries(number: int) -> int:
    """Return to how many queries a number of them is padded: kernels take blocks of 32, and the last has few rows."""
    return -(-number // LEAST_ROWS) * LEAST_ROWS


class _Bucket:
    """Sequences of similar length, padded to the longest, on one device."""

    def __init__(self, sequences: Sequence[Queries], device: torch.device) -> None:
        # padded by indices of the sequence's own: a weight of zero does not stop another sequence's NaN or infinity
        self.queries = _padded([own.tokens for own in sequences], _queries).to(device)
        self.positions = _padded([own.positions for own in sequences], _queries).to(device)
        self.cached = _padded([own.cached for own in sequences], round_up).to(device)
        self.keys = _padded([own.keys for own in sequences], round_up).to(device)
        cached = integers(len(own.cached) for own in sequences)
        new = integers(len(own.keys) for own in sequences)
        places = _positions(cached, self.cached, 0), _positions(new, self.keys, cached[:, None])
        self.key_positions = torch.cat(places, dim=1).to(device)
        self.longest = max(len(own.cached) + len(own.keys) for own in sequences)
        self._masks: dict[int | None, Tensor] = {}

    def mask(self, window: int | None) -> Tensor:
        """Return which queries attend to which keys, [sequences, 1, queries, keys]."""
        if window is not None and window >= self.longest:
            window = None
        if window not in self._masks:
            gap = self.positions[:, None, :, None] - self.key_positions[:, None, None, :]
            self._masks[window] = gap >= 0 if window is None else (gap >= 0) & (gap < window)
        return self._masks[window]

    def of(self, new: Tensor, cached: Tensor | None) -> Tensor:
        """Return keys or values [tokens, key heads, head width] by sequence, [sequences, keys, ...]; `cached` first."""
        if cached is None or not self.cached.shape[1]:
            return new[self.keys]
        return torch.cat([cached[self.cached], new[self.keys]], dim=1)


def _padded(rows: Sequence[Sequence[int]], width: Callable[[int], int]) -> Tensor:
    """Return rows of integers as one tensor, each padded by its own last number to the width for the longest."""
    longest = width(max(map(len, rows)))
    padded = ((row, repeat(row[-1] if row else 0, longest - len(row))) for row in rows)
    return integers(chain.from_iterable(chain.from_iterable(padded))).view(len(rows), longest)


def _positions(counts: Tensor, keys: Tensor, first: Tensor | int) -> Tensor:
    """Return the positions of each sequence's `keys`, [sequences, keys], padded by `NEVER`."""
    number = torch.arange(keys.shape[1])
    return (number + first).where(number < counts[:, None], NEVER)


class SequenceAttention:
    """Which tokens attend to which: each query token belongs to one sequence.

    Args:
        sequences: The sequences; their query tokens together are 0, 1, 2 and so on.
    """

    def __init__(self, sequences: Sequence[Queries]) -> None:
        buckets: dict[tuple[int, int], list[Queries]] = {}
        for own in sequences:
            if own.tokens:
                lengths = (len(own.cached) + len(own.keys) - 1).bit_length(), (len(own.tokens) - 1).bit_length()
                buckets.setdefault(lengths, []).append(own)
        # in an order that other sequences do not change: gradients of shared tokens are added up bucket by bucket
        self._sequences = [bucket for _, bucket in sorted(buckets.items())]
        place, done = [0] * sum(len(own.tokens) for own in sequences), 0
        for bucket in self._sequences:
            longest = _queries(max(len(own.tokens) for own in bucket))
            for line, own in enumerate(bucket):
                for column, token in enumerate(own.tokens):
                    place[token] = done + line * longest + column
            done += len(bucket) * longest
        self._place = integers(place)
        self._on: dict[torch.device, tuple[list[_Bucket], Tensor]] = {}

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, scale: Scale, cached: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Return the attention output of each query; shapes as in `Attention`, `cached` of an earlier pass."""
        if q.device not in self._on:
            self._on[q.device] = [_Bucket(own, q.device) for own in self._sequences], self._place.to(q.device)
        buckets, place = self._on[q.device]
        before = cached or (None, None)
        found = []
        for bucket in buckets:
            parts = q[bucket.queries], bucket.of(k, before[0]), bucket.of(v, before[1])
            one, two, three = (part.transpose(1, 2) for part in parts)
            found.append(scores(one, two, three, bucket.mask(scale.window), scale).transpose(1, 2).flatten(0, 1))
        return torch.cat(found)[place] if len(found) > 1 else found[0][place]


def scores(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: Scale) -> Tensor:
    """Return softmax(q k' * factor) v where the mask allows it, [rows, heads, queries, head width].

    Queries are of that shape, keys and values [rows, key heads, keys, head width]: heads of a group share a key head.
    The mask broadcasts to [rows, heads, queries, keys] and includes the window.
    """
    if scale.cap is None:
        grouped = q.shape[1] != k.shape[1]
        return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale.factor, enable_gqa=grouped)
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
    raw = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale.factor is None else scale.factor)
    capped = scale.cap * torch.tanh(raw / scale.cap)
    return capped.masked_fill(~mask, float("-inf")).softmax(-1, dtype=torch.float32).to(q.dtype) @ v


class PassAttention:
    """Attention of one pass; see `Attention`.

    Keys and values of an earlier pass, `cached`, precede the pass's own. If they are kept, all are in `keys`.
    """

    def __init__(self, tokens: SequenceAttention, cached: Keys | None, keep: bool) -> None:
        self._tokens, self._cached, self._keep = tokens, cached, keep
        self.keys: Keys = {}
        self._done: set[nn.Module] = set()

    def __call__(self, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, scale: Scale) -> Tensor:
        """See `Attention`."""
        if module in self._done:
            raise RuntimeError(f"{type(module).__name__} attends twice in a pass, which packed batches do not support.")
        self._done.add(module)
        cached = None if self._cached is None else self._cached[module]
        if self._keep:
            before = cached or (k[:0], v[:0])
            # copies: models slice queries, keys and values out of one tensor, which a view would keep alive
            self.keys[module] = torch.cat([before[0], k]).detach(), torch.cat([before[1], v]).detach()
        return self._tokens(q, k, v, scale, cached)
