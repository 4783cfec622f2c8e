"""Check of the device that a user named, before anything is put on it."""

from collections.abc import Mapping

import torch

from ..errors import InputError

SPREADS = ("auto", "balanced", "balanced_low_0", "sequential")
"""Values of `device_map` with which accelerate spreads a model over all cards."""


def check_device(device: str | None, device_map: str | Mapping[str, int | str | torch.device] | None = None) -> None:
    """Refuse a device, as torch writes it, or a device map, as accelerate writes it, that does not exist.

    Raises:
        InputError: If there is no such device, or both are given.
    """
    if device is not None and device_map is not None:
        raise InputError("device and device_map exclude each other; give one of them.")
    if device is not None:
        _check(device, "--device", "")
    elif isinstance(device_map, str):
        if device_map not in SPREADS:
            _check(device_map, "--device-map", f"{', '.join(SPREADS)}, ")
    elif device_map is not None:
        for place in dict.fromkeys(device_map.values()):
            if place not in ("cpu", "disk"):
                _check(f"cuda:{place}" if isinstance(place, int) else str(place), "device_map", "disk, ")


def _check(device: str, option: str, others: str) -> None:
    counts = _device_counts()
    try:
        found = torch.device(device)
        exists = (found.index or 0) < counts.get(found.type, 0)
    except (RuntimeError, ValueError, TypeError):
        found, exists = None, False
    if not exists:
        known = [kind if count == 1 else f"{kind}:0 to {kind}:{count - 1}" for kind, count in counts.items()]
        cards = counts.get("cuda", 0)
        cuda = found is not None and found.type == "cuda"
        lacking = f"torch sees {cards or 'no'} CUDA card{'s' * (cards > 1)}" if cuda else "it is not there"
        raise InputError(f"{option}: found '{device}', but {lacking}; expected {others}{' or '.join(known)}.")


def _device_counts() -> dict[str, int]:
    found = {"cpu": 1}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.device_count()
    if torch.backends.mps.is_available():
        found["mps"] = 1
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        found["xpu"] = torch.xpu.device_count()
    return found
