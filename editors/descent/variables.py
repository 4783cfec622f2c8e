"""The variables of an edit: trainable tensors and the patches they make; the optimiser of many edits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..patches import Patch, Span

MakeOptimiser = Callable[[list[Tensor]], Optimizer]


class Variables:
    """Trainable tensors of one edit, which are changed in place.

    `patches` makes the edit from them, and `optimiser` their optimiser, e.g. `partial(torch.optim.Adam, lr=0.1)`. After
    each step they are clamped to [-bound, bound], if there is a bound.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        patches: Callable[[Sequence[Tensor]], tuple[Patch, ...]],
        optimiser: MakeOptimiser,
        bound: float | None = None,
    ) -> None:
        self.tensors = [tensor.requires_grad_() for tensor in tensors]
        self.optimiser = optimiser
        self.bound = bound
        self._patches = patches

    def patches(self) -> tuple[Patch, ...]:
        """Return the current edit, through which gradients reach the tensors."""
        return self._patches(self.tensors)

    def finished(self) -> tuple[Patch, ...]:
        """Return the edit without a graph."""
        return self._patches([tensor.detach() for tensor in self.tensors])


class JointOptimiser:
    """Steps the variables of many edits: one optimiser for all that name the same `optimiser`.

    Optimisers of torch treat each tensor separately, so that edits do not affect each other. One call for each edit
    would cost more than its arithmetic on a small model.
    """

    def __init__(self, variables: Sequence[Variables]) -> None:
        self._variables = list(variables)
        tensors: dict[MakeOptimiser, list[Tensor]] = {}
        for own in variables:
            tensors.setdefault(own.optimiser, []).extend(own.tensors)
        self._optimisers = [make(own) for make, own in tensors.items()]

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for optimiser in self._optimisers:
            optimiser.zero_grad()

    @torch.no_grad()
    def step(self, moving: Sequence[Variables]) -> None:
        """Take one step with the variables of some edits.

        The others lose their gradient: a zero one, which a backward pass through a shared graph leaves, would let
        Adam's momentum move an edit that has stopped, so that it depended on the edits beside it.
        """
        resting = {id(own) for own in self._variables} - {id(own) for own in moving}
        for tensor in (tensor for own in self._variables if id(own) in resting for tensor in own.tensors):
            tensor.grad = None
        for own in moving:
            for tensor in own.tensors:
                if tensor.grad is None:  # an expert that no token of this batch is routed to
                    tensor.grad = torch.zeros_like(tensor)
        for optimiser in self._optimisers:
            optimiser.step()
        for own in moving:
            if own.bound is not None:
                for tensor in own.tensors:
                    tensor.clamp_(-own.bound, own.bound)


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
