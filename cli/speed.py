"""The command `speed`: time and memory of the engine, against plain transformers."""

from typing import Annotated

from typer import Option, echo

from instructedit.editors.errors import InputError

from .options import File, Texts, Threads, quiet_libraries, say


def speed(
    quick: Annotated[bool, Option("--quick", help="A smaller selection, within a minute.")] = False,
    json: Annotated[File, Option(metavar="FILE", help="Write all numbers to this file.")] = None,
    page: Annotated[File, Option(metavar="FILE", help="Write a Markdown page to this file.")] = None,
    shape: Annotated[Texts, Option(help="Only this model shape (repeatable).")] = None,
    editor: Annotated[Texts, Option(help="Only this editor (repeatable).")] = None,
    device: Annotated[str, Option(help="cpu, cuda, cuda:1.")] = "cpu",
    threads: Threads = None,
    read: Annotated[File, Option(metavar="FILE", help="Take the numbers from this file instead of measuring.")] = None,
) -> None:
    """Time the editors on random models: seconds, memory, and the ratio to plain transformers."""
    from rich.console import Console

    from instructedit.benchmark.results.records import read_record
    from instructedit.benchmark.results.run_folder import write_record
    from instructedit.benchmark.results.speed_results import SpeedRecord
    from instructedit.reports.render.formats import write_text
    from instructedit.reports.render.terminal import draw
    from instructedit.reports.tables.performance import page as page_of
    from instructedit.reports.tables.performance import report

    if read is not None:
        if quick or json or shape or editor or device != "cpu" or threads:
            raise InputError("--read takes finished measurements; expected no other option but --page.")
        record = read_record(read, SpeedRecord)
    else:
        from instructedit.benchmark.speed.run import run

        quiet_libraries()
        record = run(
            quick=quick, shapes=shape or (), editors=editor or (), device=device, threads=threads or 1, tell=say
        )
    draw(report(record), Console())
    if json is not None:
        echo(f"Numbers: {write_record(json, record)}")
    if page is not None:
        echo(f"Page: {write_text(page, page_of(record), folder=True)}")
