"""The commands `leaderboard ...`: submissions of results, and a site of them."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option, Typer, echo

from . import options
from .options import Checkpoints, Results, say

app = Typer(help="Pack results as a submission, check submissions, build a site.", no_args_is_help=True)
Data = Annotated[
    str | None,
    Option(
        metavar="DIR",
        help="Data to check against: KnowEdit folder, 'hub' or 'hub:OWNER/NAME@REVISION'.",
        show_default=False,
    ),
]
Against = Annotated[
    Path | None,
    Option(
        metavar="DIR_OR_FILE",
        help="Trusted results or submission; the unedited model must have the same answers there.",
    ),
]


@app.command()
def pack(
    directory: Results,
    out: Annotated[Path, Option(metavar="FILE.zip", help="A new zip file, or a new folder.")],
    name: Annotated[str, Option(help="Name of the submission.")],
    authors: Annotated[list[str], Option(help="An author (repeatable).")],
    notes: Annotated[str, Option(help="Notes for readers.")] = "",
    checkpoints: Checkpoints = None,
) -> None:
    """Pack finished runs as a submission: their records and a manifest."""
    from instructedit.reports.leaderboard.pack import pack

    manifest = pack(directory, out, name=name, authors=authors, notes=notes, checkpoints=checkpoints)
    echo(f"{out}: {len(manifest.runs)} run(s), {out.stat().st_size:,} bytes" if out.is_file() else str(out))


@app.command()
def validate(
    submission: Annotated[Path, Argument(metavar="SUBMISSION", help="A zip file or a folder.")],
    data: Data = None,
    against: Against = None,
) -> None:
    """Validate a submission: recompute every number and run all checks; exit code 1 if one fails."""
    from instructedit.reports.leaderboard.findings import short
    from instructedit.reports.leaderboard.validate import validate

    verdict = validate(submission, data, against or ())
    for note in verdict.findings.notes:
        echo(f"note: {note}", err=True)
    for finding in verdict.findings.found:
        echo(str(finding))
    if not verdict.accepted:
        echo(f"{short(submission)}: REFUSED, {len(verdict.findings.found)} finding(s).")
        raise Exit(1)
    echo(f"{short(submission)}: accepted, {len(verdict.runs)} run(s); every number follows from the records.")


@app.command()
def build(
    submissions: Annotated[Path, Argument(metavar="FOLDER", help="Folder of submissions.")],
    out: Annotated[Path, Option(metavar="SITE", help="Folder of the site; replaced.")],
    data: Data = None,
    against: Against = None,
) -> None:
    """Check all submissions of a folder and build a site of those that pass."""
    from instructedit.reports.leaderboard.build import build
    from instructedit.reports.leaderboard.findings import short

    built = build(submissions, out, data, against)
    for verdict in built.refused:
        say(f"refused: {short(verdict.path.name)}, {len(verdict.findings.found)} finding(s)")
    for remark in built.remarks:
        say(f"warning: {short(remark, 1_000)}")
    echo(f"{out / 'index.html'}: {built.tasks} task(s), {built.accepted} submission(s).")


@app.command()
def rerun(
    submission: Annotated[Path, Argument(metavar="SUBMISSION", help="A zip file or a folder.")],
    cases: Annotated[int, Option(min=1, help="Least number of cases; whole chunks are run.")] = 20,
    model: options.Model = None,
    data: options.Data = None,
    checkpoints: Annotated[
        Path | None, Option(metavar="DIR", help="Folder of trained editors; those that it lacks are trained.")
    ] = None,
    instructions: Annotated[
        str | None, Option(metavar="FILE", help="Instruction bank of the runs, if not the shipped one.")
    ] = None,
    seed: Annotated[int | None, Option(help="Seed of the choice of cases; by default a new one.")] = None,
    device: options.Device = None,
    threads: options.Threads = None,
    trust_remote_code: options.TrustRemoteCode = False,
) -> None:
    """Run a random sample of a submission's cases again and record how far it agrees; exit code 1 if it does not."""
    import secrets
    import sys
    from tempfile import TemporaryDirectory

    from instructedit.benchmark.forecast.machine import Place
    from instructedit.benchmark.run.rerun import rerun
    from instructedit.editors.errors import InputError
    from instructedit.reports.leaderboard.reruns import compare_rerun, write_rerun
    from instructedit.reports.leaderboard.validate import validate

    options.quiet_libraries()
    verdict = validate(submission, data if data != "embedded" else None)
    if not verdict.accepted:
        raise InputError(f"{submission}: is refused, and so not run again. {verdict.findings.found[0]}")
    given = options.given(model=model, data=data, instructions=instructions, trust_remote_code=trust_remote_code)
    seed = secrets.randbelow(2**32) if seed is None else seed
    with TemporaryDirectory(prefix="rerun-") as folder:
        place = Place(Path(folder), checkpoints, device)
        runs = list(verdict.runs.values())
        folders = rerun(runs, cases, seed, place, given=given, command=sys.argv, report=say, progress=True)
        found = compare_rerun(verdict, folders, seed)
    for change in found.changes:
        say(f"note: the submission was made with {change}.")
    echo(str(found))
    echo(f"{found.identical} of {found.total.lines} lines are equal in every byte.")
    echo(f"{write_rerun(found, submission)}: {'agrees' if found.agrees else 'DIFFERS'}")
    if not found.agrees:
        raise Exit(1)
