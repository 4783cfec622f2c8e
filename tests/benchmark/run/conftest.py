"""Finished runs of each schedule, one for all tests that compare with them."""

import pytest

from instructedit.benchmark.run.runner import run

from ..worlds import prepared_run, write_world
from .schedules import OPTIONS


@pytest.fixture(scope="session")
def scheduled(tmp_path_factory):
    """Return a function that prepares a run under a schedule."""
    place = write_world(tmp_path_factory.mktemp("schedules"))
    return lambda schedule, **changes: prepared_run(place, **{**OPTIONS, "schedule": schedule, **changes})


def _finished(prepared, factory):
    return prepared, run(prepared, factory.mktemp("finished"))


@pytest.fixture(scope="session")
def batch(scheduled, tmp_path_factory):
    return _finished(scheduled("batch", edited=("recent",)), tmp_path_factory)


@pytest.fixture(scope="session")
def batches(scheduled, tmp_path_factory):
    """Five edits in batches of 2, 2 and 1; the five cases of the other task are dealt to them in turn."""
    return _finished(scheduled("batch", edited=("recent",), limit=5, batch_size=2), tmp_path_factory)


@pytest.fixture(scope="session")
def sequence(scheduled, tmp_path_factory):
    return _finished(scheduled("sequential", edited=("recent",), limit=5, at=(3, 100)), tmp_path_factory)
