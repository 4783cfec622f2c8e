"""Where runs are computed and stored, and how much memory and disk space is free there."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from instructedit.editors.models.devices import check_device


@dataclass(frozen=True, slots=True)
class Place:
    """Where runs are computed and stored; `InputError` if there is no such device.

    Checkpoints are by default in `out`, base passes only in a folder for them.
    """

    out: Path = Path("results")
    checkpoints: Path | None = None
    device: str | None = None
    device_map: str | None = None
    base_passes: Path | None = None

    def __post_init__(self) -> None:
        check_device(self.device, self.device_map)

    @property
    def checkpoint_root(self) -> Path:
        """Folder of checkpoints."""
        return self.checkpoints or self.out / "checkpoints"

    @property
    def torch_device(self) -> str:
        """Device that computes, as torch writes it."""
        return self.device or ("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True, slots=True)
class Free:
    """What a machine has free, in bytes."""

    memory: int
    """Where the model is; under a device map the sum over all cards and the computer."""
    host: int
    disk: int
    """Of the folder of checkpoints."""
    name: str
    """What `memory` belongs to, for messages."""


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free(place: Place) -> Free:
    """Measure what is free."""
    host = int(psutil.virtual_memory().available)
    root = place.checkpoint_root.absolute()
    disk = shutil.disk_usage(next(path for path in (root, *root.parents) if path.exists())).free
    if not place.torch_device.startswith("cuda") or not torch.cuda.is_available():
        return Free(host, host, disk, "this computer")
    if place.device_map is not None:
        cards = [torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count())]
        return Free(sum(cards) + host, host, disk, f"{len(cards)} cards and this computer")
    return Free(
        torch.cuda.mem_get_info(torch.device(place.torch_device))[0], host, disk, f"the card {place.torch_device}"
    )
