"""The runs of a preset, one after the other, and an index that says which of them belong together."""

from collections.abc import Callable, Sequence
from pathlib import Path

from instructedit.editors import InputError, LanguageModel

from ..forecast.preflight import Checked, Place, check
from ..results.records import SUITES, RunFile, read_record, readable
from ..results.run_folder import write_record
from ..results.suite_results import SuiteEntry, SuiteFile
from ..setup.config import SuiteRun
from ..setup.settings import NothingTestedError
from .runner import load_model, prepare, run


def check_all(
    suite: Sequence[SuiteRun],
    name: str,
    report: Callable[[str], None] = lambda _: None,
    *,
    place: Place | None = None,
    local: bool = False,
) -> tuple[tuple[SuiteRun, ...], dict[str, Checked]]:
    """Check every run before the first one starts; a seed changes nothing that is checked.

    Args:
        suite: The runs, as `read_suite` returns them.
        name: Preset or file they came from.
        report: Takes a sentence for each run that is left out because its setting tests none of its tasks.
        place: Where they will run.
        local: Whether nothing may be fetched; see `outline`.

    Returns:
        The runs that are left, and what `preflight.check` says of each by its label.

    Raises:
        InputError: If one of them cannot be run, or none is left.
    """
    checked: dict[str, Checked] = {}
    seen: set[str] = set()
    refused: list[NothingTestedError] = []
    for label, config in dict(suite).items():
        try:
            checked[label] = check(label, config, name, place or Place(), seen, local=local)
        except NothingTestedError as error:
            refused.append(error)
    if not checked:
        raise refused[0]
    for reason in refused:
        report(f"A run is left out. {reason}")
    return tuple(run for run in suite if run.label in checked), checked


def run_suite(
    suite: Sequence[SuiteRun],
    name: str,
    out: Path,
    *,
    checkpoints: Path | None = None,
    command: Sequence[str] = (),
    device: str | None = None,
    device_map: str | None = None,
    report: Callable[[str], None] = lambda _: None,
    finished: Callable[[Path], None] = lambda _: None,
    progress: bool = False,
    track: str | None = None,
) -> tuple[Path, ...]:
    """Run a suite; runs of the same model load it once.

    Args:
        suite: The runs, as `read_suite` returns them.
        name: Preset or file they came from.
        out: Folder of all runs.
        checkpoints: Folder of all trained editors; by default `checkpoints` in `out`.
        command: The command line.
        device: See `load_model`.
        device_map: See `load_model`.
        report: Takes sentences for the user.
        finished: Takes the folder of each run that is finished.
        progress: Whether to show progress bars.
        track: `wandb` or `trackio` to send the metrics of trainings there.

    Returns:
        The folders of the runs.

    Raises:
        InputError: If a run cannot be made, or its folder belongs to another process.
        StorageError: If results cannot be written.
    """
    folders = []
    said: set[str] = set()
    loaded: tuple[tuple[str, str | None, str, bool], LanguageModel] | None = None
    for number, (label, config) in enumerate(suite, start=1):
        if len(suite) > 1:
            report(f"run {number} of {len(suite)}: {label}, seed {config.seed}")
        wanted = (config.model, config.revision, config.dtype, config.trust_remote_code)
        if loaded is None or loaded[0] != wanted:
            loaded = None  # lets go of the one before: two large models would not fit
            loaded = (wanted, load_model(config, device=device, device_map=device_map))
            for note in loaded[1].trial.notes:
                report(f"note: {note}")
        prepared = prepare(config, name, command, model=loaded[1])
        for note in prepared.outline.notes:
            if note not in said:
                report(f"note: {note}")
        said.update(prepared.outline.notes)
        folder = run(prepared, out, checkpoints=checkpoints, report=report, progress=progress, track=track)
        _register(out, name, label, prepared.file, report)
        finished(folder)
        folders.append(folder)
    return tuple(folders)


def _register(out: Path, name: str, label: str, file: RunFile, report: Callable[[str], None]) -> None:
    """Write a run into the index; it replaces the one of the same label and seed. One that is damaged is made anew."""
    path = out / SUITES / f"{Path(name).stem}.json"
    known: tuple[SuiteEntry, ...] = ()
    if path.is_file():
        try:
            index = read_record(path, SuiteFile)
            known = index.runs if index.name == readable(name) else ()
        except InputError as error:
            if isinstance(error.__cause__, OSError):
                raise
            report(f"note: {error} It is made anew; runs that are not in it come in when they are run again.")
    spec = file.spec
    entry = SuiteEntry(label=label, setting=spec.setting, schedule=spec.schedule, seed=spec.seed, digest=file.digest)
    others = (run for run in known if (run.label, run.seed) != (entry.label, entry.seed))
    write_record(path, SuiteFile(name=name, runs=(*others, entry)))
