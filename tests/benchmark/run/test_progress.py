"""A run without a terminal says now and then how long it still takes."""

from contextlib import closing

from instructedit.benchmark.run import progress
from instructedit.benchmark.run.progress import Progress


def test_the_remaining_time_is_extrapolated_from_this_start(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress, "perf_counter", lambda: now[0])
    said: list[str] = []
    with closing(Progress(1000, 500, True, said.append)) as shown:
        for seconds, count in ((10, 20), (35, 50), (40, 10), (80, 120), (200, 300)):
            now[0] = 100 + seconds
            shown.add(count)
    assert said == ["570 of 1,000 results, about 3.6 min left", "700 of 1,000 results, about 2.0 min left"]


def test_nothing_is_said_if_nothing_is_to_be_shown(monkeypatch):
    monkeypatch.setattr(progress, "FIRST_LINE", 0.0)
    said: list[str] = []
    with closing(Progress(10, 0, False, said.append)) as shown:
        shown.add(5)
    assert not said
