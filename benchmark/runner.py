"""From a configuration to a finished run: load, write down, train, compute what is missing, sum up.

A run is rows times cases. Its folder is named by the digest of everything that decides its numbers, so starting the
same run again goes on from what is on disk. Cases are computed in fixed chunks with seeds of their own: a killed run
leaves the same bytes as one that was not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from tqdm import tqdm

from instructedit.editors import EditCase, Editor, InputError, LanguageModel

from .config import EMBEDDED_MODEL, RunConfig
from .outline import Outline, outline, requests_of
from .provenance import provenance
from .results import EditorSpec, RunFile, RunSpec, RunSummary, TrainingSpec
from .scoring import run_chunk
from .store import Key, Store, key_of
from .summary import summarise
from .training import Checkpoint, trained

STAGE = "single"
"""Stage of a case that is edited and scored on its own."""


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
        return sum(len(self.outline.cases[task]) for row in self.outline.rows for task in row.tasks)


class ChunkTime(BaseModel):
    """A line of `timings.jsonl`: what one editor took for one chunk.

    Kept apart, because times differ between equal runs.
    """

    task: str
    first_case: str
    editor: str
    cases: int
    edit_seconds: float
    score_seconds: float


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
    return LanguageModel.load(path, revision=config.revision, dtype=config.dtype, device=device, device_map=device_map)


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
        row: training.spec(checkpoint.name)
        for training, checkpoint in zip(found.trainings, checkpoints, strict=True)
        for row in training.rows
    }
    spec = RunSpec(
        setting=config.setting,
        split=config.split,
        schedule=config.schedule,
        edited=config.edited,
        at=config.at,
        editors=_editor_specs(found, learnt),
        tasks=tuple(found.cases),
        data={entry.task: entry.sha256 for entry in found.data},
        readers={entry.task: entry.version for entry in found.data},
        model_fingerprint=base,
        tokenizer_fingerprint=tokenizer,
        dtype=config.dtype,
        instructions=bank,
        limit=config.limit,
        seed=config.seed,
        chunk=config.chunk,
        generation=config.generation,
        fluency=config.fluency,
    )
    longest = max(spec.generation.max_new_tokens, spec.generation.fluency_tokens if spec.fluency else 0)
    if longest >= model.context:
        raise InputError(f"{name}: {longest} new tokens were asked for, but the model's context is {model.context}.")
    if spec.generation.fluency_top_k > len(model.tokenizer):
        raise InputError(
            f"{name}: fluency_top_k is {spec.generation.fluency_top_k}, but the vocabulary has {len(model.tokenizer)}."
        )
    file = RunFile(
        digest=spec.digest,
        name=name,
        spec=spec,
        data=found.data,
        training=found.training_data,
        provenance=provenance(model, config.model, list(command)),
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
            training=learnt.get(row.name),
            instruction=row.instruction,
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
) -> Path:
    """Train what is not trained, compute what is missing of a run, and sum it up.

    Args:
        prepared: The run.
        out: Folder of all runs; the run gets a folder of its own in it, named by its digest.
        checkpoints: Folder of all trained editors; by default `checkpoints` beside the runs.
        report: Takes sentences for the user.
        progress: Whether to show progress bars with the time left.

    Returns:
        The run's folder.

    Raises:
        InputError: If the folder holds something else or belongs to another process.
        StorageError: If results cannot be written; what is finished stays.
    """
    spec, total = prepared.file.spec, prepared.total
    store = Store(out / prepared.file.digest)
    with store.open(prepared.file):
        for change in store.changes(prepared.file):
            report(f"note: this run was begun with {change}; its finished results are kept.")
        if cut := store.mend():
            report(f"{store.cases}: the last line was half-written ({cut} bytes) and is computed again.")
        done = {key_of(record) for record in store.records()}
        if done:
            report(f"{len(done)} of {total} results are there already.")
        if len(done) < total:
            editors = _ready(prepared, checkpoints or out / "checkpoints", report, progress)
            with tqdm(total=total, initial=len(done), unit="result", disable=None if progress else True) as bar:
                for task, cases in prepared.outline.cases.items():
                    bar.set_description(task)
                    for first in range(0, len(cases), spec.chunk):
                        _chunk(prepared, editors, store, task, cases[first : first + spec.chunk], done, bar)
        summary = _sum_up(prepared, store)
    if not summary.valid:
        report(f"INVALID RUN: {summary.invalid_reason}")
    return store.folder


def _ready(
    prepared: Prepared, checkpoints: Path, report: Callable[[str], None], progress: bool
) -> dict[str, Editor[Any]]:
    """Return the editor of each row, all of them trained."""
    editors = dict(prepared.outline.editors)
    for training, checkpoint in zip(prepared.outline.trainings, prepared.checkpoints, strict=True):
        editor = trained(training, prepared.model, checkpoint, checkpoints, report=report, progress=progress)
        editors |= dict.fromkeys(training.rows, editor)
    return editors


def _chunk(
    prepared: Prepared,
    editors: Mapping[str, Editor[Any]],
    store: Store,
    task: str,
    cases: Sequence[EditCase],
    done: set[Key],
    bar: "tqdm[Any]",
) -> None:
    """Compute a chunk under the rows that evaluate its task, unless all of it is on disk; append what is missing."""
    own = [row for row in prepared.outline.rows if task in row.tasks]
    missing = {Key(case.request.case_id, row.name, STAGE) for case in cases for row in own} - done
    if not missing:
        return
    spec = prepared.file.spec
    # The whole chunk is computed even where some of its lines exist: which cases share a pass must not depend on a
    # kill.
    records, timings = run_chunk(
        prepared.model,
        cases,
        {row.name: editors[row.name] for row in own},
        requests={
            row.name: requests_of(row.instruction, prepared.outline.bank, cases, spec.seed)
            for row in own
            if row.instruction is not None
        },
        run=prepared.file.digest,
        seed=spec.seed,
        generation=spec.generation,
        fluency=spec.fluency,
    )
    new = [record for record in records if key_of(record) in missing]
    times = [
        ChunkTime(
            task=task,
            first_case=cases[0].request.case_id,
            editor=time.editor,
            cases=time.cases,
            edit_seconds=time.edit_seconds,
            score_seconds=time.score_seconds,
        )
        for time in timings
    ]
    store.append(new, times)
    bar.update(len(new))


def _sum_up(prepared: Prepared, store: Store) -> RunSummary:
    fingerprint = prepared.model.fingerprint()
    valid = fingerprint == prepared.file.spec.model_fingerprint
    reason = None if valid else "The base model's weights were not the same after the run as before it."
    summary = summarise(prepared.file, store.records(), valid, reason, expected=prepared.total)
    store.write("summary.json", summary)
    return summary
