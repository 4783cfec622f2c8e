"""The runs of a preset: planned before the first one starts, run one after the other, and listed in an index."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from secrets import token_hex

from filelock import FileLock

from instructedit.editors import InputError, MetaModel

from ..executors.base import Done, Executor
from ..forecast.forecast import Forecast, forecast, meta_model_of
from ..forecast.machine import Place
from ..results.integrity import read_run
from ..results.records import SUITES, RunFile, read_record, readable
from ..results.run_folder import StorageError, write_record
from ..results.suite_results import SuiteEntry, SuiteFile
from ..setup.config import SuiteRun
from ..setup.data import DataReader
from ..setup.resolve import ResolvedRun, resolve
from ..setup.settings import NothingTestedError
from .dispatcher import ATTEMPTS, USUAL
from .prepare import ModelLoader, Prepared, prepare, prepared_elsewhere
from .runner import run
from .units import Call, Job, Reply


def plan_suite(
    suite: Sequence[SuiteRun],
    name: str,
    report: Callable[[str], None] = lambda _: None,
    *,
    place: Place | None = None,
    local: bool = False,
) -> dict[str, Forecast]:
    """Resolve every run before the first one starts, without loading a model, and work out what it will take.

    Runs that differ in their seed alone are resolved once; those whose setting tests none of their tasks are left out.
    If `local`, nothing is fetched, and a model without weights will do; see `DataReader`.

    Returns:
        The forecast of each run that is left, by label.

    Raises:
        InputError: If one of them cannot be run, or none is left.
    """
    reader = DataReader(local=local)
    checkpoints = (place or Place()).checkpoint_root
    meta_models: dict[tuple[object, ...], MetaModel] = {}
    forecasts: dict[str, Forecast] = {}
    trainings: set[tuple[str, ...]] = set()
    left_out: list[NothingTestedError] = []
    for label, config in dict(suite).items():
        try:
            resolved = resolve(config, name, reader)
        except NothingTestedError as error:
            left_out.append(error)
            continue
        key = config.model, config.revision, config.trust_remote_code
        if key not in meta_models:
            meta_models[key] = meta_model_of(config)
        meta = meta_models[key]
        if meta.lacks is not None and not local:
            raise InputError(meta.lacks)
        forecasts[label] = forecast(label, resolved, meta, checkpoints, trainings)
    if not forecasts:
        raise left_out[0]
    for reason in left_out:
        report(f"A run is left out. {reason}")
    return forecasts


def run_suite(
    suite: Sequence[SuiteRun],
    forecasts: Mapping[str, Forecast],
    place: Place,
    *,
    command: Sequence[str] = (),
    report: Callable[[str], None] = lambda _: None,
    finished: Callable[[Path], None] = lambda _: None,
    progress: bool = False,
    track: str | None = None,
    loader: ModelLoader | None = None,
    executor: Executor | None = None,
) -> tuple[Path, ...]:
    """Run those runs of a suite that have a forecast, and return their folders.

    Consecutive runs of the same model load it once, unless the loader has it already. `finished` receives the folder of
    each run when it is finished. With an executor its workers load the model and compute the runs.

    Raises:
        InputError: If a run cannot be made, or its folder belongs to another process.
        StorageError: If results cannot be written.
    """
    suite = [own for own in suite if own.label in forecasts]
    folders = []
    reported: set[str] = set()
    loader = loader or ModelLoader(place.device, place.device_map)
    for number, (label, config) in enumerate(suite, start=1):
        if len(suite) > 1:
            report(f"run {number} of {len(suite)}: {label}, seed {config.seed}")
        resolved = replace(forecasts[label].run, config=config)
        job = None
        if executor is None:
            model = loader.load(config)
            prepared, trial = prepare(resolved, command, model=model), tuple(model.trial.notes)
        else:
            job = job_of(resolved, place, track)
            prepared, trial = prepare_elsewhere(executor, job, resolved, command)
            job = of_run(job, prepared.file)
        prepared = replace(prepared, file=prepared.file.model_copy(update={"label": label}))
        notes = dict.fromkeys((*trial, *resolved.notes))
        for note in notes:
            if note not in reported:
                report(f"note: {note}")
        reported.update(notes)
        folder = run(
            prepared,
            place.out,
            checkpoints=place.checkpoints,
            report=report,
            progress=progress,
            track=track,
            base_passes=place.base_passes,
            executor=executor,
            job=job,
        )
        add_to_index(place.out, resolved.name, _entry(label, prepared.file), report)
        finished(folder)
        folders.append(folder)
    return tuple(folders)


def prepare_elsewhere(
    executor: Executor, job: Job, resolved: ResolvedRun, command: Sequence[str]
) -> tuple[Prepared, tuple[str, ...]]:
    """Let a worker load the model and specify what decides the numbers of a run; return it with the worker's notes.

    Raises:
        InputError: If the model cannot be used, or workers are lost again and again.
    """
    why = ""
    for _ in range(ATTEMPTS):
        name = f"prepare-{token_hex(8)}"
        executor.submit(name, Call(job=job, unit=None).model_dump_json(), USUAL.first)
        done = next(found for found in _replies(executor) if found.name == name)
        if done.reply is None:
            why = done.lost or "no reply"
            continue
        reply = Reply.model_validate_json(done.reply)
        if reply.refused is not None:
            raise InputError(reply.refused)
        assert reply.run is not None
        return prepared_elsewhere(resolved, reply.run, command), reply.notes
    raise InputError(f"No worker could prepare the run, {ATTEMPTS} times: {why}.")


def _replies(executor: Executor) -> Iterator[Done]:
    """Yield replies as they come, those to calls of an earlier run too."""
    while True:
        yield from executor.completed()


def of_run(job: Job, file: RunFile) -> Job:
    """Return a job whose run is known; it is the same one each time that the run is started by the same code."""
    provenance = file.provenance.model_copy(update={"started": "", "command": []})
    return job.model_copy(update={"digest": file.digest, "provenance": provenance})


def job_of(resolved: ResolvedRun, place: Place, track: str | None) -> Job:
    """Return what workers have to know of a run."""
    return Job(
        preset=resolved.name,
        config=resolved.config.model_dump_json(exclude_unset=True),
        place=str(Path.cwd()),
        folder=str(place.out.absolute()),
        checkpoints=str(place.checkpoint_root.absolute()),
        device=place.device,
        device_map=place.device_map,
        track=track,
        base_passes=str(place.base_passes.absolute()) if place.base_passes else None,
    )


def _entry(label: str, file: RunFile) -> SuiteEntry:
    spec = file.spec
    return SuiteEntry(label=label, setting=spec.setting, schedule=spec.schedule, seed=spec.seed, digest=file.digest)


def _runs_of(out: Path, name: str) -> tuple[SuiteEntry, ...]:
    """Return what an index holds, from the runs themselves; of two with the same label and seed the later one."""
    files = []
    for path in out.glob("*/run.json"):
        with suppress(InputError):  # what is wrong with another run does not concern this one
            files.append(read_run(path))
    own = [file for file in files if file.label is not None and file.name == readable(name)]
    own.sort(key=lambda file: file.provenance.started)
    return tuple({(file.label, file.spec.seed): _entry(str(file.label), file) for file in own}.values())


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        lock.acquire()
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror}).") from error
    try:
        yield
    finally:
        lock.release()


def add_to_index(out: Path, name: str, entry: SuiteEntry, report: Callable[[str], None]) -> None:
    """Add a run to the suite's index, in place of one with the same label and seed; a damaged index is replaced."""
    path = out / SUITES / f"{Path(name).stem}.json"
    with _locked(path):  # runs of one suite may be computed side by side
        known: tuple[SuiteEntry, ...] | None = None
        if path.is_file():
            try:
                index = read_record(path, SuiteFile)
                known = index.runs if index.name == readable(name) else ()
            except InputError as error:
                if isinstance(error.__cause__, OSError):
                    raise
                report(f"note: {error} It is written again, from the runs.")
        known = _runs_of(out, name) if known is None else known
        others = (run for run in known if (run.label, run.seed) != (entry.label, entry.seed))
        write_record(path, SuiteFile(name=name, runs=(*others, entry)))
