"""From a configuration to a resolved run: rows, editors, data and training sets, before any model is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from instructedit.editors import EditCase, Editor, EditRequest, InputError, InstructedProbes, TrainedEditor, TrainingSet

from ..results.records import TaskData
from ..tasks.sampling import choose
from .banks import OWN_FACTS, InstructionBank, instruct, read_bank, training_instructor
from .checks import check_options, make_editor
from .config import PROBES, RunConfig
from .data import DataReader
from .settings import RowSpec, TrainingTasks, rows_of, trainings_of
from .training_sets import Training, training_set


@dataclass(frozen=True, slots=True)
class ResolvedRun:
    """What a configuration resolves to. The seed has no effect on any of it."""

    config: RunConfig
    name: str
    """Preset or file that it came from."""
    rows: tuple[RowSpec, ...]
    editors: dict[str, Editor[Any]]
    """The editor of each row, not trained yet."""
    probes: dict[str, InstructedProbes]
    """Which probes of each row carry the instruction."""
    trainings: tuple[Training, ...]
    cases: dict[str, tuple[EditCase, ...]]
    """The evaluated cases of each task, after the limit."""
    edited: tuple[str, ...]
    """Tasks whose cases are edited jointly or sequentially; empty where each case is edited alone."""
    data: tuple[TaskData, ...]
    training_data: tuple[TaskData, ...]
    bank: InstructionBank | None
    """None where no editor reads instructions."""
    notes: tuple[str, ...]

    @property
    def case_ids(self) -> dict[str, list[str]]:
        """Ids of the evaluated cases of each task."""
        return {task: [case.request.case_id for case in own] for task, own in self.cases.items()}


def resolve(config: RunConfig, name: str, reader: DataReader | None = None) -> ResolvedRun:
    """Check a configuration, read its data, resolve it to rows and training sets; `InputError` if it cannot be used."""
    reader = reader or DataReader()
    at = config.origin.at
    check_options(config)
    reader.source(config)
    editors = {row: make_editor(config, row) for row in config.editors}
    probes = {row: config.editors[row].get(PROBES) or editor.instructed_probes for row, editor in editors.items()}
    instructed = any(editor.instructed for editor in editors.values()) or set(probes.values()) > {"none"}
    with at("instructions"):
        path = None if config.instructions == "default" else Path(config.instructions)
        bank = read_bank(path).with_own_facts(config.facts_task) if instructed else None
    with at("setting"):
        trained_on = trainings_of(config, lambda task: len(reader.training(config, task).cases))
    kinds = {row: type(editor) for row, editor in editors.items()}
    with at("editors"):
        rows = rows_of(config, kinds, trained_on, bank.shared_conditions if bank else (), probes)
    trainings = _trainings(config, rows, reader, bank)
    if trainings and config.split == "train":
        raise InputError(
            f"{config.origin.of('split')}: trained editors learn from the split 'train'; 'validation' or 'test' was "
            "expected."
        )
    tested = [task for task in config.tasks if any(task in row.tasks for row in rows)]
    evaluated = {task: reader.evaluated(config, task, trained_on) for task in tested}
    cases = {task: choose(found.cases, config.limit) for task, found in evaluated.items()}
    training = [reader.training(config, task) for task in sorted({t for own in trainings for t in own.tasks.train})]
    run = ResolvedRun(
        config=config,
        name=name,
        rows=rows,
        editors={row.name: editors[row.editor] for row in rows}
        | {row: own.editor for own in trainings for row in own.rows},
        probes={row.name: probes[row.editor] for row in rows},
        trainings=trainings,
        cases=cases,
        edited=_edited(config, tuple(cases)),
        data=tuple(found.data for found in evaluated.values()),
        training_data=tuple(found.data for found in training),
        bank=bank,
        notes=tuple(dict.fromkeys(note for found in (*evaluated.values(), *training) for note in found.notes))
        + _borrowed_instructions(config, rows, cases, bank),
    )
    _try_instructions(run)
    return run


def requests_of(
    condition: str | None, bank: InstructionBank | None, cases: Sequence[EditCase], seed: int
) -> list[EditRequest]:
    """Return the requests of cases as a row's editor receives them, with the instructions of its condition, if any.

    Raises:
        InputError: If there is no such condition, or the bank has nothing for a task.
    """
    requests = [case.request for case in cases]
    if condition is None or bank is None:
        return [replace(request, instruction=None) if request.instruction else request for request in requests]
    return [instruct(bank, request, condition, seed) for request in requests]


def _trainings(
    config: RunConfig, rows: Sequence[RowSpec], reader: DataReader, bank: InstructionBank | None
) -> tuple[Training, ...]:
    """Return one training per editor with its options and per training of the setting; its rows share it."""
    groups: dict[tuple[str, str, str], tuple[Editor[Any], TrainingTasks, list[str]]] = {}
    for row in rows:
        if row.training is not None:
            editor = make_editor(config, row.editor)
            key = editor.name, editor.config.model_dump_json(), row.training.label
            groups.setdefault(key, (editor, row.training, []))[2].append(row.name)
    sets: dict[tuple[str, bool], TrainingSet] = {}
    trainings = []
    for editor, tasks, names in groups.values():
        assert isinstance(editor, TrainedEditor), f"{editor.name} trains, but is no TrainedEditor"
        kind = tasks.label, editor.instructed
        if kind not in sets:
            cases = {task: reader.training(config, task).cases for task in tasks.train}
            instruct = training_instructor(bank) if bank and editor.instructed else None
            with config.origin.at("train"):
                sets[kind] = training_set(tasks, cases, config.validation, instruct)
        trainings.append(Training(tuple(names), editor, tasks, sets[kind]))
    return tuple(trainings)


def _edited(config: RunConfig, evaluated: tuple[str, ...]) -> tuple[str, ...]:
    """Return the tasks that are edited jointly or sequentially: held-out tasks only if no other is evaluated."""
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


def _borrowed_instructions(
    config: RunConfig, rows: Sequence[RowSpec], cases: Mapping[str, Sequence[EditCase]], bank: InstructionBank | None
) -> tuple[str, ...]:
    task = config.facts_task
    read = any(row.instruction not in (None, "none") and task in row.tasks for row in rows)
    if task is None or bank is None or not bank.is_own(task) or not read:
        return ()
    count = sum(case.request.instruction is None for case in cases.get(task, ()))
    note = (
        f"{config.facts}: {count} facts have no instruction; instructed editors get the descriptions of '{OWN_FACTS}'."
    )
    return (note,) if count else ()


def _try_instructions(run: ResolvedRun) -> None:
    """Instruct one request of each row and task, so that what is impossible fails before a training."""
    origin = run.config.origin
    for row in run.rows:
        for task in dict.fromkeys((*row.tasks, *run.edited)):
            with origin.at("instruction"):
                requests = requests_of(row.instruction, run.bank, run.cases[task][:1], run.config.seed)
            editor, probes = run.editors[row.name], run.probes[row.name]
            with origin.at(f"editors.{row.editor}", row.editor):
                # the order of a text of the editor's own and of an instruction is not defined
                if any(editor.own_context(request) is not None for request in requests) and probes != "none":
                    raise InputError(
                        f"The editor '{editor.name}' puts a text of its own before the probes; '{PROBES}' = 'none' was "
                        f"expected, found '{probes}'."
                    )
