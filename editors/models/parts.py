"""The linear layers of a block that can be edited, and the part that each plays.

| part | layers |
| --- | --- |
| `up`, `down` | the dense MLP: from the model's width to the inner one (twice in a gated MLP, or fused), and back |
| `shared up`, `shared down` | in a block with routed experts, an MLP that every token passes |
| `expert up`, `expert down` | the routed experts, one layer for each expert |
| `query`, `key`, `value` | the projections of attention; `key value` and `query key value` where they are fused |
| `input`, `output` | the first and the last projection of attention or another mixer |

MLPs and experts are recognised by their shapes. The projections of attention all have similar shapes and are told apart
by name.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

Unrouted = Literal[
    "up", "down", "shared up", "shared down", "query", "key", "value", "key value", "query key value", "input", "output"
]
"""Parts that every token passes."""
Routed = Literal["expert up", "expert down"]
"""Parts of which each token passes a few layers only."""
Part = Unrouted | Routed
ROUTED: tuple[Part, ...] = get_args(Routed)
PARTS: tuple[Part, ...] = (*get_args(Unrouted)[:4], *ROUTED, *get_args(Unrouted)[4:])
"""All parts, in the order of the table above."""

_ROLES = {
    **dict.fromkeys(("q", "query", "wq"), "query"),
    **dict.fromkeys(("k", "key", "wk"), "key"),
    **dict.fromkeys(("v", "value", "wv"), "value"),
    **dict.fromkeys(("kv", "wkv"), "key value"),
    **dict.fromkeys(("qkv", "wqkv", "att"), "query key value"),
    **dict.fromkeys(("o", "out", "output", "wo", "dense"), "output"),
    **dict.fromkeys(("in", "input"), "input"),
}
"""Projections by the words of their names."""
_WHOLE_NAMES = {"c_attn": "query key value", "q_attn": "query", "c_proj": "output"}
_AUXILIARY = re.compile(r"norm|adapter|router|(^|\.)gate\.|indexer|compressor|delayed")
"""Modules off the residual stream: adapters, what selects experts or keys, and what reads the previous token."""
_EXCLUDED = re.compile(r"attn|attention|mamba|ssm|mlstm|(^|\.)conv|" + _AUXILIARY.pattern)
"""Those and the mixers of tokens: they are no MLP, though the shapes of some would fit."""
_DOWN = re.compile(r"down|out|w2")


@dataclass(frozen=True, slots=True)
class Found:
    """A linear layer of a block; names are dotted and relative to the block, otherwise see `structure.Site`.

    `router` is the module that routes tokens to it; None of layers that every token passes.
    """

    name: str
    part: Part
    d_in: int
    d_out: int
    router: str | None = None


def is_linear(module: nn.Module) -> bool:
    """Tell whether a module computes x W or x W'."""
    return isinstance(module, nn.Linear | Conv1D)


def shape_of(module: nn.Module) -> tuple[int, int]:
    """Return (d_in, d_out); Conv1D stores its weight as [d_in, d_out], Linear as [d_out, d_in]."""
    rows, columns = cast(Tensor, module.weight).shape
    return (rows, columns) if isinstance(module, Conv1D) else (columns, rows)


def layers_of(block: nn.Module, width: int) -> list[Found]:
    """Return the linear layers of a block that can be edited: of its MLP, attention and experts, in this order."""
    experts = [*_stacked_experts(block, width), *_listed_experts(block, width)]
    names = {found.name for found in experts}
    mlps = _mlps(block, width, names)
    dense = [found for mlp in mlps for found in mlp]
    names |= {found.name for found in dense}
    if experts:
        dense = [replace(found, part=cast(Part, f"shared {found.part}")) for found in dense]
    else:  # if several fit, the widest is the MLP
        dense = max(mlps, key=lambda mlp: max(found.d_in for found in mlp if found.part == "down"), default=[])
    projections = [
        Found(name, role, *shape_of(module))
        for name, module in block.named_modules()
        if is_linear(module) and name not in names and not _AUXILIARY.search(name) and (role := _role(name)) is not None
    ]
    return [*dense, *projections, *experts]


def listed(parts: Iterable[str]) -> str:
    """Return parts for a message, in the order of the table above."""
    given = set(parts)
    return ", ".join(part for part in PARTS if part in given) or "none"


def _mlps(block: nn.Module, width: int, experts: set[str]) -> list[list[Found]]:
    """Return the groups of linear layers that are MLPs.

    The layers are grouped by the child of the block that holds them (OPT keeps its MLP's two in the block itself, BERT
    in two children). An MLP is a group of one down `d_ff -> d` and one or two ups `d -> d_ff` (or one fused up
    `d -> 2 d_ff`) and nothing else. Attention does not fit: it has four layers, or square ones.
    """
    children = dict(block.named_children())
    found = [_fit({name: child for name, child in children.items() if is_linear(child)}, width)]
    for name, child in children.items():
        if not is_linear(child):
            found += _mlps_in(name, child, width, experts)
    if not any(found):
        rest = _linears(block, "", experts)
        named = {name: module for name, module in rest.items() if re.search(r"mlp|ffn|feed_forward", name)}
        found = [_fit(rest, width) or _fit(named, width, others=True)]
    return [mlp for mlp in found if mlp]


def _mlps_in(prefix: str, module: nn.Module, width: int, experts: set[str]) -> Iterator[list[Found]]:
    """Yield the MLPs in a module: all of it, or what its children hold."""
    if _EXCLUDED.search(prefix):
        return
    if mlp := _fit(_linears(module, f"{prefix}.", experts), width):
        yield mlp
        return
    for name, child in module.named_children():
        if not is_linear(child):
            yield from _mlps_in(f"{prefix}.{name}", child, width, experts)


def _linears(module: nn.Module, prefix: str, experts: set[str]) -> dict[str, nn.Module]:
    named = ((prefix + name, inner) for name, inner in module.named_modules() if is_linear(inner))
    return {name: inner for name, inner in named if name not in experts and not _EXCLUDED.search(name)}


def _fit(linears: dict[str, nn.Module], width: int, others: bool = False) -> list[Found]:
    """Return a group of linear layers as an MLP, or nothing; with `others` layers that do not fit are left out."""
    shapes = {name: shape_of(module) for name, module in linears.items()}
    inner = [d_in for d_in, d_out in shapes.values() if d_out == width and d_in != width]
    if len(inner) != 1:
        return []
    parts: dict[tuple[int, int], Part] = {
        (inner[0], width): "down",
        (width, inner[0]): "up",
        (width, 2 * inner[0]): "up",
    }
    mlp = [Found(name, parts[shape], *shape) for name, shape in shapes.items() if shape in parts]
    return mlp if len(mlp) in (2, 3) and (others or len(mlp) == len(shapes)) else []


def _stacked_experts(block: nn.Module, width: int) -> list[Found]:
    """Return the experts that are slices of 3-D parameters, [experts, d_out, d_in] or [experts, d_in, d_out]."""
    found: dict[str, list[Found]] = {}
    for holder, module in block.named_modules():
        if _EXCLUDED.search(holder) or "shared" in holder:
            continue
        for name, parameter in module.named_parameters(recurse=False):
            shape = _stack_shape(module, holder, name, parameter, width) if parameter.dim() == 3 else None
            if shape is not None:
                router = _router(block, holder)
                stack = f"{holder}.{name}".removeprefix(".")
                found.setdefault(router, []).extend(
                    Found(f"{stack}.{index}", *shape, router) for index in range(len(parameter))
                )
    return [expert for experts in found.values() if _paired(experts) for expert in experts]


def _paired(experts: list[Found]) -> bool:
    """Tell whether stacks are experts: the ups' outputs are as wide as the downs' inputs."""
    inner = {found.d_in for found in experts if found.part == "expert down"}
    ups = {found.d_out for found in experts if found.part == "expert up"}
    return len(inner) == 1 and bool(ups) and all(d_out in (d_ff, 2 * d_ff) for d_out in ups for d_ff in inner)


def _stack_shape(
    module: nn.Module, holder: str, name: str, parameter: Tensor, width: int
) -> tuple[Part, int, int] | None:
    _, rows, columns = parameter.shape
    d_in, d_out = (rows, columns) if stored_as_inputs(module, name) else (columns, rows)
    words = f"{holder.rpartition('.')[2]}.{name}"
    if d_out == width and (d_in != width or _DOWN.search(words) or "c_proj" in words):
        return "expert down", d_in, d_out
    return ("expert up", d_in, d_out) if d_in == width else None


def stored_as_inputs(module: nn.Module, name: str) -> bool:
    """Tell whether a module's stack of experts holds weights as [d_in, d_out] rather than [d_out, d_in].

    Modules that transformers' own functions for experts can run have an attribute for it. Of others it follows from the
    two stacks, whose inner widths have to fit.
    """
    transposed = getattr(module, "is_transposed", None)
    if transposed is not None:
        return bool(transposed)
    shapes = {n: p.shape for n, p in module.named_parameters(recurse=False) if p.dim() == 3}
    downs = [shape for n, shape in shapes.items() if _DOWN.search(n)]
    ups = [shape for n, shape in shapes.items() if not _DOWN.search(n)]
    if len(downs) != 1 or not ups:
        return False
    (_, rows, columns), (_, first, second) = downs[0], ups[0]
    return first == columns and second in (rows, 2 * rows) and not (second == rows and first in (columns, 2 * columns))


def _listed_experts(block: nn.Module, width: int) -> list[Found]:
    """Return the experts that are modules: a list of equal MLPs beside a gate that has one row for each of them."""
    found: list[Found] = []
    for holder, module in block.named_modules():
        if _EXCLUDED.search(holder):
            continue
        for name, child in module.named_children():
            experts = list(child) if isinstance(child, nn.ModuleList) else []
            if len(experts) < 2 or len({type(expert) for expert in experts}) > 1 or not _gated(module, child, width):
                continue
            for index, expert in enumerate(experts):
                linears = {n: m for n, m in expert.named_modules() if is_linear(m)}
                prefix = f"{holder}.{name}.{index}".removeprefix(".")
                for own in _fit(linears, width):
                    part = cast(Part, f"expert {own.part}")
                    found.append(Found(f"{prefix}.{own.name}", part, own.d_in, own.d_out, holder))
    return found


def _gated(module: nn.Module, experts: nn.ModuleList, width: int) -> bool:
    inside = {id(parameter) for parameter in experts.parameters()}
    shapes = [tuple(p.shape) for p in module.parameters() if id(p) not in inside and p.dim() == 2]
    return (len(experts), width) in shapes or (width, len(experts)) in shapes


def _router(block: nn.Module, holder: str) -> str:
    """Return the module around a stack of experts that takes tokens in any number and returns as many.

    It is the holder itself where its forward takes each token's experts, as in transformers 5; else what holds the
    gate. A module of experts without a gate gets its tokens sorted by expert.
    """
    while holder:
        module = block.get_submodule(holder)
        code = getattr(type(module).forward, "__wrapped__", type(module).forward).__code__
        arguments = code.co_varnames[1 : code.co_argcount]
        takes_experts = any("ind" in name or "selected" in name for name in arguments)
        has_gate = any(parameter.dim() != 3 for parameter in module.parameters())
        if takes_experts or (len(arguments) == 1 and has_gate):
            return holder
        holder = holder.rpartition(".")[0]
    return holder


def _role(name: str) -> Part | None:
    """Return the part that a linear layer of attention, or of another mixer, plays by its name."""
    leaf = name.removesuffix(".linear").rpartition(".")[2].lower()
    if leaf in _WHOLE_NAMES:
        return cast(Part, _WHOLE_NAMES[leaf])
    roles = [_ROLES[word] for word in re.split(r"[_\W\d]+", leaf) if word in _ROLES]
    joined = "input" if "input" in roles else " ".join(dict.fromkeys(roles))
    return joined if joined in PARTS else None
