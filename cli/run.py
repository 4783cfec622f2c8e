"""The command `run`: train and run editors."""

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Exit, Option, echo

from instructedit.editors.errors import InputError

from . import options
from .options import Text, Texts, given, quiet_libraries, say
from .report import show_pointers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from instructedit.benchmark.forecast.forecast import Forecast
    from instructedit.benchmark.forecast.machine import Place


def run(
    preset: options.PresetOrFacts,
    data: options.Data = None,
    model: options.Model = None,
    editor: Annotated[
        Texts, Option(help="Only this row of the preset, or another editor with its defaults (repeatable).")
    ] = None,
    add_editor: Annotated[
        Texts, Option(help="Another editor with its defaults, beside the preset's rows (repeatable).")
    ] = None,
    task: Annotated[Texts, Option(help="Only this task (repeatable).")] = None,
    facts: Annotated[
        Text,
        Option(
            metavar="FILE",
            help="File of own facts: evaluated alone, or beside the tasks that the preset or --task names.",
        ),
    ] = None,
    train: Annotated[Texts, Option(help="Task of the data that editors are trained on (repeatable).")] = None,
    limit: Annotated[int | None, Option(help="Maximum number of cases per task.")] = None,
    setting: Annotated[
        Text, Option(help="Only the preset's runs of this setting; if it has none, a run of this setting.")
    ] = None,
    schedule: Annotated[Text, Option(help="single, batch or sequential, for every run.")] = None,
    chat: Annotated[
        Text, Option(help="Text around every prompt: none, template (the model's chat template) or wild.")
    ] = None,
    batch_size: Annotated[
        int | None, Option(help="Edits per joint edit of the schedule batch; by default all in one.")
    ] = None,
    seed: Annotated[int | None, Option(help="Seed of the training and of all sampling.")] = None,
    seeds: Annotated[Text, Option(metavar="N,N,...", help="Several seeds, a run for each.")] = None,
    instructions: Annotated[Text, Option(metavar="FILE", help="Instruction bank, or 'default'.")] = None,
    out: options.Out = Path("results"),
    checkpoints: options.Checkpoints = None,
    base_passes: options.BasePasses = None,
    track: Annotated[
        Text, Option(metavar="wandb|trackio", help="Also log training metrics to wandb or trackio.")
    ] = None,
    dtype: options.Dtype = None,
    trust_remote_code: options.TrustRemoteCode = False,
    device: options.Device = None,
    threads: options.Threads = None,
    device_map: options.DeviceMap = None,
    workers: options.Workers = "auto",
    executor: options.ExecutorName = None,
    executor_option: options.ExecutorOption = None,
    full: options.Full = False,
    dry_run: options.DryRun = False,
) -> None:
    """Train and run editors; write results, a summary and a report. Re-running the same command resumes."""
    from rich.console import Console

    from instructedit.benchmark.forecast.machine import Place
    from instructedit.benchmark.forecast.workers import open_executor
    from instructedit.benchmark.results.records import SUITES, RunSummary, read_record
    from instructedit.benchmark.run.suite import plan_suite, run_suite
    from instructedit.benchmark.setup.config import read_suite
    from instructedit.benchmark.tasks.facts import is_facts_file
    from instructedit.reports.tables.build import report_folders, report_run

    quiet_libraries()
    if is_facts_file(preset):
        if facts is not None:
            raise InputError(f"--facts: found '{facts}' beside the file of facts '{preset}', expected one of them.")
        preset, facts = "facts", preset
    if preset == "facts" and train and setting is None:
        setting = "multi-task"  # the preset itself trains nothing
    changes = given(
        data=data,
        model=model,
        limit=limit,
        schedule=schedule,
        chat=chat,
        batch_size=batch_size,
        instructions=instructions,
        tasks=tuple(task) if task else None,
        facts=facts,
        train=tuple(train) if train else None,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
    )
    if model is not None:
        changes["revision"] = None
    place = Place(out, checkpoints, device, device_map, base_passes)
    rows = {"editors": editor or (), "added": add_editor or ()}
    suite = read_suite(preset, changes, setting=setting, seeds=_seeds(seed, seeds), **rows)
    forecasts = plan_suite(suite, preset, say, place=place, local=dry_run)
    _show_forecasts(tuple(forecasts.values()), [run.label for run in suite], place, dry_run=dry_run)
    if dry_run:
        return

    several = sum(run.label in forecasts for run in suite) > 1

    def finished(folder: Path) -> None:
        files = report_run(folder, None if several else Console(), full=full)
        echo(f"Results:      {folder}")
        if not several:
            show_pointers([folder], [folder], files, full=full)

    with open_executor(executor, workers, executor_option or (), tuple(forecasts.values()), place, say) as own:
        folders = run_suite(
            suite,
            forecasts,
            place,
            command=sys.argv,
            report=say,
            finished=finished,
            progress=True,
            track=track,
            executor=own,
        )
    valid = [read_record(folder / "summary.json", RunSummary).valid for folder in folders]
    if several and any(valid):
        index = out / SUITES / Path(preset).stem
        written = report_folders([index], Console(), full=full)
        show_pointers([index], written.runs, written.files, full=full)
    if not all(valid):
        raise Exit(1)


def _show_forecasts(forecasts: "Sequence[Forecast]", labels: "Sequence[str]", place: "Place", *, dry_run: bool) -> None:
    """Print what the runs need, with `dry_run` in full; `InputError` if one would be refused."""
    from rich.console import Console

    from instructedit.benchmark.forecast.machine import free
    from instructedit.benchmark.forecast.report import draw, lines, refuse

    available = free(place)
    if dry_run:
        repeats = Counter(labels)
        for forecast in forecasts:
            draw(forecast, repeats[forecast.label], available, Console())
        echo("")
        for note in dict.fromkeys(note for forecast in forecasts for note in forecast.data_notes):
            echo(f"data: {note}")
    for note in dict.fromkeys(note for forecast in forecasts for note in forecast.notes):
        echo(f"note: {note}", err=not dry_run)
    for line in lines(forecasts, available):
        echo(line, err=not dry_run)
    if not dry_run:
        refuse(forecasts, place, available)
        return
    if any(forecast.published for forecast in forecasts):
        echo("The data are not available here; published sizes are used instead.")
    try:
        refuse(forecasts, place, available)
    except InputError as error:
        echo(f"It would be refused. {error}")
    if lacking := dict.fromkeys(found.meta.lacks for found in forecasts if found.meta.lacks is not None):
        raise InputError(f"It would be refused. {' '.join(lacking)}")


def _seeds(seed: int | None, seeds: str | None) -> list[int]:
    if seeds is None:
        return [] if seed is None else [seed]
    numbers = seeds.split(",")
    if seed is not None or not all(number.strip().lstrip("-").isdecimal() for number in numbers):
        raise InputError(f"--seeds: found '{seeds}', expected whole numbers separated by commas, and no --seed.")
    return list(dict.fromkeys(int(number) for number in numbers))
