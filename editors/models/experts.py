"""Routed experts: each token goes to a few of them, and a hook has to know which tokens an expert receives.

While a pass has hooks on experts, their router is called once for each group of tokens (those of one edit, or of one
row), and products with a slice of a 3-D parameter are recognised by the slice's place in memory; no weight is copied.
The functions of transformers that run all experts at once have no products of single experts, so models are run with
the plain loop, with and without edits.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from functools import reduce
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .parts import stored_as_inputs
from .structure import Structure, execution_device

Hook = Callable[[Tensor, Tensor], Tensor]
"""From inputs [tokens, d_in] and outputs [tokens, d_out] of an expert's layer, the new outputs."""
PRODUCTS = frozenset(("linear", "matmul", "__matmul__", "mm", "bmm"))
"""Functions of torch that multiply by a weight, which is their second argument."""


class Group(NamedTuple):
    """Indices of the tokens that a router is run with, and the number of those that it was called with."""

    tokens: Tensor
    total: int


_GROUP: ContextVar[Group | None] = ContextVar("group", default=None)


def group() -> Group | None:
    """Return the tokens of the current call of a router; None outside of routers."""
    return _GROUP.get()


class Weight(NamedTuple):
    """The weight of a layer, or an expert's slice of one; `inputs_first`: it is [d_in, d_out], else [d_out, d_in]."""

    value: Tensor
    inputs_first: bool


def weight_of(model: nn.Module, site: str) -> Weight:
    """Return the weight of a layer, by the name that patches use."""
    stack = _stack(model, site)
    if stack is None:
        module = model.get_submodule(site)
        return Weight(cast(Tensor, module.weight), isinstance(module, Conv1D))
    module, name, number = stack
    return Weight(cast(Tensor, getattr(module, name))[number], stored_as_inputs(module, name))


def device_of(model: nn.Module, site: str) -> torch.device:
    """Return the device on which a layer computes, by the name that patches use."""
    stack = _stack(model, site)
    return execution_device(model.get_submodule(site) if stack is None else stack[0])


def _stack(model: nn.Module, site: str) -> tuple[nn.Module, str, int] | None:
    """Return module, parameter name and index of an expert in a 3-D parameter; None for a module."""
    *path, name, index = site.split(".")
    if not index.isdigit():
        return None
    module = model.get_submodule(".".join(path))
    return (module, name, int(index)) if isinstance(getattr(module, name, None), nn.Parameter) else None


def plain_experts(model: PreTrainedModel) -> None:
    """Let a model run its experts one after another, so that the products of each can be recognised."""
    for module in model.modules():
        config: Any = getattr(module, "config", None)
        if getattr(config, "_experts_implementation", None) is not None:
            config._experts_implementation_internal = "eager"  # the setter looks for kernels


Stacked = dict[tuple[nn.Module, str], dict[int, list[Hook]]]
"""Hooks on experts in 3-D parameters: by module and parameter name, and by the expert's index."""


@contextmanager
def routed(
    model: PreTrainedModel,
    routers: Mapping[str, str],
    hooks: Mapping[str, Hook],
    labels: Callable[[int], Sequence[int]],
) -> Iterator[None]:
    """Run hooks on layers of experts, and their routers with one group of tokens at a time, inside the context.

    Routers and hooks are given by the layer's name; `labels` gives, from the number of tokens of a pass, the group of
    each.
    """
    stacked: dict[str, Stacked] = {}
    with ExitStack() as stack:
        for site, hook in hooks.items():
            own = stacked.setdefault(routers[site], {})
            expert = _stack(model, site)
            if expert is None:
                stack.callback(model.get_submodule(site).register_forward_hook(_flat(hook)).remove)
            else:
                module, name, index = expert
                own.setdefault((module, name), {}).setdefault(index, []).append(hook)
        for router, own in stacked.items():
            module = model.get_submodule(router)
            if "forward" in vars(module):
                stack.callback(setattr, module, "forward", module.forward)
            else:
                stack.callback(delattr, module, "forward")
            module.forward = _by_group(module.forward, labels, own)
        yield


def _flat(hook: Hook) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def at(_: nn.Module, given: Any, output: Tensor) -> Tensor:
        x, y = (tensor.reshape(-1, tensor.shape[-1]) for tensor in (given[0], output))
        return hook(x, y).reshape(output.shape)

    return at


def _by_group(
    forward: Callable[..., Any], labels: Callable[[int], Sequence[int]], stacked: Stacked
) -> Callable[..., Any]:
    """Return the forward of a router that runs one group of tokens at a time."""

    def run(*given: Any, **named: Any) -> Any:
        lead = next(value for value in (*given, *named.values()) if isinstance(value, Tensor)).shape[:-1]
        count, outer = lead.numel(), _GROUP.get()
        whole = Group(torch.arange(count), count) if outer is None else outer
        own = torch.tensor(labels(whole.total))[whole.tokens]
        outs: list[tuple[Tensor, Any]] = []
        for label in own.unique().tolist():
            where = (own == label).nonzero()[:, 0]
            token = _GROUP.set(Group(whole.tokens[where], whole.total))
            try:
                with _Products(stacked):
                    if len(where) == count:
                        return forward(*given, **named)
                    some = [_select(value, where, lead) for value in given]
                    outs.append((where, forward(*some, **{n: _select(v, where, lead) for n, v in named.items()})))
            finally:
                _GROUP.reset(token)
        order = torch.cat([where for where, _ in outs]).argsort()
        return _joined([out for _, out in outs], order, lead)

    return run


def _select(value: Any, where: Tensor, lead: torch.Size) -> Any:
    if not isinstance(value, Tensor):
        return value
    where = where.to(value.device)
    if (value.dim() > len(lead) and value.shape[: len(lead)] == lead) or value.shape == lead:
        rest = value.shape[len(lead) :]
        return value.reshape(-1, *rest)[where].reshape(*[1] * (len(lead) - 1), len(where), *rest)
    return value[where] if value.dim() > 0 and len(value) == lead.numel() else value


def _joined(outs: Sequence[Any], order: Tensor, lead: torch.Size) -> Any:
    first = outs[0]
    if isinstance(first, tuple | list):
        return type(first)(_joined(part, order, lead) for part in zip(*outs, strict=True))
    if not isinstance(first, Tensor):
        return first
    flat = torch.cat([out.reshape(-1, out.shape[-1]) for out in outs])[order.to(first.device)]
    return flat if first.dim() == 2 else flat.reshape(*lead, first.shape[-1])


class _Products(TorchFunctionMode):
    """Runs hooks on products with slices of 3-D parameters."""

    def __init__(self, stacked: Stacked) -> None:
        super().__init__()
        self._stacked = stacked

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") not in PRODUCTS or len(args) < 2 or not isinstance(args[1], Tensor):
            return out
        x, weight = args[0], args[1]
        for (module, name), hooks in self._stacked.items():
            indices = _slices(weight, cast(Tensor, getattr(module, name)))
            if indices is None:
                continue
            if weight.dim() == 2:
                return self._hooked(hooks.get(indices[0], ()), x, out)
            return torch.stack([self._hooked(hooks.get(n, ()), x[n], out[n]) for n in indices])
        return out

    def _hooked(self, hooks: Sequence[Hook], x: Tensor, y: Tensor) -> Tensor:
        return reduce(lambda out, hook: hook(x, out), hooks, y)


def _slices(weight: Tensor, stack: Tensor) -> range | None:
    """Return which slices of a 3-D parameter a weight is; None if it is none."""
    if weight.device != stack.device or weight.is_meta or weight.dim() not in (2, 3):
        return None
    if weight.untyped_storage().data_ptr() != stack.untyped_storage().data_ptr():
        return None
    index, rest = divmod(int(weight.storage_offset()) - int(stack.storage_offset()), int(stack.stride(0)))
    count = weight.numel() // stack[0].numel()
    fits = rest == 0 and 0 <= index < len(stack) and count * stack[0].numel() == weight.numel()
    return range(index, index + count) if fits else None


def drop_unhookable(model: PreTrainedModel, structure: Structure, device: torch.device) -> None:
    """Drop the routed experts whose products are not recognised in a pass over a few tokens."""
    seen: set[str] = set()

    def recognise(name: str) -> Hook:
        def hook(_: Tensor, y: Tensor) -> Tensor:
            seen.add(name)
            return y

        return hook

    stacked = [name for name in structure.routers if _stack(model, name) is not None]
    hooks = {name: recognise(name.rpartition(".")[0]) for name in stacked}
    if not hooks:
        return
    vocabulary = int(cast(int, model.get_input_embeddings().num_embeddings))
    ids = torch.arange(1, min(33, vocabulary), device=device)[None]
    with suppress(Exception), torch.no_grad(), routed(model, structure.routers, hooks, lambda tokens: [0] * tokens):
        model(input_ids=ids, use_cache=False)
    structure.forget({name for name in hooks if name.rpartition(".")[0] not in seen})
