"""The style of all figures: sizes, colours, markers, hatches, and reproducible files.

The colours are those of Okabe and Ito (Color Universal Design, 2008), which are distinct under all
common forms of colour blindness. No figure depends on colour alone: each series has its own marker or hatch as well,
for grey prints.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib.style
from matplotlib.figure import Figure

from instructedit.editors.errors import InputError

ONE_COLUMN, TWO_COLUMNS = 3.35, 6.9
"""Widths in inches, of one and of two columns of a paper; a figure is drawn at the size it is printed at."""
FORMATS = ("svg", "pdf", "png")
_METADATA: Mapping[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}
"""Metadata that would differ between days or versions; None omits it."""
_STYLE: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same one everywhere
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "figure.titlesize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.0,
    "lines.markersize": 4,
    "hatch.linewidth": 0.5,
    "figure.dpi": 300,
    "savefig.dpi": "figure",
    "svg.hashsalt": "instructedit",
    "svg.fonttype": "path",  # outlines: no font has to be there where the figure is looked at
    "pdf.fonttype": 42,  # the font itself, so that text can be found and copied
}


Line = Literal["-", "--", "-.", ":"]


class Look(NamedTuple):
    """How a series is drawn."""

    colour: str
    marker: str
    line: Line
    hatch: str


_BLACK, _GREY, _ORANGE, _SKY, _GREEN = "#000000", "#999999", "#E69F00", "#56B4E9", "#009E73"
_YELLOW, _BLUE, _RED, _PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
_OLIVE = "#8A7F00"  # their yellow, dark enough for a line on white

_EDITORS = {
    "none": Look(_BLACK, "X", ":", "OO"),
    "in-context": Look(_GREY, "P", "--", ".."),
    "ft-l": Look(_ORANGE, "v", "-.", "--"),
    "ft-m": Look(_OLIVE, "<", "--", "||"),
    "calinet": Look(_SKY, "s", "-.", "++"),
    "grace": Look(_GREEN, "D", "--", "xx"),
    "ke": Look(_PURPLE, "^", "-.", "oo"),
    "mend": Look(_BLUE, "o", "--", ""),
    "instructedit": Look(_RED, "*", "-", "///"),
}
_TASKS = {
    "recent": Look(_BLUE, "o", "-", "///"),
    "counterfact": Look(_RED, "s", "--", "\\\\\\"),
    "zsre": Look(_GREEN, "^", "-.", "xx"),
    "convsent": Look(_YELLOW, "D", ":", ".."),
}
_SPARE: list[tuple[str, Line, str]] = [
    (_GREY, "-", "**"),
    (_SKY, "--", "\\\\\\"),
    (_PURPLE, "-.", "//"),
    (_ORANGE, ":", "\\\\"),
]
_OTHERS = [
    Look(colour, marker, line, hatch)
    for marker, (colour, line, hatch) in zip(
        (">", "p", "d", "h", "8", "H", "1", "2"),
        itertools.cycle(_SPARE),
        strict=False,
    )
]


def editor_looks(rows: Iterable[tuple[str, str]]) -> dict[str, Look]:
    """Return a look for each row, given as name and method: that of its method, or another one if that is taken."""
    return _looks(rows, _EDITORS)


def task_looks(tasks: Iterable[str]) -> dict[str, Look]:
    """Return a look for each task."""
    return _looks(((task, task) for task in tasks), _TASKS)


def _looks(named: Iterable[tuple[str, str]], known: Mapping[str, Look]) -> dict[str, Look]:
    found: dict[str, Look] = {}
    others = itertools.cycle(_OTHERS)
    for name, kind in named:
        own = known.get(kind)
        found[name] = next(others) if own is None or own in found.values() else own
    return found


@contextmanager
def styled() -> Iterator[None]:
    """Draw and save in this style, whatever the user's own settings of matplotlib are."""
    with matplotlib.style.context(["default", dict(_STYLE)], after_reset=True):
        yield


def save(figure: Figure, folder: Path, name: str, formats: Sequence[str]) -> list[Path]:
    """Write a figure in each format and return the paths; the same figure gives the same bytes.

    Raises:
        InputError: If a file cannot be written.
    """
    paths = [folder / f"{name}.{kind}" for kind in formats]
    for path, kind in zip(paths, formats, strict=True):
        try:
            figure.savefig(path, format=kind, metadata=dict(_METADATA[kind]))
        except OSError as error:
            raise InputError(f"{path}: the figure cannot be written ({error.strerror}).") from error
    return paths
