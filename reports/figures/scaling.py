"""Reliability and generalization against the number of training tasks (figure 4c of the InstructEdit paper)."""

from collections.abc import Iterator

from instructedit.benchmark.results.comparisons import base_name
from instructedit.benchmark.results.records import Measure
from instructedit.benchmark.results.suite_results import SuiteGroup

from .panels import grid, heading, inner, key, legend, level, mark, percent, top
from .results import Drawing, Number, Results, csv_rows, made_of, main_column, number, tasks_of
from .style import TWO_COLUMNS, editor_looks

MEASURES: tuple[Measure, ...] = ("reliability", "generalization")
_STEP = 0.09
"""How far beside each other editors of one number of tasks are drawn, so that intervals do not hide each other."""


def task_scaling(results: Results) -> Iterator[Drawing]:
    """Yield the figure of each run of the setting `task-scaling`."""
    for group in results.of("task-scaling"):
        yield _draw(results, group)


def _draw(results: Results, group: SuiteGroup) -> Drawing:
    rows = [row for row in group.run.spec.editors if row.training]
    series = list(dict.fromkeys((base_name(row), row.method) for row in rows))
    plain = [row for row in group.run.spec.editors if not row.training]
    looks = editor_looks([*series, *((row.name, row.method) for row in plain)])
    tasks, labels = tasks_of(group), list(dict.fromkeys(row.training.label for row in rows if row.training))
    figure, panels = grid(len(MEASURES), len(tasks), TWO_COLUMNS, 1.6)
    numbers: list[Number] = []
    for axes_row, measure in zip(panels, MEASURES, strict=True):
        for axes, task in zip(axes_row, tasks, strict=True):
            if (column := main_column(group, task, measure)) is None:
                axes.set_axis_off()
                continue
            drawn = []
            for place, (name, _) in enumerate(series):
                own = [
                    Number(name, str(len(row.training.tasks)), group, mean)
                    for row in rows
                    if base_name(row) == name and row.training and (mean := number(group, row.name, task, column))
                ]
                own.sort(key=lambda one: int(one.x))
                shift = _STEP * (place - (len(series) - 1) / 2)
                at = [int(one.x) + shift for one in own]
                axes.plot(at, [100 * one.mean.mean for one in own], looks[name].line, color=looks[name].colour)
                for x, one in zip(at, own, strict=True):
                    mark(axes, x, one.mean, looks[name])
                drawn += own
            for row in plain:
                if mean := number(group, row.name, task, column):
                    level(axes, mean, looks[row.name])
                    drawn.append(Number(row.name, "0", group, mean))
            numbers += drawn
            over = top(group, task) if axes_row is panels[0] else ""
            axes.set_title(over + heading(column, [one.mean for one in drawn]))
            axes.set_xticks(range(1, len(labels) + 1))
            axes.set_xlim(0.6, len(labels) + 0.4)
            percent(axes)
            if axes_row is panels[-1]:
                axes.set_xlabel("training tasks")
        inner(axes_row)
        axes_row[0].set_ylabel(f"{measure.capitalize()} (%)")
    legend(
        figure,
        [
            *(key(name, looks[name], line=True) for name, _ in series),
            *(key(row.name, looks[row.name]._replace(marker=""), line=True) for row in plain),
        ],
        6,
    )
    order = "; ".join(f"{number}: {label.replace('+', ', ')}" for number, label in enumerate(labels, start=1))
    name = "task-scaling" if group.label == group.run.spec.setting else f"task-scaling-{group.label}"
    caption = (
        "Reliability and generalization against the number of tasks an editor was trained on, for each tested task. "
        f"Training tasks: {order}. A tested task that is not among them is one the editor has not seen.",
        "Points of one number of tasks are drawn beside each other. Horizontal lines are rows without training, "
        "with their interval as a band. Lines join points and say nothing of what lies between.",
        *made_of(results, [group]),
    )
    return Drawing(name, figure, caption, csv_rows(numbers))
