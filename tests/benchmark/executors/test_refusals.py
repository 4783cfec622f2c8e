"""Executors that cannot be had are refused in one sentence, and a lost worker costs one call."""

import multiprocessing
import os
import signal
import socket
from contextlib import closing

import pytest

from instructedit.benchmark.executors.base import EXECUTORS, Done, Setup
from instructedit.benchmark.forecast.machine import Place
from instructedit.benchmark.forecast.workers import open_executor
from instructedit.editors import InputError

from .echo import Echo

pytestmark = pytest.mark.usefixtures("tests_importable")

ECHO = f"{Echo.__module__}:{Echo.__name__}"


def test_a_number_of_workers_that_the_executor_does_not_have_is_refused(tmp_path):
    with (
        pytest.raises(InputError, match="--workers: found 3, the executor 'local' has one"),
        open_executor("local", "3", (), (), Place(tmp_path), print),
    ):
        pass


def test_an_option_of_an_executor_without_options_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"the executor 'processes' has no option 'gpus'\.$"):
        EXECUTORS.get("processes")(Setup(ECHO, 1, tmp_path, options={"gpus": "1"}))


@pytest.mark.parametrize("name", ["timeout_min", "nonsense", "cluster"])
def test_what_submitit_refuses_is_one_sentence_and_leaves_no_files(tmp_path, name):
    pytest.importorskip("submitit")
    setup = Setup(ECHO, 1, tmp_path / "executors", options={"cluster": "local", name: "strange"})
    with pytest.raises(InputError, match=rf"^--executor-option: submitit says: .*({name}|strange)"):
        EXECUTORS.get("slurm")(setup)
    assert not (tmp_path / "executors" / "slurm" / "calls").exists()


def test_slurm_has_to_be_told_how_many_jobs_may_run(tmp_path):
    pytest.importorskip("submitit")
    with (
        pytest.raises(InputError, match=r"^--workers: found 'auto'; a number of jobs was expected"),
        open_executor("slurm", "auto", ["cluster=local"], (), Place(tmp_path), print),
    ):
        pass


def test_a_job_that_is_lost_costs_the_call_that_it_was_at(tmp_path):
    pytest.importorskip("submitit")
    with closing(EXECUTORS.get("slurm")(Setup(ECHO, 1, tmp_path, options={"cluster": "local"}))) as executor:
        for call in ("before", "die", "after"):
            executor.submit(call, call)
        found = {}
        while len(found) < 3:
            found |= {done.name: done.reply for done in executor.completed()}
    assert found == {"before": "before", "die": None, "after": "after"}


@pytest.mark.parametrize("gpus", ["nan", "1.5", "-1", "two"])
def test_ray_refuses_a_number_of_cards_that_no_worker_can_have(tmp_path, gpus):
    pytest.importorskip("ray")
    with pytest.raises(InputError, match=f"gpus: found '{gpus}', a whole number of cards"):
        EXECUTORS.get("ray")(Setup(ECHO, 1, tmp_path, options={"gpus": gpus}))


def test_an_address_where_no_cluster_answers_is_refused_at_once(tmp_path):
    pytest.importorskip("ray")
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(InputError, match=f"address={address}: no Ray cluster answers there .*refused"):
            EXECUTORS.get("ray")(Setup(ECHO, 1, tmp_path, options={"address": address}))


def test_an_interrupt_of_the_whole_group_does_not_reach_workers_that_are_starting(tmp_path):
    with closing(EXECUTORS.get("processes")(Setup(ECHO, 1, tmp_path))) as executor:
        executor.submit("name", "call")
        while not (started := multiprocessing.active_children()):
            pass
        os.kill(started[0].pid, signal.SIGINT)
        assert [(done.name, done.reply) for done in executor.completed()] == [("name", "call")]


def test_a_job_takes_up_a_reply_to_the_same_call_alone(tmp_path):
    """What jobs wrote after their head was killed is taken by the next head, unless other code made the call."""
    setup = Setup(ECHO, 1, tmp_path, options={"cluster": "local"})
    for call, expected in (("the call", "of an earlier job"), ("a call of other code", "a call of other code")):
        executor = EXECUTORS.get("slurm")(setup)
        (tmp_path / "slurm" / "calls" / "one.json").write_text("the call")
        (tmp_path / "slurm" / "replies" / "one.json").write_text("of an earlier job")
        executor.submit("one", call, 60.0)
        assert list(executor.completed()) == [Done("one", expected)]
