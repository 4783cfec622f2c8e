"""Out of memory, on a CPU or a card: known again, tried once more with less at a time, and said in a sentence."""

import errno
import gc
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "alloc_failed", "bad_alloc", "cannot allocate")
"""What libraries write that raise no error of their own for it, in lower case: torch on a CPU, MKL, CUDA, C++."""

T = TypeVar("T")


def is_exhausted(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, without importing it
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)


def reason(error: BaseException) -> str:
    """Return the first sentence of an error, for a sentence of ours."""
    first = (str(error).strip().splitlines() or [""])[0]
    return first.rpartition("] ")[2].partition(". ")[0].rstrip(".") or type(error).__name__


def in_halves(items: Sequence[T], compute: Callable[[Sequence[T]], None], report: Callable[[str], None]) -> None:
    """Compute something of all items at once; if memory runs out, of one half and then of the other.

    Args:
        items: What is computed together.
        compute: Computes and writes some of it.
        report: Takes a sentence if memory ran out.

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
    # Behind the `except`: as long as it lasts, the traceback holds every tensor of the attempt.
    release()
    half = (len(items) + 1) // 2
    report(f"out of memory with {len(items)} cases at a time ({why}); goes on with {half}.")
    for part in (items[:half], items[half:]):
        compute(part)


def release() -> None:
    """Give back what is no longer used, on cards too."""
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
