"""Figures of trained editors, a panel for each measure and task: balanced data, instructions, number of tasks.

`task_scaling` is figure 4c of the InstructEdit paper, `balanced` figure 4d.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from instructedit.benchmark.results.planned_comparisons import base_name
from instructedit.benchmark.results.records import EditorSpec, Measure
from instructedit.benchmark.results.suite_results import SuiteGroup

from ..tables.columns import Column, minus
from ..tables.suite_comparisons import seeds_of
from ..titles import row_title, task_title
from .panels import bar, grid, heading, key, legend, level, mark, percent, swatch
from .results import (
    FEW,
    Drawing,
    NoDataError,
    Number,
    PooledMeans,
    Results,
    drawing,
    few,
    main_column,
    number,
    tasks_of,
)
from .style import Look, editor_looks

MEASURES: tuple[Measure, ...] = ("reliability", "generalization", "portability", "locality")
SEEN, UNSEEN = "seen", "unseen"
_BAR_WIDTH = 0.8
"""Width of all bars of one place together; places are 1 apart."""
_STEP = 0.09
"""Distance between editors trained on the same number of tasks, so that their intervals do not overlap."""

_Bars = dict[str, dict[str, tuple[str, ...]]]
"""Per place on the axis and series the rows whose mean a bar shows."""


def balanced(results: Results) -> Iterator[Drawing]:
    """Yield the figure of each run of the setting `balanced`: all of ConvSent, and cut to the largest factual task."""
    for group in results.of("balanced"):
        bars: _Bars = {}
        counts: dict[str, str] = {}
        for row in group.run.spec.editors:
            if training := row.training:
                bars.setdefault(training.label, {})[base_name(row)] = (row.name,)
                each = (f"{task_title(group.run, task)} {n}" for task, n in sorted(training.cases.items()))
                counts[training.label] = ", ".join(each)
        opening = (
            "Editors trained on all of ConvSent (full) and on as much of it as of the largest factual task (balanced), "
            f"for each tested task. Training cases, {'; '.join(f'{label}: {text}' for label, text in counts.items())}. "
            "Both draw from the tasks as one concatenated file."
        )
        yield _draw_bars(results, group, "balanced", bars, editor_looks(_series(group)), opening)


def instructions(results: Results) -> Iterator[Drawing]:
    """Yield the figure of each run of the setting `unseen-instruction`: seen descriptions, and the unseen one."""
    for group in results.of("unseen-instruction"):
        rows: dict[str, dict[str, list[str]]] = {}
        for row in group.run.spec.editors:
            kind = SEEN if (row.instruction or "").startswith("seen-") else row.instruction
            if kind in (SEEN, UNSEEN):
                rows.setdefault(row.name.partition("#")[0], {}).setdefault(kind, []).append(row.name)
        bars: _Bars = {
            editor: {kind: tuple(kinds[kind]) for kind in (SEEN, UNSEEN)}
            for editor, kinds in rows.items()
            if len(kinds) == 2
        }
        if not bars:
            raise NoDataError(f"run '{group.label}' has no editor with rows of both seen and unseen descriptions.")
        looks = {SEEN: Look("#56B4E9", "s", "-", ""), UNSEEN: Look("#D55E00", "D", "--", "////")}
        opening = (
            f"Editing under the {len(next(iter(bars.values()))[SEEN])} task descriptions used in training (seen; the "
            "value of a case is its mean over them) and under a held-out description (unseen), for each tested task. "
            "Under each pair of bars: unseen minus seen in points, with the 95 % interval of the differences paired by "
            "case. A task that was not trained on has descriptions as well; none of them was used in training."
        )
        yield _draw_bars(results, group, "instructions", bars, looks, opening)


def task_scaling(results: Results) -> Iterator[Drawing]:
    """Yield the figure of each run of the setting `task-scaling`: scores against the number of training tasks."""
    for group in results.of("task-scaling"):
        yield _draw_scaling(results, group)


def _draw_scaling(results: Results, group: SuiteGroup) -> Drawing:
    rows = [row for row in group.run.spec.editors if row.training]
    series, plain = _series(group), _untrained(group)
    looks = editor_looks([*series, *((row.name, row.method) for row in plain)])
    labels = list(dict.fromkeys(row.training.label for row in rows if row.training))

    def panel(axes: Axes, task: str, column: Column) -> list[Number]:
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
            joined = [(x, 100 * one.mean.mean) for x, one in zip(at, own, strict=True) if one.mean.n >= FEW]
            axes.plot([x for x, _ in joined], [y for _, y in joined], looks[name].line, color=looks[name].colour)
            for x, one in zip(at, own, strict=True):
                mark(axes, x, one.mean, looks[name])
            drawn += own
        axes.set_xticks(range(1, len(labels) + 1))
        axes.set_xlim(0.6, len(labels) + 0.4)
        return drawn + _draw_levels(axes, group, task, column, looks, "0")

    figure, numbers = _draw_grid(group, MEASURES[:2], 1.6, panel)
    for axes in figure.axes[-len(tasks_of(group)) :]:
        axes.set_xlabel("Training tasks")
    trained_keys = [key(row_title(group.run, name), looks[name], line=True) for name, _ in series]
    legend(figure, [*trained_keys, *_level_keys(group, plain, looks)], 6)
    order = "; ".join(
        f"{count}: {', '.join(task_title(group.run, task) for task in label.split('+'))}"
        for count, label in enumerate(labels, start=1)
    )
    opening = (
        "Reliability and generalization against the number of training tasks of an editor, for each tested task. "
        f"Training tasks: {order}. A tested task that is not among them is held out. Horizontal lines: rows without "
        "training, with their interval as a band."
    )
    note = "Points of the same number of tasks are drawn side by side. Lines join points only for orientation."
    name = _name("task-scaling", group)
    return drawing(results, [group], name, figure, numbers, opening, few(numbers), notes=[note])


def _draw_bars(
    results: Results, group: SuiteGroup, name: str, bars: _Bars, looks: Mapping[str, Look], opening: str
) -> Drawing:
    means, width = PooledMeans(results, group), _BAR_WIDTH / len(looks)
    plain = _untrained(group)
    plain_looks = editor_looks((row.name, row.method) for row in plain)

    def panel(axes: Axes, task: str, column: Column) -> list[Number]:
        drawn, labels = [], []
        for place, (label, rows) in enumerate(bars.items()):
            for index, (series, look) in enumerate(looks.items()):
                if mean := means.mean(rows.get(series, ()), task, column):
                    bar(axes, place + width * (index - (len(looks) - 1) / 2), width, mean, look)
                    drawn.append(Number(series, label, group, mean))
            labels.append(row_title(group.run, label))
            if UNSEEN in rows and (gap := means.difference(rows[UNSEEN], rows[SEEN], task, column)):
                value, low, high = (round(100 * (part or 0.0), 1) + 0.0 for part in gap[:3])
                labels[-1] += "\n" + minus(f"{value:+.1f} [{low:+.1f}, {high:+.1f}]")
        axes.set_xticks(range(len(bars)), labels)
        axes.set_xlim(-0.6, len(bars) - 0.4)
        axes.set_ylim(0, 104)
        axes.grid(visible=False, axis="x")
        return drawn + _draw_levels(axes, group, task, column, plain_looks)

    measures = [m for m in MEASURES if any(main_column(group, task, m) for task in tasks_of(group))]
    figure, numbers = _draw_grid(group, measures, 1.35, panel)
    if SEEN in looks:
        for axes in figure.axes[-len(tasks_of(group)) :]:
            axes.set_xlabel("Editor, and unseen \N{MINUS SIGN} seen, points")
    swatches = [swatch(row_title(group.run, series), look) for series, look in looks.items()]
    legend(figure, [*swatches, *_level_keys(group, plain, plain_looks)], 6)
    lines = "Lines with a band: rows without training." if plain else ""
    return drawing(results, [group], _name(name, group), figure, numbers, opening, lines)


def _draw_grid(
    group: SuiteGroup,
    measures: Sequence[Measure],
    height: float,
    panel: Callable[[Axes, str, Column], list[Number]],
) -> tuple[Figure, list[Number]]:
    """Draw a panel for each measure (row) and task (column) that has numbers; return the figure and its numbers."""
    tasks = tasks_of(group)
    figure, panels = grid(len(measures), len(tasks), height)
    numbers: list[Number] = []
    for axes_row, measure in zip(panels, measures, strict=True):
        for axes, task in zip(axes_row, tasks, strict=True):
            title = f"{task_title(group.run, task)} ({seeds_of(group)})\n" if axes_row is panels[0] else ""
            axes.set_title(title)
            if (column := main_column(group, task, measure)) is None:
                axes.set_axis_off()
                continue
            percent(axes)
            drawn = panel(axes, task, column)
            axes.set_title(title + heading(column, [one.mean for one in drawn]))
            numbers += drawn
        for axes in axes_row[1:]:
            axes.tick_params(labelleft=False)
        axes_row[0].set_ylabel(f"{measure.capitalize()} (%)")
    return figure, numbers


def _draw_levels(
    axes: Axes, group: SuiteGroup, task: str, column: Column, looks: Mapping[str, Look], x: str = ""
) -> list[Number]:
    """Draw the rows without training as horizontal lines."""
    found = [(row, mean) for row in _untrained(group) if (mean := number(group, row.name, task, column))]
    for row, mean in found:
        level(axes, mean, looks[row.name])
    return [Number(row.name, x, group, mean) for row, mean in found]


def _level_keys(group: SuiteGroup, rows: Sequence[EditorSpec], looks: Mapping[str, Look]) -> Iterator[Line2D]:
    return (key(row_title(group.run, row.name), looks[row.name]._replace(marker=""), line=True) for row in rows)


def _series(group: SuiteGroup) -> list[tuple[str, str]]:
    """Return name and method of each trained editor, whatever it was trained on."""
    return list(dict.fromkeys((base_name(row), row.method) for row in group.run.spec.editors if row.training))


def _untrained(group: SuiteGroup) -> list[EditorSpec]:
    return [row for row in group.run.spec.editors if not row.training]


def _name(name: str, group: SuiteGroup) -> str:
    return name if group.label == group.run.spec.setting else f"{name}-{group.label}"
