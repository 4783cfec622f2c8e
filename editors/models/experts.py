"""Routed experts: each token goes to a few of them, and a hook has to know which tokens an expert got.

transformers keeps the experts of a block as slices of 3-D parameters, older code as a list of modules. Their forward
stays the model's own; two things are put around it as long as a pass has something to do at them:

* The module that routes is called once for each kind of token in the pass (those of one edit, or of one row), so that
  whatever an expert gets then belongs to it. Tokens do not depend on one another there.
* Products with a slice of a 3-D parameter are noticed by where the slice lies in memory. No weight is copied.

The functions that transformers has for all experts at once (`grouped_mm`, `batched_mm`) show no products of single
experts; models are run with the plain loop instead, with and without edits.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .parts import stored_as_inputs
from .structure import Site, Structure, execution_device

Hook = Callable[[Tensor, Tensor], Tensor]
"""From inputs [tokens, d_in] and outputs [tokens, d_out] of an expert's map, the new outputs."""
PRODUCTS = frozenset(("linear", "matmul", "__matmul__", "mm", "bmm"))
"""Functions of torch that multiply by a weight, their second argument."""


class Group(NamedTuple):
    """The tokens that the modules in a router are called with.

    Attributes:
        tokens: Their numbers, [tokens].
        total: Number of tokens that the router was called with.
    """

    tokens: Tensor
    total: int


_GROUP: ContextVar[Group | None] = ContextVar("group", default=None)


def group() -> Group | None:
    """Return the tokens that are run now, in a router; None elsewhere."""
    return _GROUP.get()


class Weight(NamedTuple):
    """The weight of a map.

    Attributes:
        module: What holds it.
        value: The weight, or an expert's slice of it.
        inputs_first: Whether it is [d_in, d_out]; else [d_out, d_in].
    """

    module: nn.Module
    value: Tensor
    inputs_first: bool


def weight_of(model: nn.Module, site: str) -> Weight:
    """Return the weight of a map, which is named as in a patch."""
    stack = _stack(model, site)
    if stack is None:
        module = model.get_submodule(site)
        return Weight(module, cast(Tensor, module.weight), isinstance(module, Conv1D))
    module, name, number = stack
    return Weight(module, cast(Tensor, getattr(module, name))[number], stored_as_inputs(module, name))


def device_of(model: nn.Module, site: str) -> torch.device:
    """Return the device on which a map computes, which is named as in a patch."""
    stack = _stack(model, site)
    return execution_device(model.get_submodule(site) if stack is None else stack[0])


def _stack(model: nn.Module, site: str) -> tuple[nn.Module, str, int] | None:
    """Return holder, name and number of an expert in a 3-D parameter; None for a module."""
    *path, name, number = site.split(".")
    if not number.isdigit():
        return None
    module = model.get_submodule(".".join(path))
    return (module, name, int(number)) if isinstance(getattr(module, name, None), nn.Parameter) else None


def plain_experts(model: PreTrainedModel) -> None:
    """Let a model's experts run one after another, so that the products of each can be noticed."""
    for module in model.modules():
        config: Any = getattr(module, "config", None)
        if getattr(config, "_experts_implementation", None) is not None:
            config._experts_implementation_internal = "eager"  # the setter asks about kernels


@dataclass(frozen=True, slots=True)
class Routes:
    """Where a pass has something to do at the experts behind one router.

    Attributes:
        labels: From the number of tokens of a pass, the kind of each.
        stacked: By holder and parameter, and by the expert's number, what is done.
    """

    labels: Callable[[int], Sequence[int]]
    stacked: dict[tuple[nn.Module, str], dict[int, list[Hook]]]


@contextmanager
def routed(
    model: PreTrainedModel,
    routers: Mapping[str, str],
    hooks: Mapping[str, Hook],
    labels: Callable[[int], Sequence[int]],
) -> Iterator[None]:
    """Call the routers of some maps with tokens of one kind at a time, as long as the context is open.

    Args:
        model: The model.
        routers: By the names of the maps, the module that routes their tokens.
        hooks: What is done at maps, by their names.
        labels: From the number of tokens of a pass, the kind of each.
    """
    routes: dict[str, Routes] = {}
    replaced: list[tuple[nn.Module, Any]] = []
    handles: list[RemovableHandle] = []
    try:
        for site, hook in hooks.items():
            own = routes.setdefault(routers[site], Routes(labels, {}))
            stack = _stack(model, site)
            if stack is None:
                handles.append(model.get_submodule(site).register_forward_hook(_flat(hook)))
            else:
                holder, name, number = stack
                own.stacked.setdefault((holder, name), {}).setdefault(number, []).append(hook)
        for router, own in routes.items():
            module = model.get_submodule(router)
            replaced.append((module, vars(module).get("forward")))
            module.forward = _by_kind(module.forward, own)
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, before in reversed(replaced):
            if before is None:
                del module.forward
            else:
                module.forward = before


def _flat(hook: Hook) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def at(_: nn.Module, given: Any, output: Tensor) -> Tensor:
        x, y = (tensor.reshape(-1, tensor.shape[-1]) for tensor in (given[0], output))
        return hook(x, y).reshape(output.shape)

    return at


def _by_kind(forward: Callable[..., Any], routes: Routes) -> Callable[..., Any]:
    """Return the forward of a router that runs tokens of one kind at a time."""

    def run(*given: Any, **named: Any) -> Any:
        lead = next(value for value in (*given, *named.values()) if isinstance(value, Tensor)).shape[:-1]
        count, outer = lead.numel(), _GROUP.get()
        whole = Group(torch.arange(count), count) if outer is None else outer
        all_labels = torch.tensor(routes.labels(whole.total))
        labels = all_labels[whole.tokens]
        outs: list[tuple[Tensor, Any]] = []
        for kind in labels.unique().tolist():
            where = (labels == kind).nonzero()[:, 0]
            token = _GROUP.set(Group(whole.tokens[where], whole.total))
            try:
                with _Products(routes.stacked):
                    if len(where) == count:
                        return forward(*given, **named)
                    some = [_some(value, where, lead) for value in given]
                    outs.append((where, forward(*some, **{n: _some(v, where, lead) for n, v in named.items()})))
            finally:
                _GROUP.reset(token)
        order = torch.cat([where for where, _ in outs]).argsort()
        return _joined([out for _, out in outs], order, lead)

    return run


def _some(value: Any, where: Tensor, lead: torch.Size) -> Any:
    """Return what a router is told of some tokens."""
    if not isinstance(value, Tensor):
        return value
    where = where.to(value.device)
    if (value.dim() > len(lead) and value.shape[: len(lead)] == lead) or value.shape == lead:
        rest = value.shape[len(lead) :]
        return value.reshape(-1, *rest)[where].reshape(*[1] * (len(lead) - 1), len(where), *rest)
    return value[where] if value.dim() > 0 and len(value) == lead.numel() else value


def _joined(outs: Sequence[Any], order: Tensor, lead: torch.Size) -> Any:
    """Return what a router puts out for all tokens, from what it put out for those of each kind."""
    first = outs[0]
    if isinstance(first, tuple | list):
        return type(first)(_joined(part, order, lead) for part in zip(*outs, strict=True))
    if not isinstance(first, Tensor):
        return first
    flat = torch.cat([out.reshape(-1, out.shape[-1]) for out in outs])[order.to(first.device)]
    return flat if first.dim() == 2 else flat.reshape(*lead, first.shape[-1])


class _Products(TorchFunctionMode):
    """Notices products with slices of some 3-D parameters.

    Args:
        stacked: See `Routes`.

    Attributes:
        seen: Holder, parameter and number of the slices that were met.
    """

    def __init__(self, stacked: Mapping[tuple[nn.Module, str], Mapping[int, Sequence[Hook]]]) -> None:
        super().__init__()
        self._stacked = stacked

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") not in PRODUCTS or len(args) < 2 or not isinstance(args[1], Tensor):
            return out
        x, weight = args[0], args[1]
        for (holder, name), hooks in self._stacked.items():
            numbers = _slices(weight, cast(Tensor, getattr(holder, name)))
            if numbers is None:
                continue
            if weight.dim() == 2:
                return self._at(hooks.get(numbers[0], ()), x, out)
            return torch.stack([self._at(hooks.get(n, ()), x[n], out[n]) for n in numbers])
        return out

    def _at(self, hooks: Sequence[Hook], x: Tensor, y: Tensor) -> Tensor:
        return reduce(lambda out, hook: hook(x, out), hooks, y)


def _slices(weight: Tensor, stack: Tensor) -> range | None:
    """Return which slices of a 3-D parameter a weight is; None if it is none."""
    if weight.device != stack.device or weight.is_meta:
        return None
    if weight.untyped_storage().data_ptr() != stack.untyped_storage().data_ptr():
        return None
    number, rest = divmod(int(weight.storage_offset()) - int(stack.storage_offset()), int(stack.stride(0)))
    count = weight.numel() // stack[0].numel()
    fits = rest == 0 and 0 <= number < len(stack) and count * stack[0].numel() == weight.numel()
    return range(number, number + count) if fits and weight.dim() in (2, 3) else None


def require_maps(model: PreTrainedModel, structure: Structure, device: torch.device) -> None:
    """Make sure, by a pass over a few tokens, that what is done at maps is what their weights do.

    The products of all routed experts have to be noticed, and a linear module with a forward of its own has to take and
    give vectors of its weight's widths (DeepSeek-V4's output projection works on groups). Maps that do not are left
    out of the structure, so that nobody edits what would not change.
    """
    seen: set[str] = set()
    odd: set[str] = set()

    def noticing(name: str) -> Hook:
        def hook(_: Tensor, y: Tensor) -> Tensor:
            seen.add(name)
            return y

        return hook

    def measuring(site: Site) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(_: nn.Module, given: Any, output: Tensor) -> None:
            if (given[0].shape[-1], output.shape[-1]) != (site.d_in, site.d_out):
                odd.add(site.name)

        return hook

    stacked = [site for site in structure.routers if _stack(model, site) is not None]
    hooks = {site: noticing(site.rpartition(".")[0]) for site in stacked}
    own = [
        (site, module)
        for site in (site for sites in structure.sites for site in sites if site.name not in structure.routers)
        if type(module := model.get_submodule(site.name)).forward not in (nn.Linear.forward, Conv1D.forward)
    ]
    if not hooks and not own:
        return
    vocabulary = int(cast(int, model.get_input_embeddings().num_embeddings))
    ids = torch.arange(1, min(33, vocabulary), device=device)[None]
    handles = [module.register_forward_hook(measuring(site)) for site, module in own]
    try:
        with suppress(Exception), torch.no_grad(), routed(model, structure.routers, hooks, lambda tokens: [0] * tokens):
            model(input_ids=ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    structure.forget({site for site in hooks if site.rpartition(".")[0] not in seen} | odd)
