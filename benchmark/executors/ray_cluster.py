"""The executor of a Ray cluster: an actor for each worker, which keeps the model.

Options: `address` of a running cluster (`auto` for the one of this machine; without it, one is started here for this
run), and `gpus`, the number of cards of each worker, which a `device_map` may spread one model over. All nodes see the
folders of model, data, results and checkpoints under the same paths.
"""

import os
from collections import deque
from collections.abc import Iterator, Mapping
from logging import WARNING
from socket import create_connection
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
            fixed = address is None and setup.workers is not None
            local: dict[str, Any] = {"num_cpus": (setup.workers or 1) * setup.threads} if fixed else {}
            try:
                _knock(address or "")
                ray.init(address=address, log_to_driver=True, logging_level=WARNING, **local)
            except (OSError, OverflowError, ValueError, RuntimeError) as error:
                raise InputError(
                    f"--executor-option address={address}: no Ray cluster answers there ({_first_line(error)})."
                ) from error
        self.workers = self._fitting(setup.workers)
        self.capacity = 2 * self.workers
        self._idle: deque[Any] = deque()
        self._starting: dict[Any, Any] = {}
        for _ in range(self.workers):
            self._start()
        self._calls: deque[tuple[str, str, float | None]] = deque()
        self._running: dict[Any, tuple[str, Any, float | None, float]] = {}

    def submit(self, name: str, call: str, seconds: float | None = None) -> None:  # noqa: D102
        self._calls.append((name, call, seconds))
        self._begin()

    def completed(self) -> Iterator[Done]:  # noqa: D102
        found: list[Done] = []
        while not found and (self._running or self._calls):
            self._begin()
            ready, _ = self._ray.wait([*self._running, *self._starting], timeout=_TICK)
            found = [done for reference in ready for done in self._take(reference)] + self._expired()
        yield from found

    def close(self) -> None:  # noqa: D102
        for actor in (*self._idle, *self._starting.values(), *(running[1] for running in self._running.values())):
            self._ray.kill(actor)
        if self._own:
            self._ray.shutdown()

    def _fitting(self, wanted: int | None) -> int:
        every: list[dict[str, Any]] = self._ray.nodes()  # type: ignore[no-untyped-call]
        nodes: list[dict[str, float]] = [node["Resources"] for node in every if node["Alive"]]
        fits = sum(map(self._room, nodes))  # node by node: a worker is never divided among nodes
        if fits < 1:
            cards, cores = (sum(node.get(name, 0) for node in nodes) for name in ("GPU", "CPU"))
            raise InputError(
                f"--executor-option gpus={self._gpus:g}: the Ray cluster has {cards:g} cards and {cores:g} CPU cores "
                f"on {len(nodes)} nodes, no node with enough of both for one worker."
            )
        if wanted is not None and fits < wanted:
            self._setup.report(f"note: the Ray cluster has room for {fits} of {wanted} workers.")
        return min(fits, wanted or fits)

    def _room(self, node: Mapping[str, float]) -> int:
        cores = node.get("CPU", 0) // self._setup.threads
        return int(min(cores, node.get("GPU", 0) // self._gpus) if self._gpus else cores)

    def _start(self) -> None:
        """Ask for a worker; it gets calls once it is there, since after the loss of a node there may be no room."""
        setup = self._setup
        threads = {name: str(setup.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        kind = self._ray.remote(_Actor).options(
            num_cpus=setup.threads,
            num_gpus=self._gpus,
            max_restarts=0,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": threads},
        )
        actor = kind.remote(setup.performer, setup.threads)
        self._starting[actor.ready.remote()] = actor  # type: ignore[attr-defined]

    def _begin(self) -> None:
        while self._idle and self._calls:
            name, call, seconds = self._calls.popleft()
            actor = self._idle.popleft()
            self._running[actor.perform.remote(call)] = name, actor, seconds, monotonic()

    def _take(self, reference: Any) -> Iterator[Done]:
        """Take a finished call, or a worker that is there now; one that cannot be started costs a call."""
        actor, name = self._starting.pop(reference, None), None
        if actor is None:
            name, actor, _, _ = self._running.pop(reference)
        errors = self._ray.exceptions
        try:
            reply = self._ray.get(reference)
        except errors.RayTaskError as error:
            self._idle.append(actor)
            yield Done(name or "", lost=f"{type(error.cause).__name__}: {error.cause}")
            return
        except errors.RayError as error:
            self._ray.kill(actor)  # it may live on where it cannot be reached
            self._start()
            if name is not None:
                yield Done(name, lost="its worker died, or the node that it was on")
            elif self._calls:
                yield Done(self._calls.popleft()[0], lost=f"no worker could be started ({_first_line(error)})")
            return
        self._idle.append(actor)
        if name is not None:
            yield Done(name, reply)

    def _expired(self) -> list[Done]:
        found = []
        for reference, (name, actor, seconds, begun) in list(self._running.items()):
            if seconds is not None and monotonic() - begun > seconds:
                del self._running[reference]
                self._ray.kill(actor)
                self._start()
                found.append(Done(name, lost=f"no reply within {seconds:,.0f} s"))
        return found


class _Actor:
    """A worker: makes its performer at the first call, so that a failure belongs to a call."""

    def __init__(self, performer: str, threads: int) -> None:
        self._performer: Any = None
        self._target, self._threads = performer, threads

    def ready(self) -> None:
        """Answer as soon as the worker's process is there."""

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
    if number < 0 or not (number < 1 or number.is_integer()):  # Ray divides a card among workers, but not several
        raise InputError(
            f"--executor-option gpus: found '{text}', a whole number of cards for each worker, or a part of one card, "
            "was expected."
        )
    return number


def _knock(address: str) -> None:
    """Raise `OSError` at once if nobody listens at HOST:PORT, where Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        create_connection((host, int(port)), timeout=10).close()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
