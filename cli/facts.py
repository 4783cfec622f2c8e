"""The commands `facts ...`: what is understood of a file of own facts, and a file to fill in."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

if TYPE_CHECKING:
    from instructedit.benchmark.tasks.facts import FactRow, Facts

app = typer.Typer(help="Own facts: check a file, or write one to fill in.", no_args_is_help=True)

_ROLES = {"generalization": "gen", "portability": "port", "locality": "loc"}


@app.command()
def check(
    file: Annotated[Path, Argument(metavar="FILE", help="CSV, TSV, Parquet, JSON or JSON lines.")],
    rows: Annotated[int, Option(min=0, help="Maximum number of rows in the table; remarks are on all rows.")] = 100,
    as_json: Annotated[bool, Option("--json", help="Print JSON: every row with its edit, probes and remarks.")] = False,
) -> None:
    """Show what is understood of a file of facts, row by row. The exit code is 2 if it cannot be run."""
    from instructedit.benchmark.tasks.facts import read_facts

    facts = read_facts(file)
    if as_json:
        typer.echo(json.dumps(_document(facts), ensure_ascii=False, indent=2))
    else:
        _draw(facts, rows)
    if facts.errors:
        raise typer.Exit(2)


@app.command()
def template(
    out: Annotated[Path | None, Argument(metavar="[OUT.csv]", help="New file; by default it is printed.")] = None,
) -> None:
    """Write a commented CSV file of facts to fill in."""
    from instructedit.benchmark.tasks.facts import TEMPLATE
    from instructedit.editors.errors import InputError

    if out is None:
        typer.echo(TEMPLATE, nl=False)
        return
    if out.suffix.lower() != ".csv":
        raise InputError(f"{out}: a name that ends in .csv was expected.")
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE)
    except FileExistsError as error:
        raise InputError(f"{out}: is there already; a new file was expected.") from error
    typer.echo(f"Written: {out}. Fill it in, then: instructedit facts check {out}")


def _document(facts: "Facts") -> dict[str, object]:
    """Return what was understood as plain values."""
    return {
        "file": str(facts.path),
        "task": facts.task,
        "sha256": facts.sha256,
        "layout": facts.layout,
        "usable": not facts.errors,
        "columns": {name: " ".join(filter(None, column)) for name, column in facts.columns.read.items()},
        "not_read": facts.columns.unread,
        "counts": facts.counts,
        "rows": [
            {
                "row": row.index,
                "line": row.line,
                "error": row.error,
                "remarks": row.remarks,
                **(asdict(row.case) if row.case is not None else {}),
            }
            for row in facts.rows
        ],
    }


def _draw(facts: "Facts", most: int) -> None:
    """Print a table of the rows, then the remarks and errors by row, and what follows from them."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    good = [row for row in facts.rows if row.case is not None]
    console.print(Text.assemble((str(facts.path), "bold"), f": {facts.layout}, {len(facts.rows):,} rows"))
    console.print(Text(f"columns: {', '.join(f'{name} = {_words(c)}' for name, c in facts.columns.read.items())}"))
    for name, hint in facts.columns.unread.items():
        console.print(Text(f"not read: column '{name}'{f', {hint}' if hint else ''}", "yellow"))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    optional = {
        "old": any(row.case and row.case.request.old for row in good),
        "subject": any(row.case and row.case.request.subject for row in good),
    }
    table.add_column("row", justify="right", no_wrap=True)
    for name in ("prompt", "target", *(name for name, shown in optional.items() if shown), "probes"):
        table.add_column(name, overflow="fold", ratio={"prompt": 3, "target": 2}.get(name))
    for row in good[:most]:
        assert row.case is not None
        request, probes = row.case.request, row.case.probes
        cells = [request.prompt, " | ".join(probes[0].answers)]
        cells += [getattr(request, name) or "" for name, shown in optional.items() if shown]
        table.add_row(str(row.index), *map(Text, [*cells, _probes(row)]))
    if good:
        console.print()
        console.print(table)
    if len(good) > most:
        console.print(Text(f"... and {len(good) - most:,} more rows (--rows)", "dim"))
    console.print()
    for row in facts.rows:
        for remark in row.remarks:
            console.print(Text.assemble((f"row {row.index}: ", "bold"), remark))
        if row.error is not None:
            console.print(Text(f"!!! {row.error}", "bold red"))
    for text in _conclusions(facts):
        console.print(Text(text), soft_wrap=True)  # a command that is copied stays one line


def _words(column: tuple[str, str]) -> str:
    meaning, key = column
    return f"{meaning.replace('_', ' ')}{f' {key}' if key else ''}"


def _probes(row: "FactRow") -> str:
    assert row.case is not None
    counts = Counter(probe.role for probe in row.case.probes)
    return ", ".join(f"{counts[role]} {word}" for role, word in _ROLES.items() if counts[role])  # type: ignore[index]


def _conclusions(facts: "Facts") -> list[str]:
    """Return what the file can be used for, and what it lacks."""
    cases = facts.cases
    found = []
    if facts.empty:
        found.append(f"{facts.empty} empty rows are left out.")
    roles = Counter(probe.role for case in cases for probe in case.probes)
    if roles["generalization"] == 0 and cases:
        found.append("No rephrase: generalization is not measured.")
    if roles["locality"] == 0 and cases:
        found.append("No unrelated prompt: locality is not measured.")
    if lacking := sum(not case.request.subject for case in cases):
        found.append(f"{lacking} of {len(cases)} facts have no subject; editors that need one fail them.")
    if facts.errors:
        found.append(f"Not usable: {len(facts.errors)} of {len(facts.rows)} rows cannot be read.")
    else:
        found.append(f"Usable: {len(cases)} facts, the task '{facts.task}'.")
        found.append(f"Run them: instructedit run {facts.path} --model MODEL")
    return found
