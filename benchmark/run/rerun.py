"""Finished runs again, from their `run.json` alone: a random sample of their cases, in whole chunks.

The configuration is rebuilt from the specification, so neither the preset nor the command is needed. The rebuilt run
has to have the digest of the finished one: model, data, trainings, options and instructions are then the same. Under
the schedule `single` a line depends on the cases of its chunk alone (`results/earlier.py`), so a chunk that is computed
again on the same machine has the same bytes.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from instructedit.editors import InputError, TrainedEditor

from ..forecast.machine import Place
from ..results.records import EditorSpec, RunFile, RunSpec
from ..results.stages import SINGLE
from ..setup.banks import InstructionBank, read_bank, training_instructor
from ..setup.checks import make_editor
from ..setup.config import RunConfig, make_config
from ..setup.data import DataReader
from ..setup.resolve import ResolvedRun
from ..setup.settings import RowSpec, TrainingTasks
from ..setup.training_sets import Training, training_set
from ..tasks.sampling import choose, nested
from ..tasks.sources import MissingError
from .prepare import ModelLoader, Prepared, prepare
from .runner import run

_SAME = ("setting", "split", "dtype", "limit", "seed", "chunk", "generation", "fluency", "task_options")
"""Fields of a specification that are keys of a configuration."""
_DECIDING = ("model_fingerprint", "tokenizer_fingerprint", "data", "readers", "instructions")
"""Fields that others follow from: the first one that differs is the reason."""
_PUBLISHED = RunConfig.model_fields["tasks"].default
"""Tasks of most runs, some of which a setting may not evaluate; their test subjects are never trained on."""


def rerun(
    runs: Sequence[RunFile],
    cases: int,
    seed: int,
    place: Place,
    *,
    given: Mapping[str, Any],
    command: Sequence[str] = (),
    report: Callable[[str], None] = lambda _: None,
    progress: bool = False,
) -> dict[str, Path]:
    """Run a random sample of the cases of some runs again, in every row; return the folders of the new runs by digest.

    Args:
        runs: Finished runs; those of other schedules than `single` are left out, which is reported.
        cases: Least number of cases over all runs; the last chunk may have more, and there may be fewer.
        seed: Of the choice of chunks.
        place: Folder of the new runs, of trained editors, and the device; a training without a checkpoint is made.
        given: Keys `model`, `data`, `instructions` and `trust_remote_code` as of a run, whose content `run.json` names
            by digests; model and data may be left out where they are embedded.
        command: Recorded as the command of the new runs.
        report: Receives sentences for the user.
        progress: Whether to show progress.

    Raises:
        InputError: If no run has the schedule `single`, one cannot be made here, or results cannot be written.
    """
    single = [file for file in runs if file.spec.schedule == SINGLE]
    if not single:
        raise InputError("No run has the schedule 'single'; under any other a case depends on all others.")
    for file in (file for file in runs if file not in single):
        report(f"run {file.digest} is left out: under the schedule '{file.spec.schedule}' a case depends on all others")
    loader, reader = ModelLoader(place.device, place.device_map), DataReader()
    prepared = {file.digest: _rebuilt(file, given, loader, reader, command) for file in single}
    folders = {}
    for digest, sample in _sample(prepared, cases, seed).items():
        resolved = prepared[digest].resolved
        kept = {
            task: tuple(case for case in own if case.request.case_id in sample) for task, own in resolved.cases.items()
        }
        report(f"run {digest}: {len(sample)} of {sum(map(len, resolved.cases.values()))} cases")
        part = replace(prepared[digest], resolved=replace(resolved, cases=kept))
        folders[digest] = run(part, place.out, checkpoints=place.checkpoints, report=report, progress=progress)
    return folders


def _sample(prepared: Mapping[str, Prepared], cases: int, seed: int) -> dict[str, set[str]]:
    """Return the ids of the sampled cases by run: whole chunks, drawn from those of all runs alike."""
    chunks = []
    for digest, one in sorted(prepared.items()):
        size = one.file.spec.chunk
        for own in one.resolved.cases.values():
            ids = [case.request.case_id for case in nested(own)]
            chunks += [(digest, ids[at : at + size]) for at in range(0, len(ids), size)]
    random.Random(seed).shuffle(chunks)
    found: dict[str, set[str]] = {}
    for digest, ids in chunks:
        if sum(map(len, found.values())) >= cases:
            break
        found.setdefault(digest, set()).update(ids)
    return found


def _rebuilt(
    file: RunFile, given: Mapping[str, Any], loader: ModelLoader, reader: DataReader, command: Sequence[str]
) -> Prepared:
    """Return a finished run as it was before its first case."""
    config = _config(file, given)
    found = prepare(_resolved(file, config, reader), command, model=loader.load(config))
    if found.file.digest != file.digest:
        for name in (*_DECIDING, *RunSpec.model_fields):
            ours, theirs = getattr(found.file.spec, name), getattr(file.spec, name)
            if ours != theirs:
                raise InputError(
                    f"Run {file.digest} cannot be made here: {name}: found {str(ours)[:200]}, {str(theirs)[:200]} was "
                    "expected."
                )
    return found


def _config(file: RunFile, given: Mapping[str, Any]) -> RunConfig:
    """Return the configuration of a run; its rows keep their names, whichever editor and training they came from."""
    spec, fields = file.spec, file.spec.model_dump(mode="json")
    embedded = {"model": file.provenance.model == "embedded", "data": all(d.source == "embedded" for d in file.data)}
    claimed = {"model": file.provenance.model, "data": file.data[0].source if file.data else "none"}
    for key, known in embedded.items():
        if key not in given and not known:
            raise InputError(f"Run {file.digest} is of the {key} '{claimed[key]}'; give it with --{key}.")
    options = {
        **{name: fields[name] for name in _SAME},
        "tasks": tuple(dict.fromkeys((*spec.tasks, *_trained(spec), *_PUBLISHED))),
        "train": _trained(spec),
        "chat": spec.chat.name if spec.chat else "none",
        "editors": {row.name: {**row.config, "method": row.method} for row in spec.editors},
        **given,
    }
    return make_config(options, f"run {file.digest}")


def _trained(spec: RunSpec) -> tuple[str, ...]:
    return tuple(dict.fromkeys(task for row in spec.editors if row.training for task in row.training.tasks))


def _resolved(file: RunFile, config: RunConfig, reader: DataReader) -> ResolvedRun:
    spec = file.spec
    reader.source(config)
    bank = None
    if spec.instructions is not None:
        bank = read_bank(None if config.instructions == "default" else Path(config.instructions))
    rows = tuple(
        RowSpec(row.name, row.name, _tasks(row, spec), row.instruction, spec.tasks if row.tasks is None else row.tasks)
        for row in spec.editors
    )
    editors = {row.name: make_editor(config, row.name) for row in spec.editors}
    by_checkpoint: dict[str, list[EditorSpec]] = {}
    for row in spec.editors:
        if row.training:
            by_checkpoint.setdefault(row.training.checkpoint, []).append(row)
    trainings = tuple(_training(file, own, config, reader, bank) for own in by_checkpoint.values())
    trained_on = [row.training for row in rows if row.training]
    evaluated = {task: reader.evaluated(config, task, trained_on) for task in spec.tasks}
    return ResolvedRun(
        config=config,
        name=file.name,
        rows=rows,
        editors=editors | {row: own.editor for own in trainings for row in own.rows},
        probes={row.name: row.instructed_probes for row in spec.editors},
        trainings=trainings,
        cases={task: choose(found.cases, spec.limit) for task, found in evaluated.items()},
        edited=(),
        data=tuple(found.data for found in evaluated.values()),
        training_data=file.training,
        bank=bank,
        notes=(),
    )


def _tasks(row: EditorSpec, spec: RunSpec) -> TrainingTasks | None:
    if (own := row.training) is None:
        return None
    return TrainingTasks(own.label, own.tasks, row.tasks or spec.tasks, own.limits, "balanced")


def _training(
    file: RunFile, rows: Sequence[EditorSpec], config: RunConfig, reader: DataReader, bank: InstructionBank | None
) -> Training:
    """Return the training of some rows.

    Whose test subjects it leaves out is not recorded: those of all tasks that its preset names. The published tasks are
    tried first, then the run's own.
    """
    row = rows[0]
    editor, tasks, wanted = make_editor(config, row.name), _tasks(row, file.spec), row.training
    assert tasks is not None
    assert wanted is not None
    if not isinstance(editor, TrainedEditor):
        raise InputError(f"Run {file.digest}, row '{row.name}': the editor '{row.method}' is not one that is trained.")
    instruct = training_instructor(bank) if bank and editor.instructed else None
    own = tuple(task for task in config.tasks if task in (*file.spec.tasks, *_trained(file.spec)))
    for named in (config.tasks, own):
        source = config.model_copy(update={"tasks": named})
        try:
            cases = {task: reader.training(source, task).cases for task in tasks.train}
        except MissingError:
            if named == own:
                raise
            continue
        # The weights themselves and not a way to them, whose rounding might differ.
        found = replace(training_set(tasks, cases, config.validation, instruct), weights=wanted.weights)
        if found.digest == wanted.digest:
            return Training(tuple(row.name for row in rows), editor, tasks, found)
    raise InputError(
        f"Run {file.digest}, row '{row.name}': its training set {wanted.digest} cannot be made of these data; it has "
        "other cases, another share for validation, or leaves out the subjects of further tasks."
    )
