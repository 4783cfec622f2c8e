"""Reliability against locality of every editor, a panel for each task, with the intervals of both."""

from collections.abc import Iterator

from ..tables.suite_comparisons import seeds_of
from ..titles import row_title, task_title
from .panels import apart, counts, cross, grid, key, legend, percent
from .results import Drawing, NoDataError, Number, Results, drawing, main_column, number, tasks_of, words
from .style import editor_looks

SETTINGS = ("multi-task", "hold-out", "direct")
"""Settings whose rows are different editors, and not one editor under several trainings."""
_COLUMNS = 2
_NEAR = 3.2, 4.4
"""Points, across and up, within which two marks of a panel overlap."""


def tradeoff(results: Results) -> Iterator[Drawing]:
    """Yield one figure of all runs of these settings."""
    groups = results.of(*SETTINGS)
    wanted = [
        (group, task, reliability, locality)
        for group in groups
        for task in tasks_of(group)
        if (reliability := main_column(group, task, "reliability"))
        and (locality := main_column(group, task, "locality"))
    ]
    if not wanted:
        raise NoDataError("no task with both reliability and locality.")
    rows = list(dict.fromkeys((row.name, row.method) for group in groups for row in group.run.spec.editors))
    looks = editor_looks(rows)
    lines = -(-len(wanted) // _COLUMNS)
    figure, panels = grid(lines, _COLUMNS, 2.5)
    places = [axes for line in panels for axes in line]
    numbers: list[Number] = []
    furthest = 0.0
    for axes, (group, task, reliability, locality) in zip(places, wanted, strict=False):
        drawn = []
        found = [
            (name, x, y)
            for name, _ in rows
            if (x := number(group, name, task, locality)) and (y := number(group, name, task, reliability))
        ]
        shifts = apart([(100 * x.mean, 100 * y.mean) for _, x, y in found], _NEAR)
        for (name, x, y), shift in zip(found, shifts, strict=True):
            cross(axes, x, y, looks[name], shift)
            drawn += [Number(name, "x", group, x), Number(name, "y", group, y)]
        numbers += drawn
        furthest = max([furthest, *(abs(part) for shift in shifts for part in shift)])
        percent(axes, "x")
        percent(axes, "y")
        axes.set_title(
            f"{task_title(group.run, task)} ({group.label}), {counts(one.mean for one in drawn)}, {seeds_of(group)}"
        )
        axes.set_xlabel(f"Locality (%), {words(locality)}")
        axes.set_ylabel(f"Reliability (%), {words(reliability)}")
    for axes in places[len(wanted) :]:
        axes.set_axis_off()
    titles = {row.name: row_title(group.run, row.name) for group in groups for row in group.run.spec.editors}
    legend(figure, [key(titles[name], looks[name], open_=True) for name, _ in rows], 9)
    moved = f"Marks that would overlap are moved apart, by at most {furthest:.0f} points." if furthest >= 0.5 else ""
    opening = (
        "Reliability (the edit succeeds) against locality (everything else is unchanged) of each editor, one edit at a "
        "time. Bars: the intervals of both means."
    )
    note = (
        "Up and to the right is better on both; 'no edit' is the unedited model. To compare two editors, use the "
        "paired differences of the tables, not the overlap of bars. The CSV file has the values of moved marks."
    )
    yield drawing(results, groups, "tradeoff", figure, numbers, opening, moved, notes=[note])
