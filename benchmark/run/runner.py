"""From a resolved run to its results: load the model, write down the specification, train, compute, sum up.

A run is rows times cases, edited and scored by one of the schedules. Its folder is named by the digest of everything
that decides its numbers, so running it again resumes. Cases are computed in fixed chunks with seeds of their own: a run
that was killed and resumed leaves the same bytes as an uninterrupted one.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

from instructedit.editors import Editor, EditRequest, InputError, InstructedProbes, LanguageModel, UnservedError
from instructedit.editors.cases import joint_rule

from ..results.checkpoint import Checkpoint
from ..results.consistency import sentence
from ..results.earlier import Earlier
from ..results.integrity import content_of, key_of, read_run
from ..results.records import EditorSpec, RunFile, RunSpec, RunSummary, TrainingSpec, digest_of
from ..results.resources import Meter
from ..results.run_folder import RunFolder
from ..results.stages import scored
from ..results.summary import summarise
from ..scoring.old_answer import OLD_RULE, scored_old
from ..scoring.references import REFERENCE_RULE, lacks_answer
from ..setup.config import EMBEDDED_MODEL, RunConfig
from ..setup.model_checks import cannot_edit, cannot_edit_notes, chat_of, check_generation, foreign_defaults
from ..setup.resolve import ResolvedRun
from ..tasks.registry import TASKS
from ..tasks.sampling import nested
from .accumulated import remove_orphans
from .progress import Progress
from .provenance import provenance
from .schedules import SCHEDULES
from .training import trained
from .work import Work


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run before its first training and its first case: `run.json`, the model, and each training's checkpoint."""

    file: RunFile
    model: LanguageModel
    resolved: ResolvedRun
    checkpoints: tuple[Checkpoint, ...]

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
    checkpoints = tuple(own.checkpoint(base, tokenizer, config.seed, bank, chat) for own in resolved.trainings)
    trainings = {
        row: own.spec(checkpoint.name, bank)
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


def run(
    prepared: Prepared,
    out: Path,
    *,
    checkpoints: Path | None = None,
    report: Callable[[str], None] = lambda _: None,
    progress: bool = False,
    track: str | None = None,
) -> Path:
    """Train what is not trained, compute what is missing of a run, and sum it up.

    Args:
        prepared: The run.
        out: Folder of all runs.
        checkpoints: Folder of all trained editors; by default `checkpoints` beside the runs.
        report: Receives sentences for the user.
        progress: Whether to show progress with the remaining time.
        track: `wandb` or `trackio` to log the metrics of trainings there too.

    Returns:
        The run's own folder, named by its digest.

    Raises:
        InputError: If the folder holds another run or belongs to another process.
        StorageError: If results cannot be written; what is finished stays.
    """
    total, ids = prepared.total, prepared.resolved.case_ids
    store = RunFolder(out / prepared.file.digest)
    earlier = _earlier(prepared, store, report)
    origin = prepared.file.provenance.model_copy(update={"taken_from": tuple(earlier.counts)})
    with store.open(prepared.file.model_copy(update={"provenance": origin}), report):
        for change in store.changes(prepared.file):
            report(f"note: this run was started with {change}; its finished results are kept.")
        if cut := store.mend():
            report(f"{store.cases}: the last line was half-written ({cut} bytes) and is computed again.")
        remove_orphans(store.folder)
        store.check_unchanged(report)
        done = {key_of(record) for record in store.records(prepared.file, ids)}
        if done:
            report(f"{len(done)} of {total} results are there already.")
        elif earlier.counts:
            report(
                f"{sum(earlier.counts.values())} of {total} results are taken over from {' and '.join(earlier.counts)}."
            )
        if len(done) < total:
            meter = Meter()
            editors = _trained_editors(prepared, checkpoints or out / "checkpoints", report, progress, track)
            with closing(Progress(total, len(done), progress, report)) as shown:
                work = Work(
                    prepared.model, prepared.resolved, prepared.file, editors, store, done, report, shown, earlier
                )
                SCHEDULES[prepared.file.spec.schedule](work)
            store.append(usage=[meter.read()])
        summary = _sum_up(prepared, store, ids)
    for found in summary.consistency:
        if note := sentence(found):
            report(f"note: {note}")
    if not summary.valid:
        report(f"INVALID RUN: {summary.invalid_reason}")
    return store.folder


def _earlier(prepared: Prepared, store: RunFolder, report: Callable[[str], None]) -> Earlier:
    """Look up what other runs have of a run that is not finished; those that `run.json` names, once it is written."""
    if (store.folder / "summary.json").exists():
        return Earlier()
    try:
        among = read_run(store.folder / "run.json", named=False).provenance.taken_from
    except InputError:
        among = None
    cases = {task: [case.request.case_id for case in nested(own)] for task, own in prepared.resolved.cases.items()}
    return Earlier.find(store.folder.parent, prepared.file, cases, report, among)


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


def _trained_editors(
    prepared: Prepared, checkpoints: Path, report: Callable[[str], None], progress: bool, track: str | None
) -> dict[str, Editor[Any]]:
    resolved, model = prepared.resolved, prepared.model
    for note in cannot_edit_notes(resolved, model):
        report(f"note: {note}")
    editors: dict[str, Editor[Any]] = {}
    for name, editor in resolved.editors.items():
        reason = cannot_edit(editor, model)
        editors[name] = editor if reason is None else CannotEdit(editor, reason)
    for training, checkpoint in zip(resolved.trainings, prepared.checkpoints, strict=True):
        if not isinstance(editors[training.rows[0]], CannotEdit):
            editor = trained(training, model, checkpoint, checkpoints, report=report, progress=progress, track=track)
            editors |= dict.fromkeys(training.rows, editor)
    return editors


def _sum_up(prepared: Prepared, store: RunFolder, ids: Mapping[str, Collection[str]]) -> RunSummary:
    """Write `summary.json`; the run is invalid if the base model's weights changed."""
    valid = prepared.model.fingerprint() == prepared.file.spec.model_fingerprint
    reason = None if valid else "The base model's weights were not the same after the run as before it."
    found = summarise(prepared.file, store.records(prepared.file, ids), valid, reason, expected=prepared.total)
    sha256, lines = content_of(store.cases) or (None, None)
    summary = found.model_copy(update={"cases_sha256": sha256, "lines": lines})
    summary = summary.model_copy(update={"content": digest_of(summary, {"content"})})
    store.write("summary.json", summary)
    return summary
