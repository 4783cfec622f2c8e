"""A run without a terminal says now and then how long it still takes."""

from contextlib import closing

from instructedit.benchmark.run import progress
from instructedit.benchmark.run.progress import Progress
from instructedit.benchmark.run.units import Unit

UNIT = Unit(kind="single", rows=("none",), cases=("zsre/test/0",), stage="single")
TRAINING = Unit(kind="training", rows=("mend",))


def test_the_remaining_time_is_extrapolated_from_this_start(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress, "perf_counter", lambda: now[0])
    said: list[str] = []
    with closing(Progress(1000, 500, 0, True, said.append)) as shown:
        shown.begin(UNIT)
        for seconds, count in ((10, 20), (35, 50), (40, 10), (80, 120), (200, 300)):
            now[0] = 100 + seconds
            shown.add(UNIT, count)
    assert said == ["570 of 1,000 results, about 3.6 min left", "700 of 1,000 results, about 2.0 min left"]


def test_nothing_is_said_if_nothing_is_to_be_shown(monkeypatch):
    monkeypatch.setattr(progress, "FIRST_LINE", 0.0)
    said: list[str] = []
    with closing(Progress(10, 0, 0, False, said.append)) as shown:
        shown.begin(UNIT)
        shown.add(UNIT, 5)
    assert not said


def test_trainings_are_counted_apart_from_results(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress, "perf_counter", lambda: now[0])
    said: list[str] = []
    with closing(Progress(40, 0, 3, True, said.append)) as shown:
        for number in range(3):
            shown.begin(TRAINING)
            if number == 1:  # a unit that is submitted beside trainings
                shown.begin(UNIT)
            now[0] += 60
            shown.add(TRAINING, 0)
        shown.begin(UNIT)
        now[0] += 40
        shown.add(UNIT, 10)
    assert said == [
        "1 of 3 trainings, about 2.0 min left for them, then 40 results",
        "2 of 3 trainings, about 60 s left for them, then 40 results",
        "10 of 40 results, about 2.0 min left",
    ]


def test_results_beside_the_last_training_do_not_count_for_the_time_that_is_left(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress, "perf_counter", lambda: now[0])
    said: list[str] = []
    with closing(Progress(40, 0, 1, True, said.append)) as shown:
        shown.begin(TRAINING)
        shown.begin(UNIT)
        now[0] += 1000
        shown.add(UNIT, 10)
        shown.add(TRAINING, 0)
        now[0] += 4000
        shown.add(UNIT, 10)
    assert said[-1] == "20 of 40 results, about 2.2 h left", "20 results of 400 s each"
