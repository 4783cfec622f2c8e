"""The command `tune`: options of editors, searched on cases that no run tests."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from instructedit.editors.errors import InputError

from .commands import Threads, clear, quiet_libraries


@clear
def tune(
    preset: Annotated[str, typer.Argument(metavar="PRESET_OR_TOML", help="Name of a preset, or path of a TOML file.")],
    editor: Annotated[
        list[str], typer.Option(metavar="ROW", help="Row of the preset to tune, or another editor (repeatable).")
    ],
    budget: Annotated[int, typer.Option(metavar="N", help="Number of trials of each row; the first is as it is.")] = 24,
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="KnowEdit folder, 'hub', 'hub:OWNER/NAME[@REVISION]' or 'embedded'."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="DIR_OR_HUB_ID", help="Model folder, hub id or 'embedded'.")
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="Score on this task (repeatable); by default the preset's factual tasks not held out."),
    ] = None,
    limit: Annotated[int, typer.Option(help="Maximum number of scored cases per task.")] = 32,
    seed: Annotated[int, typer.Option(help="Seed of the drawn options, the trainings and the edits.")] = 0,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of all runs; results go to DIR/tune.")] = Path(
        "results"
    ),
    dtype: Annotated[
        str | None, typer.Option(help="Type of the weights: float32, bfloat16 or float16; by default the preset's.")
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let code in the model's folder or repository run.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; by default a GPU if there is one.")] = None,
    threads: Threads = None,
    device_map: Annotated[str | None, typer.Option(help="'auto' spreads a model over all cards.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print every trial's options and stop.")] = False,
) -> None:
    """Search the options of editors on training or validation cases. Re-running the same command resumes.

    Writes DIR/tune/NAME.toml, the preset with the best options in it, and each row's trials to DIR/tune/NAME/ROW.
    """
    from rich.console import Console

    from instructedit.benchmark.forecast.forecast import sketch_of
    from instructedit.benchmark.results.records import read_record
    from instructedit.benchmark.results.tuning_trail import Trail
    from instructedit.benchmark.tuning.plan import TuneOptions, plan_searches
    from instructedit.benchmark.tuning.tune import TuneFolder
    from instructedit.benchmark.tuning.tune import tune as run
    from instructedit.editors.models.devices import check_device
    from instructedit.reports.tables.tuning import draw, write_markdown

    quiet_libraries()
    check_device(device, device_map)
    asked_for = {"model": model, "data": data, "dtype": dtype, "trust_remote_code": trust_remote_code or None}
    given = {key: value for key, value in asked_for.items() if value is not None}
    options = TuneOptions(preset, tuple(editor), budget, given, tuple(task) if task else None, limit, seed)
    asked = plan_searches(options)
    if dry_run:
        for one in asked:
            if lacks := sketch_of(one.base.config).lacks:
                raise InputError(lacks)
            scored = ", ".join(f"{name} {count}" for name, count in one.counts.items())
            typer.echo(f"{one.row}: {budget} trials on the split {one.base.config.split} ({scored})")
            for number in range(budget):
                typer.echo(f"  {number:3}  {one.shown(number)}")
        return

    def tell(text: str) -> None:
        typer.echo(text, err=True)

    def finished(path: Path) -> None:
        trail = read_record(path, Trail)
        draw(trail, Console())
        typer.echo(f"Trail: {path}, {write_markdown(trail, path.with_suffix('.md'))}")

    folder = TuneFolder(out, Path(preset).stem, sys.argv, tell, progress=True)
    run(asked, options, folder, device=device, device_map=device_map, finished=finished)
    typer.echo(f"Options: {folder.file}")
