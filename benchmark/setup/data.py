"""The splits that a run reads: test, training without test subjects (`leakage`), and placeholders for absent data."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from instructedit.editors import EditCase, EditRequest, InputError, Probe

from ..results.records import TaskData
from ..tasks.base import Split, Task, TaskCases, make_task
from ..tasks.facts import load_facts
from ..tasks.sampling import divide
from ..tasks.sources import AbsentError, MissingError, Source, open_source
from .config import RunConfig
from .leakage import training_cases
from .settings import ATTITUDE, TrainingTasks, barred_tasks, trained_tasks

PUBLISHED = "published sizes"
"""Source of placeholder data."""


class DataReader:
    """Reads splits of tasks. Runs that share a reader read each file once.

    A `local` one fetches nothing. Placeholder cases, as many as were published, then replace hub data that are not on
    this machine; their source is `PUBLISHED`.
    """

    def __init__(self, *, local: bool = False) -> None:
        self._local = local
        self._sources: dict[str, Source] = {}
        self._read: dict[tuple[str, ...], TaskCases] = {}

    def source(self, config: RunConfig) -> Source:
        """Return where a run's data are; `InputError` if there is no such place."""
        if config.data not in self._sources:
            with config.origin.at("data"):
                self._sources[config.data] = open_source(config.data, local=self._local)
        return self._sources[config.data]

    def test(self, config: RunConfig, task: str) -> TaskCases:
        """Return the test split of a task, or a run's own facts; `InputError` if the file is missing or broken."""
        if config.facts is not None and task == config.facts_task:
            if (key := (config.facts,)) not in self._read:
                self._read[key] = load_facts(config.facts)
            return self._read[key]
        return self._once(config, task, "test", (), lambda source: make_task(task, config.task_options).load(source))

    def training(self, config: RunConfig, task: str) -> TaskCases:
        """Return a training split without the run's test subjects; `InputError` if a file is missing or broken."""
        barred = barred_tasks(config)
        tested = [case for other in barred for case in self.test(config, other).cases]
        options = config.task_options
        return self._once(config, task, "train", barred, lambda own: training_cases(task, own, tested, options))

    def _once(
        self, config: RunConfig, task: str, split: Split, barred: tuple[str, ...], load: Callable[[Source], TaskCases]
    ) -> TaskCases:
        key = config.data, task, split, *barred, json.dumps(config.task_options, sort_keys=True)
        if key not in self._read:
            try:
                with _naming_key(config, task):
                    self._read[key] = load(self.source(config))
            except AbsentError:
                if not self._local:
                    raise
                self._read[key] = published_cases(make_task(task, config.task_options), split)
        return self._read[key]

    def evaluated(self, config: RunConfig, task: str, trainings: Sequence[TrainingTasks]) -> TaskCases:
        """Return the cases of the evaluated split.

        The validation split has the cases that no training of the run learns from: those of the smallest limit are
        validation cases under every larger one too.
        """
        if config.split == "test":
            return self.test(config, task)
        training = self.training(config, task)
        if config.split == "train":
            return training
        limits = [own.limits[task] for own in trainings if task in own.limits]
        _, kept = divide(training.cases, min(limits, default=None), config.validation)
        skipped = training.data.skipped | {"case left out: editors may learn from it": len(training.cases) - len(kept)}
        data = training.data.model_copy(update={"cases": len(kept), "skipped": skipped})
        return TaskCases(kept, data, training.notes)


def published_cases(task: Task, split: Split) -> TaskCases:
    """Return as many placeholders as were published, to be counted, never run; `InputError` if that is not known."""
    if split not in task.published_rows:
        raise InputError(f"The data of '{task.name}' are absent, and no published size of it is known.")

    def case(name: str) -> EditCase:
        sentiment: Literal["positive"] | None = "positive" if task.name == ATTITUDE else None
        request = EditRequest(name, task.name, f"{name} is", "a placeholder", name, sentiment=sentiment)
        return EditCase(request, (Probe("reliability", "edit", request.prompt, (request.target,)),))

    count = task.published_rows[split]
    data = TaskData(
        task=task.name,
        version=task.version,
        source=PUBLISHED,
        revision=None,
        sha256={},
        licence=task.licence,
        citation=task.citation,
        rows=count,
        cases=count,
        options=task.options.recorded(),
    )
    return TaskCases(tuple(case(f"{task.name}/{split}/{number}") for number in range(count)), data)


@contextmanager
def _naming_key(config: RunConfig, task: str) -> Iterator[None]:
    """Add to an error about missing data the key that requires the task."""
    try:
        yield
    except MissingError as error:
        key = "tasks" if task in config.tasks else "train" if task in trained_tasks(config) else "held_out"
        how = "" if key in config.model_fields_set else f", not set and so as the setting '{config.setting}' has it,"
        error.args = (f"{config.origin.of(key)}{how} asks for the task '{task}': {error}",)
        raise
