"""The operations of passes through a model, from its shape alone; `work` says what is counted."""

from dataclasses import dataclass
from typing import Literal

from .shapes import ModelShape

Part = Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class Cut:
    """The first patched map: its block, and which of the MLP's maps it is."""

    block: int
    part: Part


@dataclass(frozen=True, slots=True)
class Text:
    """A text: tokens up to the last scored one, and how many are scored."""

    tokens: float
    scored: int


class Passes:
    """Operations of passes through a model of a shape.

    Args:
        shape: The shape.
    """

    def __init__(self, shape: ModelShape) -> None:
        d = shape.width
        self.blocks, self.width, self.inner = shape.blocks, d, shape.inner
        self.keys = 2 * d * d
        """Weights that make keys and values."""
        self.others = 2 * d * d
        """Weights that make queries and what attention puts out."""
        self.up = shape.inner * d * (2 if shape.family == "llama" else 1)
        self.down = shape.inner * d
        self.head = shape.vocabulary * d

    def at(self, text: Text, block: int) -> float:
        """Return how many tokens pass a block's maps, its keys and values aside."""
        return text.scored if block == self.blocks - 1 else text.tokens

    def block(self, text: Text, block: int) -> float:
        """Return the operations of one whole block."""
        return 2.0 * (self.keys * text.tokens + (self.others + self.up + self.down) * self.at(text, block))

    def logits(self, text: Text) -> float:
        """Return the operations of the head at the scored positions."""
        return 2.0 * self.head * text.scored

    def after(self, text: Text, block: int) -> float:
        """Return the operations of all blocks behind one, and of the head; back through them it is the same."""
        return sum(self.block(text, b) for b in range(block + 1, self.blocks)) + self.logits(text)

    def forward(self, text: Text) -> float:
        """Return the operations of a whole pass."""
        return self.after(text, -1)

    def behind(self, text: Text, cut: Cut) -> float:
        """Return the operations behind a map's output; back to its gradient it is the same."""
        own = self.down if cut.part == "up" else 0
        return 2.0 * own * self.at(text, cut.block) + self.after(text, cut.block)

    def front(self, text: Text, cut: Cut) -> float:
        """Return the operations up to a map's output."""
        return self.forward(text) - self.behind(text, cut)

    def changed(self, tokens: int, cut: Cut) -> float:
        """Return the operations behind one token's new output of a map, which changes it and the tokens behind it.

        Args:
            tokens: That token and those behind it; all of them are scored.
            cut: The map.
        """
        last = cut.block == self.blocks - 1
        text = Text(tokens, 1 if last else tokens)
        return 2.0 * (self.down if cut.part == "up" else 0) + self.after(text, cut.block)
