"""Reliability against locality of every editor, a panel for each task, with the intervals of both."""

from collections.abc import Iterator

from ..tables.suite_comparisons import seeds_of
from .panels import counts, cross, grid, key, legend, percent
from .results import Drawing, NoDataError, Number, Results, csv_rows, main_column, number, provenance, tasks_of, words
from .style import editor_looks

SETTINGS = ("multi-task", "hold-out", "direct")
"""Settings whose rows are different editors, and not one editor under several trainings."""
_COLUMNS = 2


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
    for axes, (group, task, reliability, locality) in zip(places, wanted, strict=False):
        drawn = []
        for name, _ in rows:
            x, y = number(group, name, task, locality), number(group, name, task, reliability)
            if x is not None and y is not None:
                cross(axes, x, y, looks[name])
                drawn += [Number(name, "x", group, x), Number(name, "y", group, y)]
        numbers += drawn
        percent(axes, "x")
        percent(axes, "y")
        axes.set_title(f"{task} ({group.label}), {counts(one.mean for one in drawn)}, {seeds_of(group)}")
        axes.set_xlabel(f"Locality (%), {words(locality)}")
        axes.set_ylabel(f"Reliability (%), {words(reliability)}")
    for axes in places[len(wanted) :]:
        axes.set_axis_off()
    legend(figure, [key(name, looks[name], open_=True) for name, _ in rows], 9)
    caption = (
        "Reliability (success of the edit) against locality (everything else is unchanged) of every editor, one edit "
        "at a time. Up and to the right is better on both; the row 'none' is the model without an edit. Bars are the "
        "intervals of the two means. To compare two editors, use the paired differences of the tables, not the overlap "
        "of bars.",
        *provenance(results, groups),
    )
    yield Drawing("tradeoff", figure, caption, csv_rows(numbers))
