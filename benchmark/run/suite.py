"""The runs of a preset: planned before the first one starts, run one after the other, and listed in an index."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from instructedit.editors import InputError, MetaModel

from ..forecast.forecast import Forecast, forecast, meta_model_of
from ..forecast.machine import Place
from ..results.records import SUITES, RunFile, read_record, readable
from ..results.run_folder import write_record
from ..results.suite_results import SuiteEntry, SuiteFile
from ..setup.config import SuiteRun
from ..setup.data import DataReader
from ..setup.resolve import resolve
from ..setup.settings import NothingTestedError
from .runner import ModelLoader, prepare, run


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
) -> tuple[Path, ...]:
    """Run those runs of a suite that have a forecast, and return their folders.

    Consecutive runs of the same model load it once, unless the loader has it already. `finished` receives the folder of
    each run when it is finished.

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
        model = loader.load(config)
        resolved = replace(forecasts[label].run, config=config)
        notes = dict.fromkeys((*model.trial.notes, *resolved.notes))
        for note in notes:
            if note not in reported:
                report(f"note: {note}")
        reported.update(notes)
        prepared = prepare(resolved, command, model=model)
        folder = run(prepared, place.out, checkpoints=place.checkpoints, report=report, progress=progress, track=track)
        _add_to_index(place.out, resolved.name, label, prepared.file, report)
        finished(folder)
        folders.append(folder)
    return tuple(folders)


def _add_to_index(out: Path, name: str, label: str, file: RunFile, report: Callable[[str], None]) -> None:
    """Add a run to the suite's index, in place of one with the same label and seed; a damaged index is replaced."""
    path = out / SUITES / f"{Path(name).stem}.json"
    known: tuple[SuiteEntry, ...] = ()
    if path.is_file():
        try:
            index = read_record(path, SuiteFile)
            known = index.runs if index.name == readable(name) else ()
        except InputError as error:
            if isinstance(error.__cause__, OSError):
                raise
            report(f"note: {error} It is written again; runs that it lacks are added when they are run again.")
    spec = file.spec
    entry = SuiteEntry(label=label, setting=spec.setting, schedule=spec.schedule, seed=spec.seed, digest=file.digest)
    others = (run for run in known if (run.label, run.seed) != (entry.label, entry.seed))
    write_record(path, SuiteFile(name=name, runs=(*others, entry)))
