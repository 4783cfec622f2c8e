"""What the panels of several figures share: a grid of tasks and measures, titles that say n, marks with intervals."""

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from instructedit.benchmark.results.suite_results import SeedMean, SuiteGroup

from ..tables.captions import DAGGER
from ..tables.columns import Column
from ..tables.suite_comparisons import seeds_of
from .results import WORDS
from .style import Look

EDGE = "#222222"


def grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure and its panels, row by row.

    Args:
        rows: Rows of panels.
        columns: Columns of panels.
        width: Of the figure, inches.
        height: Of a row, inches.
    """
    figure = Figure(figsize=(width, rows * height + 0.45), layout="constrained")
    return figure, [list(row) for row in figure.subplots(rows, columns, squeeze=False)]


def percent(axes: Axes, axis: str = "y") -> None:
    """Give an axis the range of percentages, with room for marks at its ends."""
    getattr(axes, f"set_{axis}lim")(-4, 104)
    getattr(axes, f"set_{axis}ticks")(range(0, 101, 25))


def counts(means: Iterable[SeedMean]) -> str:
    """Return `n = ` and the number of cases, or the least and the most where rows differ."""
    found = {mean.n for mean in means}
    return f"n = {min(found)}" + (f" to {max(found)}" if len(found) > 1 else "")


def top(group: SuiteGroup, task: str) -> str:
    """Return the line over a column of panels."""
    return f"{task} ({seeds_of(group)})\n"


def heading(column: Column, means: Sequence[SeedMean]) -> str:
    """Return the line over a panel: how answers are read, and how many cases there are."""
    return f"{WORDS[column.protocol]}{DAGGER if column.derived else ''}, {counts(means)}"


def inner(row: Sequence[Axes]) -> None:
    """Leave the numbers of the vertical axis to the first panel of a row; all have the same."""
    for axes in row[1:]:
        axes.tick_params(labelleft=False)


def ends(mean: SeedMean) -> list[list[float]]:
    """Return how far the interval reaches below and above the mean, in percent, as matplotlib wants it."""
    if mean.low is None or mean.high is None:
        return [[0.0], [0.0]]
    return [[100 * max(0.0, mean.mean - mean.low)], [100 * max(0.0, mean.high - mean.mean)]]


def mark(axes: Axes, x: float, mean: SeedMean, look: Look, **options: Any) -> None:
    """Draw one mean with its interval."""
    axes.errorbar(
        x, 100 * mean.mean, yerr=ends(mean), color=look.colour, marker=look.marker, **(_marked(look) | options)
    )


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


def cross(axes: Axes, x: SeedMean, y: SeedMean, look: Look) -> None:
    """Draw a pair of means with both intervals."""
    # Behind the marks and without caps: the ends of short intervals would fill a hollow mark.
    axes.errorbar(
        100 * x.mean,
        100 * y.mean,
        xerr=ends(x),
        yerr=ends(y),
        color=look.colour,
        marker=look.marker,
        **hollow(look) | {"capsize": 0},
    )


def level(axes: Axes, mean: SeedMean, look: Look) -> None:
    """Draw a mean that holds for the whole panel as a line with its interval as a band."""
    axes.axhline(100 * mean.mean, color=look.colour, linestyle=look.line)
    if mean.low is not None and mean.high is not None:
        axes.axhspan(100 * mean.low, 100 * mean.high, color=look.colour, alpha=0.12, linewidth=0)


def hollow(look: Look) -> dict[str, Any]:
    """Return marks that show what lies below them: two editors may have the very same means."""
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
