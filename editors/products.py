"""Products with weights whose result for a token does not depend on which other tokens are in the pass.

On a CPU, matrix products sum in the same order for every row of x W, as long as there are a few rows: with fewer, other
kernels are used, and the results differ in the last bit (measured: docs/decisions/0023-what-decides-bytes.md).
"""

from collections.abc import Callable

import torch
from torch import Tensor

LEAST_ROWS = 4
"""Rows from which on the result of a row is the same."""


def by_rows(product: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return product(x), [..., d_out], for x [..., d_in]; of few rows the last is repeated meanwhile."""
    flat = x.reshape(-1, x.shape[-1])
    missing = LEAST_ROWS - len(flat)
    if not 0 < missing < LEAST_ROWS or x.device.type != "cpu":
        return product(x)
    found = product(torch.cat([flat, flat[-1:].expand(missing, -1)]))[: len(flat)]
    return found.reshape(*x.shape[:-1], found.shape[-1])
