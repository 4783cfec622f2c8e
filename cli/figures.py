"""The command `figures`: every figure the results support."""

from typing import Annotated

from typer import Option, echo

from .options import File, Results, Texts


def figures(
    directory: Results,
    only: Annotated[Texts, Option(metavar="NAME", help="Only this figure (repeatable).")] = None,
    out: Annotated[File, Option(metavar="FOLDER", help="Folder of the figures; by default figures/ in DIR.")] = None,
    format_: Annotated[
        str, Option("--format", metavar="svg,pdf,png", help="Formats, separated by commas.")
    ] = "svg,pdf,png",
) -> None:
    """Draw every figure the results support, from their files alone, each with its caption and numbers.

    Where DIR holds several suites, those of each are in a folder of its name.
    """
    from instructedit.benchmark.results.suite_results import each_suite
    from instructedit.editors.errors import InputError
    from instructedit.reports.figures.results import read_results
    from instructedit.reports.figures.write import write_figures
    from instructedit.reports.tables.build import summarise_folder

    formats = [name.strip() for name in format_.split(",")]
    missing = []
    for name, place in each_suite(directory).items():
        runs = summarise_folder(place)  # writes the suite.json that figures read
        folder = (out or runs / "figures") / name
        paths, without = write_figures(read_results(place), folder, only or (), formats)
        missing.append(without)
        for sentence in () if only else without.values():
            echo(f"{place}: {sentence}")
        drawn = [path.stem for path in paths if path.suffix == ".md"]
        if drawn or not only:
            echo(f"Figures in {folder}: {', '.join(drawn)}" if drawn else f"{place}: there is nothing to draw.")
    for name in only or ():
        if all(name in without for without in missing):
            raise InputError(f"{directory}: {missing[0][name]}")
