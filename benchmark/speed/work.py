"""The operations that an edit, a reading, a training step or a text needs, from shapes alone.

What is counted is what the mathematics asks for, whatever the code does:

* 2 operations for each weight of a linear map and each token that must pass it. The products of attention itself,
  norms, activations and the element-wise steps of optimisers are left out; for texts this short they are little.
* Tokens behind the last scored position pass nothing. In the last block keys and values are made of all tokens, all
  else only at positions that are read; logits only at scored positions.
* Under an edit only what stands behind the first patched map runs again: that map, the rest of its block, and the
  blocks after it. What is in front is made once.
* A way back through frozen weights is one product for each map behind the first patched one; the gradient of a weight
  that is trained is one more.
* A hypernetwork counts for each token whose gradient is not zero: in the last block those that are scored, in the
  others all.
* GRACE's value changes the tokens from the last prompt token on and no other, and no text whose key is not near.
* A text's edit and its question are counted apart, though they may be the same text: editors see no questions.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from instructedit.editors import Editor

from .cases import FRONT, PROBES, PROMPT, TARGETS
from .shapes import ModelShape

Part = Literal["up", "down"]
LOCAL = PROBES["locality"]
ROWS = sum(PROBES.values())


@dataclass(frozen=True, slots=True)
class Cut:
    """The first patched map: its block, and which of the MLP's maps it is."""

    block: int
    part: Part


@dataclass(frozen=True, slots=True)
class Text:
    """A text: tokens up to the last scored one, and how many are scored."""

    tokens: int
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

    def at(self, text: Text, block: int) -> int:
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
        """Return the operations from a map on, itself included."""
        own = self.down + (self.up if cut.part == "up" else 0)
        return 2.0 * own * self.at(text, cut.block) + self.after(text, cut.block)

    def front(self, text: Text, cut: Cut) -> float:
        """Return the operations in front of a map."""
        return self.forward(text) - self.behind(text, cut)

    def back(self, text: Text, cut: Cut) -> float:
        """Return the operations from the loss back to the gradient of a map's output."""
        own = self.down if cut.part == "up" else 0
        return 2.0 * own * self.at(text, cut.block) + self.after(text, cut.block)

    def changed(self, tokens: int, cut: Cut) -> float:
        """Return the operations behind one token's new output of a map, which changes it and the tokens behind it.

        Args:
            tokens: That token and those behind it; all of them are scored.
            cut: The map.
        """
        last = cut.block == self.blocks - 1
        text = Text(tokens, 1 if last else tokens)
        return 2.0 * (self.down if cut.part == "up" else 0) + self.after(text, cut.block)


class Needed:
    """Operations for one case, the mean over the cases' target lengths.

    Args:
        shape: The model.
        editor: The editor; None for the unedited model.
        steps: Steps that an edit took, for editors that descend.
    """

    def __init__(self, shape: ModelShape, editor: Editor[Any] | None = None, steps: float = 0.0) -> None:
        self.passes, self.shape, self.editor, self.steps = Passes(shape), shape, editor, steps
        self.kind = {"ft-m": "ft-l", "instructedit": "mend"}.get(editor.name, editor.name) if editor else ""
        config = editor.config if editor else None
        if self.kind == "grace":
            self.cut = Cut(_block(config.block, shape.blocks), config.part)  # type: ignore[union-attr]
        elif self.kind == "ft-l":
            self.cut = Cut(_block(config.block, shape.blocks), "down")  # type: ignore[union-attr]
        elif self.kind in ("mend", "ke"):
            first = editor.shape.sites[0]  # type: ignore[union-attr]
            parts = {site.part for site in editor.shape.sites if site.block == first.block}  # type: ignore[union-attr]
            self.cut = Cut(first.block, "up" if "up" in parts else "down")
        elif self.kind == "calinet":
            (block,) = config.blocks  # type: ignore[union-attr]
            self.cut = Cut(_block(block, shape.blocks), "down")

    def base(self) -> float:
        """Return the operations of reading the unedited model."""
        return ROWS * _mean(self.passes.forward(text) for text in _texts())

    def edit(self) -> float:
        """Return the operations of an edit."""
        return _mean(self._edit(target) for target in TARGETS)

    def _edit(self, target: int) -> float:
        passes, config = self.passes, self.editor.config  # type: ignore[union-attr]
        text = self._own(target)
        if self.kind in ("mend", "ke"):
            return passes.forward(text) + passes.back(text, self.cut) + self._network(target)
        if self.kind == "grace":
            once = passes.forward(text) - passes.logits(text)
            return once + 2 * self.steps * passes.changed(target, self.cut)
        seen = self.steps + (self.steps < config.steps)  # a loss that stops an edit is a pass too
        if self.kind == "ft-l":
            if config.objective == "prompt_last":
                text = Text(PROMPT, 1)
            trained = 2.0 * passes.down * passes.at(text, self.cut.block)
            there, back = passes.behind(text, self.cut), passes.back(text, self.cut) + trained
            return passes.front(text, self.cut) + seen * there + self.steps * back
        slots, after = self._slots(text), passes.after(text, self.cut.block)
        products = (
            4 / 3 if self.shape.family == "llama" else 3 / 2
        )  # back: each slot weight's gradient, and v's input's
        once = passes.forward(text) - after
        return once + seen * (slots + after) + self.steps * (products * slots + after)

    def score(self) -> float:
        """Return the operations of reading the edited model."""
        return _mean(self._score(target) for target in TARGETS)

    def _score(self, target: int) -> float:
        passes, text = self.passes, _text(target)
        if self.kind == "grace":
            return passes.changed(target, self.cut)  # the edit's own prompt is the only one near its key
        if self.kind == "calinet":
            return ROWS * (self._slots(text) + passes.after(text, self.cut.block))
        return ROWS * (passes.behind(text, self.cut) + self._low_rank(text, target))

    def train(self) -> float:
        """Return the operations of one edit of a training step: the edit, the outer loss and the way back."""
        return _mean(self._train(target) for target in TARGETS)

    def _train(self, target: int) -> float:
        passes, text = self.passes, _text(target)
        local = min(LOCAL, self.editor.config.objective.locality_rows)  # type: ignore[union-attr]
        edited = passes.behind(text, self.cut) + self._low_rank(text, target)
        back = passes.back(text, self.cut) + 2 * self._low_rank(text, target)
        unedited = local * passes.forward(text) + passes.front(text, self.cut)
        # each product of the network twice on the way back, but the first of a hypernetwork, whose input is a constant
        twice = 2 - 1 / (2 * self.editor.config.layers) if self.kind == "mend" else 2  # type: ignore[union-attr]
        return self._edit(target) + twice * self._network(target) + unedited + (1 + local) * (edited + back)

    def generate(self, answers: float, answer: float, texts: float) -> float:
        """Return the operations of continuing a case's prompts.

        The text continues the edit's own prompt, which has been read for its answer.

        Args:
            answers: Answers whose model differs from the unedited one; all of them for most editors.
            answer: New tokens of an answer.
            texts: New tokens of the text.
        """
        passes, prompt = self.passes, Text(PROMPT, 1)
        token = passes.forward(Text(1, 1))
        new = answers * (answer - 1) + texts - 1
        if self.editor is None:
            return answers * passes.forward(prompt) + new * token
        if self.kind == "grace":
            return answers * passes.changed(1, self.cut) + new * token
        added = _mean(self._added(1, 1, target) for target in TARGETS)
        return answers * (passes.behind(prompt, self.cut) + self._added(PROMPT, 1, 2)) + new * (token + added)

    def _own(self, target: int) -> Text:
        """Return the edit's own text."""
        front = FRONT if self.editor is not None and self.editor.instructed else 0
        return Text(front + PROMPT + target - 1, target)

    def _network(self, target: int) -> float:
        """Return the operations of a trained editor's network for one edit, forwards."""
        editor: Any = self.editor
        config, text = editor.config, self._own(target)
        if self.kind == "mend":
            total = 0.0
            for site in editor.shape.sites:
                width = site.d_in + site.d_out
                each = 2.0 * config.layers * 2 * min(config.rank, width) * width
                total += each * self.passes.at(text, site.block)
            return total
        d, hidden = self.shape.width, config.hidden
        lstm = 2 * 2.0 * 4 * hidden * (d + hidden) * (text.tokens + 1)  # it reads the last token too
        gates = sum(2.0 * hidden * (config.condition + 2 * (site.d_in + site.d_out) + 1) for site in editor.shape.sites)
        return lstm + 2.0 * 2 * hidden * config.condition + gates

    def _low_rank(self, text: Text, target: int) -> float:
        return self._added(text.tokens, text.scored, target)

    def _added(self, tokens: int, scored: int, target: int) -> float:
        """Return the operations of an edit's own products for the tokens of one text."""
        if self.kind == "calinet":
            return self._slots(Text(tokens, scored))
        if self.kind not in ("mend", "ke"):
            return 0.0  # a dense change is part of the weight
        editor: Any = self.editor
        own, text = self._own(target), Text(tokens, scored)
        return sum(
            2.0
            * (self.passes.at(own, site.block) + (self.kind == "ke"))
            * (site.d_in + site.d_out)
            * self.passes.at(text, site.block)
            for site in editor.shape.sites
        )

    def _slots(self, text: Text) -> float:
        """Return the operations of CaliNet's slots."""
        config: Any = self.editor.config  # type: ignore[union-attr]
        slots = config.slots or max(config.least_slots, -(-int(config.slots_per_100_edits) // 100))
        maps = 3 if self.shape.family == "llama" else 2
        return 2.0 * maps * slots * self.shape.width * self.passes.at(text, self.cut.block)


def _text(target: int) -> Text:
    return Text(PROMPT + target - 1, target)


def _texts() -> list[Text]:
    return [_text(target) for target in TARGETS]


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def _block(index: int | float, count: int) -> int:
    """Resolve a block as `Structure.block` does."""
    if isinstance(index, float):
        return int(index * count)
    return index + count if index < 0 else index
