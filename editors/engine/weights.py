"""Where weights lie in memory: products are slow where the rows of a matrix are whole pages apart."""

from torch import Tensor, float32, nn
from transformers.pytorch_utils import Conv1D

PAGE = 4096
"""Bytes. Numbers so far apart, or a multiple of it, compete for the same few places of a core's first cache."""
FLOAT = 4
"""Bytes of a number in float32."""
GAP = 64 // FLOAT
"""Numbers left free behind each row, one line of the cache."""


def paged(blocks: nn.Module) -> list[Conv1D]:
    """Return the maps x W of some blocks, with W [d_in, d_out] as GPT-2 keeps it, whose rows are whole pages long.

    Maps x W', as all others keep them, read W along its rows and do not suffer from it.
    """
    maps = [module for module in blocks.modules() if isinstance(module, Conv1D)]
    return [module for module in maps if module.weight.shape[1] * FLOAT % PAGE == 0]


def space_rows(blocks: nn.Module) -> None:
    """Put a gap behind each row of the maps that are `paged`, of float32 on a CPU.

    The weights are the same; only where they lie changes, and the rate of products with 40 to 160 tokens, by up to two
    thirds. Half types (which a CPU multiplies otherwise) and other devices stay as they are.
    """
    for module in paged(blocks):
        weight: Tensor = module.weight
        if weight.device.type == "cpu" and weight.dtype == float32 and weight.is_contiguous():
            rows, columns = weight.shape
            apart = weight.data.new_empty(rows, columns + GAP)[:, :columns]
            weight.data = apart.copy_(weight.data)
