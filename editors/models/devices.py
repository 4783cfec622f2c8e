"""Whether the device that a user names is there, before anything is put on it."""

from collections.abc import Mapping

import torch

from ..errors import InputError

SPREADS = ("auto", "balanced", "balanced_low_0", "sequential")
"""Words of accelerate for a model that is spread over all cards."""
OFFLOADS = ("cpu", "disk")


def check_device(device: str | None, device_map: str | Mapping[str, int | str | torch.device] | None = None) -> None:
    """Refuse a device that is not there.

    Args:
        device: As torch writes it.
        device_map: As accelerate writes it.

    Raises:
        InputError: If there is no such device, or both are given.
    """
    if device is not None and device_map is not None:
        raise InputError("device and device_map exclude each other; give one of them.")
    if device is not None:
        _check(device, "--device", "")
    elif isinstance(device_map, str) and device_map not in SPREADS:
        _check(device_map, "--device-map", f"{', '.join(SPREADS)}, ")
    elif device_map is not None and not isinstance(device_map, str):
        for place in dict.fromkeys(device_map.values()):
            if place not in OFFLOADS:
                _check(f"cuda:{place}" if isinstance(place, int) else str(place), "device_map", "disk, ")


def _check(device: str, option: str, others: str) -> None:
    there = _there()
    try:
        found = torch.device(device)
    except (RuntimeError, ValueError, TypeError):
        found = None
    name = "" if found is None else found.type
    if found is None or name not in there or (found.index or 0) >= there[name]:
        known = [kind if count == 1 else f"{kind}:0 to {kind}:{count - 1}" for kind, count in there.items()]
        count = there.get(name, 0)
        lacking = f"torch sees {count or 'no'} CUDA card{'s' * (count > 1)}" if name == "cuda" else "it is not there"
        raise InputError(f"{option}: found '{device}', but {lacking}; expected {others}{' or '.join(known)}.")


def _there() -> dict[str, int]:
    """Return how many devices there are of each kind."""
    found = {"cpu": 1}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda.device_count()
    if torch.backends.mps.is_available():
        found["mps"] = 1
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        found["xpu"] = torch.xpu.device_count()
    return found
