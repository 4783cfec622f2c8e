"""Elements of several figures: a grid of panels, titles with n, marks and bars with intervals, legends."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from instructedit.benchmark.results.suite_results import SeedMean

from ..tables.columns import Column
from .results import FEW, words
from .style import TWO_COLUMNS, Look

EDGE = "#222222"
_PUSHES = 200
"""Maximum number of passes over the marks that are moved apart."""


def grid(rows: int, columns: int, height: float) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure as wide as two columns and its panels, row by row; `height` is that of a row, in inches."""
    figure = Figure(figsize=(TWO_COLUMNS, rows * height + 0.45), layout="constrained")
    return figure, [list(row) for row in figure.subplots(rows, columns, squeeze=False)]


def percent(axes: Axes, axis: str = "y") -> None:
    """Give an axis the range of percentages, with room for marks at its ends."""
    getattr(axes, f"set_{axis}lim")(-4, 104)
    getattr(axes, f"set_{axis}ticks")(range(0, 101, 25))


def counts(means: Iterable[SeedMean]) -> str:
    """Return `n = ` and the number of cases, or the least and the most where rows differ."""
    found = {mean.n for mean in means}
    return f"n = {min(found)}" + (f" to {max(found)}" if len(found) > 1 else "")


def heading(column: Column, means: Sequence[SeedMean]) -> str:
    """Return the title of a panel: protocol and number of cases."""
    return f"{words(column)}, {counts(means)}"


def ends(mean: SeedMean) -> list[list[float]]:
    """Return the distances from the mean to both ends of its interval, in percent, as error bars of matplotlib."""
    if mean.low is None or mean.high is None:
        return [[0.0], [0.0]]
    return [[100 * max(0.0, mean.mean - mean.low)], [100 * max(0.0, mean.high - mean.mean)]]


def mark(axes: Axes, x: float, mean: SeedMean, look: Look) -> None:
    """Draw one mean with its interval; hollow if it is over few cases."""
    style = _marked(look) | ({"markerfacecolor": "white", "markeredgecolor": look.colour} if mean.n < FEW else {})
    axes.errorbar(x, 100 * mean.mean, yerr=ends(mean), color=look.colour, marker=look.marker, **style)


def bar(axes: Axes, x: float, width: float, mean: SeedMean, look: Look) -> BarContainer:
    """Draw one mean as a bar with its interval."""
    return axes.bar(
        x,
        100 * mean.mean,
        width,
        yerr=ends(mean),
        color=look.colour,
        edgecolor=EDGE,
        linewidth=0.5,
        hatch=look.hatch,
        error_kw={"elinewidth": 0.8, "capsize": 1.5, "ecolor": EDGE},
    )


def cross(axes: Axes, x: SeedMean, y: SeedMean, look: Look, shift: tuple[float, float] = (0.0, 0.0)) -> None:
    """Draw a pair of means with both intervals, moved by a shift in points."""
    # Below the marks and without caps: the ends of short intervals would fill a hollow mark.
    axes.errorbar(
        100 * x.mean + shift[0],
        100 * y.mean + shift[1],
        xerr=ends(x),
        yerr=ends(y),
        color=look.colour,
        marker=look.marker,
        **hollow(look) | {"capsize": 0},
    )


def apart(places: Sequence[tuple[float, float]], least: tuple[float, float]) -> list[tuple[float, float]]:
    """Return a shift for each place, so that no two are nearer than `least` (across, up) of each other.

    Places that are too near are pushed apart along the line between them, equal ones in a direction of their own, until
    none is; the same places give the same shifts.
    """
    scale = np.array(least)
    start = np.array(places).reshape(-1, 2) / scale
    found = start.copy()
    pairs = list(itertools.combinations(range(len(found)), 2))
    for _ in range(_PUSHES):
        moved = False
        for one, other in pairs:
            between = found[other] - found[one]
            distance = float(np.hypot(*between))
            if distance >= 1 - 1e-6:
                continue
            # A golden angle, so that the directions of several equal places differ.
            way = between / distance if distance > 1e-6 else np.array([np.cos(2.4 * other), np.sin(2.4 * other)])
            found[one] -= (1 - distance) / 2 * way
            found[other] += (1 - distance) / 2 * way
            moved = True
        if not moved:
            break
    return [(float(x), float(y)) for x, y in (found - start) * scale]


def level(axes: Axes, mean: SeedMean, look: Look) -> None:
    """Draw a mean as a horizontal line with its interval as a band."""
    axes.axhline(100 * mean.mean, color=look.colour, linestyle=look.line)
    if mean.low is not None and mean.high is not None:
        axes.axhspan(100 * mean.low, 100 * mean.high, color=look.colour, alpha=0.12, linewidth=0)


def hollow(look: Look) -> dict[str, Any]:
    """Return the style of hollow marks: two editors may have equal means."""
    return _marked(look) | {
        "markerfacecolor": "none",
        "markeredgecolor": look.colour,
        "markeredgewidth": 1.1,
        "markersize": 8.0 if look.marker == "*" else 5.5,
    }


def _marked(look: Look) -> dict[str, Any]:
    size = 6.5 if look.marker == "*" else 4.0
    return {
        "markeredgecolor": EDGE,
        "markeredgewidth": 0.4,
        "markersize": size,
        "elinewidth": 0.7,
        "capsize": 1.5,
        "linestyle": "none",
        "clip_on": False,
        "zorder": 3,
    }


def key(name: str, look: Look, *, line: bool = False, open_: bool = False) -> Line2D:
    """Return the entry of a legend for marks."""
    marked = hollow(look) if open_ else _marked(look)
    options = {name: value for name, value in marked.items() if name.startswith("marker")}
    return Line2D(
        [], [], color=look.colour, marker=look.marker, linestyle=look.line if line else "none", label=name, **options
    )


def swatch(name: str, look: Look) -> Patch:
    """Return the entry of a legend for bars."""
    return Patch(facecolor=look.colour, edgecolor=EDGE, linewidth=0.5, hatch=look.hatch, label=name)


def legend(figure: Figure, handles: Sequence[Line2D | Patch], columns: int, note: str | None = None) -> None:
    """Draw the legend of all panels below them, in fewer columns if it is wider than the figure, and a note between."""
    for count in range(min(columns, len(handles)), 0, -1):
        drawn = figure.legend(
            handles=list(handles),
            loc="outside lower center",
            ncols=count,
            handlelength=2.6,
            title=note,
            title_fontsize=6.5,
        )
        if count == 1 or drawn.get_window_extent().width <= figure.bbox.width:
            return
        drawn.remove()
