"""What `instructedit speed` measures, as a file: `speed.json`."""

from typing import Annotated, Literal

from pydantic import Field

from .records import SCHEMA_VERSION, Record

Phase = Literal["loop", "edit", "score", "base", "train", "generate"]
Seconds = Annotated[float, Field(allow_inf_nan=False)]


class Rate(Record):
    """The machine's rate of matrix products x [512, d] @ w [d, 4d] of a shape's width and type, in GFLOP a second."""

    median: float
    low: float
    high: float


class SpeedRow(Record):
    """One editor in one phase. Times are of one case: medians over the repeats, with their quartiles."""

    editor: str
    """Its registered name; `all` for what all editors share."""
    shape: str
    phase: Phase
    chunk: int
    """Cases that the engine is given at once; of a training, edits of a step."""
    cpu_seconds: Seconds
    """Of the engine; wall clock on a card."""
    cpu_low: Seconds
    cpu_high: Seconds
    slow_seconds: Seconds | None
    """Of the slow path; None where it was not run."""
    ratio: float | None
    """Slow path by engine, both of the same repeat."""
    ratio_low: float | None
    ratio_high: float | None
    gflop: float
    """Operations that one case needs."""
    gflop_per_second: float
    gemm_share: float
    """Share of the machine's rate of matrix products."""
    peak_bytes: int | None
    """Most memory above what was held before the call; None where the system does not say."""
    model_bytes: int
    cases: int
    """Cases of the slow path in each repeat."""
    repeats: int
    largest_difference: float | None
    """Between the two paths: of log-probabilities and scores; of losses, relative to them; None for texts."""
    differing: int | None
    """Most likely tokens, or texts, that are not the same."""
    utilisation: float | None = None
    """Percent of the time in which a card computed."""


class GrowthRow(Record):
    """What one more case costs as something grows."""

    of: Literal["cases", "model", "edits"]
    """What grows: cases of a run, weights of the model, edits on top of edits."""
    editor: str
    shape: str
    size: int
    """Cases, weights, or edits."""
    cpu_seconds: Seconds
    """Of one case, or of one more edit at this size."""
    gflop: float | None = None
    peak_bytes: int | None = None
    edit_bytes: int | None = None
    """Of the edit that carries all edits so far."""


class Machine(Record):
    """Where it was measured."""

    processor: str
    device: str
    threads: int
    python: str
    torch: str
    transformers: str


class SpeedRecord(Record):
    """The whole file."""

    schema_version: Literal[2] = SCHEMA_VERSION
    machine: Machine
    quick: bool
    seconds: float
    """Wall clock of the whole measurement."""
    gemm: dict[str, Rate]
    """By shape."""
    sharing: dict[str, int]
    """By shape the editors that share the base pass."""
    untimed: tuple[str, ...]
    """Registered editors that were not timed, because the slow path has no reference for them."""
    rows: tuple[SpeedRow, ...]
    growth: tuple[GrowthRow, ...] = ()
