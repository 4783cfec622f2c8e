"""Write the figures of a results folder: pictures, captions, and their numbers."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from instructedit.editors.errors import InputError, did_you_mean

from ..render.formats import csv_text, write_text
from . import directions, retention, tradeoff, trainings
from .results import Drawing, NoDataError, Results
from .style import FORMATS, save, styled

FIGURES: dict[str, Callable[[Results], Iterator[Drawing]]] = {
    "directions": directions.editors,
    "directions-scaling": directions.scaling,
    "directions-balanced": directions.balanced,
    "task-scaling": trainings.task_scaling,
    "balanced": trainings.balanced,
    "instructions": trainings.instructions,
    "tradeoff": tradeoff.tradeoff,
    "retention": retention.retention,
}
"""All figures by name; a suite with several such runs has several files of a figure."""


NOTES = "## Notes"
"""Heading between the caption of a figure and its notes, in the file of both."""


def write_figures(
    results: Results, out: Path, only: Sequence[str] = (), formats: Sequence[str] = FORMATS, suffix: str = ""
) -> tuple[list[Path], dict[str, str]]:
    """Write the figures that the results support: NAME.svg, .pdf, .png, the caption .md and the numbers .csv.

    Args:
        results: See `read_results`.
        out: Folder of the figures.
        only: Names of the figures; empty for all.
        formats: Some of `FORMATS`.
        suffix: Added to each name of a file.

    Returns:
        The paths, and by name a sentence for each figure that lacks data.

    Raises:
        InputError: If a name or format is unknown, or nothing can be written.
    """
    for what, names, known in (("figure", only, FIGURES), ("format", formats, FORMATS)):
        for name in names:
            if name not in known:
                raise InputError(f"Unknown {what} '{name}'.{did_you_mean(name, list(known))}")
    paths: list[Path] = []
    missing: dict[str, str] = {}
    counts = Counter[str]()
    with styled():
        for name in only or FIGURES:
            try:
                drawings = list(FIGURES[name](results))
            except NoDataError as error:
                missing[name] = f"no figure '{name}': {error}"
                continue
            for drawing in drawings:
                # Runs with the same label that differ otherwise have a figure each.
                counts[drawing.name] += 1
                count = counts[drawing.name]
                own = drawing.name if count == 1 else f"{drawing.name}-{count}"
                paths += _write(replace(drawing, name=f"{own}{suffix}"), out, formats)
    return paths, missing


def _write(drawing: Drawing, out: Path, formats: Sequence[str]) -> list[Path]:
    texts = {
        "md": "\n\n".join((f"# {drawing.name}", *drawing.caption, NOTES, *drawing.notes)) + "\n",
        "csv": csv_text(drawing.numbers, list(drawing.numbers[0])),
    }
    paths = [write_text(out / f"{drawing.name}.{kind}", text, folder=True) for kind, text in texts.items()]
    return [*save(drawing.figure, out, drawing.name, formats), *paths]
