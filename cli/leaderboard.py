"""The commands `leaderboard ...`: submissions of results, and a site of them."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Checkpoints, Results

app = typer.Typer(help="Pack results as a submission, check submissions, build a site.", no_args_is_help=True)
Data = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Data to check against: KnowEdit folder, 'hub' or 'hub:OWNER/NAME@REVISION'.",
        show_default=False,
    ),
]
Against = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR_OR_FILE",
        help="Trusted results or submission; the unedited model must have the same answers there.",
    ),
]


@app.command()
def pack(
    directory: Results,
    out: Annotated[Path, typer.Option(metavar="FILE.zip", help="A new zip file, or a new folder.")],
    name: Annotated[str, typer.Option(help="Name of the submission.")],
    authors: Annotated[list[str], typer.Option(help="An author (repeatable).")],
    notes: Annotated[str, typer.Option(help="Notes for readers.")] = "",
    checkpoints: Checkpoints = None,
) -> None:
    """Pack finished runs as a submission: their records and a manifest."""
    from instructedit.reports.leaderboard.pack import pack

    manifest = pack(directory, out, name=name, authors=authors, notes=notes, checkpoints=checkpoints)
    typer.echo(f"{out}: {len(manifest.runs)} run(s), {out.stat().st_size:,} bytes" if out.is_file() else str(out))


@app.command()
def validate(
    submission: Annotated[Path, typer.Argument(metavar="SUBMISSION", help="A zip file or a folder.")],
    data: Data = None,
    against: Against = None,
) -> None:
    """Validate a submission: recompute every number and run all checks; exit code 1 if one fails."""
    from instructedit.reports.leaderboard.findings import short
    from instructedit.reports.leaderboard.validate import validate

    verdict = validate(submission, data, against or ())
    for note in verdict.findings.notes:
        typer.echo(f"note: {note}", err=True)
    for finding in verdict.findings.found:
        typer.echo(str(finding))
    if not verdict.accepted:
        typer.echo(f"{short(submission)}: REFUSED, {len(verdict.findings.found)} finding(s).")
        raise typer.Exit(1)
    typer.echo(f"{short(submission)}: accepted, {len(verdict.runs)} run(s); every number follows from the records.")


@app.command()
def build(
    submissions: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of submissions.")],
    out: Annotated[Path, typer.Option(metavar="SITE", help="Folder of the site; replaced.")],
    data: Data = None,
    against: Against = None,
) -> None:
    """Check all submissions of a folder and build a site of those that pass."""
    from instructedit.reports.leaderboard.build import build
    from instructedit.reports.leaderboard.findings import short

    built = build(submissions, out, data, against)
    for verdict in built.refused:
        typer.echo(f"refused: {short(verdict.path.name)}, {len(verdict.findings.found)} finding(s)", err=True)
    typer.echo(f"{out / 'index.html'}: {built.tables} tables of {built.accepted} submissions.")
