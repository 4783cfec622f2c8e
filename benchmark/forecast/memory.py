"""How much memory a run takes, in bytes.

Weights, networks, optimisers and edits follow from shapes alone and are exact. Hidden states, keys and values
that base passes keep are exact for each token, and texts are counted by the mean of a sample. What passes take, and
logits, are estimates; their constants were measured by `peaks.py` of the tests, on GPT-2 shapes of 4 blocks of width
192 and 12 blocks of width 768, one thread, torch 2.13.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from instructedit.editors import Cut, Site, Sketch
from instructedit.editors.cost import FLOAT
from instructedit.editors.models.configuration import experts_per_token, key_width

from .machine import GENERATED
from .workload import EditLoad, ScoreLoad

LIBRARIES = {"cpu": 420 * 2**20, "cuda": 700 * 2**20}
"""What Python, torch and transformers take beside any model; on a card its context and torch's reserve, not measured.

On a CPU 412 to 425 MB were held with data and options read, and 16 MB came with the first model and pass."""
LOGITS = 4
"""Copies of logits in float32 on the way to a loss and back."""
SAMPLED = 5
"""The same of a step of generation, whose samples are drawn in float64."""
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


@dataclass(frozen=True, slots=True)
class Pass:
    """What passes of a model take.

    Attributes:
        token: What a pass holds at a time for each of its tokens: residual stream, queries, keys and values, attention,
            and the MLP's inner states. Measured for GPT-2: 24 to 31 times the width; 28 are counted.
        saved: What a block keeps of a token for its way back: inputs of norms, of attention and of the activation.
            Measured for GPT-2: 10 to 12 times the width; 11 are counted.
        cached: Keys and values of a token in all blocks.
        vocabulary: Logits of a position, in float32.
        depth: Blocks.
    """

    token: float
    saved: float
    cached: float
    vocabulary: float
    depth: int

    @classmethod
    def of(cls, sketch: Sketch, itemsize: int) -> "Pass":
        """Work out what passes of a model take, whose weights have this many bytes."""
        config = sketch.model.config
        inner = [_inner(sites, experts_per_token(config)) for sites in sketch.structure.sites]
        kept = sum(7 * sketch.width + (3 if gated else 1) * width for width, gated in inner)
        return cls(
            token=(12 * sketch.width + 4 * max(width for width, _ in inner)) * itemsize,
            saved=kept / sketch.depth * itemsize,
            cached=sum(_cached(sites, key_width(config)) for sites in sketch.structure.sites) * itemsize,
            vocabulary=FLOAT * sketch.vocabulary,
            depth=sketch.depth,
        )


def _inner(sites: Sequence[Site], experts: int) -> tuple[int, bool]:
    """Return the inner width of all MLPs that a token goes through in a block, and whether they are gated."""
    dense = [site for site in sites if site.part in ("down", "shared down")]
    routed = next((site.d_in for site in sites if site.part == "expert down"), 0)
    ups = [site for site in sites if site.part in ("up", "shared up")] or [s for s in sites if s.part == "expert up"][
        :1
    ]
    width = sum(site.d_in for site in dense)
    gated = sum(site.d_out for site in ups) >= 2 * (width or routed)
    return width + experts * routed, gated and bool(ups)


def _cached(sites: Sequence[Site], fused: int) -> int:
    """Return the width of a block's keys and values; `fused` is that of keys where they have no map of their own."""
    keys, values = (sum(site.d_out for site in sites if site.part == part) for part in ("key", "value"))
    if keys:
        return keys + (values or keys)
    return 2 * fused if any(site.part in ("key value", "query key value") for site in sites) else 0


@dataclass(frozen=True, slots=True)
class Base:
    """What a base pass keeps for replays, in bytes, keys and values aside.

    Attributes:
        token: Of each token: the hidden states that enter the blocks at which replays start.
    """

    token: float = 0.0

    @classmethod
    def of(cls, sketch: Sketch, cuts: Iterable[Cut | None], itemsize: int) -> "Base":
        """Work out what is kept for replays from some cuts (None for an edit that patches nothing)."""
        return cls(len({cut.block for cut in cuts if cut is not None}) * sketch.width * itemsize)


def passing(of: Pass, load: EditLoad, share: float, pack: EditLoad) -> Need:
    """Return what a pass and its way back take, beside what the base pass keeps.

    Args:
        of: The model.
        load: Tokens and scored positions that are kept for the way back at once.
        share: Share of the blocks that gradients pass through.
        pack: Those of the largest pass.
    """
    kept = load.tokens * share * of.depth * of.saved + LOGITS * of.vocabulary * load.scored
    return Need(more=kept + pack.tokens * of.token)


def reading(
    of: Pass, load: ScoreLoad, cases: int, base: Base, late: float, new: tuple[int, int], pack: EditLoad, itemsize: int
) -> Need:
    """Return what scoring some cases together takes.

    Kept log-probabilities, what base passes over texts and prompts keep, their keys and values, logits behind the
    prompts, and on top of them the largest of a pass over texts, answers and sampled texts.

    Args:
        of: The model.
        load: Means of a case.
        cases: How many.
        base: What base passes keep.
        late: Share of the blocks whose keys and values are kept for late edits.
        new: New tokens of an answer and of a sampled text.
        pack: Tokens and scored positions of the largest pass.
        itemsize: Bytes of a weight.
    """
    position = of.vocabulary * itemsize / FLOAT
    logits = 2 * load.kept * of.vocabulary  # log-probabilities in float32, before and after the edit
    texts = base.token * load.tokens + late * of.cached * load.tokens
    kinds = [
        (count, tokens, length)
        for count, tokens, length in (
            (load.prompts, load.prompt_tokens, new[0]),
            (load.texts, load.text_tokens, new[1]),
        )
        if count and length
    ]
    prompts = sum(tokens * of.cached + base.token * tokens + count * position for count, tokens, _ in kinds)
    passes = [pack.tokens * of.token + LOGITS * of.vocabulary * pack.scored]
    for count, tokens, length in kinds:
        rows = min(GENERATED, cases * count)
        cache = rows * (tokens / count + length) * of.cached
        passes.append(cache + rows * SAMPLED * of.vocabulary + min(rows * tokens / count, pack.tokens) * of.token)
    return Need(more=cases * (logits + texts + prompts) + max(passes))
