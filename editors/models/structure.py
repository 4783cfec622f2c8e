"""The blocks of a decoder and the linear layers in each, found from the model's structure and not by class names.

Editors select layers by part and block ("up and down of the last three blocks"); `parts.py` finds the parts of one
block. Blocks need not be alike: each has the parts it has.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel

from ..errors import InputError, UnservedError
from .configuration import depth, text_config, width
from .parts import PARTS, Found, Part, layers_of, listed


@dataclass(frozen=True, slots=True)
class Site:
    """A linear layer that can be edited.

    Attributes:
        name: Dotted path from the model's root, as in `named_modules`; of an expert in a 3-D parameter, the path of the
            parameter and the expert's index.
        block: Index of its block, from 0.
        part: The part it plays; see `parts.py`.
        d_in: Width of its input.
        d_out: Width of its output.
    """

    name: str
    block: int
    part: Part
    d_in: int
    d_out: int


def describe_sites(sites: Iterable[Site]) -> str:
    """Return which modules some sites are, in short: `down of blocks 10, 11: mlp.c_proj`."""
    modules: dict[str, dict[str, set[str]]] = {}
    blocks: dict[str, set[int]] = {}
    for site in sites:
        inner = site.name.partition(f".{site.block}.")[2]
        generic = re.sub(r"\.\d+(?=\.|$)", ".*", inner)
        modules.setdefault(site.part, {}).setdefault(generic, set()).add(inner)
        blocks.setdefault(site.part, set()).add(site.block)
    parts = []
    for part, generics in modules.items():
        where = f"block{'s' * (len(blocks[part]) > 1)} {', '.join(map(str, sorted(blocks[part])))}"
        names = (name + (f" ({len(inner)})" if "*" in name else "") for name, inner in generics.items())
        parts.append(f"{part} of {where}: {', '.join(names)}")
    return "; ".join(parts)


class ReplayStart(NamedTuple):
    """The first patched block, and whether patches change outputs at a prompt's last token only (`Patch.late`)."""

    block: int
    late: bool = False


class Structure:
    """The blocks of a causal language model, the linear layers in each (`sites`), and the routers of experts' layers.

    Raises:
        InputError: If the model is an encoder-decoder, has no stack of blocks, or no layer is recognised.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.kind = type(model).__name__
        if getattr(model.config, "is_encoder_decoder", False):
            raise InputError(
                f"{self.kind} is an encoder-decoder model; instructedit edits decoder-only language models."
            )
        if model.get_output_embeddings() is None:
            raise InputError(f"{self.kind} has no language-model head; a causal language model was expected.")
        self.blocks_name, self.blocks = _longest_stack(model, self.kind)
        self.width = _width(model)
        self.sites: list[list[Site]] = []
        self.routers: dict[str, str] = {}
        seen = _tied(model)
        for index, block in enumerate(self.blocks):
            layers = _unseen(block, layers_of(block, self.width), seen)
            self.sites.append([self._site(index, found) for found in layers])
        if not any(self.sites):
            raise InputError(
                f"{self.kind} has no linear layer that is recognised by shape or by name: neither an MLP (one layer "
                f"{self.width} -> d_ff or two, and one d_ff -> {self.width}) nor experts nor attention."
            )

    def _site(self, block: int, found: Found) -> Site:
        prefix = f"{self.blocks_name}.{block}"
        site = Site(f"{prefix}.{found.name}", block, found.part, found.d_in, found.d_out)
        if found.router is not None:
            self.routers[site.name] = f"{prefix}.{found.router}".rstrip(".")
        return site

    def __len__(self) -> int:
        return len(self.blocks)

    def block(self, index: int | float) -> int:
        """Return the index of a block, given an index, which may count from the end, or a fraction of the depth.

        A fraction in [0, 1) transfers a published choice to other depths: block 35 of GPT2-XL's 48 is 0.73.

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
                f"Block {index} does not exist; the model has {count} blocks: "
                f"{-count} to {count - 1}, or a fraction of the depth in [0, 1)."
            )
        return resolved

    def forget(self, sites: Collection[str]) -> None:
        """Drop sites that cannot be edited."""
        self.sites = [[site for site in own if site.name not in sites] for own in self.sites]

    def router(self, site: str) -> str | None:
        """Return the module that routes tokens to a layer, or the router that a layer is in; None if there is none."""
        around = (router for router in {*self.routers.values()} if site.startswith(f"{router}."))
        return self.routers.get(site) or next(around, None)

    def find(self, block: int | float, part: str) -> list[Site]:
        """Return the sites of one part of a block, in the order of definition (a gated MLP has two ups).

        Raises:
            InputError: If there is no such block or part.
            UnservedError: If the block lacks the part; the message lists those it has.
        """
        index = self.block(block)
        found = [site for site in self.sites[index] if site.part == part]
        if not found:
            if part not in PARTS:
                raise InputError(f"Unknown part '{part}' of a block; one of {', '.join(PARTS)} was expected.")
            there = listed(site.part for site in self.sites[index])
            raise UnservedError(f"Block {index} of {self.kind} has no '{part}'; it has: {there}.")
        return found


def _unseen(block: nn.Module, layers: Iterable[Found], seen: set[int]) -> list[Found]:
    """Return the layers whose modules are not in `seen`, and add these; Zamba's blocks share some."""
    holders: dict[Found, int] = {}
    for found in layers:
        try:
            module = block.get_submodule(found.name)
        except AttributeError:  # an expert in a 3-D parameter
            module = block.get_submodule(found.name.rsplit(".", 2)[0])
        holders[found] = id(module)
    fresh = [found for found, module in holders.items() if module not in seen]
    seen.update(holders.values())
    return fresh


def _tied(model: nn.Module) -> set[int]:
    """Return the ids of modules that share a weight with another: a patch of one would not change the other."""
    holders: dict[int, set[int]] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                holders.setdefault(id(parameter), set()).add(id(module))
    return {module for found in holders.values() if len(found) > 1 for module in found}


def _longest_stack(model: PreTrainedModel, kind: str) -> tuple[str, nn.ModuleList]:
    """Return the blocks: the longest list of modules of the text part, preferably of one class."""
    text, count = text_config(model.config), depth(model.config)
    foreign = {
        id(inner)
        for module in model.modules()
        if isinstance(module, PreTrainedModel) and module.config not in (text, model.config)
        for inner in module.modules()
    }
    stacks = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) > 0 and id(module) not in foreign
    }
    alike = {name: stack for name, stack in stacks.items() if len({type(block) for block in stack}) == 1}
    for some in (alike, stacks):
        fit = [(name, stack) for name, stack in some.items() if count in (None, len(stack))]
        if fit:
            return max(fit, key=lambda found: len(found[1]))
    # LongCat counts two layers in each block
    outer = [name for name in alike if not any(name.startswith(f"{other}.") for other in stacks)]
    shared = [(name, alike[name]) for name in outer if len(alike[name]) > 1 and (count or 0) % len(alike[name]) == 0]
    if count is not None and len(shared) == 1:
        return shared[0]
    raise InputError(f"{kind} has no list of blocks; a decoder made of a stack of blocks was expected.")


def _width(model: PreTrainedModel) -> int:
    head = model.get_output_embeddings()
    found = width(model.config) or getattr(head, "in_features", None) or head.weight.shape[-1]
    return int(found)


def execution_device(module: nn.Module) -> torch.device:
    """Return the device a module computes on; under `device_map` its weights may be elsewhere between calls."""
    hook = getattr(module, "_hf_hook", None)
    device = getattr(hook, "execution_device", None)
    if device is not None:
        return torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    return next((p.device for p in module.parameters() if p.device.type != "meta"), torch.device("cpu"))
