"""A worker: it computes units of runs, in the process of the run itself or in one of its own."""

import os
import platform
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from transformers.utils import logging

from instructedit.editors import EditCase, Editor, EditRequest, InputError

from ..results.records import CaseRecord, RunFile
from ..results.resources import ChunkTime
from ..results.run_folder import differences
from ..results.stages import BATCH
from ..scoring.base_passes import BasePasses
from ..scoring.scoring import run_chunk, score_chunk
from ..setup.config import RunConfig
from ..setup.data import DataReader
from ..setup.model_checks import cannot_edit
from ..setup.resolve import requests_of, resolve
from .accumulated import AccumulatedEdit
from .out_of_memory import in_halves, is_exhausted, reason
from .prepare import CannotEdit, ModelLoader, Prepared, prepare
from .provenance import base_identity
from .training import trained
from .units import Call, Job, Reply, Result, Unit

Lines = tuple[list[CaseRecord], list[ChunkTime]]


class Worker:
    """Computes the units of one run.

    Args:
        prepared: The run, with its model.
        folder: Its folder, for saved edits.
        checkpoints: Folder of trained editors.
        report: Receives sentences for the user.
        progress: Whether trainings show their progress.
        track: `wandb` or `trackio` to log the metrics of trainings there too.
        base_passes: Folder of base passes; None to keep none.
    """

    def __init__(
        self,
        prepared: Prepared,
        folder: Path,
        checkpoints: Path,
        report: Callable[[str], None] = lambda _: None,
        progress: bool = False,
        track: str | None = None,
        base_passes: Path | None = None,
    ) -> None:
        self._prepared, self._folder, self._checkpoints = prepared, folder, checkpoints
        self._report, self._progress, self._track = report, progress, track
        self._run, self._model, self._file = prepared.resolved, prepared.loaded, prepared.file
        self._cases = {case.request.case_id: case for cases in self._run.cases.values() for case in cases}
        self._rows = {row.name: row for row in self._run.rows}
        self._editors: dict[str, Editor[Any]] = {}
        self._edits: dict[tuple[str, int], AccumulatedEdit] = {}
        self._weights = self._model.weights_hash()
        self._scoring: dict[str, Any] = {
            "run": self._file.digest,
            "probes": self._run.probes,
            "seed": self._file.spec.seed,
            "generation": self._file.spec.generation,
            "fluency": self._file.spec.fluency,
        }
        if base_passes is not None:
            self._scoring["passes"] = BasePasses(base_passes, base_identity(self._file), report)

    def perform(self, unit: Unit) -> Result:
        """Compute a unit.

        Raises:
            InputError: If memory runs out for half of its cases too, or a training cannot be made.
            StorageError: If an edit or a checkpoint cannot be written.
        """
        result = {
            "training": self._train,
            "single": self._single,
            "joint": self._joint,
            "sequence": self._sequence,
            "score": self._score,
        }[unit.kind](unit)
        unchanged = self._model.weights_hash() == self._weights
        return result if unchanged else result.model_copy(update={"unchanged": False})

    def _train(self, unit: Unit) -> Result:
        self._editor(unit.rows[0], self._report)
        return Result()

    def _single(self, unit: Unit) -> Result:
        editors = {row: self._editor(row) for row in unit.rows}

        def edited(part: Sequence[EditCase]) -> Lines:
            requests = {row: self._requests(row, part) for row in unit.rows}
            return run_chunk(self._model, part, editors, requests=requests, **self._scoring)

        return self._in_halves(unit, edited)

    def _score(self, unit: Unit) -> Result:
        self._edits = {(row, unit.after): self._saved(row, unit.after) for row in unit.rows}

        def under_edits(part: Sequence[EditCase]) -> Lines:
            made = {row: self._edits[row, unit.after].made(self._requests(row, part)) for row in unit.rows}
            return score_chunk(self._model, part, made, stage=unit.stage, **self._scoring)

        return self._in_halves(unit, under_edits)

    def _joint(self, unit: Unit) -> Result:
        cases, result = self._of(unit), Result()
        for row in unit.rows:
            started = perf_counter()
            edit = AccumulatedEdit.together(
                self._model, self._editor(row), self._requests(row, cases), self._file.spec.seed, unit.first
            )
            edit.save(self._folder, row)
            time = ChunkTime(
                task=None,
                stage=BATCH,
                first_case=unit.cases[0],
                editor=row,
                cases=len(cases),
                edit_seconds=perf_counter() - started,
                score_seconds=0.0,
            )
            result.failures[row], result.requests[row] = edit.failures, len(cases)
            result = result.model_copy(update={"times": (*result.times, time)})
        return result

    def _sequence(self, unit: Unit) -> Result:
        """Add some cases of the stream to the edits of rows, score each right after its edit, and save the edits."""
        cases, seed = self._of(unit), self._file.spec.seed
        edits = {row: self._saved(row, unit.first) for row in unit.rows}
        editors = {row: self._editor(row) for row in unit.rows}
        requests = {row: self._requests(row, cases) for row in unit.rows}
        records: list[CaseRecord] = []
        times: list[ChunkTime] = []
        for number, case in enumerate(cases):
            made = {row: edits[row].add(self._model, editors[row], requests[row][number], seed) for row in unit.rows}
            scored = {row: own for row, own in made.items() if case.request.task in self._rows[row].tasks}
            if scored:
                found = score_chunk(self._model, [case], scored, stage=unit.stage, **self._scoring)
                records += found[0]
                times += found[1]
        for row in unit.rows:
            edits[row].save(self._folder, row)
        own = set(unit.cases)
        failures = {
            row: {case: why for case, why in edit.failures.items() if case in own} for row, edit in edits.items()
        }
        requested = dict.fromkeys(unit.rows, len(cases))
        return Result(records=tuple(records), times=tuple(times), failures=failures, requests=requested)

    def _in_halves(self, unit: Unit, compute: Callable[[Sequence[EditCase]], Lines]) -> Result:
        """Compute lines; if memory runs out, in halves, whose numbers are equal up to the rounding of another packing.

        Raises:
            InputError: If memory runs out for a half.
        """
        records: list[CaseRecord] = []
        times: list[ChunkTime] = []

        def add(part: Sequence[EditCase]) -> None:
            found = compute(part)
            records.extend(found[0])
            times.extend(found[1])

        cases = self._of(unit)
        try:
            in_halves(cases, add, self._report)
        except Exception as error:
            if not is_exhausted(error):
                raise
            raise InputError(
                f"out of memory on {self._model.device} ({reason(error)}), with {(len(cases) + 1) // 2} cases at a time"
                f" too (chunk = {self._file.spec.chunk}, passes of {self._model.pack_tokens} tokens); a smaller "
                "'chunk', fewer rows, a smaller dtype or model, or a machine with more memory is needed. What is "
                "finished is on disk."
            ) from None
        return Result(records=tuple(records), times=tuple(times))

    def _editor(self, row: str, report: Callable[[str], None] = lambda _: None) -> Editor[Any]:
        """Return the editor of a row, trained if it has to be."""
        if row not in self._editors:
            editor, why = self._run.editors[row], cannot_edit(self._run.editors[row], self._model)
            if why is not None:
                self._editors[row] = CannotEdit(editor, why)
            elif (checkpoint := self._prepared.checkpoint_of.get(row)) is not None:
                training = next(own for own in self._run.trainings if row in own.rows)
                editor = trained(
                    training,
                    self._model,
                    checkpoint,
                    self._checkpoints,
                    report=report,
                    progress=self._progress,
                    track=self._track,
                )
                self._editors |= dict.fromkeys(training.rows, editor)
            else:
                self._editors[row] = editor
        return self._editors[row]

    def _saved(self, row: str, edits: int) -> AccumulatedEdit:
        """Return the edit of a row after a number of edits.

        Raises:
            InputError: If it cannot be read; it could when the run was planned.
        """
        if not edits:
            return AccumulatedEdit()
        if (known := self._edits.get((row, edits))) is not None:
            return known
        notes: list[str] = []
        found = AccumulatedEdit.load(self._folder, row, self._model, notes.append, after=edits)
        if found is None:
            raise InputError(
                f"{self._folder}: the edit of '{row}' after {edits} edits cannot be read; the same command makes it "
                f"again. {' '.join(notes)}".rstrip()
            )
        return found

    def _requests(self, row: str, cases: Sequence[EditCase]) -> list[EditRequest]:
        return requests_of(self._rows[row].instruction, self._run.bank, cases, self._file.spec.seed)

    def _of(self, unit: Unit) -> list[EditCase]:
        return [self._cases[case] for case in unit.cases]


class RemoteWorker:
    """Computes the units of any runs in a process of its own; keeps the model, and the last run's data and editors."""

    def __init__(self, device: str | None = None) -> None:
        logging.disable_progress_bar()
        self._device = device
        self._loader: ModelLoader | None = None
        self._reader = DataReader()
        self._job: Job | None = None
        self._worker: Worker | None = None
        self._prepared: Prepared | None = None

    def perform(self, call: str) -> str:
        """Compute the unit of a `Call`, as JSON, and return a `Reply`, as JSON; `InputError` is part of the reply."""
        given = Call.model_validate_json(call)
        try:
            return self._perform(given).model_dump_json()
        except InputError as error:
            return Reply(refused=str(error)).model_dump_json()

    def _perform(self, call: Call) -> Reply:
        assert call.job is not None
        job = call.job.model_copy(update={"digest": None, "provenance": None})
        os.chdir(job.place)
        if self._prepared is None or self._job != job:
            self._worker, self._prepared = None, self._prepare(job)
            self._job = job
        if call.unit is None:
            return Reply(run=self._prepared.file, notes=tuple(self._prepared.loaded.trial.notes))
        check_same(self._prepared.file, call.job)
        if self._worker is None:
            folder = Path(job.folder) / self._prepared.file.digest
            passes = Path(job.base_passes) if job.base_passes else None
            self._worker = Worker(
                self._prepared, folder, Path(job.checkpoints), _say, track=job.track, base_passes=passes
            )
        result = self._worker.perform(call.unit)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        worker = f"{platform.node()}, process {os.getpid()}"
        return Reply(result=result.model_copy(update={"worker": worker, "memory": memory}))

    def _prepare(self, job: Job) -> Prepared:
        config = RunConfig.model_validate_json(job.config)
        if self._loader is None:
            self._loader = ModelLoader(self._device or job.device, job.device_map)
        resolved = resolve(config, job.preset, self._reader)
        return prepare(resolved, model=self._loader.load(config))


def check_same(file: RunFile, job: Job) -> None:
    """Check that a worker would compute the same numbers as the process that started the run.

    Raises:
        InputError: If its data, model or code differ.
    """
    here = f"worker on {platform.node()}"
    assert job.provenance is not None
    mine = file.provenance.model_copy(update={"device": job.provenance.device})
    if changes := differences(job.provenance, mine):
        raise InputError(
            f"{here}: the run was started with {', '.join(changes)}; the same was expected on all machines."
        )
    if file.digest != job.digest:
        raise InputError(
            f"{here}: its model or data give the run {file.digest}, but {job.digest} was started; the same files were "
            "expected on all machines."
        )


def _say(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")  # an executor shows it, or keeps it in a log
