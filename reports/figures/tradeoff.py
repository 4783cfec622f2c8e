"""Reliability against locality of every editor, a panel for each task, with the intervals of both."""

from collections.abc import Iterator

from instructedit.benchmark.results.suite_results import SuiteGroup

from ..tables.captions import DAGGER
from ..tables.columns import Column
from ..tables.suite_comparisons import seeds_of
from .panels import counts, cross, grid, key, legend, percent
from .results import WORDS, Drawing, NoDataError, Number, Results, csv_rows, main_column, number, provenance, tasks_of
from .style import TWO_COLUMNS, editor_looks

SETTINGS = ("multi-task", "hold-out", "direct")
"""Settings whose rows are different editors, and not one editor under several trainings."""
_COLUMNS = 2


def tradeoff(results: Results) -> Iterator[Drawing]:
    """Yield one figure of all runs of these settings."""
    groups = results.of(*SETTINGS)
    wanted = [
        (group, task, columns) for group in groups for task in tasks_of(group) if (columns := _columns(group, task))
    ]
    if not wanted:
        raise NoDataError("no task with both reliability and locality.")
    rows = list(dict.fromkeys((row.name, row.method) for group in groups for row in group.run.spec.editors))
    looks = editor_looks(rows)
    lines = -(-len(wanted) // _COLUMNS)
    figure, panels = grid(lines, _COLUMNS, TWO_COLUMNS, 2.5)
    places = [axes for line in panels for axes in line]
    numbers: list[Number] = []
    for axes, (group, task, (reliability, locality)) in zip(places, wanted, strict=False):
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
        axes.set_xlabel(f"Locality (%), {WORDS[locality.protocol]}{DAGGER if locality.derived else ''}")
        axes.set_ylabel(f"Reliability (%), {WORDS[reliability.protocol]}{DAGGER if reliability.derived else ''}")
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


def _columns(group: SuiteGroup, task: str) -> tuple[Column, Column] | None:
    """Return the columns of reliability and locality, if a task has both."""
    reliability, locality = main_column(group, task, "reliability"), main_column(group, task, "locality")
    return None if reliability is None or locality is None else (reliability, locality)
