"""Resources of a run: time by chunk and row (`timings.jsonl`), memory by start of the program (`usage.jsonl`).

Both differ between equal runs, so they are files of their own and part of no digest.
"""

import sys
from time import perf_counter
from typing import Annotated

from pydantic import Field

from .records import Record

Seconds = Annotated[float, Field(ge=0, le=1e12)]
"""Wall clock."""
Bytes = Annotated[int, Field(ge=0, le=2**63)]
"""Memory."""


class ChunkTime(Record):
    """A line of `timings.jsonl`: time of one editor for one chunk, or without a task for a joint edit of all cases."""

    task: str | None
    stage: str
    first_case: str
    editor: str
    cases: int = Field(ge=0)
    edit_seconds: Seconds
    score_seconds: Seconds
    run: str | None = None
    """The run that computed it and measured these times, if its lines were taken over from there."""


class Usage(Record):
    """A line of `usage.jsonl`: resources of one start of the program for a run; a killed start writes none."""

    seconds: Seconds
    """Wall clock, trainings included."""
    memory: Bytes
    """Largest resident memory of the process up to the end of this run, in bytes; with several runs in one process an
    upper bound for all but the first."""
    device_memory: Bytes | None = None
    """Largest memory that torch had allocated on all cards together since this run was started, in bytes; None on a
    CPU."""


class Meter:
    """Measures one start of a run, from its construction on."""

    def __init__(self) -> None:
        import torch

        self._begun = perf_counter()
        if torch.cuda.is_initialized():
            for card in range(torch.cuda.device_count()):
                torch.cuda.reset_peak_memory_stats(card)

    def read(self) -> Usage:
        """Return the resources used so far."""
        import resource

        import torch

        device = None
        if torch.cuda.is_initialized():
            device = sum(torch.cuda.max_memory_allocated(card) for card in range(torch.cuda.device_count()))
        # The kernel counts kilobytes, that of macOS bytes.
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return Usage(seconds=perf_counter() - self._begun, memory=memory, device_memory=device)
