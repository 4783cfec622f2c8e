"""The executor of a Slurm cluster: job arrays through submitit.

Options are those of submitit's `AutoExecutor.update_parameters`, e.g. `slurm_partition`, `timeout_min`, `mem_gb`,
`gpus_per_node`, and `cluster`: `slurm`, or `local` for processes of this machine. All nodes see the folders of model,
data, results and checkpoints under the same paths.

Calls and replies are files. Each job of an array answers some calls, one after the other, and writes each reply as soon
as it is there, so a job that is lost costs one call; one that finds a reply does not answer again. Replies that came
after the head was killed are taken by the next one.
"""

import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from instructedit.editors.errors import InputError
from instructedit.editors.files.atomic import write_whole

from .base import Done, Setup, make_performer

POLL = 1.0
"""Seconds between two looks at the replies."""


class Slurm:
    """Jobs on the nodes of a cluster."""

    capacity = 1_000_000  # what is ready is queued at once: the cluster has its own scheduler

    def __init__(self, setup: Setup) -> None:
        try:
            from submitit import AutoExecutor
        except ImportError as error:
            raise InputError(
                'The executor "slurm" needs the package submitit: pip install "instructedit-bench[slurm]".'
            ) from error
        if setup.workers is None:
            raise InputError("--workers: found 'auto'; a number of jobs was expected, which Slurm runs at a time.")
        self._setup = setup
        self.workers = setup.workers
        self._folder = (setup.folder / "slurm").resolve()
        options = dict(setup.options)
        cluster = options.pop("cluster", "slurm")
        try:
            self._executor = AutoExecutor(self._folder / "jobs", cluster=cluster)
            given = {name: int(text) if text.isdecimal() else text for name, text in options.items()}
            defaults = {"cpus_per_task": setup.threads, "name": "instructedit"}
            parallel = {"slurm_array_parallelism": self.workers} if cluster == "slurm" else {}
            self._executor.update_parameters(**{**defaults, **parallel, **given})
        except (RuntimeError, ValueError, NameError, TypeError, AssertionError) as error:
            raise InputError(f"--executor-option: submitit says: {' '.join(str(error).split())}") from error
        for name in ("calls", "replies", "jobs"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        self._new: dict[str, float | None] = {}
        self._jobs: dict[Any, dict[str, float | None]] = {}
        self._last_reply: dict[Any, float] = {}

    def submit(self, name: str, call: str, seconds: float | None = None) -> None:  # noqa: D102
        path = self._folder / "calls" / f"{name}.json"
        if path.is_file() and path.read_text(encoding="utf-8") != call:  # of other code: so is a reply to it
            self._clear(name)
        (self._folder / "replies" / f"{name}.lost").unlink(missing_ok=True)  # of an earlier attempt
        write_whole(path, call)
        self._new[name] = seconds

    def completed(self) -> Iterator[Done]:  # noqa: D102
        found: list[Done] = []
        if self._new:
            self._submit_array()
        while not found and self._jobs:
            found = [done for job in list(self._jobs) for done in self._look_at(job)]
            if not found:
                sleep(POLL)
        yield from found

    def close(self) -> None:  # noqa: D102
        for job in self._jobs:
            job.cancel()

    def _submit_array(self) -> None:
        names = list(self._new)
        count = min(self.workers, len(names))
        parts = [names[number::count] for number in range(count)]
        jobs = self._executor.map_array(
            _answer, [self._setup.performer] * count, [self._setup.threads] * count, [self._folder] * count, parts
        )
        for job, part in zip(jobs, parts, strict=True):
            self._jobs[job] = {name: self._new[name] for name in part}
        self._new.clear()

    def _look_at(self, job: Any) -> Iterator[Done]:
        """Yield what a job has finished, and the call that it is at, if it is over or takes too long.

        Calls that it has not begun are given to another job: they are not to blame, so it is no attempt of theirs.
        """
        over = job.done()  # before the replies, which it may have written a moment ago
        calls = self._jobs[job]
        for name in list(calls):
            for ending in ("json", "lost"):
                path = self._folder / "replies" / f"{name}.{ending}"
                if path.is_file() and name in calls:
                    text = path.read_text(encoding="utf-8")
                    self._last_reply[job] = monotonic()
                    del calls[name]
                    self._clear(name)
                    yield Done(name, text) if ending == "json" else Done(name, lost=text)
        if not calls:
            del self._jobs[job]
            return
        if job.state == "RUNNING":
            self._last_reply.setdefault(job, monotonic())
        first, seconds = next(iter(calls.items()))
        late = seconds is not None and monotonic() - self._last_reply.get(job, monotonic()) > seconds
        if late:
            job.cancel()
        if late or over:
            del self._jobs[job], calls[first]
            self._new |= calls
            why = f"no reply within {seconds:,.0f} s" if late else f"its job {job.job_id} was lost ({job.state})"
            yield Done(first, lost=why)

    def _clear(self, name: str) -> None:
        for path in ("calls/{}.json", "replies/{}.json", "replies/{}.lost"):
            (self._folder / path.format(name)).unlink(missing_ok=True)


def _answer(performer: str, threads: int, folder: Path, names: Sequence[str]) -> None:
    """Answer calls in a job; one that fails does not stop the others."""
    from submitit.core.utils import UncompletedJobError

    own = None
    for name in names:
        reply = folder / "replies" / f"{name}.json"
        call = folder / "calls" / f"{name}.json"
        if reply.exists() or not call.exists():
            continue
        try:
            own = own or make_performer(performer, None, threads)
            write_whole(reply, own.perform(call.read_text(encoding="utf-8")))
        except UncompletedJobError:  # the job is cancelled, or its time is over
            raise
        except Exception as error:
            traceback.print_exc()
            write_whole(reply.with_suffix(".lost"), f"{type(error).__name__}: {error}")
