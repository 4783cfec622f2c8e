"""Clocks and memory: processor time of this process and its resident set, or wall clock and allocations of a card."""

import ctypes
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")
_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class Watch:
    """Measures calls on one device.

    Args:
        device: `cpu` or `cuda`, with a number or without.
    """

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.card = self.device.type == "cuda"
        self.busy: list[float] = []

    def now(self) -> float:
        """Return the time, in seconds."""
        if not self.card:
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def time(self, call: Callable[[], T]) -> tuple[T, float]:
        """Return what a call gives and the seconds it takes."""
        begun = self.now()
        return call(), self.now() - begun

    def look(self) -> None:
        """Note how busy the card was of late, where its driver says so."""
        if self.card:
            try:
                self.busy.append(float(torch.cuda.utilization(self.device)))
            except (ModuleNotFoundError, RuntimeError):
                return

    @property
    def utilisation(self) -> float | None:
        """Mean of what was noted, in percent, which begins anew."""
        noted, self.busy = self.busy, []
        return sum(noted) / len(noted) if noted else None

    def begin(self) -> int | None:
        """Begin to watch memory: return the bytes that are held, or None where the system does not say."""
        gc.collect()
        if self.card:
            torch.cuda.reset_peak_memory_stats(self.device)
            return torch.cuda.memory_allocated(self.device)
        _give_back()
        try:
            _RESET.write_text("5", encoding="ascii")
        except OSError:
            return None
        return _status("VmRSS")

    def end(self, held: int | None) -> int | None:
        """Return the most bytes above those that were held since `begin`."""
        if held is None:
            return None
        most = torch.cuda.max_memory_allocated(self.device) if self.card else _status("VmHWM")
        return None if most is None else max(0, most - held)


def _give_back() -> None:
    """Return freed memory to the system, so that what a call takes anew is seen; only the GNU C library can."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return


def _status(field: str) -> int | None:
    """Return a field of the process's status in bytes."""
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return None


def gemm_rate(watch: Watch, width: int, dtype: torch.dtype, products: int = 20) -> float:
    """Return the rate of x [512, d] @ w [d, 4d] in GFLOP a second, the median of some products."""
    generator = torch.Generator(device=watch.device).manual_seed(0)
    x = torch.randn(512, width, device=watch.device, generator=generator).to(dtype)
    w = torch.randn(width, 4 * width, device=watch.device, generator=generator).to(dtype)
    torch.mm(x, w)
    times = sorted(watch.time(lambda: torch.mm(x, w))[1] for _ in range(products))
    return 2e-9 * 512 * width * 4 * width / times[products // 2]
