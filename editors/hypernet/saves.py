"""The files of a training: its saved state, the best weights so far, and the metrics of its steps.

`last.safetensors` holds everything that the next step depends on and is replaced as a whole. `metrics.jsonl` has one
line per step; the training does not depend on it.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt
from torch import Tensor, nn
from torch.optim import Optimizer

from ..editor import EDITOR
from ..errors import InputError
from ..files.atomic import write_whole
from ..files.state import fill, parsed, read_tensors, unreadable, write_tensors

SAVED = "last.safetensors"
BEST = "best.safetensors"
METRICS = "metrics.jsonl"


class Progress(BaseModel):
    """Progress of a training, kept in the metadata of its saved state.

    `step` counts the skipped steps too, whose gradient was not finite; `drawn` counts the cases drawn of each task.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    step: NonNegativeInt = 0
    best: float | None = None
    best_step: NonNegativeInt = 0
    skipped: NonNegativeInt = 0
    skipped_in_a_row: NonNegativeInt = 0
    stopped: bool = False
    drawn: dict[str, NonNegativeInt] = {}


def write_state(folder: Path, network: nn.Module, optimiser: Optimizer, progress: Progress, identity: str) -> None:
    """Write everything that the next step depends on to one file."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in values.items()}
    write_tensors(folder / SAVED, tensors, {"progress": json.dumps(progress.model_dump()), "identity": identity})


def read_state(folder: Path, network: nn.Module, optimiser: Optimizer, identity: str, best: bool) -> Progress:
    """Restore network and optimiser from the saved state, and return the progress.

    Raises:
        InputError: If it belongs to another training.
        DamagedError: If it, or the file of the best weights, is damaged; network and optimiser are then unchanged.
    """
    path = folder / SAVED
    tensors, metadata = read_tensors(path)
    with parsed(path):
        owner, progress = metadata["identity"], Progress(**json.loads(metadata["progress"]))
    if owner != identity:
        raise InputError(
            f"{path}: belongs to a training with another configuration, data, seed or base model; "
            "remove the folder or choose another."
        )
    if best and progress.best_step:
        read_tensors(folder / BEST)
    with parsed(path):
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimiser."):
                _, index, key = name.split(".", 2)
                moments.setdefault(int(index), {})[key] = tensor
        fill(network, {name[8:]: own for name, own in tensors.items() if name.startswith("network.")})
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    return progress


def drop_saves(folder: Path) -> None:
    """Remove the saved states of a training whose editor is finished."""
    if (folder / EDITOR).is_file():
        for name in (SAVED, BEST):
            with suppress(OSError):
                (folder / name).unlink(missing_ok=True)


class MetricsLog:
    """Appends the metrics of each step to `metrics.jsonl`, and sends them to a tracker, `wandb` or `trackio`.

    Raises:
        InputError: If there is no such tracker, or it is not installed.
    """

    def __init__(self, folder: Path, track: str | None, config: Mapping[str, Any]) -> None:
        self._path = folder / METRICS
        self._began = time.monotonic()
        self._tracker: Any = None
        if track is None:
            return
        if track not in ("wandb", "trackio"):
            raise InputError(f"Unknown tracker '{track}'; wandb or trackio was expected.")
        try:
            self._tracker = import_module(track)
        except ImportError as error:
            raise InputError(f"The tracker '{track}' is not installed; pip install {track} adds it.") from error
        self._tracker.init(project="instructedit", name=folder.name, config=dict(config))

    def write(self, line: Mapping[str, Any]) -> None:
        """Append the metrics of a step; numbers that are not finite become null."""
        plain = _plain({**line, "seconds": round(time.monotonic() - self._began, 3)})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain) + "\n")
        if self._tracker is not None:
            flat = {key: value for key, value in line.items() if isinstance(value, int | float) and key != "step"}
            flat |= {f"validation/{key}": value for key, value in line.get("validation", {}).items()}
            self._tracker.log(flat, step=line["step"])

    def finish(self) -> None:
        """Close the tracker."""
        if self._tracker is not None:
            self._tracker.finish()


def trim_metrics(folder: Path, steps: int, report: Callable[[str], None]) -> None:
    """Drop damaged lines of the metrics and those of steps after `steps`, which are taken again."""
    path = folder / METRICS
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    except OSError as error:
        raise unreadable(path, error) from error
    kept = list(takewhile(lambda line: line.endswith(b"\n") and _step_of(line) <= steps, lines))
    if kept != lines:
        write_whole(path, b"".join(kept))
    if len(kept) < steps:
        report(
            f"note: {path}: damaged ({len(kept)} of the lines of {steps} steps can be read); the training does not "
            "depend on them."
        )


def _step_of(line: bytes) -> float:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return math.inf


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
