"""Blocks as one pass runs them: skipped, started from known hidden states, cached, or run on some tokens only."""

from typing import Any

import torch
from torch import Tensor, nn

from .attention import PassAttention


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
    """A block with a different input, a cached input, or fewer tokens.

    `hidden` [1, tokens, width] replaces its input. `cache` takes a copy of the input [tokens, width] under the block's
    index. In a last block only the tokens `read` are run; of the others keys and values are computed, by `attention`.
    """

    def __init__(
        self,
        block: nn.Module,
        index: int,
        *,
        hidden: Tensor | None = None,
        cache: dict[int, Tensor] | None = None,
        read: Tensor | None = None,
        attention: PassAttention | None = None,
    ) -> None:
        super().__init__(block)
        self.index, self.hidden, self.cache, self.read, self.attention = index, hidden, cache, read, attention

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """Run the block as the model does: hidden states come first or by name."""
        hidden = arguments[0] if arguments else keywords.pop("hidden_states")
        others = arguments[1:]
        if self.hidden is not None:
            hidden = self.hidden.clone()  # a block may write to its input
        if self.cache is not None:
            self.cache[self.index] = hidden[0].detach().clone()
        if self.read is None:
            return self.block(hidden, *others, **keywords)
        assert self.attention is not None
        with self.attention.keys_only():
            self.block(hidden, *others, **keywords)
        count, where = hidden.shape[1], self.read.to(hidden.device)
        some = [_select(other, where, count) for other in others]
        out = self.block(hidden[:, where], *some, **{n: _select(v, where, count) for n, v in keywords.items()})
        # a model may shape its output by the number of tokens of its input
        first = out[0] if isinstance(out, tuple | list) else out
        whole = torch.zeros(hidden.shape, dtype=first.dtype, device=first.device)
        whole = whole.index_copy(1, where.to(whole.device), first)
        return (whole, *out[1:]) if isinstance(out, tuple | list) else whole


def _select(value: Any, where: Tensor, count: int) -> Any:
    """Return the part of a block's argument that belongs to some tokens, e.g. of rotary angles [1, tokens, width]."""
    if isinstance(value, tuple | list):
        return type(value)(_select(item, where, count) for item in value)
    if not isinstance(value, Tensor):
        return value
    if value.dim() > 1 and value.shape[0] == 1 and value.shape[1] == count:
        return value[:, where.to(value.device)]
    return value[where.to(value.device)] if value.dim() == 1 and len(value) == count else value
