"""How much memory a run takes, in bytes.

Weights, networks, optimisers and edits follow from shapes alone and are exact. What a pass keeps for the way back,
logits, and caches of keys and values are estimates.
"""

from dataclasses import dataclass

from instructedit.editors import Sketch
from instructedit.editors.cost import FLOAT

from .machine import GENERATED
from .workload import EditLoad, ScoreLoad

LIBRARIES = {"cpu": 600 * 2**20, "cuda": 700 * 2**20}
"""What Python, torch and transformers take before any model; on a card its context and torch's reserve."""
TRAINED = 2
"""Tensors for each parameter of a network that was trained in this run: value and last gradient."""
SAVED = 3
"""Tensors for each parameter that are copied in the computer's memory while a training is saved."""
LOGITS = 4
"""Copies of logits in float32 on the way to a loss and back."""
FILE = 7
"""Tensors for each parameter on disk while a training goes on: the state twice while it is replaced, and the best
weights."""


@dataclass(frozen=True, slots=True)
class Need:
    """Memory of a piece of work.

    Attributes:
        exact: What follows from shapes.
        more: What is estimated on top of it.
    """

    exact: float = 0.0
    more: float = 0.0

    @property
    def total(self) -> float:
        """Both."""
        return self.exact + self.more

    def __add__(self, other: "Need") -> "Need":
        return Need(self.exact + other.exact, self.more + other.more)


def passing(sketch: Sketch, load: EditLoad, share: float, itemsize: int) -> Need:
    """Return what a pass keeps for the way back.

    Args:
        sketch: The model.
        load: Tokens and scored positions that are kept at once.
        share: Share of the blocks that gradients pass through.
        itemsize: Bytes of a weight.
    """
    inner = max(site.d_out for site in sketch.sites("up", [0]))
    kept = load.tokens * share * sketch.depth * (12 * sketch.width + 3 * inner) * itemsize
    return Need(more=kept + LOGITS * FLOAT * load.scored * sketch.vocabulary)


def reading(sketch: Sketch, load: ScoreLoad, cases: int, cuts: int, new: tuple[int, int], itemsize: int) -> Need:
    """Return what scoring some cases together takes: kept logits, hidden states at the cuts, keys and values.

    Args:
        sketch: The model.
        load: Means of a case.
        cases: How many.
        cuts: Blocks at which the base pass is kept.
        new: New tokens of an answer and of a sampled text.
        itemsize: Bytes of a weight.
    """
    logits = 2 * cases * load.kept * sketch.vocabulary * itemsize  # before and after the edit
    hidden = cases * load.tokens * cuts * sketch.width * itemsize
    config = sketch.model.config
    heads = getattr(config, "num_attention_heads", 1)
    keys = getattr(config, "head_dim", None) or sketch.width // heads
    keys *= getattr(config, "num_key_value_heads", None) or heads
    caches = [
        min(GENERATED, cases * count) * (tokens / count + length) * 2 * keys * sketch.depth * itemsize
        for count, tokens, length in (
            (load.prompts, load.prompt_tokens, new[0]),
            (load.texts, load.text_tokens, new[1]),
        )
        if count
    ]
    return Need(more=logits + hidden + max(caches, default=0.0))
