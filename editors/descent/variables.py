"""Edits while they are made by gradient descent: tensors that any optimiser steps, and a dense change in slices."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.optim import Optimizer
from torch.optim.adam import adam

from ..models.structure import Site
from ..patches import Dense, Patch, Span

#: Numbers of a dense change that are stepped at once; their gradient is 2 MB.
_SLICE = 1 << 19


class Free(ABC):
    """One edit while it is made. A step is `patches`, a pass and its way back, and `step`."""

    @abstractmethod
    def patches(self) -> tuple[Patch, ...]:
        """Return the edit as it stands, such that gradients come back to it."""

    @abstractmethod
    def zero_grad(self) -> None:
        """Forget the gradients."""

    @abstractmethod
    def step(self) -> None:
        """Take a step along the gradients of the last way back."""

    @abstractmethod
    def made(self) -> tuple[Patch, ...]:
        """Return the finished edit."""


class FreeTensors(Free):
    """Tensors and an optimiser of torch.

    Args:
        tensors: They ask for gradients and are changed in place.
        patches: From the tensors, the patches.
        optimiser: Makes the optimiser of the tensors.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        patches: Callable[[Sequence[Tensor]], tuple[Patch, ...]],
        optimiser: Callable[[list[Tensor]], Optimizer],
    ) -> None:
        self._tensors, self._patches = tensors, patches
        self._optimiser = optimiser(list(tensors))

    def patches(self) -> tuple[Patch, ...]:  # noqa: D102
        return self._patches(self._tensors)

    def zero_grad(self) -> None:  # noqa: D102
        self._optimiser.zero_grad()

    def step(self) -> None:  # noqa: D102
        self._optimiser.step()

    def made(self) -> tuple[Patch, ...]:  # noqa: D102
        return self._patches([tensor.detach() for tensor in self._tensors])


class FreeMatrix(Free):
    """D [d_in, d_out] of y + x D, stepped by Adam (arXiv 1412.6980) from zero and clamped to a bound behind each step.

    The gradient of D, x' G with G that of y, is as large as D and never stands whole: slice after slice of D is
    multiplied out, stepped and clamped. That is a fourth tensor of D's size less, in the same time.

    Args:
        site: The map.
        dtype: Type of D.
        device: Where D is.
        lr: Adam's rate.
        bound: Bound of the numbers of D; none if None.
    """

    def __init__(
        self, site: Site, dtype: torch.dtype, device: torch.device, lr: float, bound: float | None = None
    ) -> None:
        self._site, self._lr, self._bound = site, lr, bound
        self._d, first, second = (torch.zeros(site.d_in, site.d_out, dtype=dtype, device=device) for _ in range(3))
        self._rows = max(1, _SLICE // site.d_out)
        self._slices = [
            (*parts, torch.zeros((), device=device))  # number of steps, as Adam keeps it
            for parts in zip(*(tensor.split(self._rows) for tensor in (self._d, first, second)), strict=True)
        ]
        self._d.requires_grad_()
        self._factors: list[tuple[Tensor, Tensor]] = []

    def patches(self) -> tuple[Patch, ...]:  # noqa: D102
        return (_Descending(self._site.name, self._site.block, self._d, self._factors.append),)

    def zero_grad(self) -> None:  # noqa: D102
        self._factors.clear()

    @torch.no_grad()
    def step(self) -> None:  # noqa: D102
        # an expert may get no token of a batch: Adam then steps by what it remembers
        nothing = self._d.new_zeros(0, self._site.d_in), self._d.new_zeros(0, self._site.d_out)
        x, g = (torch.cat(parts) for parts in zip(*self._factors or [nothing], strict=True))
        for part, (d, first, second, steps) in zip(x.T.split(self._rows), self._slices, strict=True):
            adam(
                [d],
                [part @ g],
                [first],
                [second],
                [],
                [steps],
                fused=True,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=self._lr,
                weight_decay=0.0,
                eps=1e-8,
                maximize=False,
            )
            if self._bound is not None:
                d.clamp_(-self._bound, self._bound)
        self.zero_grad()  # x holds on to the input of its whole pass

    def made(self) -> tuple[Patch, ...]:  # noqa: D102
        return (Dense(self._site.name, self._site.block, self._d.detach()),)


class FreeTogether(Free):
    """Several changes that are one edit, e.g. those of the experts that its tokens go to."""

    def __init__(self, parts: Sequence[Free]) -> None:
        self._parts = parts

    def patches(self) -> tuple[Patch, ...]:  # noqa: D102
        return tuple(patch for part in self._parts for patch in part.patches())

    def zero_grad(self) -> None:  # noqa: D102
        for part in self._parts:
            part.zero_grad()

    def step(self) -> None:  # noqa: D102
        for part in self._parts:
            part.step()

    def made(self) -> tuple[Patch, ...]:  # noqa: D102
        return tuple(patch for part in self._parts for patch in part.made())


@dataclass(frozen=True, slots=True)
class _Descending(Dense):
    """y + x D, of which `take` is given x and the gradient of y on the way back."""

    take: Callable[[tuple[Tensor, Tensor]], None]

    def __call__(self, x: Tensor, y: Tensor, spans: Sequence[Span]) -> Tensor:
        return y + _Product.apply(x.to(self.d.dtype), self.d, self.take).to(y.dtype)  # type: ignore[no-any-return,no-untyped-call]


class _Product(torch.autograd.Function):
    """x D, whose gradient with respect to D is left as its factors x [tokens, d_in] and that of x D [tokens, d_out]."""

    @staticmethod
    def forward(ctx, x: Tensor, d: Tensor, take: Callable[[tuple[Tensor, Tensor]], None]) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, d)
        ctx.take = take
        return x @ d

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor):  # type: ignore[no-untyped-def]
        x, d = ctx.saved_tensors
        ctx.take((x, g))
        return g @ d.T if ctx.needs_input_grad[0] else None, None, None
