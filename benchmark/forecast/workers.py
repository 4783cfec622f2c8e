"""How many workers compute runs, and where: what the user says, or what the machine and the runs suggest."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

import torch

from instructedit.editors.errors import InputError

from ..executors.base import EXECUTORS, Executor, Setup
from .forecast import Forecast
from .machine import Place, cores, free

PERFORMER = "instructedit.benchmark.run.worker:RemoteWorker"
PROCESS = 700 * 2**20
"""Bytes of a worker's process without model and networks, of which all processes share a part."""
FEWEST = 4
"""Units for which `auto` starts processes; starting one takes as long as a small unit."""


@contextmanager
def open_executor(
    name: str | None,
    workers: str,
    options: Sequence[str],
    forecasts: Sequence[Forecast],
    place: Place,
    report: Callable[[str], None],
) -> Iterator[Executor | None]:
    """Yield the executor of runs; None if this process computes them.

    Without a name it is this process, or several of this machine. `workers` is their number or `auto`, `options` are
    `KEY=VALUE`. `InputError` if there is no such executor, or it cannot be used.
    """
    given = _options(options)
    count = _count(workers)
    if name in (None, "processes"):
        count = count or _fitting(forecasts, place)
    if name is None:
        name = "local" if count == 1 else "processes"
    make = EXECUTORS.get(name)
    if name == "local":
        if (count or 1) > 1:
            raise InputError(f"--workers: found {count}, the executor 'local' has one; expected --executor processes.")
        if given:
            raise InputError(
                "--executor-option: the executor 'local' has no options; expected --executor ray or slurm."
            )
        yield None
        return
    setup = Setup(
        PERFORMER,
        count,
        place.out / ".executors",
        devices=_devices(place) if name == "processes" else (),
        threads=torch.get_num_threads(),
        options=given,
        report=report,
    )
    with closing(make(setup)) as executor:
        report(f"{executor.workers} workers ({name})")
        yield executor


def _options(texts: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--executor-option: found '{text}', expected KEY=VALUE.")
        found[key.strip()] = value.strip()
    return found


def _count(workers: str) -> int | None:
    """Return the number of workers; None for `auto`."""
    if workers == "auto":
        return None
    if not workers.isdecimal() or int(workers) < 1:
        raise InputError(f"--workers: found '{workers}', expected a number of at least 1, or auto.")
    return int(workers)


def _fitting(forecasts: Sequence[Forecast], place: Place) -> int:
    """Return how many processes are worth it: one for each core or card, if memory allows and there is work."""
    if place.device_map is not None or not forecasts:
        return 1
    if place.torch_device.startswith("cuda"):
        room = torch.cuda.device_count() if place.device is None else 1
    else:
        largest = max(forecast.peak[0] for forecast in forecasts)
        weights = max(forecast.weights for forecast in forecasts)
        # the weights themselves are shared where they are mapped from files of the same dtype; not counted on
        room = min(_cores(), max(1, free(place).host // (largest + weights + PROCESS)))
    return room if max(map(_units, forecasts)) >= FEWEST else 1


def _units(forecast: Forecast) -> int:
    chunk = forecast.run.config.chunk
    chunks = sum(-(-len(cases) // chunk) for cases in forecast.run.cases.values())
    return chunks + 2 * sum(own.missing for own in forecast.editors)


def _cores() -> int:
    return max(1, cores() // torch.get_num_threads())


def _devices(place: Place) -> tuple[str, ...]:
    """Return the devices that processes take in turn; none where each chooses as one process would."""
    if place.device is None and place.device_map is None and torch.cuda.is_available():
        return tuple(f"cuda:{card}" for card in range(torch.cuda.device_count()))
    return ()
