"""The command `directions`: similarities of edits, for the figures of directions."""

from typing import Annotated

from typer import Option, echo

from instructedit.editors.errors import InputError

from .options import Checkpoints, Device, File, Results, Text, Threads, TrustRemoteCode, quiet_libraries, say


def directions(
    directory: Results,
    cases: Annotated[int, Option(min=2, help="Maximum number of cases per task.")] = 50,
    data: Annotated[
        Text, Option(metavar="DIR", help="The runs' data, if they are not where the runs recorded them.")
    ] = None,
    facts: Annotated[Text, Option(metavar="FILE", help="The runs' file of own facts.")] = None,
    model: Annotated[Text, Option(metavar="DIR_OR_HUB_ID", help="The runs' model, if it is not where it was.")] = None,
    instructions: Annotated[
        File, Option(metavar="FILE", help="The runs' instruction bank, if it is not the shipped one.")
    ] = None,
    checkpoints: Checkpoints = None,
    trust_remote_code: TrustRemoteCode = False,
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Write pairwise cosine similarities of the edits of finished runs, for the figures; nothing is trained."""
    from instructedit.benchmark.results.records import find_run
    from instructedit.benchmark.results.suite_results import find_suite
    from instructedit.benchmark.run.directions import SETTINGS, DirectionsMaker

    suite = find_suite(directory)
    folders = [suite[0] / run.digest for run in suite[1].runs] if suite else [find_run(directory)]
    place = suite[0] if suite else folders[0].parent
    for folder in list(folders):
        if suite and not (folder / "summary.json").is_file():
            say(f"Run {folder.name} is left out: it is not finished, or its folder is missing.")
            folders.remove(folder)
    quiet_libraries()
    maker = DirectionsMaker(
        checkpoints or place / "checkpoints",
        data=data,
        facts=facts,
        model=model,
        instructions=instructions,
        device=device,
        trust_remote_code=trust_remote_code,
    )
    written = [path for folder in folders if (path := maker.make(folder, cases, say))]
    if not written:
        raise InputError(
            f"{directory}: no run whose trained editors edit several tasks one case at a time; expected a run of one "
            f"of the settings {', '.join(SETTINGS)}."
        )
    echo(f"Directions: {', '.join(map(str, written))}")
