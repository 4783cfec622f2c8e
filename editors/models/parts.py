"""The maps of one block that can be edited, and what part each plays.

| part | what |
| --- | --- |
| `up`, `down` | the dense MLP: from the model's width to the inner one (twice in a gated MLP, or fused), and back |
| `shared up`, `shared down` | in a block with routed experts, an MLP that every token goes through |
| `expert up`, `expert down` | the routed experts, one map for each expert |
| `query`, `key`, `value` | the projections of attention; `key value` and `query key value` where they are fused |
| `input`, `output` | what leads into and out of attention or another mixer |

MLPs and experts are found by shape. Attention's projections have shapes alike and are told apart by their names.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, cast, get_args

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

Unrouted = Literal[
    "up",
    "down",
    "shared up",
    "shared down",
    "query",
    "key",
    "value",
    "key value",
    "query key value",
    "input",
    "output",
]
"""Parts that every token meets."""
Routed = Literal["expert up", "expert down"]
"""Parts of which each token meets a few maps only."""
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
_WHOLE = {"c_attn": "query key value", "q_attn": "query", "c_proj": "output"}
"""Names that say less by their words."""


_MIXERS = re.compile(r"attn|attention|mamba|ssm|mlstm|(^|\.)conv")
"""Modules that mix tokens: no MLP, though the maps of some of them would fit."""
_BESIDE = re.compile(r"norm|adapter|router|(^|\.)gate\.|indexer|compressor|delayed")
"""Modules that are beside the stream: adapters, what chooses experts or keys, and what reads the token before."""


@dataclass(frozen=True, slots=True)
class Found:
    """A map of a block.

    Attributes:
        name: Dotted name in the block; of an expert in a stack of them, that of the stack and its number.
        part: What part it plays.
        d_in: Width of its input.
        d_out: Width of its output.
        router: Dotted name of the module whose tokens meet some experts only; None of maps that every token meets.
    """

    name: str
    part: Part
    d_in: int
    d_out: int
    router: str | None = None


def is_linear(module: nn.Module) -> bool:
    """Tell whether a module is a map x W or x W'."""
    return isinstance(module, nn.Linear | Conv1D)


def shape_of(module: nn.Module) -> tuple[int, int]:
    """Return (d_in, d_out); Conv1D stores its weight as [d_in, d_out], Linear as [d_out, d_in]."""
    rows, columns = cast(Tensor, module.weight).shape
    return (rows, columns) if isinstance(module, Conv1D) else (columns, rows)


def maps_of(block: nn.Module, width: int) -> list[Found]:
    """Return all maps of a block: its MLP's, attention's, and experts, each in the order of definition."""
    routed = [*_stacked(block, width), *_listed(block, width)]
    inside = {found.name for found in routed}
    groups = [group for group in _mlps(block, width, inside) if group]
    if routed:
        dense = [
            Found(name, "shared up" if part == "up" else "shared down", *shape)
            for group in groups
            for name, part, shape in group
        ]
    else:  # should two fit, the wider one is the MLP
        chosen = max(groups, key=lambda group: max(shape[0] for _, part, shape in group if part == "down"), default=[])
        dense = [Found(name, cast(Part, part), *shape) for name, part, shape in chosen]
    taken = inside | {name for group in groups for name, _, _ in group}
    rest = [
        Found(name, role, *shape_of(module))
        for name, module in block.named_modules()
        if is_linear(module) and name not in taken and not _BESIDE.search(name) and (role := _role(name)) is not None
    ]
    return [*dense, *rest, *routed]


_Group = list[tuple[str, str, tuple[int, int]]]


def _mlps(block: nn.Module, width: int, routed: set[str]) -> list[_Group]:
    """Return the groups of linear maps that are MLPs.

    The linears of a block are grouped by the child module that holds them (OPT keeps its MLP's two in the block
    itself, BERT in two children). The MLP is the group of one down `d_ff -> d` and one or two ups `d -> d_ff` (or one
    fused up `d -> 2 d_ff`) and nothing else. Attention does not fit: it has four maps, or square ones.
    """
    direct = {name: child for name, child in block.named_children() if is_linear(child)}
    found = [_fit(direct, width)]
    for name, child in block.named_children():
        if not is_linear(child):
            found += _within(name, child, width, routed)
    if not any(found):
        outside = {
            name: module
            for name, module in block.named_modules()
            if is_linear(module) and name not in routed and not _aside(name)
        }
        named = {name: module for name, module in outside.items() if re.search(r"mlp|ffn|feed_forward", name)}
        found.append(_fit(outside, width) or _fit(named, width, others=True))
    return [group for group in found if group]


def _within(prefix: str, module: nn.Module, width: int, routed: set[str]) -> Iterator[_Group]:
    """Yield the MLPs in a module: all of it, or what its children hold."""
    if _aside(prefix):
        return
    linears = {
        f"{prefix}.{name}": inner
        for name, inner in module.named_modules()
        if is_linear(inner) and f"{prefix}.{name}" not in routed and not _aside(f"{prefix}.{name}")
    }
    group = _fit(linears, width)
    if group:
        yield group
    else:
        for name, child in module.named_children():
            if not is_linear(child):
                yield from _within(f"{prefix}.{name}", child, width, routed)


def _fit(linears: dict[str, nn.Module], width: int, others: bool = False) -> _Group:
    """Return a group of linears as the maps of an MLP, or nothing; with `others` maps that are neither are left out."""
    shapes = {name: shape_of(module) for name, module in linears.items()}
    downs = [d_in for d_in, d_out in shapes.values() if d_out == width and d_in != width]
    if len(downs) != 1:
        return []
    d_ff = downs[0]
    ups = [name for name, shape in shapes.items() if shape in ((width, d_ff), (width, 2 * d_ff))]
    if len(ups) not in (1, 2) or (len(ups) + 1 != len(shapes) and not others):
        return []
    return [
        (name, "down" if shape == (d_ff, width) else "up", shape)
        for name, shape in shapes.items()
        if name in ups or shape == (d_ff, width)
    ]


def _stacked(block: nn.Module, width: int) -> list[Found]:
    """Return the experts that are slices of 3-D parameters, [experts, d_out, d_in] or [experts, d_in, d_out]."""
    found: dict[str, list[Found]] = {}
    for holder, module in block.named_modules():
        if _aside(holder) or "shared" in holder:
            continue
        for name, parameter in module.named_parameters(recurse=False):
            shape = None if parameter.dim() != 3 else _stack_shape(module, holder, name, parameter, width)
            if shape is not None:
                part, d_in, d_out = shape
                router = _router(block, holder)
                stack = ".".join(filter(None, (holder, name)))
                own = found.setdefault(router, [])
                own += [Found(f"{stack}.{i}", part, d_in, d_out, router) for i in range(len(parameter))]
    return [map_ for own in found.values() if _paired(own) for map_ in own]


def _paired(maps: list[Found]) -> bool:
    """Tell whether stacks are experts: what the ups put out the downs take."""
    inner = {found.d_in for found in maps if found.part == "expert down"}
    ups = {found.d_out for found in maps if found.part == "expert up"}
    return len(inner) == 1 and bool(ups) and all(d_out in (d_ff, 2 * d_ff) for d_out in ups for d_ff in inner)


def _stack_shape(
    module: nn.Module, holder: str, name: str, parameter: Tensor, width: int
) -> tuple[Part, int, int] | None:
    _, rows, columns = parameter.shape
    transposed = stored_as_inputs(module, name)
    d_in, d_out = (rows, columns) if transposed else (columns, rows)
    words = f"{holder.rpartition('.')[2]}.{name}"
    if d_out == width and (d_in != width or re.search(r"down|out|w2|c_proj", words)):
        return "expert down", d_in, d_out
    return ("expert up", d_in, d_out) if d_in == width else None


def stored_as_inputs(module: nn.Module, name: str) -> bool:
    """Tell whether a module's stack of experts holds weights as [d_in, d_out] and not as [d_out, d_in].

    Modules that transformers' own functions of experts can run say it. Of others it follows from the two stacks, whose
    inner widths have to fit: what one puts out the other takes.
    """
    told = getattr(module, "is_transposed", None)
    if told is not None:
        return bool(told)
    shapes = {n: p.shape for n, p in module.named_parameters(recurse=False) if p.dim() == 3}
    downs = [shape for n, shape in shapes.items() if re.search(r"down|out|w2", n)]
    ups = [shape for n, shape in shapes.items() if not re.search(r"down|out|w2", n)]
    if len(downs) != 1 or not ups:
        return False
    (_, rows, columns), (_, first, second) = downs[0], ups[0]
    return first == columns and second in (rows, 2 * rows) and not (second == rows and first in (columns, 2 * columns))


def _listed(block: nn.Module, width: int) -> list[Found]:
    """Return the experts that are modules: a list of equal MLPs beside a gate that has one row for each of them."""
    found: list[Found] = []
    for holder, module in block.named_modules():
        if _aside(holder):
            continue
        for name, child in module.named_children():
            stack = list(child) if isinstance(child, nn.ModuleList) else []
            if len(stack) < 2 or len({type(expert) for expert in stack}) > 1 or not _gated(module, child, width):
                continue
            for number, expert in enumerate(stack):
                linears = {n: m for n, m in expert.named_modules() if is_linear(m)}
                prefix = ".".join(filter(None, (holder, name, str(number))))
                found += [
                    Found(f"{prefix}.{n}", "expert up" if part == "up" else "expert down", *shape, router=holder)
                    for n, part, shape in _fit(linears, width)
                ]
    return found


def _gated(module: nn.Module, experts: nn.ModuleList, width: int) -> bool:
    inside = {id(parameter) for parameter in experts.parameters()}
    shapes = [tuple(p.shape) for p in module.parameters() if id(p) not in inside and p.dim() == 2]
    return (len(experts), width) in shapes or (width, len(experts)) in shapes


def _router(block: nn.Module, holder: str) -> str:
    """Return the module around a stack of experts that is called with tokens in any number and gives back as many.

    The holder itself where it is told each token's experts, as in transformers 5; else what holds its gate.
    """
    while holder:
        module = block.get_submodule(holder)
        code = getattr(type(module).forward, "__wrapped__", type(module).forward).__code__
        named = code.co_varnames[1 : code.co_argcount]
        if any("ind" in name or "selected" in name for name in named) or (len(named) == 1 and not _sorted(module)):
            return holder
        holder = holder.rpartition(".")[0]
    return holder


def _sorted(module: nn.Module) -> bool:
    """Tell whether a module holds experts and no gate: its tokens come sorted by expert."""
    return all(parameter.dim() == 3 for parameter in module.parameters())


def _role(name: str) -> Part | None:
    """Return the part of attention, or of another mixer, that a linear map plays by its name."""
    leaf = name.removesuffix(".linear").rpartition(".")[2].lower()
    if leaf in _WHOLE:
        return cast(Part, _WHOLE[leaf])
    roles = [_ROLES[word] for word in re.split(r"[_\W\d]+", leaf) if word in _ROLES]
    if "input" in roles:
        return "input"
    joined = " ".join(dict.fromkeys(roles))
    return joined if joined in PARTS else None


def _aside(name: str) -> bool:
    return _MIXERS.search(name) is not None or _BESIDE.search(name) is not None


def said(parts: Iterable[str]) -> str:
    """Return parts as a sentence lists them, in the order of the table above."""
    given = set(parts)
    return ", ".join(part for part in PARTS if part in given) or "none"
