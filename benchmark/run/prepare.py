"""A run before its first training and its first case: the model, what decides the numbers, and `run.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NoReturn

from instructedit.editors import ChatFormat, Editor, EditRequest, InstructedProbes, LanguageModel, UnservedError
from instructedit.editors.cases import joint_rule

from ..results.checkpoint import Checkpoint
from ..results.records import EditorSpec, RunFile, RunSpec, TrainingSpec
from ..results.stages import scored
from ..scoring.old_answer import OLD_RULE, scored_old
from ..scoring.references import REFERENCE_RULE, lacks_answer
from ..setup.config import EMBEDDED_MODEL, RunConfig
from ..setup.model_checks import chat_of, check_generation, foreign_defaults
from ..setup.resolve import ResolvedRun
from ..tasks.registry import TASKS
from .provenance import provenance


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run before its first training and its first case: `run.json`, the model, and each training's checkpoint."""

    file: RunFile
    model: LanguageModel | None
    """None where workers load it."""
    resolved: ResolvedRun
    checkpoints: tuple[Checkpoint, ...]

    @property
    def loaded(self) -> LanguageModel:
        """The model, where it is loaded in this process."""
        assert self.model is not None, "the model of this run is loaded by its workers"
        return self.model

    @property
    def checkpoint_of(self) -> dict[str, Checkpoint]:
        """The checkpoint of each row that is trained."""
        trainings = zip(self.resolved.trainings, self.checkpoints, strict=True)
        return {row: own for training, own in trainings for row in training.rows}

    @property
    def total(self) -> int:
        """Lines of the finished run."""
        stages = scored(self.file.spec, self.resolved.case_ids).values()
        return sum(len(cases.get(task, ())) for cases in stages for row in self.resolved.rows for task in row.tasks)


class ModelLoader:
    """Loads the models of runs, and keeps the last one for the next run of the same model."""

    def __init__(self, device: str | None = None, device_map: str | None = None) -> None:
        self._device, self._device_map = device, device_map
        self._loaded: tuple[tuple[object, ...], LanguageModel] | None = None

    def load(self, config: RunConfig) -> LanguageModel:
        """Return the model of a run; see `load_model`."""
        if self._loaded is None or self._loaded[0] != _origin(config):
            self._loaded = None  # releases the one before: two large models would not fit
            self.keep(config, load_model(config, device=self._device, device_map=self._device_map))
        assert self._loaded is not None
        return self._loaded[1]

    def keep(self, config: RunConfig, model: LanguageModel) -> None:
        """Take a loaded model for runs of this configuration's model."""
        self._loaded = _origin(config), model


def _origin(config: RunConfig) -> tuple[object, ...]:
    return config.model, config.revision, config.dtype, config.trust_remote_code


def load_model(config: RunConfig, *, device: str | None = None, device_map: str | None = None) -> LanguageModel:
    """Load the model of a run, by default to a GPU if there is one; `device_map` is accelerate's.

    Raises:
        InputError: If there is no such model, or it cannot be used.
    """
    path = EMBEDDED_MODEL if config.model == "embedded" else config.model
    return LanguageModel.load(
        path,
        revision=config.revision,
        dtype=config.dtype,
        device=device,
        device_map=device_map,
        trust_remote_code=config.trust_remote_code,
    )


def prepare(
    resolved: ResolvedRun,
    command: Sequence[str] = (),
    *,
    model: LanguageModel | None = None,
    device: str | None = None,
) -> Prepared:
    """Load the model of a run, unless it is given, and specify what decides its numbers.

    Raises:
        InputError: If the model cannot be used.
    """
    config = resolved.config
    model = model or load_model(config, device=device)
    check_generation(config, resolved.name, model.context, len(model.tokenizer))
    chat = chat_of(resolved, model.tokenizer)
    model = model.in_chat(chat)
    base, tokenizer = model.fingerprint(), model.tokenizer_fingerprint()
    bank = resolved.bank.digest if resolved.bank else None
    checkpoints = _checkpoints(resolved, base, tokenizer, chat)
    trainings = {
        row: own.spec(checkpoint.folder_name, bank)
        for own, checkpoint in zip(resolved.trainings, checkpoints, strict=True)
        for row in own.rows
    }
    cases = list(chain.from_iterable(resolved.cases.values()))
    spec = RunSpec(
        setting=config.setting,
        split=config.split,
        schedule=config.schedule,
        edited=resolved.edited or None,
        batch_size=config.batch_size if config.schedule == "batch" else None,
        at=config.at if config.schedule == "sequential" else (),
        editors=_editor_specs(resolved, trainings),
        tasks=tuple(resolved.cases),
        data={entry.task: entry.sha256 for entry in resolved.data},
        readers={entry.task: entry.version for entry in resolved.data},
        task_options={
            entry.task: entry.options for entry in (*resolved.data, *resolved.training_data) if entry.options
        },
        model_fingerprint=base,
        tokenizer_fingerprint=tokenizer,
        dtype=config.dtype,
        instructions=bank,
        limit=config.limit,
        seed=config.seed,
        chunk=config.chunk,
        generation=config.generation,
        fluency=config.fluency,
        joints=joint_rule(cases),
        old_answers=OLD_RULE if any(scored_old(case) for case in cases) else None,
        references=REFERENCE_RULE
        if any(map(lacks_answer, chain.from_iterable(case.probes for case in cases)))
        else None,
        chat=chat,
    )
    file = RunFile(
        digest=spec.digest,
        name=resolved.name,
        spec=spec,
        data=resolved.data,
        training=resolved.training_data,
        notes={
            row.name: note
            for row in resolved.rows
            if (note := resolved.editors[row.name].schedule_notes.get(config.schedule)) is not None
        },
        defaults=foreign_defaults(resolved.rows, resolved.editors, model),
        titles={editor.name: editor.title for editor in resolved.editors.values()}
        | {task: TASKS.get(task).title for task in resolved.cases if task in TASKS},
        provenance=provenance(model, config, list(command)),
    )
    return Prepared(file, model, resolved, checkpoints)


def prepared_elsewhere(resolved: ResolvedRun, file: RunFile, command: Sequence[str]) -> Prepared:
    """Return a run that a worker has prepared: its `run.json` came from there."""
    spec = file.spec
    checkpoints = _checkpoints(resolved, spec.model_fingerprint, spec.tokenizer_fingerprint, spec.chat)
    provenance = file.provenance.model_copy(update={"command": list(command)})
    return Prepared(file.model_copy(update={"provenance": provenance}), None, resolved, checkpoints)


def _checkpoints(resolved: ResolvedRun, base: str, tokenizer: str, chat: ChatFormat | None) -> tuple[Checkpoint, ...]:
    bank = resolved.bank.digest if resolved.bank else None
    seed = resolved.config.seed
    return tuple(own.checkpoint(base, tokenizer, seed, bank, chat) for own in resolved.trainings)


def checkpoint_file(checkpoint: Checkpoint) -> str:
    """Return the name of a training's folder among the files of a run's units."""
    return f"checkpoints/{checkpoint.folder_name}"


class CannotEdit(Editor[Any]):
    """Takes the place of an editor that cannot edit a model: all requests fail for that reason."""

    def __init__(self, editor: Editor[Any], reason: str) -> None:
        super().__init__(editor.config)
        self._editor, self._reason = editor, reason

    @property
    def instructed_probes(self) -> InstructedProbes:  # noqa: D102
        return self._editor.instructed_probes

    def edit(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> NoReturn:  # noqa: D102
        raise UnservedError(self._reason)

    edit_together = edit


def _editor_specs(resolved: ResolvedRun, trainings: Mapping[str, TrainingSpec]) -> tuple[EditorSpec, ...]:
    return tuple(
        EditorSpec(
            name=row.name,
            method=editor.name,
            version=editor.version,
            config=editor.config.model_dump(mode="json"),
            materials=editor.material_digests(),
            training=trainings.get(row.name),
            instruction=row.instruction,
            instructed_probes=resolved.probes[row.name],
            tasks=None if set(row.tasks) == set(resolved.cases) else row.tasks,
        )
        for row, editor in ((row, resolved.editors[row.name]) for row in resolved.rows)
    )
