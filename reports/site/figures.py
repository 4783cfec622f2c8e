"""The figures of a site: those that its results support, drawn with it, and any others beside the runs."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from instructedit.editors.errors import InputError

from ..figures.results import read_results
from ..figures.write import FIGURES, NOTES, write_figures
from .collect import Collected


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture of a site, `NAME.svg`, with a caption and notes `NAME.md` and numbers `NAME.csv`, if any."""

    name: str
    caption: tuple[str, ...]
    notes: tuple[str, ...]
    """Paragraphs of both, without the headings."""
    numbers: bool
    """Whether there is a file of numbers."""


def write_site_figures(site: Collected, directory: Path, out: Path) -> list[Figure]:
    """Write the figures of a site and return them, ordered by name.

    Figures of edit directions that lie beside the runs are copied, because a t-SNE takes seconds; all others are drawn
    from the results. Runs that are not of a suite have figures of their own, and an invalid one has none.

    Raises:
        InputError: If the results or a figure beside them cannot be read, or a figure cannot be written.
    """
    beside = {path.stem: path for path in (site.folder / "figures").glob("*.svg") if path.is_file()}
    names = [name for name in FIGURES if not (name.startswith("directions") and name in beside)]
    if site.suite is not None:
        write_figures(read_results(directory), out, names, ("svg",))
    else:
        for run in site.runs:
            if run.summary.valid:
                suffix = f"-{run.digest[:8]}" if len(site.runs) > 1 else ""
                write_figures(read_results(run.folder), out, names, ("svg",), suffix)
    for name, picture in beside.items():
        if not (out / f"{name}.svg").is_file():
            out.mkdir(exist_ok=True)
            for path in (picture, picture.with_suffix(".md"), picture.with_suffix(".csv")):
                if path.is_file():
                    shutil.copyfile(path, out / path.name)
    return [_figure(picture) for picture in sorted(out.glob("*.svg"))]


def _figure(picture: Path) -> Figure:
    file = picture.with_suffix(".md")
    try:
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read; the caption of a figure in UTF-8 was expected.") from error
    caption, _, notes = text.partition(f"\n{NOTES}\n")
    return Figure(picture.stem, _paragraphs(caption), _paragraphs(notes), picture.with_suffix(".csv").is_file())


def _paragraphs(text: str) -> tuple[str, ...]:
    found = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    return tuple(paragraph for paragraph in found if paragraph and not paragraph.startswith("#"))
