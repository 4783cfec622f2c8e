"""Other forms of the same layers: faster ones of GPT-2's, and products that are the same for a token in any pass."""

from functools import partial

from torch import Tensor, float32, nn
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from ..products import by_rows

FLOAT = 4
"""Bytes of a number in float32."""
PAGE = 4096
"""Bytes. Numbers a multiple of it apart compete for the same few places of a core's first cache."""
GAP = 64 // FLOAT
"""Numbers of padding after each row, one line of the cache."""


def space_rows(blocks: nn.Module) -> None:
    """Copy the weights of GPT-2's layers x W, W [d_in, d_out], whose rows are whole pages long, with padded rows.

    The values are the same; products with 40 to 160 tokens are up to two thirds faster, and a loop by 4 to 12 %. Layers
    x W', as in all other models, read W along its rows and are not affected; nor are other devices and dtypes.
    """
    for layer in (module for module in blocks.modules() if isinstance(module, Conv1D)):
        weight: Tensor = layer.weight
        rows, columns = weight.shape
        plain = weight.device.type == "cpu" and weight.dtype == float32 and weight.is_contiguous()
        if plain and columns * FLOAT % PAGE == 0:
            padded = weight.data.new_empty(rows, columns + GAP)[:, :columns]
            weight.data = padded.copy_(weight.data)


def fuse_gelu(blocks: nn.Module) -> None:
    """Replace the tanh GELU that transformers computes in eight steps by torch's; a step of FT-L is 15 % faster.

    The results differ by rounding in float32.
    """
    for module in list(blocks.modules()):
        for name, child in module.named_children():
            if type(child) is NewGELUActivation:
                setattr(module, name, nn.GELU(approximate="tanh"))


def steady_products(model: nn.Module) -> None:
    """Let linear layers give each token the same numbers in any pass; see `products.py`."""
    for module in model.modules():
        known = isinstance(own := module.__dict__.get("forward"), partial) and own.func is by_rows
        if type(module) in (nn.Linear, Conv1D) and not known:  # a model may be taken up several times
            module.forward = partial(by_rows, module.forward)
