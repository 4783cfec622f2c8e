"""A run before its model is loaded: rows, cases, training sets. Whatever is wrong with these shows here."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from instructedit.editors import (
    Context,
    EditCase,
    Editor,
    EditRequest,
    InputError,
    InstructedProbes,
    TrainedEditor,
    TrainingSet,
    instruction_context,
)

from ..results.records import TaskData
from ..run.trainings import Training, TrainingCases, training_set
from ..tasks.base import TaskCases, make_task, subjects
from ..tasks.sampling import choose, divide
from ..tasks.sources import AbsentError, Embedded, Source, open_source
from .banks import InstructionBank, instruct, read_bank, training_instructor
from .checks import check_options, editor_of, needing
from .config import PROBES, RunConfig
from .published_cases import PublishedCases, stand_ins
from .settings import Arm, RowSpec, arms, barred_tasks, rows

CONTROLS = ("none", "wrong-task", "name-only", "random-text")
"""Conditions whose instruction says nothing, or nothing true, of the edit."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What a configuration comes to.

    Attributes:
        config: The configuration.
        rows: The rows of the run.
        editors: The editor of each row, not trained yet.
        probes: Which probes of each row carry the instruction.
        trainings: The trainings of the run, each once.
        cases: The evaluated cases of each task, after the limit.
        edited: Tasks whose cases a joint or accumulating edit carries; none where each case is edited by itself.
        data: What the evaluated splits were read from.
        training_data: What the training splits were read from.
        bank: The instructions; None where no editor reads any.
        notes: Sentences for the user about the data.
    """

    config: RunConfig
    rows: tuple[RowSpec, ...]
    editors: dict[str, Editor[Any]]
    probes: dict[str, InstructedProbes]
    trainings: tuple[Training, ...]
    cases: dict[str, tuple[EditCase, ...]]
    edited: tuple[str, ...]
    data: tuple[TaskData, ...]
    training_data: tuple[TaskData, ...]
    bank: InstructionBank | None
    notes: tuple[str, ...]


def outline(config: RunConfig, name: str, *, local: bool = False) -> Outline:
    """Resolve a configuration and read its data.

    Args:
        config: What is asked for.
        name: Preset or file it came from.
        local: Whether nothing may be fetched: stand-ins of the published size take the place of hub data that are not
            on this machine, and the data name 'published sizes' as their source.

    Raises:
        InputError: If anything of it cannot be used.
    """
    try:
        check_options(config)
        with config.origin.at("data"):
            source = open_source(_place(config), local=local)
        return _outline(config, name, _Data(config, source))
    except AbsentError:
        if not local:
            raise
        return _outline(config, name, _Published(config))


def _outline(config: RunConfig, name: str, data: "_Data") -> Outline:
    at = config.origin.at
    plain = {row: make_editor(config, row) for row in config.editors}
    probes = {row: config.instructed_probes(row) or editor.instructed_probes for row, editor in plain.items()}
    instructed = any(editor.instructed for editor in plain.values()) or set(probes.values()) > {"none"}
    bank = _bank(config) if instructed else None
    with at("setting"):
        found_arms = arms(config, data.size)
    kinds = {row: type(editor) for row, editor in plain.items()}
    with at("editors"):
        found = rows(config, kinds, found_arms, all_conditions(bank) if bank else (), probes)
    trainings = _trainings(config, found, data, bank)
    if trainings and config.split == "train":
        raise InputError(
            f"{config.origin.of('split')}: trained editors learn from the split 'train'; 'validation' or 'test' was "
            "expected."
        )
    evaluated = {
        task: data.evaluated(task, found_arms) for task in config.tasks if any(task in row.tasks for row in found)
    }
    cases = {task: choose(of_task.cases, config.limit) for task, of_task in evaluated.items()}
    edited = _edited(config, tuple(cases))
    for row in found:  # what cannot be asked or edited fails now rather than after a training
        for task in dict.fromkeys((*row.tasks, *edited)):
            with at("instruction"):
                requests = requests_of(row.instruction, bank, cases[task][:1], config.seed)
            for request in requests:
                with at(f"editors.{row.editor}", row.editor):
                    probe_context(plain[row.editor], request, probes[row.editor])
    training = [data.training.of(task) for task in sorted({task for t in trainings for task in t.arm.train})]
    return Outline(
        config=config,
        rows=found,
        editors={row.name: plain[row.editor] for row in found}
        | {row: training.editor for training in trainings for row in training.rows},
        probes={row.name: probes[row.editor] for row in found},
        trainings=trainings,
        cases=cases,
        edited=edited,
        data=tuple(of_task.data for of_task in evaluated.values()),
        training_data=tuple(of_task.data for of_task in training),
        bank=bank,
        notes=tuple(dict.fromkeys(note for of_task in (*evaluated.values(), *training) for note in of_task.notes)),
    )


def check_generation(config: RunConfig, name: str, context: int, vocabulary: int) -> None:
    """Check what is to be generated against a model's context and its number of tokens.

    Raises:
        InputError: If the model cannot generate it.
    """
    generation = config.generation
    place = config.origin.of("generation") if config.origin.file else name
    longest = max(generation.max_new_tokens, generation.fluency_tokens if config.fluency else 0)
    if longest >= context:
        raise InputError(f"{place}: {longest} new tokens were asked for, but the model's context is {context}.")
    if generation.fluency_top_k > vocabulary:
        raise InputError(f"{place}: fluency_top_k is {generation.fluency_top_k}, but the vocabulary has {vocabulary}.")


def make_editor(config: RunConfig, row: str) -> Editor[Any]:
    """Make the editor of a row of the configuration.

    Raises:
        InputError: If there is no such editor, or an option is wrong.
    """
    with config.origin.at(f"editors.{row}", row):
        return editor_of(row, config.editors[row])


def probe_context(editor: Editor[Any], request: EditRequest, probes: InstructedProbes) -> Context | None:
    """Return the prefix of the probes of a case under an edit of its own request alone.

    Args:
        editor: The editor.
        request: The request, with its instruction.
        probes: Which probes of the row carry the instruction.

    Raises:
        InputError: If the probes have a prefix of the editor's own already; which of the two comes first, and what the
            text of the edit says behind an instruction, nobody has defined.
    """
    own = editor.own_context(request)
    if own is not None and probes != "none":
        raise InputError(
            f"The editor '{editor.name}' puts a text of its own before the probes; '{PROBES}' = 'none' was expected, "
            f"found '{probes}'."
        )
    return own or instruction_context(request, probes)


def all_conditions(bank: InstructionBank) -> tuple[str, ...]:
    """Return what an instructed editor's rows are told: each description that all tasks have, each control."""
    count = min(len(task.seen) for task in bank.tasks.values())
    return (*(f"seen-{k}" for k in range(count)), "unseen", *CONTROLS)


def requests_of(
    condition: str | None, bank: InstructionBank | None, cases: Sequence[EditCase], seed: int
) -> list[EditRequest]:
    """Return the requests of cases as a row's editor gets them: with the instructions of its condition, if any.

    Raises:
        InputError: If there is no such condition, or the bank has nothing for a task.
    """
    requests = [case.request for case in cases]
    if condition is None or bank is None:
        return requests
    return [instruct(bank, request, condition, seed) for request in requests]


def _edited(config: RunConfig, evaluated: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tasks whose cases are edited together; what is held out is only if nothing else is evaluated."""
    if config.schedule == "single":
        return ()
    if config.edited is None:
        return tuple(task for task in evaluated if task not in config.held_out) or evaluated
    for task in config.edited:
        if task not in evaluated:
            raise InputError(
                f"{config.origin.of('edited')}: found '{task}', but tasks that are evaluated were expected: "
                f"{', '.join(evaluated)}."
            )
    return tuple(task for task in evaluated if task in config.edited)


class _Data:
    """The splits of a run's tasks, each file read when it is needed and once."""

    def __init__(self, config: RunConfig, source: Source) -> None:
        self._source = source
        self._config = config
        self._tasks = {task: make_task(task, config.task_options) for task in barred_tasks(config)}
        self._tests: dict[str, TaskCases] = {}

    def _test(self, task: str) -> TaskCases:
        if task not in self._tests:
            with needing(self._config, task):
                self._tests[task] = self._tasks[task].load(self._source)
        return self._tests[task]

    @cached_property
    def training(self) -> TrainingCases:
        """The training splits, without the test subjects of all tasks the run names."""
        tested = [case for task in self._tasks for case in self._test(task).cases]
        names = {case.request.subject for case in tested}
        return TrainingCases(self._source, subjects(tested), names, self._config.task_options)

    def size(self, task: str) -> int:
        """Return how many training cases a task has."""
        with needing(self._config, task):
            return self.training.size(task)

    def evaluated(self, task: str, found_arms: Sequence[Arm]) -> TaskCases:
        """Return a task's cases of the evaluated split."""
        if self._config.split == "test":
            return self._test(task)
        with needing(self._config, task):
            training = self.training.of(task)
        if self._config.split == "train":
            return training
        # The smallest limit of any arm: its validation cases are kept for validation under every larger one too.
        limits = [arm.limits[task] for arm in found_arms if task in arm.limits]
        _, kept = divide(training.cases, min(limits, default=None), self._config.validation)
        skipped = training.data.skipped | {"case left out: editors may learn from it": len(training.cases) - len(kept)}
        data = training.data.model_copy(update={"cases": len(kept), "skipped": skipped})
        return TaskCases(kept, data, training.notes)


class _Published(_Data):
    """Stand-ins for the splits of a run's tasks."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config, Embedded())

    def _test(self, task: str) -> TaskCases:
        return stand_ins(self._tasks[task], "test")

    @cached_property
    def training(self) -> TrainingCases:
        """Stand-ins for the training splits."""
        return PublishedCases(self._config.task_options)


def _place(config: RunConfig) -> str | None:
    return None if config.data == "embedded" else config.data


def _bank(config: RunConfig) -> InstructionBank:
    with config.origin.at("instructions"):
        return read_bank(None if config.instructions == "default" else Path(config.instructions))


def _trainings(
    config: RunConfig, found: Sequence[RowSpec], data: _Data, bank: InstructionBank | None
) -> tuple[Training, ...]:
    """Return a training for each arm and each editor with its options; rows that differ in what is asked share it."""
    groups: dict[tuple[str, str, str], list[RowSpec]] = {}
    for row in found:
        if row.arm is not None:
            editor = make_editor(config, row.editor)
            key = editor.name, editor.config.model_dump_json(), row.arm.label
            groups.setdefault(key, []).append(row)
    sets: dict[tuple[str, bool], TrainingSet] = {}
    trainings = []
    for (_, _, label), group in groups.items():
        editor, arm = make_editor(config, group[0].editor), group[0].arm
        assert arm is not None
        assert isinstance(editor, TrainedEditor), f"{editor.name} trains, but is no TrainedEditor"
        kind = label, editor.instructed
        if kind not in sets:
            instructor = training_instructor(bank) if editor.instructed and bank is not None else None
            for task in arm.train:
                with needing(config, task):
                    data.training.of(task)
            with config.origin.at("train"):
                sets[kind] = training_set(arm, data.training, config.validation, instructor)
        trainings.append(Training(tuple(row.name for row in group), editor, arm, sets[kind]))
    return tuple(trainings)
