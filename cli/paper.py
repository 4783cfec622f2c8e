"""The command `paper`: tables and figures as LaTeX."""

from pathlib import Path
from typing import Annotated, get_args

from typer import Option, echo

from instructedit.editors.errors import InputError

from .options import Results, Texts, only


def paper(
    directory: Results,
    out: Annotated[Path, Option(metavar="DIR", help="Folder of main.tex, tables/ and figures/.")] = Path("paper"),
    row: Annotated[Texts, Option(help="Only this row (repeatable), in the order of the run.")] = None,
    measure: Annotated[
        Texts, Option(help="Only this measure: reliability, generalization, portability, locality (repeatable).")
    ] = None,
    protocol: Annotated[
        Texts, Option(help="teacher_forced_exact, teacher_forced_token or free_generation; by default exact match.")
    ] = None,
    intervals: Annotated[bool, Option(help="Whether each number has its interval.")] = True,
) -> None:
    """Write every table and figure that results support as LaTeX, with a main.tex that compiles.

    Where DIR holds several suites, each has a folder of its name.
    """
    from instructedit.benchmark.results.records import Measure
    from instructedit.benchmark.results.suite_results import each_suite
    from instructedit.reports.paper import Choice, write_paper

    for name in measure or ():
        if name not in get_args(Measure):
            raise InputError(f"--measure: found '{name}', expected one of {', '.join(get_args(Measure))}.")
    choice = Choice(tuple(row or ()), tuple(measure or ()), only("protocol", protocol), intervals)  # type: ignore[arg-type]
    for name, place in each_suite(directory).items():
        paths, without = write_paper(place, out / name, choice)
        for sentence in without.values():
            echo(f"{place}: {sentence}")
        made = f"{paths[0]} and {len(paths) - 1} tables and figures"
        echo(f"Written: {made}. Typeset: cd {out / name} && pdflatex main.tex")
