"""Where the parts of a decoder are, found from its structure and never from its path or its name.

A causal language model is a stack of blocks; inside each block the MLP is the group of linear maps that goes from the
model's width `d` to an inner width `d_ff` (an *up*; a gated MLP has two) and back (the *down*). Editors say "up and
down of the last three blocks" and this module resolves it, so a new architecture needs no file of ours.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .errors import InputError

Part = Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class Site:
    """A linear map that can be edited.

    Attributes:
        name: Dotted path from the model's root, as in `named_modules`.
        block: Index of its block, from 0.
        part: `up` or `down`.
        d_in: Width of its input.
        d_out: Width of its output.
    """

    name: str
    block: int
    part: Part
    d_in: int
    d_out: int


class Cut(NamedTuple):
    """Where a replay starts.

    Attributes:
        block: Index of the first patched block.
        maps: The modules that are patched in it, by dotted name; empty if they are not known, and all of the block has
            to be run again.
        late: Whether what is patched changes for a prompt's last token and for no other (`Patch.late`).
    """

    block: int
    maps: frozenset[str] = frozenset()
    late: bool = False


class Structure:
    """The blocks of a causal language model and the MLP maps in each.

    Raises:
        InputError: If the model is an encoder-decoder, or has no stack of blocks, or a block has no MLP that can be
        told by shape.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        kind = type(model).__name__
        if getattr(model.config, "is_encoder_decoder", False):
            raise InputError(f"{kind} is an encoder-decoder model; instructedit edits decoder-only language models.")
        if model.get_output_embeddings() is None:
            raise InputError(f"{kind} has no language-model head; a causal language model was expected.")
        names = {id(module): name for name, module in model.named_modules()}
        self.blocks_name, self.blocks = _longest_stack(model, kind)
        self.width = _width(model)
        self.sites: list[list[Site]] = []
        for index, block in enumerate(self.blocks):
            self.sites.append(
                [
                    Site(names[id(module)], index, part, *_shape(module))
                    for module, part in _mlp(block, self.width, kind, index)
                ]
            )

    def __len__(self) -> int:
        return len(self.blocks)

    def block(self, index: int | float) -> int:
        """Resolve a block: an index, which may count from the end, or a share of the depth in [0, 1).

        A share carries a published choice over to other depths: block 35 of GPT2-XL's 48 is 0.73.

        Raises:
            InputError: If the model has no such block.
        """
        count = len(self)
        if isinstance(index, float):
            resolved = int(index * count) if 0 <= index < 1 else -1
        else:
            resolved = index + count if index < 0 else index
        if isinstance(index, bool) or not 0 <= resolved < count:
            raise InputError(
                f"Block {index} was asked for, but the model has {count} blocks: "
                f"{-count} to {count - 1}, or a share of the depth in [0, 1)."
            )
        return resolved

    def front(self, cut: Cut) -> tuple[str, ...]:
        """Return the modules in front of a block's first patched map, whose outputs patches cannot change.

        They are the children of the block that hold a matrix and none of the MLP's maps, its attention above all, and
        the ups; the down, too, where no up is patched.
        """
        sites = self.sites[cut.block]
        block, prefix = self.blocks[cut.block], f"{self.blocks_name}.{cut.block}."
        # as accelerate does, to bring tensors to another card; it is bound to its module and no view can stand for that
        replaced = any("forward" in vars(module) for module in block.modules())
        if not cut.maps or replaced or not cut.maps <= {site.name for site in sites}:
            return ()
        patched = {site.part for site in sites if site.name in cut.maps}
        others = [
            prefix + name
            for name, child in block.named_children()
            if not any(site.name == prefix + name or site.name.startswith(f"{prefix}{name}.") for site in sites)
            and any(parameter.dim() > 1 for parameter in child.parameters())
        ]
        return *others, *(site.name for site in sites if site.part == "up" or "up" not in patched)

    def fronts(self, cuts: Iterable["Cut"]) -> dict[int, dict[str, int]]:
        """Return what a base pass keeps besides hidden states: by block and module of its front, the output's width."""
        found: dict[int, dict[str, int]] = {}
        for cut in cuts:
            maps = {site.name: site.d_out for site in self.sites[cut.block]}
            found.setdefault(cut.block, {}).update({name: maps.get(name, self.width) for name in self.front(cut)})
        return found

    def behind(self, cuts: Iterable["Cut"]) -> set[int]:
        """Return the blocks behind those of late cuts: tokens that no patch changes enter them as they were."""
        return {cut.block + 1 for cut in cuts if cut.late and cut.block + 1 < len(self)}

    def find(self, block: int | float, part: Part) -> list[Site]:
        """Return the sites of one part of one block, in the order of definition (a gated MLP has two ups)."""
        return [site for site in self.sites[self.block(block)] if site.part == part]


def _longest_stack(model: PreTrainedModel, kind: str) -> tuple[str, nn.ModuleList]:
    """Return the longest ModuleList of modules of one class: the blocks."""
    decoder = model.get_decoder()
    root = decoder if isinstance(decoder, nn.Module) else model
    prefix = next((name for name, module in model.named_modules() if module is root), "")
    stacks = [
        (name, module)
        for name, module in root.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) > 0 and len({type(block) for block in module}) == 1
    ]
    layers = getattr(model.config, "num_hidden_layers", None)
    stacks = [s for s in stacks if layers is None or len(s[1]) == layers]
    if not stacks:
        raise InputError(f"{kind} has no list of equal blocks; a decoder made of a stack of blocks was expected.")
    name, blocks = max(stacks, key=lambda s: len(s[1]))
    return ".".join(part for part in (prefix, name) if part), blocks


def _width(model: PreTrainedModel) -> int:
    """Return the width of the residual stream (not of the embeddings, which OPT-350m projects)."""
    return int(model.config.hidden_size)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Conv1D)


def _shape(module: nn.Module) -> tuple[int, int]:
    """Return (d_in, d_out); Conv1D stores its weight as [d_in, d_out], Linear as [d_out, d_in]."""
    rows, columns = cast(Tensor, module.weight).shape
    return (rows, columns) if isinstance(module, Conv1D) else (columns, rows)


def _mlp(block: nn.Module, width: int, kind: str, index: int) -> list[tuple[nn.Module, Part]]:
    """Return the up and down maps of a block's MLP.

    The linears of a block are grouped by the child module that holds them (OPT keeps its MLP's two in the block
    itself). The MLP is the group of one down `d_ff -> d` and one or two ups `d -> d_ff` (or one fused up `d -> 2 d_ff`)
    and nothing else. Attention does not
    fit: it has four maps, or square ones. Should two groups fit, the wider one is the MLP.
    """
    found: list[tuple[int, list[tuple[nn.Module, Part]]]] = []
    for group in _groups(block):
        shapes = [_shape(module) for module in group]
        downs = [d_in for d_in, d_out in shapes if d_out == width and d_in != width]
        if len(downs) != 1:
            continue
        d_ff = downs[0]
        ups = [shape for shape in shapes if shape in ((width, d_ff), (width, 2 * d_ff))]
        if len(ups) in (1, 2) and len(ups) + 1 == len(shapes):
            parts: list[Part] = ["down" if shape == (d_ff, width) else "up" for shape in shapes]
            found.append((d_ff, list(zip(group, parts, strict=True))))
    if not found:
        raise InputError(
            f"Block {index} of {kind} has no MLP that can be told by shape "
            f"(one map {width} -> d_ff or two, and one d_ff -> {width}); "
            "mixtures of experts and attention-only blocks are not supported."
        )
    return max(found, key=lambda item: item[0])[1]


def _groups(block: nn.Module) -> Iterator[list[nn.Module]]:
    direct = [module for module in block.children() if _is_linear(module)]
    if direct:
        yield direct
    for child in block.children():
        inside = [module for module in child.modules() if _is_linear(module)]
        if inside and not _is_linear(child):
            yield inside


def execution_device(module: nn.Module) -> torch.device:
    """Return the device a module computes on; under `device_map` its weights may lie elsewhere in between."""
    hook = getattr(module, "_hf_hook", None)
    device = getattr(hook, "execution_device", None)
    if device is not None:
        return torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    return next((p.device for p in module.parameters() if p.device.type != "meta"), torch.device("cpu"))
