"""The commands `instructedit leaderboard ...`."""

from pathlib import Path
from typing import Annotated

import typer

from .commands import clear

app = typer.Typer(help="Pack results as a submission, check submissions, make a site of them.", no_args_is_help=True)
Data = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Data to read again: KnowEdit folder, 'hub' or 'hub:OWNER/NAME@REVISION'.",
        show_default=False,
    ),
]
Against = Annotated[
    Path | None,
    typer.Option(metavar="DIR_OR_FILE", help="Trusted results or submission: the unedited model has to say the same."),
]


@app.command()
@clear
def pack(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A run's folder, the folder of all runs, or a suite in it: suites/NAME."),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.zip", help="A new zip file, or a new folder.")],
    name: Annotated[str, typer.Option(help="Name of the submission.")],
    authors: Annotated[list[str], typer.Option(help="Who made it (again for more).")],
    notes: Annotated[str, typer.Option(help="What its readers should know.")] = "",
    checkpoints: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of trained editors; by default beside the runs.")
    ] = None,
) -> None:
    """Pack finished runs as a submission: their records, and a manifest of what they are."""
    from instructedit.reports.leaderboard.pack import pack

    manifest = pack(directory, out, name=name, authors=authors, notes=notes, checkpoints=checkpoints)
    typer.echo(f"{out}: {len(manifest.runs)} run(s), {out.stat().st_size:,} bytes" if out.is_file() else str(out))


@app.command()
@clear
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
@clear
def build(
    submissions: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of submissions.")],
    out: Annotated[Path, typer.Option(metavar="SITE", help="Folder of the site; made anew.")],
    data: Data = None,
    against: Against = None,
) -> None:
    """Validate all submissions of a folder and build a site of those that pass."""
    from instructedit.reports.leaderboard.build import build
    from instructedit.reports.leaderboard.findings import short

    built = build(submissions, out, data, against)
    for verdict in built.refused:
        typer.echo(f"refused: {short(verdict.path.name)}, {len(verdict.findings.found)} finding(s)", err=True)
    typer.echo(f"{out / 'index.html'}: {built.tables} tables of {built.accepted} submissions.")
