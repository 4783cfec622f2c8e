"""The variables of an edit: trainable tensors and the patches they make."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..patches import Patch, Span


class Variables:
    """Trainable tensors of one edit, which are changed in place, and the patches that `make` makes of them."""

    def __init__(self, tensors: Sequence[Tensor], make: Callable[[Sequence[Tensor]], tuple[Patch, ...]]) -> None:
        self.tensors = [tensor.requires_grad_() for tensor in tensors]
        self._make = make

    def patches(self) -> tuple[Patch, ...]:
        """Return the current edit, through which gradients reach the tensors."""
        return self._make(self.tensors)

    def finished(self) -> tuple[Patch, ...]:
        """Return the edit without a graph."""
        return self._make([tensor.detach() for tensor in self.tensors])


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
