"""The commands `facts ...`: what is understood of a file of own facts, and a file to fill in."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Exit, Option, Typer, echo

if TYPE_CHECKING:
    from instructedit.benchmark.tasks.facts import FactRow, Facts
    from instructedit.editors import Probe, Role

app = Typer(help="Own facts: check a file, or write one to fill in.", no_args_is_help=True)

_ROLES: "dict[Role, str]" = {"generalization": "gen.", "portability": "port.", "locality": "loc."}


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
        echo(json.dumps(_document(facts), ensure_ascii=False, indent=2))
    else:
        _draw(facts, rows)
    if facts.errors:
        raise Exit(2)


@app.command()
def template(
    out: Annotated[Path | None, Argument(metavar="[OUT.csv]", help="New file; by default it is printed.")] = None,
) -> None:
    """Write a commented CSV file of facts to fill in."""
    from instructedit.benchmark.tasks.facts import TEMPLATE
    from instructedit.editors.errors import InputError
    from instructedit.editors.files.atomic import write_whole

    if out is None:
        echo(TEMPLATE, nl=False)
        return
    if out.suffix.lower() != ".csv":
        raise InputError(f"{out}: a name that ends in .csv was expected.")
    if out.exists():
        raise InputError(f"{out}: is there already; a new file was expected.")
    if not out.parent.is_dir():
        raise InputError(f"{out}: cannot be written, because there is no folder {out.parent}.")
    write_whole(out, TEMPLATE)
    echo(f"Written: {out}. Fill it in, then: instructedit facts check {out}")


def _document(facts: "Facts") -> dict[str, object]:
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

    from instructedit.benchmark.tasks.fact_columns import COLUMNS

    console = Console(highlight=False)
    good = [row for row in facts.rows if row.case is not None]
    console.print(Text.assemble((str(facts.path), "bold"), f": {facts.layout}, {_count(len(facts.rows), 'row')}"))
    if renamed := [
        f"'{name}' as {_words(c)}" for name, c in facts.columns.read.items() if _words(c) != name.replace("_", " ")
    ]:
        console.print(Text(f"read: {', '.join(renamed)}"))
    for name, hint in facts.columns.unread.items():
        console.print(Text(f"not read: column '{name}'{f', {hint}' if hint else ''}", "yellow"))
    if not all(facts.columns.unread.values()):
        console.print(Text(f"columns that are read: {', '.join(COLUMNS)}", "dim"))
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    optional = {
        "old": any(row.case and row.case.request.old for row in good),
        "subject": any(row.case and row.case.request.subject for row in good),
    }
    table.add_column("row", justify="right", no_wrap=True)
    for name in ("edit", *(name for name, shown in optional.items() if shown)):
        table.add_column(name, overflow="fold", max_width=None if name == "edit" else 16)
    roles = {role: word for role, word in _ROLES.items() if any(p.role == role for row in good for p in _probes(row))}
    for word in roles.values():
        table.add_column(word, justify="right", no_wrap=True)
    for row in good[:most]:
        assert row.case is not None
        request, counts = row.case.request, Counter(probe.role for probe in _probes(row))
        edit = Text.assemble(request.prompt, " -> ", (" | ".join(row.case.probes[0].answers), "bold"))
        cells = [getattr(request, name) or "" for name, shown in optional.items() if shown]
        cells += [str(counts[role] or "") for role in roles]
        table.add_row(str(row.index), edit, *map(Text, cells))
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
    return " ".join(filter(None, column)).replace("_", " ")


def _probes(row: "FactRow") -> "tuple[Probe, ...]":
    return row.case.probes if row.case is not None else ()


def _count(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _conclusions(facts: "Facts") -> list[str]:
    cases = facts.cases
    found = []
    if facts.empty:
        found.append(f"{_count(facts.empty, 'empty row')} left out.")
    roles = Counter(probe.role for case in cases for probe in case.probes)
    if roles["generalization"] == 0 and cases:
        found.append("No rephrase: generalization is not measured.")
    if roles["locality"] == 0 and cases:
        found.append("No unrelated prompt: locality is not measured.")
    if lacking := sum(not case.request.subject for case in cases):
        found.append(f"Without a subject: {lacking} of {len(cases)} facts; editors that need one fail them.")
    if facts.errors:
        found.append(f"Not usable: {len(facts.errors)} of {len(facts.rows)} rows cannot be read.")
    else:
        found.append(f"Usable: {_count(len(cases), 'fact')}, the task '{facts.task}'.")
        found.append(f"Run them: instructedit run {facts.path} --model MODEL")
    return found
