"""The tanh form of GELU, a tenth of a pass of GPT-2 in PyTorch's kernel, in less than half of its time."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import gelu
from transformers import PreTrainedModel
from transformers.activations import (
    ACT2FN,
    AccurateGELUActivation,
    FastGELUActivation,
    GELUTanh,
    NewGELUActivation,
)

#: (1 + tanh(u)) / 2 is the sigmoid of 2 u, so that GELU is x sigmoid(_ONE x + _CUBE x^3).
_ONE = 2 * math.sqrt(2 / math.pi)
_CUBE = _ONE * 0.044715
_ONE_TENSOR = torch.tensor(_ONE, dtype=torch.float32, device="cpu")
#: How transformers writes the same function.
_FORMS = (NewGELUActivation, GELUTanh, FastGELUActivation, AccurateGELUActivation)
#: Numbers treated at once: 256 KB of each tensor stay in a core's cache. Below half of that PyTorch's one kernel is
#: faster.
PIECE = 1 << 16


_ONCE: ContextVar[bool] = ContextVar("once", default=False)


@contextmanager
def differentiated_once() -> Iterator[None]:
    """Say that nobody will ask for gradients of gradients, as long as the context is open: descent is faster then."""
    token = _ONCE.set(True)
    try:
        yield
    finally:
        _ONCE.reset(token)


def activation(name: str) -> nn.Module:
    """Return an activation by its name in transformers."""
    found: nn.Module = ACT2FN[name]
    return _fast(found) or found


def replace_activations(model: PreTrainedModel) -> None:
    """Put the fast form of the same function in place of a model's activations."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if (fast := _fast(child)) is not None:
                setattr(parent, name, fast)


class TanhGELU(nn.Module):
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) (Hendrycks and Gimpel, arXiv 1606.08415).

    PyTorch's kernel takes 1.8 to 2.7 ns a number on a CPU, and as much on the way back. Its vectorised sigmoid and a
    few operations within the cache take 1.1, and 2.2 to 3 there and back; they agree with it to rounding. Elsewhere
    than in float32 on a CPU PyTorch's kernel runs, and where a gradient is wanted outside `differentiated_once`.
    """

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        if x.device.type != "cpu" or x.dtype != torch.float32 or x.numel() < PIECE // 2:
            return gelu(x, approximate="tanh")
        if not (torch.is_grad_enabled() and x.requires_grad):
            return _sliced(x)
        if not _ONCE.get():
            return gelu(x, approximate="tanh")
        found: Tensor = _WithSlope.apply(x)  # type: ignore[no-untyped-call]
        return found


class _WithSlope(torch.autograd.Function):
    """The function, whose slope is made while its input is in the cache, and kept in place of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out, slope = (torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(2))
        ctx.save_for_backward(slope)
        room = x.new_empty(2, min(PIECE, x.numel()))
        for piece, into, s in zip(*(t.reshape(-1).split(PIECE) for t in (x, out, slope)), strict=True):
            w, inner = room[:, : len(piece)]
            torch.mul(piece, _sigmoid(piece, s), out=into)
            # with s the sigmoid of u: d(x s) / dx = s + x s (1 - s) du/dx
            torch.addcmul(into, into, s, value=-1, out=w)
            s.addcmul_(w, torch.addcmul(_ONE_TENSOR, piece, piece, value=3 * _CUBE, out=inner))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensors
        found: Tensor = gradient * slope
        return found


def _sliced(x: Tensor) -> Tensor:
    """Return the function of numbers of any shape, a piece of them at a time."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    for piece, into in zip(x.reshape(-1).split(PIECE), out.view(-1).split(PIECE), strict=True):
        _sigmoid(piece, into).mul_(piece)
    return out


def _sigmoid(x: Tensor, out: Tensor) -> Tensor:
    """Write the share of x that the function lets through to `out`, and return it."""
    found: Tensor = torch.addcmul(_ONE_TENSOR, x, x, value=_CUBE, out=out).mul_(x).sigmoid_()
    return found


def _fast(module: nn.Module) -> nn.Module | None:
    """Return a module that computes the same faster, or None where there is none."""
    return TanhGELU() if type(module) in _FORMS else None
