"""The command `speed`: what the engine takes, held against the same work done one by one."""

from pathlib import Path
from typing import Annotated

import typer

from instructedit.editors.errors import InputError

from .commands import Threads, clear, quiet_libraries


@clear
def speed(
    quick: Annotated[bool, typer.Option("--quick", help="Less of everything, within a minute.")] = False,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all numbers there.")] = None,
    page: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page in Markdown there.")] = None,
    shape: Annotated[list[str] | None, typer.Option(help="Only this shape of a model (again for more).")] = None,
    editor: Annotated[list[str] | None, typer.Option(help="Only this editor (again for more).")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1.")] = "cpu",
    threads: Threads = None,
    read: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Take the numbers from there instead of measuring.")
    ] = None,
) -> None:
    """Time the editors on random models: seconds, operations, memory, and the ratio to plain transformers."""
    from rich.console import Console

    from instructedit.benchmark.results.records import read_record
    from instructedit.benchmark.results.run_folder import write_record
    from instructedit.benchmark.results.speed_results import SpeedRecord
    from instructedit.reports.tables.performance import draw, write_page

    if read is not None:
        if quick or json or shape or editor or device != "cpu" or threads:
            raise InputError("--read takes what was measured as it is; no other option but --page was expected.")
        record = read_record(read, SpeedRecord)
    else:
        from instructedit.benchmark.speed.run import run

        quiet_libraries()
        record = run(
            quick=quick, shapes=shape or (), editors=editor or (), device=device, threads=threads or 1, tell=_tell
        )
    draw(record, Console())
    if json is not None:
        typer.echo(f"Numbers: {write_record(json, record)}")
    if page is not None:
        typer.echo(f"Page: {write_page(record, page)}")


def _tell(text: str) -> None:
    typer.echo(text, err=True)
