"""Blocks as one pass runs them: skipped, started from known hidden states, or with their input cached."""

from typing import Any

from torch import Tensor, nn


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
