"""What `instructedit speed` measures, as a file: `speed.json`."""

from typing import Annotated, Literal

from pydantic import Field

from .records import FileRecord, Record

Phase = Literal["loop", "edit", "score", "base", "train", "generate"]
Seconds = Annotated[float, Field(allow_inf_nan=False)]


class SpeedRow(Record):
    """One editor in one phase. Times are of one case: medians over the repeats, with their quartiles."""

    editor: str
    """Its registered name; `all` for the texts of the unedited model."""
    shape: str
    phase: Phase
    chunk: int
    """Cases that the engine processes together; in training, edits of a step."""
    cpu_seconds: Seconds
    """Of the engine; wall clock on a GPU."""
    cpu_low: Seconds
    cpu_high: Seconds
    slow_seconds: Seconds | None
    """Of the reference; None where it was not run."""
    ratio: float | None
    """Reference by engine, both of the same repeat."""
    ratio_low: float | None
    ratio_high: float | None
    peak_bytes: int | None
    """Peak memory above what was held before the call; None where the system does not report it."""
    model_bytes: int
    cases: int
    """Cases of the reference in each repeat."""
    repeats: int
    largest_difference: float | None
    """Between engine and reference: of scores and log-probabilities in `loop`, of losses in `train`."""
    differing: int | None
    """Answers and texts that differ, in `generate`."""


class Machine(Record):
    """Where it was measured."""

    processor: str
    device: str
    threads: int
    python: str
    torch: str
    transformers: str


class SpeedRecord(FileRecord):
    """The whole file."""

    machine: Machine
    quick: bool
    seconds: float
    """Wall clock of the whole measurement."""
    untimed: tuple[str, ...]
    """Registered editors without a reference, which are not timed."""
    rows: tuple[SpeedRow, ...]
