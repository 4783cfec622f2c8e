"""The command `instructedit`."""

import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from instructedit.editors.errors import InputError

from .commands import Threads, clear, quiet_libraries
from .directions import directions
from .figures import figures
from .instructions import app as instructions_app
from .leaderboard import app as leaderboard_app
from .reproduce import reproduce
from .speed import speed
from .table import table
from .tune import tune

app = typer.Typer(
    help="Evaluate knowledge editing of language models: numbers you can trust and make again.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(instructions_app, name="instructions")
app.command()(table)
app.command()(reproduce)
app.command()(directions)
app.command()(figures)
app.command()(speed)
app.command()(tune)
app.add_typer(leaderboard_app, name="leaderboard")


@app.command()
@clear
def run(
    preset: Annotated[str, typer.Argument(metavar="PRESET_OR_TOML", help="Name of a preset, or path of a TOML file.")],
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="KnowEdit folder, 'hub', 'hub:OWNER/NAME[@REVISION]' or 'embedded'."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="DIR_OR_HUB_ID", help="Model folder, hub id or 'embedded'.")
    ] = None,
    editor: Annotated[
        list[str] | None,
        typer.Option(help="Only this row of the preset, or another editor with its defaults (again for more)."),
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this task (again for more).")] = None,
    limit: Annotated[int | None, typer.Option(help="Most cases of a task.")] = None,
    setting: Annotated[
        str | None, typer.Option(help="Only the preset's runs of this setting; if it has none, a run of this setting.")
    ] = None,
    schedule: Annotated[str | None, typer.Option(help="single, batch or sequential, for every run.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Edits of one joint edit of the schedule batch; by default all in one.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the training and of all that is drawn.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="N,N,...", help="Several seeds, a run for each.")] = None,
    instructions: Annotated[
        str | None, typer.Option(metavar="FILE", help="Bank of instructions, or 'default'.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of all runs.")] = Path("results"),
    checkpoints: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of trained editors; by default in the folder of runs.")
    ] = None,
    track: Annotated[
        str | None, typer.Option(metavar="wandb|trackio", help="Send the metrics of trainings there besides.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Type of the weights: float32, bfloat16 or float16; by default the preset's.")
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let code in the model's folder or repository run.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; by default a GPU if there is one.")] = None,
    threads: Threads = None,
    device_map: Annotated[str | None, typer.Option(help="'auto' spreads a model over all cards.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, say what would run, and stop.")] = False,
) -> None:
    """Train and run editors and write results, a summary and a report. Started again, it goes on where it stopped."""
    from rich.console import Console

    from instructedit.benchmark.forecast.machine import Place, free
    from instructedit.benchmark.forecast.report import draw, lines, refuse
    from instructedit.benchmark.results.records import RunSummary, read_record
    from instructedit.benchmark.run.suite import plan_suite, run_suite
    from instructedit.benchmark.setup.config import read_suite
    from instructedit.reports.tables.write import render_terminal, write_report

    quiet_libraries()
    given = {
        "data": data,
        "model": model,
        "limit": limit,
        "schedule": schedule,
        "batch_size": batch_size,
        "instructions": instructions,
        "tasks": tuple(task or ()) or None,
        "dtype": dtype,
        "trust_remote_code": trust_remote_code or None,
    }
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if model is not None:
        options["revision"] = None
    place = Place(out, checkpoints, device, device_map)
    suite = read_suite(preset, options, setting=setting, seeds=_seeds(seed, seeds), editors=editor or ())

    def tell(text: str) -> None:
        typer.echo(text, err=True)

    forecasts = plan_suite(suite, preset, tell, place=place, local=dry_run)
    there, kinds = free(place), tuple(forecasts.values())
    if dry_run:
        repeats = Counter(run.label for run in suite)
        for found in kinds:
            draw(found, repeats[found.label], there, Console())
        typer.echo("")
        for note in dict.fromkeys(note for found in kinds for note in found.data_notes):
            typer.echo(f"data: {note}")
    for note in dict.fromkeys(note for found in kinds for note in found.notes):
        typer.echo(f"note: {note}", err=not dry_run)
    for line in lines(kinds, there):
        typer.echo(line, err=not dry_run)
    if dry_run:
        if any(found.published for found in kinds):
            typer.echo("The data are not here; published sizes stand for them.")
        try:
            refuse(kinds, place, there)
        except InputError as error:
            typer.echo(f"It would be refused. {error}")
        if lacking := dict.fromkeys(found.sketch.lacks for found in kinds if found.sketch.lacks is not None):
            raise InputError(f"It would be refused. {' '.join(lacking)}")
        return
    refuse(kinds, place, there)

    def finished(folder: Path) -> None:
        paths = write_report(folder)
        render_terminal(folder, Console())
        typer.echo(f"Results: {folder}\nReport:  {', '.join(str(path) for path in paths)}")

    folders = run_suite(
        suite,
        forecasts,
        place,
        command=sys.argv,
        report=tell,
        finished=finished,
        progress=True,
        track=track,
    )
    if len(folders) > 1:
        typer.echo(f"All {len(folders)} runs in one report: instructedit report {out}")
    if not all(read_record(folder / "summary.json", RunSummary).valid for folder in folders):
        raise typer.Exit(1)


def _seeds(seed: int | None, seeds: str | None) -> list[int]:
    """Return the seeds of the command line."""
    if seeds is None:
        return [] if seed is None else [seed]
    numbers = seeds.split(",")
    if seed is not None or not all(number.strip().lstrip("-").isdecimal() for number in numbers):
        raise InputError(
            f"--seeds: found '{seeds}', whole numbers with commas between them and no --seed were expected."
        )
    return list(dict.fromkeys(int(number) for number in numbers))


@app.command()
@clear
def report(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A run's folder, the folder of all runs, or a suite in it: suites/NAME."),
    ],
    html: Annotated[
        Path | None, typer.Option(metavar="SITE", help="Write a site for the browser into this folder instead.")
    ] = None,
) -> None:
    """Write the report of a run, or of a suite over its seeds and settings, from the files alone, and print it."""
    from rich.console import Console

    from instructedit.benchmark.results.records import find_run
    from instructedit.benchmark.results.run_folder import write_record
    from instructedit.benchmark.results.suite_results import find_suite
    from instructedit.benchmark.results.suite_summary import summarise_suite
    from instructedit.reports.site.write import write_site
    from instructedit.reports.tables.write import render_suite, render_terminal, write_report, write_suite

    suite = find_suite(directory)
    if html is not None:
        if suite is not None:
            write_record(suite[0] / "suite.json", summarise_suite(*suite))
        typer.echo(f"Site: {write_site(directory, html)}")
        return
    if suite is None:
        folder = find_run(directory)
        paths = write_report(folder)
        render_terminal(folder, Console())
    else:
        path = write_record(suite[0] / "suite.json", summarise_suite(*suite))
        paths = write_suite(path)
        render_suite(path, Console())
    typer.echo(f"Report: {', '.join(str(path) for path in paths)}")


@app.command("list")
@clear
def list_(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[editors|tasks|presets|settings|options]",
            help="What to list; all but options if nothing is named.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Argument(metavar="[EDITOR]", help="Behind 'options': the editor whose options are listed.")
    ] = None,
) -> None:
    """List what can be run, or the options of an editor."""
    from instructedit.benchmark.setup.listing import lines

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    typer.echo("\n".join(lines(what, name, width)))


@app.command()
@clear
def show(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A run's folder, or the folder of all runs.")],
    case: Annotated[str, typer.Argument(metavar="CASE", help="Id of a case, e.g. counterfact/test/17.")],
) -> None:
    """Show one case: its prompts, and what the model answers before the edit and under each editor."""
    from rich.console import Console

    from instructedit.benchmark.results.records import find_run
    from instructedit.reports.tables.case import draw_case, load_case

    draw_case(load_case(find_run(directory), case), Console())


@app.command()
@clear
def embedded(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write data/ and model/ to.")],
    seed: Annotated[int, typer.Option(help="Seed of the world and of the training.")] = 0,
    threads: Threads = None,
) -> None:
    """Make the embedded world and its model again from a seed (about a quarter of an hour on two cores)."""
    from instructedit.benchmark.embedded.make.make import make

    quiet_libraries()
    try:
        make(out, seed, **({} if threads is None else {"threads": threads}))  # two are part of the recipe
    except OSError as error:
        raise InputError(f"{out}: cannot be written to ({error.strerror}); a folder was expected.") from error
    typer.echo(f"Written to {out}")
