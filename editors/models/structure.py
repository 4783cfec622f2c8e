"""Where the parts of a decoder are, found from its structure and never from its path or its name.

A causal language model is a stack of blocks; `parts.py` says which maps each of them has. Editors say "up and down of
the last three blocks" and this module resolves it, so a new architecture needs no file of ours. Blocks need not be
alike: each has the parts it has.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import PreTrainedModel

from ..errors import InputError, UnservedError
from .configuration import depth, text_config, width
from .parts import PARTS, Found, Part, maps_of, said


@dataclass(frozen=True, slots=True)
class Site:
    """A linear map that can be edited.

    Attributes:
        name: Dotted path from the model's root, as in `named_modules`; of an expert in a 3-D parameter, the path of the
            parameter and the expert's number.
        block: Index of its block, from 0.
        part: What part it plays; see `parts.py`.
        d_in: Width of its input.
        d_out: Width of its output.
    """

    name: str
    block: int
    part: Part
    d_in: int
    d_out: int


def described(sites: Iterable[Site]) -> str:
    """Return which modules some sites are, in short: `down of blocks 10, 11: mlp.c_proj`."""
    found: dict[str, dict[str, set[str]]] = {}
    blocks: dict[str, set[int]] = {}
    for site in sites:
        inner = site.name.partition(f".{site.block}.")[2]
        generic = re.sub(r"\.\d+(?=\.|$)", ".*", inner)
        found.setdefault(site.part, {}).setdefault(generic, set()).add(inner)
        blocks.setdefault(site.part, set()).add(site.block)
    parts = []
    for part, modules in found.items():
        own = sorted(blocks[part])
        where = f"block {own[0]}" if len(own) == 1 else f"blocks {', '.join(map(str, own))}"
        names = (name + (f" ({len(some)})" if "*" in name else "") for name, some in modules.items())
        parts.append(f"{part} of {where}: {', '.join(names)}")
    return "; ".join(parts)


class Cut(NamedTuple):
    """Where a replay starts.

    Attributes:
        block: Index of the first patched block.
        late: Whether what is patched changes for a prompt's last token and for no other (`Patch.late`).
    """

    block: int
    late: bool = False


_ROUTERS: "WeakKeyDictionary[nn.Module, dict[str, str]]" = WeakKeyDictionary()


def routers_of(model: nn.Module) -> dict[str, str]:
    """Return by the name of each map of a routed expert the module that routes (`Structure.routers`)."""
    return _ROUTERS.get(model, {})


class Structure:
    """The blocks of a causal language model and the maps in each.

    Attributes:
        blocks_name: Dotted path of the list of blocks.
        blocks: The blocks.
        width: Width of the residual stream.
        sites: For each block all maps that are known, those of its MLP first.
        routers: By the name of each map of a routed expert, the module whose tokens meet some experts only.

    Raises:
        InputError: If the model is an encoder-decoder, or has no stack of blocks, or no block has a map that is known.
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
        seen: set[int] = _tied(model)
        for index, block in enumerate(self.blocks):
            self.sites.append([self._site(index, found) for found in _own(block, maps_of(block, self.width), seen)])
        self._around = frozenset(self.routers.values())
        _ROUTERS[model] = self.routers
        if not any(self.sites):
            raise InputError(
                f"{self.kind} has no linear maps that can be told by shape or by name: neither MLP (one map "
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

    def forget(self, sites: Collection[str]) -> None:
        """Leave out some maps, which cannot be edited."""
        self.sites = [[site for site in own if site.name not in sites] for own in self.sites]

    def router(self, site: str) -> str | None:
        """Return the module that routes the tokens of a map, or that a map lies in; None if there is none."""
        around = (router for router in self._around if site.startswith(f"{router}."))
        return self.routers.get(site) or next(around, None)

    def mlp(self, block: int) -> list[Site]:
        """Return the ups and downs of a block's dense MLP; none where it has no such MLP."""
        return [site for site in self.sites[block] if site.part in ("up", "down")]

    def find(self, block: int | float, part: str) -> list[Site]:
        """Return the sites of one part of one block, in the order of definition (a gated MLP has two ups).

        Raises:
            InputError: If there is no such block or part.
            UnservedError: If the block lacks the part; the sentence says what it has.
        """
        index = self.block(block)
        found = [site for site in self.sites[index] if site.part == part]
        if not found:
            if part not in PARTS:
                raise InputError(f"Unknown part '{part}' of a block; one of {', '.join(PARTS)} was expected.")
            there = said(site.part for site in self.sites[index])
            raise UnservedError(f"Block {index} of {self.kind} has no '{part}'; it has: {there}.")
        return found


def _own(block: nn.Module, maps: Iterable[Found], seen: set[int]) -> list[Found]:
    """Return the maps that were not seen before; Zamba's blocks share some."""
    fresh = []
    for found in maps:
        try:
            module = block.get_submodule(found.name)
        except AttributeError:  # an expert in a stack of them
            module = block.get_submodule(found.name.rsplit(".", 2)[0])
        if id(module) not in seen:
            fresh.append((found, id(module)))
    seen.update(module for _, module in fresh)
    return [found for found, _ in fresh]


def _tied(model: nn.Module) -> set[int]:
    """Return the modules whose weights are another's too: a patch of one would leave the other as it was."""
    holders: dict[int, set[int]] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                holders.setdefault(id(parameter), set()).add(id(module))
    return {module for found in holders.values() if len(found) > 1 for module in found}


def _longest_stack(model: PreTrainedModel, kind: str) -> tuple[str, nn.ModuleList]:
    """Return the blocks: the longest list of modules in the text part, of one class rather than of several."""
    text, count = text_config(model.config), depth(model.config)
    foreign = {
        id(inner)
        for module in model.modules()
        if isinstance(module, PreTrainedModel) and module.config not in (text, model.config)
        for inner in module.modules()
    }
    stacks = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) > 0 and id(module) not in foreign
    ]
    alike = [(name, stack) for name, stack in stacks if len({type(block) for block in stack}) == 1]
    for some, share in ((alike, False), (stacks, False), (alike, True)):  # LongCat counts two layers in each block
        fit = [(name, stack) for name, stack in some if count in (None, len(stack))]
        if share and count is not None:
            inner = [name for name, _ in stacks for outer, _ in stacks if name.startswith(f"{outer}.")]
            own = [(name, stack) for name, stack in some if name not in inner and len(stack) > 1]
            fit = [(name, stack) for name, stack in own if count % len(stack) == 0]
        if fit and not (share and len(fit) > 1):
            return max(fit, key=lambda found: len(found[1]))
    raise InputError(f"{kind} has no list of blocks; a decoder made of a stack of blocks was expected.")


def _width(model: PreTrainedModel) -> int:
    """Return the width of the residual stream; where the configuration does not say it, what the head reads."""
    head = model.get_output_embeddings()
    found = width(model.config) or getattr(head, "in_features", None) or head.weight.shape[-1]
    return int(found)


def execution_device(module: nn.Module) -> torch.device:
    """Return the device a module computes on; under `device_map` its weights may lie elsewhere in between."""
    hook = getattr(module, "_hf_hook", None)
    device = getattr(hook, "execution_device", None)
    if device is not None:
        return torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    return next((p.device for p in module.parameters() if p.device.type != "meta"), torch.device("cpu"))
