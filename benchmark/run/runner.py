"""From a prepared run to its results: compute what is missing, and sum it up.

A run is rows times cases, edited and scored by one of the schedules (`schedules.py`). Its folder is named by the digest
of everything that decides its numbers, so running it again resumes. Its units are computed by an executor; their lines
are the same wherever and in whatever order that is done, so a run that was killed and resumed, or divided among
workers, leaves the same bytes as an uninterrupted one of one process.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from instructedit.editors import InputError
from instructedit.editors.editor import EDITOR

from ..executors.base import Executor
from ..executors.local import Local
from ..results.consistency import sentence
from ..results.earlier import Earlier
from ..results.integrity import Key, content_of, key_of, read_run
from ..results.records import RunSummary, digest_of
from ..results.resources import Meter
from ..results.run_folder import RunFolder
from ..results.stages import SINGLE
from ..results.summary import summarise
from ..setup.model_checks import cannot_edit_notes
from ..tasks.sampling import nested
from .accumulated import AccumulatedEdit, remove_orphans
from .dispatcher import USUAL, Dispatcher, Outcome, Patience
from .prepare import Prepared
from .progress import Progress
from .schedules import Block, blocks_of, last_edit, lines_of, units_of
from .units import Call, Job, Reply
from .worker import Worker


class UnfinishedError(InputError):
    """Some units of a run were lost again and again; all others are finished."""


def run(
    prepared: Prepared,
    out: Path,
    *,
    checkpoints: Path | None = None,
    report: Callable[[str], None] = lambda _: None,
    progress: bool = False,
    track: str | None = None,
    base_passes: Path | None = None,
    executor: Executor | None = None,
    job: Job | None = None,
    patience: Patience = USUAL,
) -> Path:
    """Train what is not trained, compute what is missing of a run, and sum it up.

    Args:
        prepared: The run.
        out: Folder of all runs.
        checkpoints: Folder of all trained editors; by default `checkpoints` beside the runs.
        report: Receives sentences for the user.
        progress: Whether to show progress with the remaining time.
        track: `wandb` or `trackio` to log the metrics of trainings there too.
        base_passes: Folder of the unedited model's passes, to read those of earlier runs and to keep new ones.
        executor: Who computes it, by default this process. It is not closed.
        job: The run as workers in other processes need it.
        patience: How long a unit of the executor may take.

    Returns:
        The run's own folder, named by its digest.

    Raises:
        InputError: If the folder holds another run or belongs to another process, or a worker refuses the run.
        StorageError: If results cannot be written; what is finished stays.
        UnfinishedError: If workers were lost again and again.
    """
    ids = prepared.resolved.case_ids
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
        done = {key_of(record): None for record in store.records(prepared.file, ids)}
        outcome = Outcome()
        blocks = blocks_of(prepared.resolved, prepared.file.spec)
        if done:
            report(f"{len(done)} of {prepared.total} results are there already.")
        elif earlier.counts:
            count, runs = sum(earlier.counts.values()), " and ".join(earlier.counts)
            report(f"{count} of {prepared.total} results are taken over from {runs}.")
        if len(done) < prepared.total:
            meter = Meter()
            _take_over(prepared, blocks, store, done, earlier)
            trained = checkpoints or out / "checkpoints"
            own = executor or _local(prepared, store, trained, report, progress, track, base_passes)
            outcome = _compute(prepared, blocks, store, done, own, job, trained, report, progress, patience)
            used = meter.read()
            store.append(usage=[used.model_copy(update={"memory": used.memory + sum(outcome.memory.values())})])
        if outcome.given_up:
            unit, why = next(iter(outcome.given_up.items()))
            raise UnfinishedError(
                f"{store.folder}: {len(outcome.given_up)} units could not be computed, {unit} ({why}); all others are "
                "finished, and the same command tries these again."
            )
        store.sort(list(done), lines_of(blocks, prepared.resolved.rows))
        summary = _sum_up(prepared, store, ids, outcome.unchanged)
    for found in summary.consistency:
        if note := sentence(found):
            report(f"note: {note}")
    if not summary.valid:
        report(f"INVALID RUN: {summary.invalid_reason}")
    return store.folder


def _local(
    prepared: Prepared,
    store: RunFolder,
    checkpoints: Path,
    report: Callable[[str], None],
    progress: bool,
    track: str | None,
    base_passes: Path | None,
) -> Executor:
    for note in cannot_edit_notes(prepared.resolved, prepared.loaded):
        report(f"note: {note}")
    worker = Worker(prepared, store.folder, checkpoints, report, progress, track, base_passes)

    def perform(call: str) -> str:
        unit = Call.model_validate_json(call).unit
        assert unit is not None
        return Reply(result=worker.perform(unit)).model_dump_json()

    return Local(perform)


def _compute(
    prepared: Prepared,
    blocks: Sequence[Block],
    store: RunFolder,
    done: dict[Key, None],
    executor: Executor,
    job: Job | None,
    checkpoints: Path,
    report: Callable[[str], None],
    progress: bool,
    patience: Patience,
) -> Outcome:
    run, spec = prepared.resolved, prepared.file.spec
    known: dict[tuple[str, int], bool] = {}

    def is_saved(row: str, edits: int) -> bool:
        if (row, edits) not in known:
            found = AccumulatedEdit.load(store.folder, row, prepared.model, report, after=edits)
            known[row, edits] = found is not None
        return known[row, edits]

    untrained = {
        row for row, own in prepared.checkpoint_of.items() if not (checkpoints / own.folder_name / EDITOR).exists()
    }
    units = units_of(prepared, blocks, done, is_saved, executor.workers, untrained)
    trainings = sum(unit.kind == "training" for unit in units)
    kept = last_edit(run, spec)
    with closing(Progress(prepared.total, len(done), trainings, progress, report)) as shown:
        outcome = Dispatcher(executor, job, store, done, kept, report, shown, patience).run(units)
    for row, failures in outcome.failures.items():
        if failures:
            report(
                f"{row}: {len(failures)} of {outcome.requests[row]} requests could not be edited in; the first: "
                f"{next(iter(failures.values()))}"
            )
    return outcome


def _take_over(
    prepared: Prepared, blocks: Sequence[Block], store: RunFolder, done: dict[Key, None], earlier: Earlier
) -> None:
    """Write the missing lines of the chunks that another run has."""
    for block in blocks if earlier.counts else ():
        for row in prepared.resolved.rows:
            if block.stage != SINGLE or not any(key not in done for key in block.lines([row])):
                continue
            if (found := earlier.take(row.name, [case.request.case_id for case in block.cases])) is not None:
                new = [record for record in found[0] if key_of(record) not in done]
                store.append(new, [found[1]])
                done.update(dict.fromkeys(map(key_of, new)))


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


def _sum_up(prepared: Prepared, store: RunFolder, ids: Mapping[str, Collection[str]], valid: bool) -> RunSummary:
    """Write `summary.json`; the run is invalid if the base model's weights changed."""
    reason = None if valid else "The base model's weights were not the same after the run as before it."
    found = summarise(prepared.file, store.records(prepared.file, ids), valid, reason, expected=prepared.total)
    sha256, lines = content_of(store.cases) or (None, None)
    summary = found.model_copy(update={"cases_sha256": sha256, "lines": lines})
    summary = summary.model_copy(update={"content": digest_of(summary, {"content"})})
    store.write("summary.json", summary)
    return summary
