"""The command `tune`: hyper-parameter search on cases that no run tests."""

import sys
from pathlib import Path
from typing import Annotated

from typer import Option, echo

from instructedit.editors.errors import InputError

from . import options
from .options import Texts, given, quiet_libraries, say


def tune(
    preset: options.Preset,
    editor: Annotated[
        list[str], Option(metavar="ROW", help="Row of the preset to tune, or another editor (repeatable).")
    ],
    budget: Annotated[
        int, Option(metavar="N", help="Number of trials per row; the first has the current options.")
    ] = 24,
    data: options.Data = None,
    model: options.Model = None,
    task: Annotated[
        Texts, Option(help="Score on this task (repeatable); by default the preset's factual tasks not held out.")
    ] = None,
    limit: Annotated[int, Option(help="Maximum number of scored cases per task.")] = 32,
    seed: Annotated[int, Option(help="Seed of the sampled options, the trainings and the edits.")] = 0,
    out: Annotated[Path, Option(metavar="DIR", help="Folder of all runs; results go to DIR/tune.")] = Path("results"),
    dtype: options.Dtype = None,
    trust_remote_code: options.TrustRemoteCode = False,
    device: options.Device = None,
    threads: options.Threads = None,
    device_map: options.DeviceMap = None,
    dry_run: options.DryRun = False,
) -> None:
    """Search the options of editors on training or validation cases. Re-running the same command resumes.

    Writes DIR/tune/NAME.toml, the preset with the best options in it, and each row's trials to DIR/tune/NAME/ROW.
    """
    from rich.console import Console

    from instructedit.benchmark.forecast.forecast import meta_model_of
    from instructedit.benchmark.results.records import read_record
    from instructedit.benchmark.results.tuning_trail import Trail
    from instructedit.benchmark.tuning.plan import TuneOptions, plan_searches
    from instructedit.benchmark.tuning.tune import TuneFolder
    from instructedit.benchmark.tuning.tune import tune as run
    from instructedit.editors.models.devices import check_device
    from instructedit.reports.render.formats import write_text
    from instructedit.reports.tables.tuning import draw, markdown

    quiet_libraries()
    check_device(device, device_map)
    changes = given(model=model, data=data, dtype=dtype, trust_remote_code=trust_remote_code)
    wanted = TuneOptions(preset, tuple(editor), budget, changes, tuple(task) if task else None, limit, seed)
    searches = plan_searches(wanted)
    if dry_run:
        for search in searches:
            if lacks := meta_model_of(search.base.config).lacks:
                raise InputError(lacks)
            scored = ", ".join(f"{name} {count}" for name, count in search.counts.items())
            echo(f"{search.row}: {budget} trials on the split {search.base.config.split} ({scored})")
            for number in range(budget):
                echo(f"  {number:3}  {search.shown(number)}")
        return

    def finished(path: Path) -> None:
        trail = read_record(path, Trail)
        draw(trail, Console())
        echo(f"Trail: {path}, {write_text(path.with_suffix('.md'), markdown(trail))}")

    folder = TuneFolder(out, Path(preset).stem, sys.argv, say, progress=True)
    run(searches, wanted, folder, device=device, device_map=device_map, finished=finished)
    echo(f"Options: {folder.file}")
