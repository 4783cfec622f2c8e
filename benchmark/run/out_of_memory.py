"""Memory that runs out, on a CPU or a card: recognised, retried with half the cases, and worded in a sentence."""

import errno
import gc
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "alloc_failed", "bad_alloc", "cannot allocate")
"""Messages, in lower case, of libraries without an error class for it: torch on a CPU, MKL, CUDA, C++."""

T = TypeVar("T")


def is_exhausted(error: BaseException) -> bool:
    """Tell whether an error means that memory ran out."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, without importing it
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)


def reason(error: BaseException) -> str:
    """Return the first sentence of an error."""
    first = (str(error).strip().splitlines() or [""])[0]
    return first.rpartition("] ")[2].partition(". ")[0].rstrip(".") or type(error).__name__


def in_halves(items: Sequence[T], compute: Callable[[Sequence[T]], None], report: Callable[[str], None]) -> None:
    """Compute something of all items at once; if memory runs out, of one half and then of the other.

    Raises:
        RuntimeError: If memory runs out for a half, or for a single item, as torch raises it (also `MemoryError`).
    """
    try:
        compute(items)
    except Exception as error:
        if not is_exhausted(error) or len(items) < 2:
            raise
        why = reason(error)
    else:
        return
    # Outside of the `except`: within it the traceback keeps every tensor of the attempt alive.
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    half = (len(items) + 1) // 2
    report(f"out of memory with {len(items)} cases at a time ({why}); continues with {half}.")
    for part in (items[:half], items[half:]):
        compute(part)
