"""The variables of an edit: trainable tensors, their optimiser, and the patches they make."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..patches import Patch, Span


class Variables:
    """Trainable tensors of one edit, which are changed in place.

    `patches` makes the edit from them, and `optimiser` their optimiser, e.g. `partial(torch.optim.Adam, lr=0.1)`. After
    each step they are clamped to [-bound, bound], if there is a bound.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        patches: Callable[[Sequence[Tensor]], tuple[Patch, ...]],
        optimiser: Callable[[list[Tensor]], Optimizer],
        bound: float | None = None,
    ) -> None:
        self.tensors = [tensor.requires_grad_() for tensor in tensors]
        self._patches = patches
        self._optimiser = optimiser(self.tensors)
        self._bound = bound

    def patches(self) -> tuple[Patch, ...]:
        """Return the current edit, through which gradients reach the tensors."""
        return self._patches(self.tensors)

    def zero_grad(self) -> None:
        """Drop the gradients."""
        self._optimiser.zero_grad()

    @torch.no_grad()
    def step(self) -> None:
        """Take one step of the optimiser along the gradients."""
        for tensor in self.tensors:
            if tensor.grad is None:  # an expert that no token of this batch is routed to
                tensor.grad = torch.zeros_like(tensor)
        self._optimiser.step()
        if self._bound is not None:
            for tensor in self.tensors:
                tensor.clamp_(-self._bound, self._bound)

    def finished(self) -> tuple[Patch, ...]:
        """Return the edit without a graph."""
        return self._patches([tensor.detach() for tensor in self.tensors])


@dataclass(frozen=True, slots=True)
class TokenShift(Patch):
    """y plus a vector at one token of each row, as ROME and MEMIT optimise it at the subject's last token.

    For optimisation only: it refers to the rows of one call of `minimise`, so it cannot be saved or scored.

    Attributes:
        shift: The vector, [d_out].
        tokens: For each row the index of its token.
    """

    shift: Tensor
    tokens: tuple[int, ...]
    kind: ClassVar[str] = "token_shift"

    @property
    def by_row(self) -> bool:  # noqa: D102
        return True

    def __call__(self, x: Tensor, y: Tensor, spans: Sequence[Span]) -> Tensor:  # noqa: D102
        where = [span.first + self.tokens[span.row] for span in spans if span.row is not None]
        shifted = y[where] + self.shift.to(y.dtype)
        return y.index_copy(0, torch.tensor(where, device=y.device), shifted)
