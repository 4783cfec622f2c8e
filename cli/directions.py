"""The command `instructedit directions`."""

from pathlib import Path
from typing import Annotated

import typer

from instructedit.editors.errors import InputError

from .commands import Threads, clear, quiet_libraries


@clear
def directions(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A run's folder, the folder of all runs, or a suite in it: suites/NAME."),
    ],
    cases: Annotated[int, typer.Option(min=2, help="Most cases of a task.")] = 50,
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help="The runs' data, where a run cannot say where they are.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="DIR_OR_HUB_ID", help="The runs' model, if it is not where it was.")
    ] = None,
    instructions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The runs' bank, if it is not the shipped one.")
    ] = None,
    checkpoints: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of trained editors; by default beside the runs.")
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let code in the model's folder or repository run.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; by default a GPU if there is one.")] = None,
    threads: Threads = None,
) -> None:
    """Write how the edits of finished runs lie to each other, for the figures of directions; nothing is trained."""
    from instructedit.benchmark.results.records import find_run
    from instructedit.benchmark.results.suite_results import find_suite
    from instructedit.benchmark.run.directions import SETTINGS, DirectionsMaker

    suite = find_suite(directory)
    folders = [suite[0] / run.digest for run in suite[1].runs] if suite else [find_run(directory)]
    for folder in list(folders):
        if suite and not (folder / "summary.json").is_file():
            typer.echo(f"Run {folder.name} is left out: it is not finished, or its folder is not there.", err=True)
            folders.remove(folder)
    quiet_libraries()
    maker = DirectionsMaker(
        checkpoints or (suite[0] if suite else folders[0].parent) / "checkpoints",
        data=data,
        model=model,
        instructions=instructions,
        device=device,
        trust_remote_code=trust_remote_code,
    )
    written = [
        path for folder in folders if (path := maker.make(folder, cases, lambda text: typer.echo(text, err=True)))
    ]
    if not written:
        raise InputError(
            f"{directory}: no run whose trained editors edit several tasks one case at a time; a run of one of the "
            f"settings {', '.join(SETTINGS)} was expected."
        )
    typer.echo(f"Directions: {', '.join(str(path) for path in written)}")
