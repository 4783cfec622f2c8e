"""The runs of a preset: planned before the first one starts, run one after the other, and listed in an index."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from instructedit.editors import InputError, LanguageModel, Sketch

from ..forecast.forecast import Forecast, forecast, sketch_of
from ..forecast.machine import Place
from ..results.records import SUITES, RunFile, read_record, readable
from ..results.run_folder import write_record
from ..results.suite_results import SuiteEntry, SuiteFile
from ..setup.config import RunConfig, SuiteRun
from ..setup.data import DataReader
from ..setup.resolve import resolve
from ..setup.settings import NothingTestedError
from .runner import load_model, prepare, run


def plan_suite(
    suite: Sequence[SuiteRun],
    name: str,
    report: Callable[[str], None] = lambda _: None,
    *,
    place: Place | None = None,
    local: bool = False,
) -> dict[str, Forecast]:
    """Resolve every run before the first one starts, without loading a model, and work out what it will take.

    Args:
        suite: The runs, as `read_suite` returns them; runs that differ in their seed alone are resolved once.
        name: Preset or file that they came from.
        report: Receives a sentence for each run that is left out because its setting tests none of its tasks.
        place: Where they will run.
        local: Whether nothing may be fetched, and a model without weights will do; see `DataReader`.

    Returns:
        The forecast of each run that is left, by label.

    Raises:
        InputError: If one of them cannot be run, or none is left.
    """
    reader = DataReader(local=local)
    checkpoints = (place or Place()).checkpoint_root
    sketches: dict[tuple[object, ...], Sketch] = {}
    forecasts: dict[str, Forecast] = {}
    trainings: set[tuple[str, ...]] = set()
    left_out: list[NothingTestedError] = []
    for label, config in dict(suite).items():
        try:
            resolved = resolve(config, name, reader)
        except NothingTestedError as error:
            left_out.append(error)
            continue
        if (key := _model_of(config)) not in sketches:
            sketches[key] = sketch_of(config)
        sketch = sketches[key]
        if sketch.lacks is not None and not local:
            raise InputError(sketch.lacks)
        forecasts[label] = forecast(label, resolved, sketch, checkpoints, trainings)
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
) -> tuple[Path, ...]:
    """Run a suite; consecutive runs of the same model load it once.

    Args:
        suite: The runs, as `read_suite` returns them; those without a forecast are left out.
        forecasts: The result of `plan_suite`.
        place: Where they run.
        command: The command line.
        report: Receives sentences for the user.
        finished: Receives the folder of each finished run.
        progress: Whether to show progress bars.
        track: `wandb` or `trackio` to log the metrics of trainings there too.

    Returns:
        The folders of the runs.

    Raises:
        InputError: If a run cannot be made, or its folder belongs to another process.
        StorageError: If results cannot be written.
    """
    suite = [own for own in suite if own.label in forecasts]
    folders = []
    reported: set[str] = set()
    loaded: tuple[tuple[object, ...], LanguageModel] | None = None
    for number, (label, config) in enumerate(suite, start=1):
        if len(suite) > 1:
            report(f"run {number} of {len(suite)}: {label}, seed {config.seed}")
        if loaded is None or loaded[0] != _model_of(config):
            loaded = None  # releases the one before: two large models would not fit
            loaded = _model_of(config), load_model(config, device=place.device, device_map=place.device_map)
            for note in loaded[1].trial.notes:
                report(f"note: {note}")
        resolved = replace(forecasts[label].run, config=config)
        for note in resolved.notes:
            if note not in reported:
                report(f"note: {note}")
        reported.update(resolved.notes)
        prepared = prepare(resolved, command, model=loaded[1])
        folder = run(prepared, place.out, checkpoints=place.checkpoints, report=report, progress=progress, track=track)
        _add_to_index(place.out, resolved.name, label, prepared.file, report)
        finished(folder)
        folders.append(folder)
    return tuple(folders)


def _model_of(config: RunConfig) -> tuple[object, ...]:
    """Return what decides the loaded model."""
    return config.model, config.revision, config.dtype, config.trust_remote_code


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
