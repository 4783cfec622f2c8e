"""From a configuration to a finished run: load, write down, train, compute what is missing, sum up.

A run is rows times cases, edited and scored by one of the schedules. Its folder is named by the digest of everything
that decides its numbers, so starting the same run again goes on from what is on disk. Cases are computed in fixed
chunks with seeds of their own: a killed run leaves the same bytes as one that was not.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from tqdm import tqdm

from instructedit.editors import Editor, LanguageModel
from instructedit.editors.cases import joint_rule

from ..results.checkpoint import Checkpoint
from ..results.consistency import sentence
from ..results.guard import content_of, key_of
from ..results.records import EditorSpec, RunFile, RunSpec, RunSummary, TrainingSpec, digest_of
from ..results.resources import Meter
from ..results.run_folder import Store
from ..results.summary import summarise
from ..setup.config import EMBEDDED_MODEL, RunConfig
from ..setup.defaults import foreign_defaults
from ..setup.resolve import Outline, check_generation, outline
from .provenance import provenance
from .schedules import SCHEDULES, Work, lines
from .sequential import tidy
from .trainings import trained
from .unserved import Unable, unable_notes, unserved


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run before its first training and its first case.

    Attributes:
        file: What `run.json` will hold.
        model: The loaded model.
        outline: Rows, editors, trainings and cases.
        checkpoints: The checkpoint of each training of the outline.
    """

    file: RunFile
    model: LanguageModel
    outline: Outline
    checkpoints: tuple[Checkpoint, ...]

    @property
    def total(self) -> int:
        """Lines that the finished run has."""
        return lines(self.outline, self.file.spec)


def load_model(config: RunConfig, *, device: str | None = None, device_map: str | None = None) -> LanguageModel:
    """Load the model of a run.

    Args:
        config: What is asked for.
        device: Where the model runs; by default a GPU if there is one.
        device_map: For models larger than one card, as in accelerate.

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
    config: RunConfig,
    name: str,
    command: Sequence[str] = (),
    *,
    model: LanguageModel | None = None,
    device: str | None = None,
    device_map: str | None = None,
) -> Prepared:
    """Read the data, load the model, and write down what decides the run's numbers.

    Args:
        config: What is asked for.
        name: Preset or file it came from.
        command: The command line.
        model: The model of the configuration, if it is loaded already.
        device: See `load_model`.
        device_map: See `load_model`.

    Raises:
        InputError: If anything of it cannot be used. Data are read before the model, so that mistakes show early.
    """
    found = outline(config, name)
    model = model or load_model(config, device=device, device_map=device_map)
    base, tokenizer = model.fingerprint(), model.tokenizer_fingerprint()
    bank = found.bank.digest if found.bank else None
    checkpoints = tuple(t.checkpoint(base, tokenizer, config.seed, bank) for t in found.trainings)
    learnt = {
        row: training.spec(checkpoint.name, bank)
        for training, checkpoint in zip(found.trainings, checkpoints, strict=True)
        for row in training.rows
    }
    spec = RunSpec(
        setting=config.setting,
        split=config.split,
        schedule=config.schedule,
        edited=found.edited or None,
        batch_size=config.batch_size if config.schedule == "batch" else None,
        at=config.at if config.schedule == "sequential" else (),
        editors=_editor_specs(found, learnt),
        tasks=tuple(found.cases),
        data={entry.task: entry.sha256 for entry in found.data},
        readers={entry.task: entry.version for entry in found.data},
        task_options={entry.task: entry.options for entry in (*found.data, *found.training_data) if entry.options},
        model_fingerprint=base,
        tokenizer_fingerprint=tokenizer,
        dtype=config.dtype,
        instructions=bank,
        limit=config.limit,
        seed=config.seed,
        chunk=config.chunk,
        generation=config.generation,
        fluency=config.fluency,
        joints=joint_rule(chain.from_iterable(found.cases.values())),
    )
    check_generation(config, name, model.context, len(model.tokenizer))
    file = RunFile(
        digest=spec.digest,
        name=name,
        spec=spec,
        data=found.data,
        training=found.training_data,
        notes={
            row.name: note
            for row in found.rows
            if (note := found.editors[row.name].schedule_notes.get(config.schedule)) is not None
        },
        defaults=foreign_defaults(found.rows, found.editors, model),
        provenance=provenance(model, config, list(command)),
    )
    return Prepared(file, model, found, checkpoints)


def _editor_specs(found: Outline, learnt: Mapping[str, TrainingSpec]) -> tuple[EditorSpec, ...]:
    editors = ((row, found.editors[row.name]) for row in found.rows)
    return tuple(
        EditorSpec(
            name=row.name,
            method=editor.name,
            version=editor.version,
            config=editor.config.model_dump(mode="json"),
            materials=editor.material_digests(),
            training=learnt.get(row.name),
            instruction=row.instruction,
            instructed_probes=found.probes[row.name],
            tasks=None if set(row.tasks) == set(found.cases) else row.tasks,
        )
        for row, editor in editors
    )


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
        out: Folder of all runs; the run gets a folder of its own in it, named by its digest.
        checkpoints: Folder of all trained editors; by default `checkpoints` beside the runs.
        report: Takes sentences for the user.
        progress: Whether to show progress bars with the time left.
        track: `wandb` or `trackio` to send the metrics of trainings there.

    Returns:
        The run's folder.

    Raises:
        InputError: If the folder holds something else or belongs to another process.
        StorageError: If results cannot be written; what is finished stays.
    """
    total = prepared.total
    store = Store(out / prepared.file.digest)
    ids = {task: [case.request.case_id for case in cases] for task, cases in prepared.outline.cases.items()}
    with store.open(prepared.file, report):
        for change in store.changes(prepared.file):
            report(f"note: this run was begun with {change}; its finished results are kept.")
        if cut := store.mend():
            report(f"{store.cases}: the last line was half-written ({cut} bytes) and is computed again.")
        tidy(store.folder)
        store.check_unchanged(report)
        done = {key_of(record) for record in store.records(prepared.file, ids)}
        if done:
            report(f"{len(done)} of {total} results are there already.")
        if len(done) < total:
            meter = Meter()
            editors = _ready(prepared, checkpoints or out / "checkpoints", report, progress, track)
            with tqdm(total=total, initial=len(done), unit="result", disable=None if progress else True) as bar:
                work = Work(prepared.model, prepared.outline, prepared.file, editors, store, done, report, bar)
                SCHEDULES[prepared.file.spec.schedule](work)
            store.append_usage(meter.read())
        summary = _sum_up(prepared, store, ids)
    for found in summary.consistency:
        if said := sentence(found):
            report(f"note: {said}")
    if not summary.valid:
        report(f"INVALID RUN: {summary.invalid_reason}")
    return store.folder


def _ready(
    prepared: Prepared, checkpoints: Path, report: Callable[[str], None], progress: bool, track: str | None
) -> dict[str, Editor[Any]]:
    """Return the editor of each row, all of them trained."""
    editors = dict(prepared.outline.editors)
    for note in unable_notes(prepared.outline, prepared.model):
        report(f"note: {note}")
    for row in prepared.outline.rows:
        if reason := unserved(editors[row.name], prepared.model):
            editors[row.name] = Unable(editors[row.name], reason)
    for training, checkpoint in zip(prepared.outline.trainings, prepared.checkpoints, strict=True):
        if isinstance(editors[training.rows[0]], Unable):
            continue
        editor = trained(
            training, prepared.model, checkpoint, checkpoints, report=report, progress=progress, track=track
        )
        editors |= dict.fromkeys(training.rows, editor)
    return editors


def _sum_up(prepared: Prepared, store: Store, ids: Mapping[str, Collection[str]]) -> RunSummary:
    fingerprint = prepared.model.fingerprint()
    valid = fingerprint == prepared.file.spec.model_fingerprint
    reason = None if valid else "The base model's weights were not the same after the run as before it."
    found = summarise(prepared.file, store.records(prepared.file, ids), valid, reason, expected=prepared.total)
    content = content_of(store.cases)
    made_of = dict(zip(("cases_sha256", "lines"), content or (None, None), strict=True))
    summary = found.model_copy(update=made_of)
    summary = summary.model_copy(update={"content": digest_of(summary, {"content"})})
    store.write("summary.json", summary)
    return summary
