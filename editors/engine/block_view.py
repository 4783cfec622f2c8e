"""Blocks and attention of one pass: where it starts, what it keeps, where it stops, and which tokens go to the end."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .attention import Keys, KeysReady, Pattern, Scale


class PassThrough(nn.Module):
    """What stands for a block in a pass that starts later: it returns what it gets, in the form of the block's output.

    Attributes:
        items: Number of items of the tuple that the block returns; None where it returns a tensor.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.items: int | None = None

    def __getattr__(self, name: str) -> Any:
        """Return what models ask of their blocks, e.g. their kind of attention."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("block"), name)

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """Return the hidden states."""
        hidden = arguments[0] if arguments else keywords["hidden_states"]
        return hidden if self.items is None else (hidden, *[None] * (self.items - 1))


class Stage(PassThrough):
    """A block of a view, which may start from known hidden states, keep those that enter, or stop there.

    Attributes:
        enter: What the block starts from, whatever comes in, [1, tokens, width].
        keep: Takes what enters the block.
        halt: Whether the pass ends in front of the block.
        attends: Whether the block's attention is run, or told what it puts out.
        read: Numbers of the tokens that are treated; of all others only keys and values are computed, if attention is
            run at all.
        rows: How attention finds the keys of those that are treated.
        others: What is known of the others behind the block, [1, tokens, width]; nothing of those behind the last block
            that nobody reads.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__(block)
        self.enter: Tensor | None = None
        self.keep: Callable[[Tensor], None] | None = None
        self.halt = False
        self.attends = True
        self.read: Tensor | None = None
        self.rows: Rows | None = None
        self.others: Tensor | None = None

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """Run the block as the model does: hidden states first or by name, anything else behind."""
        hidden = arguments[0] if arguments else keywords.pop("hidden_states")
        others = arguments[1:]
        if self.enter is not None:
            hidden = self.enter
        if self.keep is not None:
            self.keep(hidden)
        if self.halt:
            raise Halt
        if self.enter is not None or self.keep is not None:
            hidden = hidden.clone()  # a block may write to what enters it
        if self.read is None:
            return self.block(hidden, *others, **keywords)
        reading: AbstractContextManager[None] = nullcontext()
        if self.attends:
            assert self.rows is not None
            reading = self.rows.reading()
            with self.rows.keys_only(), suppress(KeysReady):
                self.block(hidden, *others, **keywords)
        count, where = hidden.shape[1], self.read.to(hidden.device)
        some = [_chosen(other, where, count) for other in others]
        with reading:
            out = self.block(hidden[:, where], *some, **{n: _chosen(v, where, count) for n, v in keywords.items()})
        # a model may shape its output by the number of tokens that went in
        whole = out[0] if isinstance(out, tuple) else out
        rest = self.others
        if rest is None:
            rest = torch.zeros(hidden.shape, dtype=whole.dtype, device=whole.device)
        whole = rest.index_copy(1, where.to(whole.device), whole)
        return (whole, *out[1:]) if isinstance(out, tuple) else whole


def _chosen(value: Any, where: Tensor, count: int) -> Any:
    """Return what a block is told of some tokens, e.g. their part of the rotary angles [1, tokens, width]."""
    if isinstance(value, tuple | list):
        return type(value)(_chosen(item, where, count) for item in value)
    if not isinstance(value, Tensor):
        return value
    if value.dim() > 1 and value.shape[0] == 1 and value.shape[1] == count:
        return value[:, where.to(value.device)]
    return value[where.to(value.device)] if value.dim() == 1 and len(value) == count else value


class Halt(Exception):  # noqa: N818 - no error: what a pass was for is there
    """Raised where a pass ends before the model's last block."""


class Rows:
    """Attention of one pass; see `attention.Attention`.

    Args:
        whole: Attention of all tokens.
        reading: Attention of the tokens that are read behind the last block, or None.
        frozen: Keys and values that stand in front of the pass's own.
        keep: Takes keys and values, those of `frozen` in front, if they are wanted later.
    """

    def __init__(self, whole: Pattern, reading: Pattern | None, frozen: Keys | None, keep: Keys | None) -> None:
        self._whole, self._reading, self._frozen, self._keep = whole, reading, frozen, keep
        self._mode: Literal["whole", "keys", "reading"] = "whole"
        self._ready: Keys = {}
        self._asked: set[tuple[nn.Module, str]] = set()

    @contextmanager
    def keys_only(self) -> Iterator[None]:
        """Leave a block once keys and values are there."""
        yield from self._as("keys")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let the tokens that are read ask the keys and values that `keys_only` left."""
        yield from self._as("reading")

    def _as(self, mode: Literal["keys", "reading"]) -> Iterator[None]:
        self._mode = mode
        try:
            yield
        finally:
            self._mode = "whole"

    def __call__(self, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, scale: Scale) -> Tensor:
        """See `attention.Attention`."""
        if (module, self._mode) in self._asked:
            raise RuntimeError(f"{type(module).__name__} attends twice in a pass, which rows cannot be told for.")
        self._asked.add((module, self._mode))
        frozen = None if self._frozen is None else self._frozen[module]
        if self._mode == "reading":
            assert self._reading is not None
            return self._reading(module, q, *self._ready.pop(module), scale, frozen)
        if self._keep is not None:
            front = frozen or (k[:0], v[:0])
            # copies: models cut queries, keys and values out of one tensor, and a part of it would keep it all
            self._keep[module] = torch.cat([front[0], k]).detach(), torch.cat([front[1], v]).detach()
        if self._mode == "keys":
            self._ready[module] = k, v
            raise KeysReady
        return self._whole(module, q, k, v, scale, frozen)
