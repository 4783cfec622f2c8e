"""How fast a machine is, and how long a piece of work takes on it.

Work is counted in three kinds: operations, which a matrix product of the model's width is timed for; bytes that are
moved, which a pass over a large vector is timed for; and blocks that are called, each of which costs a while however
few tokens there are. A few constants turn these into seconds.

They are fitted to the embedded model and to a random GPT-2 of 12 blocks of width 768 (eight cases of ZsRE, defaults of
all options, one thread, processor time), and no other model was held against them. Measured times are 0.6 to 1.5 times
these in editing, 0.7 to 1.3 times in teacher forcing, 0.6 to 1.3 times in sampled texts, and on the embedded model 0.9
to 1.5 times in training steps; another process on the same processor made them twice as long. Greedy answers are 0.3 to
0.6 times on the embedded model, where most end long before they may. An answer is taken to be as long as it may be, and
no edit or training to stop early, CaliNet's aside. On cards the constant of a call is a guess.
"""

import math
import time
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from instructedit.editors import Sketch

from .workload import EditLoad, ScoreLoad

EFFICIENCY = 0.8
"""Share of the matrix product's rate that a whole block reaches."""
CALL = {"cpu": 9e-4, "cuda": 4e-4}
"""Seconds that a block takes besides its operations, hooks and its share of the pass included."""
STOP = 4e-5
"""Seconds that asking a growing text whether it is finished takes, for each new token."""
READ = 1e-4
"""Seconds that a teacher-forced position takes besides its logits, until it is part of a score."""
THIN = 3
"""Times as long as a large vector that weights take to be read for a few tokens."""
MEASURED = 0.2
"""Seconds of each measurement."""
GENERATED = 64
"""Rows that are continued together; see `generation.answers`."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine's rates.

    Attributes:
        kind: `cpu` or `cuda`.
        flops: Operations a second, in matrix products of the model's width and type.
        bandwidth: Bytes a second that are read and written.
        pack_tokens: Tokens of a packed pass.
    """

    kind: str
    flops: float
    bandwidth: float
    pack_tokens: int


@dataclass(frozen=True, slots=True)
class Work:
    """Some work: operations, bytes moved, blocks called, new tokens asked whether they end a text, positions read."""

    flops: float = 0.0
    moved: float = 0.0
    calls: float = 0.0
    asked: float = 0.0
    read: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.flops + other.flops,
            self.moved + other.moved,
            self.calls + other.calls,
            self.asked + other.asked,
            self.read + other.read,
        )

    def __mul__(self, times: float) -> "Work":
        return Work(self.flops * times, self.moved * times, self.calls * times, self.asked * times, self.read * times)

    def seconds(self, machine: Machine) -> float:
        """Return how long it takes."""
        return (
            self.flops / (EFFICIENCY * machine.flops)
            + self.moved / machine.bandwidth
            + self.calls * CALL[machine.kind]
            + self.asked * STOP
            + self.read * READ
        )


@cache
def measure(width: int, device: str, dtype: torch.dtype, pack_tokens: int) -> Machine:
    """Time a machine for about half a second.

    Args:
        width: Width of the model.
        device: Where the model will run.
        dtype: Its type.
        pack_tokens: Tokens of a packed pass, which are the rows of the matrix product.
    """
    place = torch.device(device)
    x = torch.randn(pack_tokens, width, device=place).to(dtype)
    w = torch.randn(width, 4 * width, device=place).to(dtype)
    vector = torch.zeros(2**25, device=place)  # 128 MiB: 64 are within the cache of a large processor

    def product() -> Tensor:
        return x @ w

    def pass_over() -> Tensor:
        return vector.add_(1.0)

    flops = 2 * pack_tokens * width * 4 * width / _seconds(product, place)
    return Machine(place.type, flops, 2 * 4 * vector.numel() / _seconds(pass_over, place), pack_tokens)


def _seconds(call: "object", place: torch.device) -> float:
    """Return the median time of a call."""
    assert callable(call)
    times: list[float] = []
    stop = time.perf_counter() + MEASURED
    while not times or time.perf_counter() < stop:
        began = time.perf_counter()
        call()
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        times.append(time.perf_counter() - began)
    return sorted(times[len(times) > 1 :])[(len(times) - 1) // 2]  # the first warms up


def within(load: EditLoad, tokens: int) -> EditLoad:
    """Return the part of a load that a pass of so many tokens holds."""
    part = min(1.0, tokens / max(load.tokens, 1.0))
    return EditLoad(load.tokens * part, load.scored * part)


def forward(sketch: Sketch, machine: Machine, load: EditLoad, passes: float = 1.0, head_passes: float = 1.0) -> Work:
    """Return the work of running texts.

    Args:
        sketch: The model.
        machine: Packs the texts.
        load: All tokens, and those whose logits are wanted.
        passes: Times that they pass through all blocks.
        head_passes: Times that logits are made.
    """
    packs = passes * math.ceil(load.tokens / machine.pack_tokens)
    logits = sketch.vocabulary * load.scored * head_passes
    return Work(
        # attention within a row of tens of tokens is a hundredth of its maps
        flops=2 * passes * load.tokens * sketch.block_parameters + 2 * sketch.width * logits,
        # log-softmax, in float32; and weights, of whatever type
        moved=6 * 4 * logits + THIN * packs * sketch.block_parameters * sketch.model.dtype.itemsize,
        calls=packs * sketch.depth,
    )


def scoring(
    sketch: Sketch,
    machine: Machine,
    load: ScoreLoad,
    cases: int,
    new: tuple[int, int],
    share: float,
    itemsize: int,
    late: bool = False,
) -> Work:
    """Return the work of reading some cases together: teacher forcing, greedy answers, sampled texts.

    Every answer is taken to be as long as it may be.

    Args:
        sketch: The model.
        machine: The machine.
        load: Means of a case.
        cases: How many.
        new: New tokens of an answer and of a sampled text.
        share: Share of the blocks that teacher-forced texts pass through.
        itemsize: Bytes of a weight.
        late: Whether the answers alone pass through them.
    """
    tokens = load.scored if late else load.tokens
    forced = forward(sketch, machine, EditLoad(cases * tokens, cases * load.scored), share)
    forced += Work(read=cases * load.scored)
    answers = _continue(sketch, cases * load.prompts, cases * load.prompt_tokens, new[0], itemsize)
    texts = _continue(sketch, cases * load.texts, cases * load.text_tokens, new[1], itemsize)
    return forced + answers + Work(asked=cases * load.prompts * new[0]) + texts


def _continue(sketch: Sketch, rows: float, tokens: float, new: int, itemsize: int) -> Work:
    if rows == 0 or new == 0:
        return Work()
    batches = math.ceil(rows / GENERATED)
    return Work(
        flops=2 * (tokens + rows * new) * sketch.block_parameters + 2 * rows * new * sketch.vocabulary * sketch.width,
        moved=THIN * batches * new * itemsize * (sketch.block_parameters + sketch.vocabulary * sketch.width),
        calls=batches * new * sketch.depth,
    )
