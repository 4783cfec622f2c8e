"""The activation function of an MLP, found by trying it.

Configurations name it under several fields or not at all, and some name one that the modules do not use. So in one pass
the ups return known numbers, and the down's input is compared with the functions that transformers knows: h = act(a) in
a plain MLP, h = act(a) * b in a gated one, whose gate is either half of a fused up or every other number of it.
"""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from .configuration import activation_name
from .structure import Site

REACH = 4.0
"""Numbers from minus to plus this are tried; beyond, most functions are straight lines."""
CLOSE = 1e-4
"""Largest difference that counts as rounding. The closest two functions, two forms of GELU, differ by up to 5e-4."""


def activation_of(model: PreTrainedModel, ups: Sequence[Site], down: Site, device: torch.device) -> str | None:
    """Return the activation of an MLP by its name in transformers; None if none of these fits.

    The ups are one, or a gate and another, or a fused one.
    """
    draw = torch.Generator().manual_seed(0)
    given: list[Tensor] = []
    seen: list[Tensor] = []

    def replace(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        numbers = (2 * torch.rand(output.shape, generator=draw, dtype=torch.float64) - 1) * REACH
        given.append(numbers.to(output.device, output.dtype))
        return given[-1]

    def record(_: nn.Module, arguments: Any) -> None:
        seen.append(arguments[0])

    vocabulary = int(cast(int, model.get_input_embeddings().num_embeddings))
    with ExitStack() as stack, torch.no_grad(), suppress(Exception):  # the activation stays unknown
        for up in ups:
            stack.callback(model.get_submodule(up.name).register_forward_hook(replace).remove)
        stack.callback(model.get_submodule(down.name).register_forward_pre_hook(record).remove)
        model(input_ids=torch.arange(1, min(9, vocabulary), device=device)[None], use_cache=False)
    if len(given) != len(ups) or len(seen) != 1:
        return None
    h = seen[0].reshape(-1, down.d_in).double()
    flat = [numbers.reshape(-1, numbers.shape[-1]).double() for numbers in given]
    close = CLOSE if seen[0].dtype.itemsize >= 4 else 0.05
    configured = activation_name(model.config)
    names: list[str] = sorted(ACT2FN, key=lambda name: name != configured)  # that of the configuration first
    for name in names:
        try:
            act = ACT2FN[name]
            if any(_near(cast(Tensor, act(a)) * b, h, close) for a, b in _pairs(flat, down.d_in)):
                return name
        except (RuntimeError, TypeError, NotImplementedError):  # some need kernels or another type
            continue
    return None


def _pairs(given: Sequence[Tensor], d_ff: int) -> list[tuple[Tensor, Tensor | float]]:
    if len(given) == 2:
        return [(given[0], given[1]), (given[1], given[0])]
    (a,) = given
    if a.shape[-1] == d_ff:
        return [(a, 1.0)]
    halves = [(a[:, :d_ff], a[:, d_ff:]), (a[:, ::2], a[:, 1::2])]
    return [pair for first, second in halves for pair in ((first, second), (second, first))]


def _near(one: Tensor, other: Tensor, close: float) -> bool:
    return one.shape == other.shape and bool((one - other).abs().max() <= close * max(1.0, float(other.abs().max())))
