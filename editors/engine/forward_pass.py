"""One pass of a packed batch through a model, or through some of its blocks.

Nothing here depends on the architecture:

* Sequences share a pass by an attention function that knows them (`attention.py`). Where a model does not support that,
  transformers builds a block-diagonal mask from position ids that start again at 0 for each sequence. Where it does not
  do that either, each sequence is a pass of its own.
* A pass may start at a later block, and stop at an earlier one. A view of the model is made whose list of blocks has
  pass-throughs in place of the others. It shares every module with the model.
"""

import copy
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..models.structure import Structure
from ..models.tokens import TokenSequence
from .attention import Attention, Keys, PassAttention, SequenceAttention, attending
from .packed_batch import PackedBatch, batches, integers

Packing = Literal["rows", "mask", "single"]
"""How sequences share a pass: by our attention function, by transformers' mask, or not at all."""
Generation = Literal["cache", "batch", "alone", "recompute"]
"""How texts are generated: by the decoder of `decoding.py` and its cache, by transformers' `generate` over left-padded
batches or one sequence at a time, or by a full forward pass over each text for each token."""
MASKED = 256
"""Maximum number of tokens of a pass with transformers' mask: the trial of a model tries one of this length."""


@dataclass(frozen=True, slots=True)
class Ways:
    """Which ways of computing give a model's own numbers; found by `trial.try_out`.

    Attributes:
        packing: How sequences share a pass.
        generation: How texts are generated.
        starts: Blocks that a replay may start from, all or none; without any it starts from the embeddings.
        late: Whether a replay may start from the end of a prompt, with keys and values of the base pass.
    """

    packing: Packing
    generation: Generation = "recompute"
    starts: tuple[int, ...] = ()
    late: bool = False


@dataclass(frozen=True)
class Pass:
    """What one pass computes.

    Attributes:
        batch: The tokens.
        start_at_layer: First block that is run.
        hidden: Hidden states that enter it, [tokens, width]; None for the embeddings.
        stop_at_layer: First block that is not run; None to run all. A pass that stops gives no logits.
        cached: Keys and values that precede the batch's own.
        cache_hidden: Blocks whose input is kept.
        cache_keys: Whether keys and values are kept.
    """

    batch: PackedBatch
    start_at_layer: int = 0
    hidden: Tensor | None = None
    stop_at_layer: int | None = None
    cached: Keys | None = None
    cache_hidden: tuple[int, ...] = ()
    cache_keys: bool = False

    @cached_property
    def attention(self) -> SequenceAttention:
        """Which tokens attend to which; the steps of an optimiser share it."""
        return SequenceAttention(self.batch.queries())


@dataclass(frozen=True, slots=True)
class Output:
    """What one pass leaves: logits of the tokens that are read, [read, vocabulary], unless it stopped before the end.

    `hidden` has inputs of blocks, [tokens, width], by their index; `keys` has keys and values, cached ones first.
    """

    logits: Tensor
    hidden: dict[int, Tensor] = field(default_factory=dict)
    keys: Keys = field(default_factory=dict)


class PassThrough(nn.Module):
    """A block that is skipped: it returns its input in the form of the block's output.

    Attributes:
        items: Number of items of the tuple or list that the block returns; None where it returns a tensor.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.items: int | None = None

    def __getattr__(self, name: str) -> Any:
        """Return what models look up at their blocks, e.g. the kind of attention."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("block"), name)

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """Return the hidden states."""
        hidden = arguments[0] if arguments else keywords["hidden_states"]
        return hidden if self.items is None else (hidden, *[None] * (self.items - 1))


class BlockView(PassThrough):
    """A block with a different or a cached input.

    `hidden` [1, tokens, width] replaces its input. `cache` takes a copy of the input [tokens, width] under the block's
    index.
    """

    def __init__(self, block: nn.Module, index: int, hidden: Tensor | None, cache: dict[int, Tensor] | None) -> None:
        super().__init__(block)
        self.index, self.hidden, self.cache = index, hidden, cache

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """Run the block as the model does: hidden states come first or by name."""
        hidden = arguments[0] if arguments else keywords.pop("hidden_states")
        if self.hidden is not None:
            hidden = self.hidden.clone()  # a block may write to its input
        if self.cache is not None:
            self.cache[self.index] = hidden[0].detach().clone()
        return self.block(hidden, *arguments[1:], **keywords)


class Runner:
    """Runs passes of at most `limit` tokens, and sequences of at most `context`; `device` is that of the embeddings.

    Attributes:
        ways: Which ways of computing are used; the plainest until the model has been tried.
        repeated: Names of the sites that a pass runs more than once.
        block_of: Index of the block that a module is part of.
        named: Names of the arguments of the model's forward.
        passing: For each block its pass-through.
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
        self.passing = [PassThrough(block) for block in structure.blocks]
        # named arguments only: what a model takes as **kwargs may reach a module that does not accept it
        self.named = inspect.signature(model.forward).parameters.keys()

    @property
    def limit(self) -> int:
        """Maximum number of tokens of a pass; 1 where each sequence has its own."""
        if self.ways.packing == "single":
            return 1
        # a mask may be a table of the model's own that is no longer, as GPT-Neo's
        return self._limit if self.ways.packing == "rows" else min(self._limit, self._context, MASKED)

    def can_pack(self, packing: Packing) -> bool:
        """Return whether a way to share passes is worth trying.

        It needs position ids, and kinds of attention that sequences of any length show: one that selects tokens by a
        score looks like full attention as long as a sequence is short.
        """
        kinds = {"full_attention", "sliding_attention"} | ({"chunked_attention"} if packing == "mask" else set())
        config = self.model.config.get_text_config(decoder=True)
        known = kinds.issuperset(getattr(config, "layer_types", None) or kinds)
        supported = packing != "rows" or bool(getattr(self.model, "_supports_attention_backend", False))
        return packing == "single" or ("position_ids" in self.named and known and supported)

    def batches(
        self, rows: Sequence[TokenSequence], owners: Sequence[Any], share: bool = True, **options: Any
    ) -> Iterator[PackedBatch]:
        """Pack sequences as this model can run them; see `packed_batch.batches`."""
        return batches(rows, owners, self.limit, share=share and self.ways.packing == "rows", **options)

    def run(self, wanted: Pass) -> Output:
        """Run one pass."""
        batch, count = wanted.batch, len(self.structure)
        stop = count if wanted.stop_at_layer is None else wanted.stop_at_layer
        # who stops is not interested in the logits, but models compute those of one token at least
        read = integers(batch.read if stop == count else [0])
        attention = None
        if self.ways.packing == "rows":
            attention = PassAttention(wanted.attention, wanted.cached, wanted.cache_keys)
        hidden: dict[int, Tensor] = {}

        def view(index: int, block: nn.Module) -> nn.Module:
            block = block if wanted.start_at_layer <= index < stop else self.passing[index]
            enters = wanted.hidden if index == wanted.start_at_layer else None
            keeps = index in wanted.cache_hidden
            if enters is None and not keeps:
                return block
            return BlockView(block, index, None if enters is None else enters[None], hidden if keeps else None)

        blocks = [view(index, block) for index, block in enumerate(self.structure.blocks)]
        logits = self._logits(batch.ids, batch.positions, attention, blocks, read)
        return Output(logits, hidden, {} if attention is None else attention.keys)

    def step(self, ids: Sequence[int], positions: Sequence[int], attention: Attention) -> Tensor:
        """Run one more token of each of many sequences; return their logits, [tokens, vocabulary]."""
        return self._logits(ids, positions, attention, list(self.structure.blocks), torch.arange(len(ids)))

    def _logits(
        self,
        ids: Sequence[int],
        positions: Sequence[int],
        attention: Attention | None,
        blocks: Sequence[nn.Module],
        read: Tensor,
    ) -> Tensor:
        options: dict[str, Any] = {"use_cache": False, "logits_to_keep": read}
        if self.ways.packing != "single":
            options["position_ids"] = integers(positions)[None].to(self.device)
        named = {name: value for name, value in options.items() if name in self.named}
        view = view_of(self.model, self.structure.blocks_name, blocks)
        with attending(self._configs, attention):
            logits = cast(Tensor, view(input_ids=integers(ids)[None].to(self.device), **named).logits[0])
        return logits if len(logits) == len(read) else logits[read.to(logits.device)]


def view_of(model: PreTrainedModel, blocks_name: str, blocks: Sequence[nn.Module]) -> PreTrainedModel:
    """Return a view of the model with other blocks, one for each of its own; all other modules are shared.

    Models look up much by a block's index.
    """
    view = _shallow(model)
    parent: Any = view
    *path, last = blocks_name.split(".")
    for name in path:
        child = _shallow(getattr(parent, name))
        parent._modules[name] = child
        parent = child
    parent._modules[last] = nn.ModuleList(blocks)
    return cast(PreTrainedModel, view)


def _shallow(module: Any) -> Any:
    """Return a module that shares parameters, hooks and children with another, and whose children can be replaced."""
    twin = copy.copy(module)
    twin.__dict__["_modules"] = dict(module._modules)
    # accelerate binds a dispatched model's forward to the original; its leaves keep theirs
    twin.__dict__.pop("forward", None)
    return twin
