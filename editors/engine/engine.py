"""Running layouts through a model, many edits at once, and again from the first patched block only.

Nothing here knows an architecture:

* Rows are packed into one sequence whose position ids start again at 0 for each row, and attention is told which tokens
  make a row (`attention.py`). Where a model's attention cannot be told, transformers builds a block-diagonal mask from
  the position ids; where it does not do that either, each row is a pass of its own.
* To start in the middle, a view of the model is made in whose list of blocks the first ones pass through what they get.
  It shares every module with the model and nothing is written to it; the block after them starts from known hidden
  states (`stage.py`).
* Behind the last block only some tokens are read. Of the others that block computes keys and values and no more.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..models.structure import Structure
from ..models.tokens import Row
from .attention import Attention, Keys, attending
from .block_view import Halt, PassThrough, Rows, Stage
from .packed_batch import Layout, layouts
from .pieces import Pieces, integers
from .prefix_cache import Front, shallow

Packing = Literal["rows", "mask", "single"]
"""How rows share a pass: by an attention that knows them, by transformers' mask, or not at all."""
Generation = Literal["cache", "batch", "alone", "recompute"]
"""How texts are generated: by the decoder of `decoding.py` and its cache, by transformers' `generate` over left-padded
batches or one row at a time, or by a full forward pass over each text for each token."""
MASKED = 256
"""Most tokens of a pass whose rows are told apart by a mask: the trial of a model tries one of this length."""
MOSTLY = 0.6
"""Share of tokens that are read above which the last block treats all of them: keys and values cost a quarter of it."""


@dataclass(frozen=True, slots=True)
class Ways:
    """Which ways of computing give a model's own numbers; found out by `trial.try_out`.

    Attributes:
        packing: How rows share a pass.
        partial: Whether the last block may treat only the tokens that are read.
        generation: How texts are generated.
        starts: Blocks that a replay may start from; a replay of a later block starts from the last of these before it,
            or from the embeddings if there is none.
        fronts: Whether outputs of modules before the first patched one may be kept (`front.py`).
        late: Whether a replay may start from the end of a prompt, with keys and values of the base pass.
    """

    packing: Packing
    partial: bool = False
    generation: Generation = "recompute"
    starts: tuple[int, ...] = ()
    fronts: bool = False
    late: bool = False


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
        ways: Which ways of computing are used; until they have been tried, the plainest.
        repeated: Names of the sites that a pass runs more than once.
        block_of: Index of the block that a module is part of.
        named: Names of the arguments of the model's forward.
        passing: For each block what stands for it in a pass that starts later.
    """

    def __init__(
        self, model: PreTrainedModel, structure: Structure, device: torch.device, limit: int, context: int
    ) -> None:
        self.model, self.structure, self.device = model, structure, device
        configs = {id(c): c for m in model.modules() if (c := getattr(m, "config", None)) is not None}
        self._configs: list[Any] = list(configs.values())
        self.block_of = {part: index for index, block in enumerate(structure.blocks) for part in block.modules()}
        self._limit, self._context = limit, context
        self.ways = Ways("single")
        self.repeated: set[str] = set()
        # a block that was heard to its end need not be again: it has shown what it writes to, and what it calls twice
        self._heard: set[tuple[int, tuple[str, ...]]] = set()
        self.passing = [PassThrough(block) for block in structure.blocks]
        # only what a model names: what it takes as **kwargs may end in a module that does not know it
        self.named = inspect.signature(model.forward).parameters.keys()

    @property
    def packing(self) -> Packing:
        """How rows share a pass."""
        return self.ways.packing

    @property
    def limit(self) -> int:
        """Most tokens of a pass; 1 where each row has its own."""
        if self.packing == "single":
            return 1
        # a mask may be a table of the model's own that is no longer, as GPT-Neo's
        return self._limit if self.packing == "rows" else min(self._limit, self._context, MASKED)

    def can_pack(self, packing: Packing) -> bool:
        """Tell whether a way to share passes is worth trying.

        Position ids are needed, and kinds of attention that a row of any length shows: one that picks tokens by a score
        is like any other as long as a row is short.
        """
        kinds = {"full_attention", "sliding_attention"} | ({"chunked_attention"} if packing == "mask" else set())
        config = self.model.config.get_text_config(decoder=True)
        known = kinds.issuperset(getattr(config, "layer_types", None) or kinds)
        told = packing != "rows" or bool(getattr(self.model, "_supports_attention_backend", False))
        return packing == "single" or ("position_ids" in self.named and known and told)

    def start_of(self, block: int) -> int | None:
        """Return the block from which a replay of a block starts; None for the embeddings."""
        return max((start for start in self.ways.starts if start <= block), default=None)

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
        some = self.packing == "rows" and self.ways.partial and not whole and len(read) < MOSTLY * len(layout.ids)
        attention = self._attention(layout, start.frozen, keys, some)
        stages: list[nn.Module] = [*self.passing[: start.block], *list(self.structure.blocks)[start.block :]]

        def stage(index: int) -> Stage:
            found = stages[index]
            if not isinstance(found, Stage):
                found = stages[index] = Stage(found)
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
            logits = self._logits(layout.ids, layout.positions, attention, stages, wanted)
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
        return self._logits(ids, positions, attention, list(self.structure.blocks), torch.arange(len(ids)))

    def _logits(
        self,
        ids: Sequence[int],
        positions: Sequence[int],
        attention: Attention | None,
        blocks: Sequence[nn.Module],
        wanted: Tensor,
    ) -> Tensor:
        options: dict[str, Any] = {"use_cache": False, "logits_to_keep": wanted}
        if self.packing != "single":
            options["position_ids"] = self._line(positions)
        with attending(self._configs, attention):
            view = view_of(self.model, self.structure.blocks_name, blocks)
            named = {name: value for name, value in options.items() if name in self.named}
            logits = cast(Tensor, view(input_ids=self._line(ids), **named).logits[0])
        return logits if len(logits) == len(wanted) else logits[wanted.to(logits.device)]

    def _attention(self, layout: Layout, frozen: Keys | None, keys: Keys | None, some: bool) -> Rows | None:
        if self.packing != "rows":
            assert frozen is None and keys is None, "keys are known to an attention of rows only"
            return None
        return Rows(layout.whole(self.device), layout.reading(self.device) if some else None, frozen, keys)

    def _line(self, values: Sequence[int]) -> Tensor:
        return integers(values)[None].to(self.device)


def view_of(model: PreTrainedModel, blocks_name: str, blocks: Sequence[nn.Module]) -> PreTrainedModel:
    """Return a view of the model with these blocks instead; it shares all other modules with the untouched model.

    Args:
        model: The model.
        blocks_name: Dotted name of its list of blocks.
        blocks: What stands for each of its blocks, all of them: models look up much by a block's index.
    """
    view = shallow(model)
    parent: Any = view
    *path, last = blocks_name.split(".")
    for name in path:
        child = shallow(getattr(parent, name))
        parent._modules[name] = child
        parent = child
    parent._modules[last] = nn.ModuleList(blocks)
    return cast(PreTrainedModel, view)
