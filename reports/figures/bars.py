"""Figures of bars, a panel for each task and measure: ConvSent balanced or full, instructions seen or unseen."""

from collections.abc import Iterator

from instructedit.benchmark.results.comparisons import base_name
from instructedit.benchmark.results.records import Measure
from instructedit.benchmark.results.suite_results import SuiteGroup

from .panels import bar, grid, heading, inner, key, legend, level, percent, swatch, top
from .pooled import Pooled, points
from .results import Drawing, NoDataError, Number, Results, csv_rows, made_of, main_column, number, tasks_of
from .style import TWO_COLUMNS, Look, editor_looks

MEASURES: tuple[Measure, ...] = ("reliability", "generalization", "portability", "locality")
SEEN, UNSEEN = "seen", "unseen"
_WIDTH = 0.8
"""Of all bars of one place together; places are 1 apart."""

_Bars = dict[str, dict[str, tuple[str, ...]]]
"""Per place on the axis and series the rows whose mean a bar is."""


def balanced(results: Results) -> Iterator[Drawing]:
    """Yield the figure of each run of the setting `balanced`: all of ConvSent, and cut to the largest factual task."""
    for group in results.of("balanced"):
        rows = [row for row in group.run.spec.editors if row.training]
        series = list(dict.fromkeys((base_name(row), row.method) for row in rows))
        bars: _Bars = {}
        for row in rows:
            if row.training:
                bars.setdefault(row.training.label, {})[base_name(row)] = (row.name,)
        sizes = {row.training.label: row.training.cases for row in rows if row.training}
        mixes = "; ".join(
            f"{label}: {', '.join(f'{task} {count}' for task, count in sorted(counts.items()))}"
            for label, counts in sizes.items()
        )
        opening = (
            "Editors trained on all of ConvSent (full) and on as much of it as of the largest factual task "
            f"(balanced), for each tested task. Training cases, {mixes}. Both are drawn from as one concatenated "
            "file."
        )
        yield _draw(results, group, "balanced", bars, editor_looks(series), opening)


def instructions(results: Results) -> Iterator[Drawing]:
    """Yield the figure of each run of the setting `unseen-instruction`: seen descriptions, and the unseen one."""
    for group in results.of("unseen-instruction"):
        told: dict[str, dict[str, list[str]]] = {}
        for row in group.run.spec.editors:
            kind = SEEN if (row.instruction or "").startswith("seen-") else row.instruction
            if kind in (SEEN, UNSEEN):
                told.setdefault(row.name.partition("#")[0], {}).setdefault(kind, []).append(row.name)
        bars: _Bars = {
            editor: {kind: tuple(kinds[kind]) for kind in (SEEN, UNSEEN)}
            for editor, kinds in told.items()
            if len(kinds) == 2
        }
        if not bars:
            raise NoDataError(f"run '{group.label}' has no editor with rows of both seen and unseen descriptions.")
        looks = {SEEN: Look("#56B4E9", "s", "-", ""), UNSEEN: Look("#D55E00", "D", "--", "////")}
        count = len(next(iter(bars.values()))[SEEN])
        opening = (
            f"Editing under the {count} task descriptions that training draws from (seen; a case's value is its mean "
            "over them) and under the one that training never shows (unseen), for each tested task. A task that was "
            "not trained on has descriptions as well; none of them was shown. Under each pair of bars: unseen minus "
            "seen in points, with the 95 % interval of the differences paired by case."
        )
        yield _draw(results, group, "instructions", bars, looks, opening)


def _draw(results: Results, group: SuiteGroup, name: str, bars: _Bars, looks: dict[str, Look], opening: str) -> Drawing:
    tasks = tasks_of(group)
    measures = [m for m in MEASURES if any(main_column(group, task, m) for task in tasks)]
    values = Pooled(results, group)
    figure, panels = grid(len(measures), len(tasks), TWO_COLUMNS, 1.35)
    numbers: list[Number] = []
    plain = editor_looks((row.name, row.method) for row in group.run.spec.editors if not row.training)
    width = _WIDTH / len(looks)
    for axes_row, measure in zip(panels, measures, strict=True):
        for axes, task in zip(axes_row, tasks, strict=True):
            over = top(group, task) if axes_row is panels[0] else ""
            axes.set_title(over)
            if (column := main_column(group, task, measure)) is None:
                axes.set_axis_off()
                continue
            drawn, labels = [], []
            for place, (label, rows) in enumerate(bars.items()):
                for index, series in enumerate(looks):
                    if mean := values.mean(rows.get(series, ()), task, column):
                        bar(axes, place + width * (index - (len(looks) - 1) / 2), width, mean, looks[series])
                        drawn.append(Number(series, label, group, mean))
                difference = values.difference(rows[UNSEEN], rows[SEEN], task, column) if UNSEEN in rows else None
                labels.append(label if difference is None else f"{label}\n{points(difference)}")
            for row, look in plain.items():
                if mean := number(group, row, task, column):
                    level(axes, mean, look)
                    drawn.append(Number(row, "", group, mean))
            numbers += drawn
            axes.set_title(over + heading(column, [one.mean for one in drawn]))
            axes.set_xticks(range(len(bars)), labels)
            axes.set_xlim(-0.6, len(bars) - 0.4)
            axes.grid(visible=False, axis="x")
            percent(axes)
            axes.set_ylim(0, 104)
        inner(axes_row)
        axes_row[0].set_ylabel(f"{measure.capitalize()} (%)")
    lines = [key(row, look._replace(marker=""), line=True) for row, look in plain.items()]
    legend(figure, [*(swatch(series, look) for series, look in looks.items()), *lines], 6)
    lead = (opening + " Lines with a band are rows without training.",) if plain else (opening,)
    full = name if group.label == group.run.spec.setting else f"{name}-{group.label}"
    return Drawing(full, figure, (*lead, *made_of(results, [group])), csv_rows(numbers))
