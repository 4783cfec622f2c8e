"""A layer of MEND's network (arXiv 2110.11309, section 3.2): h plus what a low-rank map makes of it."""

from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Modes = Sequence[tuple[int, int]]
"""Numbers of maps of one shape, and how many neighbouring tokens are of each."""
PIECE = 1 << 16
"""Numbers treated at once: 256 KB of each tensor stay in a core's cache."""


class LowRankResidual(nn.Module):
    """h + max(0, s_m * (h V^T U^T + b) + t_m): the identity at the start, because U, b and t are zero.

    Args:
        width: Width of h.
        rank: Rank of U V.
        modes: Maps that share the layer; each has its scale s and shift t.
        generator: Draws V from N(0, 1).
    """

    def __init__(self, width: int, rank: int, modes: int, generator: torch.Generator | None) -> None:
        super().__init__()
        rank = min(rank, width)
        self.u = nn.Parameter(torch.zeros(width, rank))
        self.v = nn.Parameter(_normal(rank, width, generator))
        self.bias = nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.ones(modes, width))
        self.shift = nn.Parameter(torch.zeros(modes, width))

        self._product: tuple[tuple[object, ...], Tensor] | None = None

    def forward(self, h: Tensor, modes: Modes) -> Tensor:
        """Map h [tokens, width], whose tokens belong to maps numbered by `modes`."""
        inner = self._low_rank(h)
        if torch.is_grad_enabled():
            found: Tensor = _Rest.apply(h, inner, self.scale, self.shift, self.bias, modes)  # type: ignore[no-untyped-call]
            return found
        # what nothing flows back through is written over
        return _rest(h, inner, self.scale, self.shift, self.bias, modes, inner)

    def train(self, mode: bool = True) -> Self:
        """Go to training or to evaluation; see `nn.Module.train`."""
        self._product = None
        return super().train(mode)

    def _low_rank(self, h: Tensor) -> Tensor:
        """Return h V^T U^T.

        Where the rank is more than half the width, the product of both maps is the smaller one. It is kept until the
        layer goes back to training.
        """
        rank, width = self.v.shape
        if self.training or torch.is_grad_enabled() or 2 * rank <= width:
            return (h @ self.v.T) @ self.u.T
        # versions do not tell all: fused optimisers write to a tensor without raising its
        state = tuple(value for t in (self.u, self.v) for value in (t.data_ptr(), t.dtype, t._version))
        if self._product is None or self._product[0] != state:
            self._product = state, self.v.T @ self.u.T
        return h @ self._product[1]


class _Rest(torch.autograd.Function):
    """`_rest`, and its way back: half of the time that autograd takes, and two tensors of h's size less in between."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, inner: Tensor, scale: Tensor, shift: Tensor, bias: Tensor, modes: Modes) -> Tensor:
        ctx.save_for_backward(inner, scale, shift, bias)
        ctx.modes = modes
        return _rest(h, inner, scale, shift, bias, modes, torch.empty_like(inner))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inner, scale, shift, bias = ctx.saved_tensors
        d_inner, d_scale, d_shift = torch.empty_like(inner), torch.zeros_like(scale), torch.zeros_like(shift)
        # The gradient of max(0, x) at exactly zero is one, as that of torch.clamp: without it the layer could never
        # leave the identity. A bound that is all but zero says so to a kernel that asks for more than it.
        zero = -torch.finfo(inner.dtype).tiny
        for m, g, part, d_part in _pieces(ctx.modes, gradient, inner, d_inner):
            moved = torch.addcmul(torch.addcmul(shift[m], scale[m], bias), part, scale[m])
            passed = torch.ops.aten.threshold_backward(g, moved, zero)
            d_shift[m] += passed.sum(dim=0)
            torch.mul(passed, scale[m], out=d_part)
            d_scale[m] += passed.mul_(part).sum(dim=0)
        d_scale.addcmul_(d_shift, bias)
        return gradient, d_inner, d_scale, d_shift, (d_shift * scale).sum(dim=0), None


def _rest(h: Tensor, inner: Tensor, scale: Tensor, shift: Tensor, bias: Tensor, modes: Modes, out: Tensor) -> Tensor:
    """Write h + max(0, s (inner + b) + t) to `out`, [tokens, width], and return it; `out` may be `inner`."""
    for m, own, part, into in _pieces(modes, h, inner, out):
        at_zero = torch.addcmul(shift[m], scale[m], bias)
        torch.addcmul(at_zero, part, scale[m], out=into).clamp_(min=0).add_(own)
    return out


def _pieces(modes: Modes, first: Tensor, second: Tensor, third: Tensor) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Yield maps, and tokens of one map of three tensors [tokens, width], on a CPU as many as the cache holds."""
    tokens, width = second.shape
    rows = max(1, PIECE // width) if second.device.type == "cpu" else max(1, tokens)
    begin = 0
    for m, count in modes:
        for at in range(begin, begin + count, rows):
            some = slice(at, min(at + rows, begin + count))
            yield m, first[some], second[some], third[some]
        begin += count


def _normal(rows: int, columns: int, generator: torch.Generator | None) -> Tensor:
    if torch.get_default_device().type == "meta":  # a dry run counts parameters without making them
        return torch.empty(rows, columns)
    return torch.randn(rows, columns, generator=generator)
