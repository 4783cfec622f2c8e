"""The operations that an edit, a reading, a training step or a text needs, from shapes alone.

What is counted is what the mathematics asks for, whatever the code does:

* 2 operations for each weight of a linear map and each token that must pass it. The products of attention itself,
  norms, activations and the element-wise steps of optimisers are left out; for texts this short they are little.
* Tokens behind the last scored position pass nothing. In the last block keys and values are made of all tokens, all
  else only at positions that are read; logits only at scored positions.
* Under an edit only what stands behind the first patched map runs again: the rest of its block, and the blocks after
  it; and what the edit adds to the maps' outputs. These and all that is in front are made once.
* A way back through frozen weights is one product for each map behind the first patched one; the gradient of a weight
  that is trained is one more.
* A hypernetwork counts for each token whose gradient is not zero: in the last block those that are scored, in the
  others all.
* GRACE's value changes the tokens from the last prompt token on and no other, and no text whose key is not near.
* A text's edit and its question are counted apart, though they may be the same text: editors see no questions.
* An instruction that several cases of a chunk have in front is read once on the way there. The way back and the
  hypernetwork are each case's own.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from instructedit.editors import EditCase, Editor

from .cases import FRONT, PROBES, PROMPT, TARGETS
from .passes import Cut, Passes, Text
from .shapes import ModelShape

LOCAL = PROBES["locality"]
ROWS = sum(PROBES.values())


class Needed:
    """Operations for one case, the mean over the cases' target lengths; this class is the unedited model's.

    Args:
        shape: The model.
        editor: The editor; None for the unedited model.
        steps: Steps that an edit took, for editors that descend.
        told: Different instructions for each case of a chunk.
    """

    def __init__(
        self, shape: ModelShape, editor: Editor[Any] | None = None, steps: float = 0.0, told: float = 1.0
    ) -> None:
        self.shape, self.passes, self.steps, self.told = shape, Passes(shape), steps, told
        self.editor: Any = editor
        self.config: Any = None if editor is None else editor.config
        self.cut = self.first_cut()

    def first_cut(self) -> Cut:
        """Return the first patched map; of the unedited model it is in front of everything."""
        return Cut(-1, "down")

    def base(self) -> float:
        """Return the operations of reading the unedited model."""
        return ROWS * _mean(self.passes.forward(_text(target)) for target in TARGETS)

    def edit(self) -> float:
        """Return the operations of an edit."""
        return _mean(self.edit_of(target) for target in TARGETS)

    def edit_of(self, target: int) -> float:
        """Return the operations of an edit whose target has so many tokens."""
        return 0.0

    def score(self) -> float:
        """Return the operations of reading the edited model."""
        return _mean(self.score_of(target) for target in TARGETS)

    def score_of(self, target: int) -> float:
        """Return the operations of reading a case whose target has so many tokens."""
        text = _text(target)
        return ROWS * (self.passes.behind(text, self.cut) + self.added(text, target))

    def added(self, text: Text, target: int) -> float:
        """Return the operations of an edit's own products for one text."""
        return 0.0

    def own_products(self, new: Text, target: int) -> float:
        """Return the operations of an edit's own products for a token that nobody has read before."""
        return self.added(new, target)

    def train(self) -> float:
        """Return the operations of one edit of a training step."""
        return 0.0

    def generate(self, answers: float, answer: float, texts: float) -> float:
        """Return the operations of continuing a case's prompts.

        The text continues the edit's own prompt, which has been read for its answer.

        Args:
            answers: Answers of a model that is not the unedited one; all of them for most editors.
            answer: New tokens of an answer.
            texts: New tokens of the text.
        """
        prompt, one = Text(PROMPT, 1), Text(1, 1)
        read = _mean(self.prompt(prompt) + self.added(prompt, target) for target in TARGETS)
        token = self.passes.forward(one) + _mean(self.own_products(one, target) for target in TARGETS)
        return answers * read + (answers * (answer - 1) + texts - 1) * token

    def prompt(self, prompt: Text) -> float:
        """Return the operations of reading a prompt that is to be continued."""
        return self.passes.forward(prompt) if self.editor is None else self.passes.behind(prompt, self.cut)

    def own(self, target: int) -> Text:
        """Return the edit's own text."""
        return Text(self.front + PROMPT + target - 1, target)

    @property
    def front(self) -> int:
        """Tokens of the instruction in front of the edit's prompt."""
        return FRONT if self.editor.instructed else 0


class FineTuned(Needed):
    """FT-L and FT-M: a dense change of a down map; a loss that stops an edit is a pass too."""

    def first_cut(self) -> Cut:  # noqa: D102
        return Cut(_block(self.config.block, self.shape.blocks), "down")

    def edit_of(self, target: int) -> float:  # noqa: D102
        text = Text(PROMPT, 1) if self.config.objective == "prompt_last" else self.own(target)
        one_way = self.passes.behind(text, self.cut) + self.added(text, target)
        return self.passes.front(text, self.cut) + (_seen(self) + self.steps) * one_way

    def added(self, text: Text, target: int) -> float:
        """Return the operations of x D; those of the gradient of D are as many."""
        return 2.0 * self.passes.down * self.passes.at(text, self.cut.block)

    def own_products(self, new: Text, target: int) -> float:
        """Return nothing: a dense change is part of the weight, whose product is counted."""
        return 0.0


class Transformed(Needed):
    """MEND and InstructEdit: one gradient, and a hypernetwork for each of its tokens; the edit is of low rank."""

    further = 0
    """Ranks of an edit besides those of its tokens."""

    def first_cut(self) -> Cut:  # noqa: D102
        first = self.editor.shape.sites[0]
        parts = {site.part for site in self.editor.shape.sites if site.block == first.block}
        return Cut(first.block, "up" if "up" in parts else "down")

    def edit_of(self, target: int) -> float:  # noqa: D102
        text = self.own(target)
        once = replace(text, tokens=text.tokens - (1 - self.told) * self.front)
        return self.passes.forward(once) + self.passes.behind(text, self.cut) + self.network(target)

    def network(self, target: int, learns: bool = False) -> float:
        """Return the operations of the network for one edit, forwards.

        Once it is trained, a layer is the product of its two maps where that is smaller than both.
        """
        total = 0.0
        for site in self.editor.shape.sites:
            width = site.d_in + site.d_out
            layer = 2 * min(self.config.rank, width) * width
            token = 2.0 * self.config.layers * (layer if learns else min(layer, width * width))
            total += token * self.passes.at(self.own(target), site.block)
        return total

    @property
    def back(self) -> float:
        """The way back through the network, as a multiple of the way there: the first product's input is constant."""
        layers: int = self.config.layers
        return 2 - 1 / (2 * layers)

    def added(self, text: Text, target: int) -> float:  # noqa: D102
        total = 0.0
        for site in self.editor.shape.sites:
            rank = self.passes.at(self.own(target), site.block) + self.further
            total += 2.0 * rank * (site.d_in + site.d_out) * self.passes.at(text, site.block)
        return total

    def train(self) -> float:
        """Return the operations of the edit, of the texts before it and under it, and of the way back."""
        return _mean(self._train_of(target) for target in TARGETS)

    def _train_of(self, target: int) -> float:
        passes, text = self.passes, _text(target)
        local: int = min(LOCAL, self.config.objective.locality_rows)
        edited = passes.behind(text, self.cut) + self.added(text, target)
        back = passes.behind(text, self.cut) + 2 * self.added(text, target)
        unedited = local * passes.forward(text) + passes.front(text, self.cut)
        network = (1 + self.back) * self.network(target, learns=True) - self.network(target)
        return self.edit_of(target) + network + unedited + (1 + local) * (edited + back)


class Gated(Transformed):
    """KE: one gradient, gated by what an LSTM reads; the ungated part adds one rank."""

    further = 1

    @property
    def back(self) -> float:  # noqa: D102
        return 2.0

    def network(self, target: int, learns: bool = False) -> float:  # noqa: D102
        hidden: int = self.config.hidden
        condition: int = self.config.condition
        tokens = self.own(target).tokens + 1  # it reads the last token too
        lstm = 2 * 2.0 * 4 * hidden * (self.shape.width + hidden) * tokens
        sizes = (2 * (site.d_in + site.d_out) + 1 for site in self.editor.shape.sites)
        gates: float = sum(2.0 * hidden * (condition + size) for size in sizes)
        return lstm + 2.0 * 2 * hidden * condition + gates


class Stored(Needed):
    """GRACE: one token's value; of the probes only the edit's own prompt is near its key."""

    def first_cut(self) -> Cut:  # noqa: D102
        return Cut(_block(self.config.block, self.shape.blocks), self.config.part)

    def edit_of(self, target: int) -> float:  # noqa: D102
        text = self.own(target)
        once = self.passes.forward(text) - self.passes.logits(text)
        return once + 2 * self.steps * self.passes.changed(target, self.cut)

    def score_of(self, target: int) -> float:  # noqa: D102
        return self.passes.changed(target, self.cut)

    def prompt(self, prompt: Text) -> float:  # noqa: D102
        return self.passes.changed(1, self.cut)


class Calibrated(Needed):
    """CaliNet: slots beside one network."""

    def first_cut(self) -> Cut:  # noqa: D102
        (block,) = self.config.blocks
        return Cut(_block(block, self.shape.blocks), "down")

    def edit_of(self, target: int) -> float:  # noqa: D102
        text = self.own(target)
        slots, after = self.added(text, target), self.passes.after(text, self.cut.block)
        maps = self._maps()
        back = (maps + 1) / maps * slots + after  # the gradients of all maps, and of v's input
        return self.passes.forward(text) - after + _seen(self) * (slots + after) + self.steps * back

    def score_of(self, target: int) -> float:  # noqa: D102
        text = _text(target)
        return ROWS * (self.added(text, target) + self.passes.after(text, self.cut.block))

    def prompt(self, prompt: Text) -> float:  # noqa: D102
        return self.passes.after(prompt, self.cut.block)

    def added(self, text: Text, target: int) -> float:  # noqa: D102
        slots: int = self.config.slots or max(self.config.least_slots, math.ceil(self.config.slots_per_100_edits / 100))
        return 2.0 * self._maps() * slots * self.shape.width * self.passes.at(text, self.cut.block)

    def _maps(self) -> int:
        return 3 if self.shape.family == "llama" else 2


KINDS: dict[str, type[Needed]] = {
    "ft-l": FineTuned,
    "ft-m": FineTuned,
    "ke": Gated,
    "mend": Transformed,
    "instructedit": Transformed,
    "grace": Stored,
    "calinet": Calibrated,
}


def needed(
    shape: ModelShape, editor: Editor[Any] | None = None, steps: float = 0.0, cases: Sequence[EditCase] = ()
) -> Needed:
    """Return what an editor needs for each of the cases of a chunk; see `Needed`."""
    told = len({case.request.instruction for case in cases}) / len(cases) if cases else 1.0
    return (Needed if editor is None else KINDS[editor.name])(shape, editor, steps, told)


def _seen(work: Needed) -> float:
    """Return the passes of a descent: one for each step, and the one whose loss stopped it."""
    most: int = work.config.steps
    return work.steps + (work.steps < most)


def _text(target: int) -> Text:
    return Text(PROMPT + target - 1, target)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def _block(index: int | float, count: int) -> int:
    """Resolve a block as `Structure.block` does."""
    if isinstance(index, float):
        return int(index * count)
    return index + count if index < 0 else index
