"""Time and memory: processor time and resident set of this process, or wall clock and allocations of a GPU."""

import ctypes
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")
_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class Clock:
    """Measures calls on one device, `cpu` or `cuda` with a number or without."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.gpu = self.device.type == "cuda"

    def _now(self) -> float:
        if not self.gpu:
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def time(self, call: Callable[[], T]) -> tuple[T, float]:
        """Return the result of a call and the seconds it takes."""
        begun = self._now()
        return call(), self._now() - begun

    def peak(self, call: Callable[[], T]) -> tuple[T, int | None]:
        """Return the result of a call and its peak memory in bytes above what was held before.

        The peak is None where the system does not report it.
        """
        gc.collect()
        if self.gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
            held = torch.cuda.memory_allocated(self.device)
            return call(), torch.cuda.max_memory_allocated(self.device) - held
        _release_freed_memory()
        try:
            _RESET.write_text("5", encoding="ascii")
        except OSError:
            return call(), None
        held = _status("VmRSS")
        return call(), max(0, _status("VmHWM") - held)


def _release_freed_memory() -> None:
    """Return freed memory to the system, so that new allocations are seen; only the GNU C library can."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return


def _status(field: str) -> int:
    text = _STATUS.read_text(encoding="ascii")
    return int(text.partition(f"{field}:")[2].split()[0]) * 1024
