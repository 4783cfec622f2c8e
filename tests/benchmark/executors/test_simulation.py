"""The dispatcher on 64 simulated cards, some slow and some failing, in simulated time (docs/guides/scale.md)."""

import heapq
import random
import sys
from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from instructedit.benchmark.executors.base import Done
from instructedit.benchmark.run.dispatcher import Dispatcher
from instructedit.benchmark.run.units import Job, Reply, Result, Unit

CARDS, SECONDS = 64, 120.0
JOB = Job(preset="", config="", place="", folder="", checkpoints="", digest="d")


class Cluster:
    """Workers whose calls take a time of chance: an executor whose clock jumps from one event to the next."""

    def __init__(self, seed: int, slow: float = 0.0, failing: float = 0.0) -> None:
        self.workers, self.capacity = CARDS, 2 * CARDS
        self.now = 0.0
        self._random = random.Random(seed)
        self._pace = [4.0 if self._random.random() < slow else self._random.uniform(0.9, 1.1) for _ in range(CARDS)]
        self._failing = failing
        self._idle = deque(range(CARDS))
        self._calls: deque[str] = deque()
        self._events: list[tuple[float, str, int, bool]] = []

    def clock(self) -> float:
        return self.now

    def submit(self, name: str, call: str, seconds: float | None = None) -> None:
        self._calls.append(name)
        self._begin()

    def _begin(self) -> None:
        while self._idle and self._calls:
            card, name = self._idle.popleft(), self._calls.popleft()
            lasts = SECONDS * self._pace[card] * self._random.uniform(0.8, 1.2)
            fails = self._random.random() < self._failing
            lasts *= self._random.random() if fails else 1.0
            heapq.heappush(self._events, (self.now + lasts, name, card, fails))

    def completed(self) -> Iterator[Done]:
        self.now, name, card, fails = heapq.heappop(self._events)
        self._idle.append(card)
        self._begin()
        yield Done(name, lost="a lost node") if fails else Done(name, Reply(result=Result()).model_dump_json())

    def close(self) -> None:
        """Nothing is left."""


def makespan(tmp_path, units, seed, **faults):
    cluster = Cluster(seed, **faults)
    store = SimpleNamespace(folder=tmp_path, append=lambda *_: None)
    progress = SimpleNamespace(begin=lambda _: None, add=lambda *_: None)
    dispatcher = Dispatcher(cluster, JOB, store, {}, 0, lambda _: None, progress, clock=cluster.clock)
    outcome = dispatcher.run(units)
    assert not outcome.given_up
    # what the cards could do at best, each at its own pace, all of them to the end
    ideal = len(units) * SECONDS / sum(1 / pace for pace in cluster._pace)
    return cluster.now / ideal


def units(cases: int, chunk: int, rows: int = 8) -> list[Unit]:
    names = tuple(f"row-{number}" for number in range(rows))
    starts = range(0, cases, chunk)
    return [Unit(kind="single", rows=names, cases=(f"zsre/test/{start}",), stage="single") for start in starts]


@pytest.mark.parametrize(
    ("faults", "most"),
    [({}, 1.15), ({"slow": 0.05}, 1.3), ({"failing": 0.02}, 1.2), ({"slow": 0.05, "failing": 0.02}, 1.35)],
)
def test_ten_thousand_cases_on_64_cards_take_little_longer_than_the_ideal(tmp_path, faults, most):
    ratios = [makespan(tmp_path, units(10_000, 8), seed, **faults) for seed in range(5)]
    sys.stderr.write(f"{faults}: {min(ratios):.2f} to {max(ratios):.2f} of the ideal\n")
    assert max(ratios) < most
