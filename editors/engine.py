"""Running layouts through a model, many edits at once, and again from the first patched block only.

Nothing here knows an architecture:

* Rows are packed into one sequence whose position ids start again at 0 for each row, and attention is told which tokens
  make a row (`attention.py`). Where a model's attention cannot be told, transformers builds a block-diagonal mask from
  the position ids; where it does not do that either, each row is a pass of its own.
* To start in the middle, a view of the model is made whose list of blocks is cut. It shares every module with the model
  and nothing is written to it; the first block is told to start from known hidden states (`stage.py`).
* Behind the last block only some tokens are read. Of the others that block computes keys and values and no more.
"""

import copy
import inspect
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .attention import Attention, Keys, attending
from .front import Front, shallow
from .layout import Layout, layouts
from .pieces import Pieces, integers
from .rows import Row
from .stage import Halt, Rows, Stage
from .structure import Structure

Packing = Literal["rows", "mask", "single"]
"""How rows share a pass: by an attention that knows them, by transformers' mask, or not at all."""
MOSTLY = 0.6
"""Share of tokens that are read above which the last block treats all of them: keys and values cost a quarter of it."""


@dataclass(slots=True)
class Kept:
    """What passes leave, their tokens behind one another.

    Attributes:
        hidden: Hidden states that enter some blocks, by their index.
        fronts: What the fronts of some of these blocks put out.
        keys: Keys and values by module.
        tokens: Number of tokens.
    """

    hidden: dict[int, Pieces] = field(default_factory=dict)
    fronts: dict[int, Front] = field(default_factory=dict)
    keys: dict[nn.Module, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)
    tokens: int = 0

    def keys_and_values(self) -> Keys:
        """Return keys and values, [tokens, key heads, head width] each."""
        for module, parts in self.keys.items():
            if len(parts) > 1:
                self.keys[module] = [(torch.cat([k for k, _ in parts]), torch.cat([v for _, v in parts]))]
        return {module: parts[0] for module, parts in self.keys.items()}


@dataclass(frozen=True, slots=True)
class Start:
    """Where a pass starts, and what it knows.

    Attributes:
        block: First block that is run.
        states: What enters it, [tokens, width]; None for the embeddings.
        told: From the numbers of tokens in the base pass, that block, which knows what its front puts out for them; or
            None where it is not known.
        frozen: Keys and values in front of the pass's own.
        behind: What stands behind that block for tokens that do not end a prompt, [tokens, width]; None if the block
            treats them all.
    """

    block: int = 0
    states: Tensor | None = None
    told: Callable[[tuple[int, ...]], nn.Module | None] = lambda _: None
    frozen: Keys | None = None
    behind: Tensor | None = None


class Engine:
    """A model that layouts are run through.

    Args:
        model: The model.
        structure: Its blocks.
        device: Where it begins.
        limit: Most tokens of a pass.
        context: Most tokens of a row.

    Attributes:
        packing: How rows share a pass.
        limit: Most tokens of a pass; 1 where each row has its own.
        block_of: Index of the block that a module is part of.
    """

    def __init__(
        self, model: PreTrainedModel, structure: Structure, device: torch.device, limit: int, context: int
    ) -> None:
        self.model, self.structure, self.device = model, structure, device
        configs = {id(c): c for m in model.modules() if (c := getattr(m, "config", None)) is not None}
        self._configs: list[Any] = list(configs.values())
        self.block_of = {part: index for index, block in enumerate(structure.blocks) for part in block.modules()}
        self.limit = limit
        # a block that was heard to its end need not be again: it has shown what it writes to, and what it calls twice
        self._heard: set[tuple[int, tuple[str, ...]]] = set()
        self.packing: Packing = "single"
        self.packing = self._packing()
        if self.packing == "single":
            self.limit = 1
        elif self.packing == "mask":  # a table of the model's own may be no longer, as GPT-Neo's causal mask
            self.limit = min(self.limit, context)

    def layouts(
        self, rows: Sequence[Row], owners: Sequence[Any], share: bool = True, **options: Any
    ) -> Iterable[Layout]:
        """Lay rows out as this model can run them; see `layout.layouts`."""
        return layouts(rows, owners, self.limit, share=share and self.packing == "rows", **options)

    def run(
        self,
        layout: Layout,
        start: Start = Start(),
        *,
        keep: Kept | None = None,
        keys: Keys | None = None,
        halt: bool = False,
        whole: bool = False,
    ) -> Tensor | None:
        """Run one layout.

        Args:
            layout: The tokens.
            start: Where it starts.
            keep: Takes hidden states and fronts of the blocks that it has a place for.
            keys: Takes keys and values of all blocks whose attention is run, those in front included.
            halt: Whether the pass ends where the last of what `keep` takes was taken. The first that hears the front of
                that block goes on.
            whole: Whether the last block treats all tokens, though few are read.

        Returns:
            Logits of the tokens that are read, [read, vocabulary]; None if the pass was ended before.
        """
        keep = keep or Kept()
        read, last = layout.read, len(self.structure) - 1
        some = self.packing == "rows" and not whole and len(read) < MOSTLY * len(layout.ids)
        attention = self._attention(layout, start.frozen, keys, some)
        stages: list[nn.Module] = list(self.structure.blocks)[start.block :]

        def stage(index: int) -> Stage:
            found = stages[index - start.block]
            if not isinstance(found, Stage):
                found = stages[index - start.block] = Stage(found)
            return found

        def treated(index: int) -> Sequence[int]:
            return read if some and index == last else range(len(layout.ids))

        if start.states is not None:
            first, ends = stage(start.block), layout.ends if start.behind is not None else None
            first.enter = start.states[None]
            told = start.told(tuple(layout.sources[token] for token in ends or treated(start.block)))
            if told is not None:
                first.block, first.attends = told, False
                if ends and start.behind is not None:
                    first.read, first.others = integers(ends), start.behind[None]
        stop = max(keep.hidden, default=None) if halt else None
        for index, states in keep.hidden.items():
            stage(index).keep = lambda found, states=states: states.append(found[0].detach())
            if index in keep.fronts:
                front = keep.fronts[index]
                enough = index == stop and (index, front.names) in self._heard
                stage(index).block = front.listening(len(treated(index)), halt=enough)
            elif index == stop:
                stage(index).halt = True
        wanted = integers(read)  # where it is used there may be another card
        if some:
            stage(last).read, stage(last).rows = wanted, attention
        logits: Tensor | None = None
        with suppress(Halt):
            logits = self._logits(layout.ids, layout.positions, attention, stages, start.block, wanted)
        for index, front in keep.fronts.items():
            front.close([keep.tokens + token for token in treated(index)])
            if front.usable:
                self._heard.add((index, front.names))
        keep.tokens += len(layout.ids)
        return logits

    def step(self, ids: Sequence[int], positions: Sequence[int], attention: Attention) -> Tensor:
        """Run tokens whose attention is told otherwise, e.g. one more of each of many rows.

        Returns:
            Logits of all tokens, [tokens, vocabulary].
        """
        return self._logits(ids, positions, attention, list(self.structure.blocks), 0, torch.arange(len(ids)))

    def _logits(
        self,
        ids: Sequence[int],
        positions: Sequence[int],
        attention: Attention | None,
        blocks: Sequence[nn.Module],
        cut: int,
        wanted: Tensor,
    ) -> Tensor:
        with attending(self._configs, attention):
            view = view_of(self.model, self.structure.blocks_name, blocks, cut)
            options = {} if self.packing == "single" else {"position_ids": self._line(positions)}
            out = view(input_ids=self._line(ids), use_cache=False, logits_to_keep=wanted, **options)
        return cast(Tensor, out.logits.squeeze(0))

    def _attention(self, layout: Layout, frozen: Keys | None, keys: Keys | None, some: bool) -> Rows | None:
        if self.packing != "rows":
            assert frozen is None and keys is None, "keys are known to an attention of rows only"
            return None
        return Rows(layout.whole(self.device), layout.reading(self.device) if some else None, frozen, keys)

    def _line(self, values: Sequence[int]) -> Tensor:
        return integers(values)[None].to(self.device)

    def _packing(self) -> Packing:
        """Find out how rows may share a pass, by trying it on short ones.

        A row must not change when another row stands in front of it, which is exact (0.0 on all families that pack,
        bfloat16 included), and must agree with the model's own pass over it alone, up to rounding. OPT's mask, for one,
        does not look at the position ids; its attention can be told.
        """
        if "position_ids" not in inspect.signature(self.model.forward).parameters:
            return "single"
        vocabulary = int(cast(int, self.model.get_input_embeddings().num_embeddings))
        fronts = [Row(tuple((step * i + 3) % vocabulary for i in range(13)), (12,), 12) for step in (7, 11)]
        row = Row(tuple((5 * i + 1) % vocabulary for i in range(11)), (4, 9), 9)
        with torch.no_grad():
            ids = torch.tensor([row.ids], device=self.device)
            alone = self.model(input_ids=ids, use_cache=False).logits[0, list(row.scored)]
            for packing in cast(tuple[Packing, ...], ("rows", "mask")):
                if packing == "rows" and not _can_be_told(self.model):
                    continue
                self.packing = packing
                try:
                    behind = [
                        cast(Tensor, self.run(layout))[1:]
                        for front in fronts
                        for layout in layouts([front, row], (0, 1), 64, share=packing == "rows")
                    ]
                except (RuntimeError, TypeError, ValueError, LookupError):  # a way that this model does not go
                    continue
                spread = alone.std()
                leak, gap = (behind[0] - behind[1]).abs().max(), (behind[0] - alone).abs().max()
                coarse = 0.1 if alone.dtype.itemsize < 4 else 1e-3
                if bool(leak <= 1e-6 * spread) and bool(gap < coarse * spread):
                    return packing
        return "single"


def _can_be_told(model: PreTrainedModel) -> bool:
    """Tell whether attention functions can be put into a model, and all that they are to compute is passed to them."""
    kinds = {"full_attention", "sliding_attention"}
    return bool(getattr(model, "_supports_attention_backend", False)) and kinds.issuperset(
        getattr(model.config, "layer_types", None) or kinds
    )


def view_of(model: PreTrainedModel, blocks_name: str, blocks: Sequence[nn.Module], cut: int) -> PreTrainedModel:
    """Return a view of the model with these blocks instead; it shares all other modules with the untouched model.

    Args:
        model: The model.
        blocks_name: Dotted name of its list of blocks.
        blocks: The blocks from `cut` on, or what stands for them.
        cut: Index of the first.
    """
    view = shallow(model)
    parent: Any = view
    *path, last = blocks_name.split(".")
    for name in path:
        child = shallow(getattr(parent, name))
        parent._modules[name] = child
        parent = child
    parent._modules[last] = nn.ModuleList(blocks)
    config: Any = getattr(parent, "config", None)
    if getattr(config, "layer_types", None):
        # Gemma and Qwen look up a block's kind of attention by its place in the list.
        parent.config = copy.copy(config)
        parent.config.layer_types = list(config.layer_types)[cut : cut + len(blocks)]
    return cast(PreTrainedModel, view)
