"""The executor of a Ray cluster: an actor for each worker, which keeps the model.

Options: `address` of a running cluster (`auto` for the one of this machine; without it, one is started here for this
run), and `gpus`, the number of cards of each worker, which a `device_map` may spread one model over. All nodes see the
folders of model, data, results and checkpoints under the same paths.
"""

import os
from collections import deque
from collections.abc import Iterator
from logging import WARNING
from time import monotonic
from typing import Any

from instructedit.editors.errors import InputError

from .base import Done, Setup, make_performer

_OPTIONS = ("address", "gpus")
_TICK = 1.0
"""Seconds between looks at limits of time."""


class Ray:
    """Actors on the nodes of a cluster; one that is lost with its node, or takes too long, is replaced."""

    def __init__(self, setup: Setup) -> None:
        setup.refuse_options("ray", _OPTIONS)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # A later version's default; it keeps the devices of a worker that asks for none, as torch does.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError as error:
            raise InputError(
                'The executor "ray" needs the package ray: pip install "instructedit-bench[ray]".'
            ) from error
        self._ray, self._setup = ray, setup
        address = setup.options.get("address")
        self._gpus = _number(setup.options.get("gpus", "0"))
        self._own = not ray.is_initialized()
        if self._own:
            local: dict[str, Any] = {} if address else {"num_cpus": setup.workers * setup.threads}
            try:
                ray.init(address=address, log_to_driver=True, logging_level=WARNING, **local)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise InputError(
                    f"--executor-option address={address}: no Ray cluster answers there ({str(error).splitlines()[0]})."
                ) from error
        self.workers = self._fitting(setup.workers)
        self.capacity = 2 * self.workers
        self._idle = deque(self._actor() for _ in range(self.workers))
        self._calls: deque[tuple[str, str, float | None]] = deque()
        self._running: dict[Any, tuple[str, Any, float | None, float]] = {}

    def submit(self, name: str, call: str, seconds: float | None = None) -> None:  # noqa: D102
        self._calls.append((name, call, seconds))
        self._begin()

    def completed(self) -> Iterator[Done]:  # noqa: D102
        found: list[Done] = []
        while not found and (self._running or self._calls):
            self._begin()
            ready, _ = self._ray.wait(list(self._running), timeout=_TICK)
            found = [self._finish(reference) for reference in ready] + self._expired()
        yield from found

    def close(self) -> None:  # noqa: D102
        for actor in (*self._idle, *(running[1] for running in self._running.values())):
            self._ray.kill(actor)
        if self._own:
            self._ray.shutdown()

    def _fitting(self, wanted: int) -> int:
        resources: dict[str, float] = self._ray.cluster_resources()  # type: ignore[no-untyped-call]
        fits = int(resources.get("CPU", 0) // self._setup.threads)
        if self._gpus:
            fits = min(fits, int(resources.get("GPU", 0) // self._gpus))
        if fits < 1:
            raise InputError(
                f"--executor-option gpus={self._gpus:g}: the Ray cluster has {resources.get('GPU', 0):g} cards and "
                f"{resources.get('CPU', 0):g} CPU cores, too few for one worker."
            )
        if fits < wanted:
            self._setup.report(f"note: the Ray cluster has room for {fits} of {wanted} workers.")
        return min(fits, wanted)

    def _actor(self) -> Any:
        setup = self._setup
        threads = {name: str(setup.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        kind = self._ray.remote(_Actor).options(
            num_cpus=setup.threads,
            num_gpus=self._gpus,
            max_restarts=0,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": threads},
        )
        return kind.remote(setup.performer, setup.threads)

    def _begin(self) -> None:
        while self._idle and self._calls:
            name, call, seconds = self._calls.popleft()
            actor = self._idle.popleft()
            self._running[actor.perform.remote(call)] = name, actor, seconds, monotonic()

    def _finish(self, reference: Any) -> Done:
        name, actor, _, _ = self._running.pop(reference)
        try:
            reply = self._ray.get(reference)
        except self._ray.exceptions.RayActorError:
            self._idle.append(self._actor())
            return Done(name, lost="its worker died, or the node that it was on")
        except self._ray.exceptions.RayTaskError as error:
            self._idle.append(actor)
            return Done(name, lost=f"{type(error.cause).__name__}: {error.cause}")
        self._idle.append(actor)
        return Done(name, reply)

    def _expired(self) -> list[Done]:
        found = []
        for reference, (name, actor, seconds, begun) in list(self._running.items()):
            if seconds is not None and monotonic() - begun > seconds:
                del self._running[reference]
                self._ray.kill(actor)
                self._idle.append(self._actor())
                found.append(Done(name, lost=f"no reply within {seconds:,.0f} s"))
        return found


class _Actor:
    """A worker: makes its performer at the first call, so that a failure belongs to a call."""

    def __init__(self, performer: str, threads: int) -> None:
        self._performer: Any = None
        self._target, self._threads = performer, threads

    def perform(self, call: str) -> str:
        if self._performer is None:
            self._performer = make_performer(self._target, None, self._threads)
        reply: str = self._performer.perform(call)
        return reply


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if number < 0:
        raise InputError(f"--executor-option gpus: found '{text}', a number of cards for each worker was expected.")
    return number
