"""Retention of earlier edits: scores right after each edit, after K edits, and after all of a sequence."""

from collections.abc import Iterator, Mapping

from matplotlib.axes import Axes

from instructedit.benchmark.results.records import Measure
from instructedit.benchmark.results.suite_results import SeedMean, SuiteGroup

from ..tables.columns import Column, stages
from ..tables.run_facts import edited_cases
from ..tables.suite_comparisons import seeds_of
from ..titles import row_title, task_title
from .panels import grid, key, legend, mark, percent
from .results import FEW, Drawing, Number, Results, drawing, few, main_column, number, words
from .style import Look, editor_looks

MEASURES: tuple[Measure, ...] = ("reliability", "locality")
FIRST, LAST = "after-edit", "after-all"
_SPREAD = 0.72
"""Width of all editors of one stage together; stages are 1 apart."""


def retention(results: Results) -> Iterator[Drawing]:
    """Yield the figure of each run of the schedule `sequential`."""
    settings = {group.run.spec.setting for group in results.groups} or {"multi-task"}
    for group in results.of(*sorted(settings), schedule="sequential"):
        yield _draw(results, group)


def _draw(results: Results, group: SuiteGroup) -> Drawing:
    spec = group.run.spec
    edited = [task for task in spec.tasks if task in (spec.edited or spec.tasks)]
    total = edited_cases(group.run)
    looks = editor_looks((row.name, row.method) for row in spec.editors)
    figure, panels = grid(len(edited), len(MEASURES), 1.75)
    numbers: list[Number] = []
    left_out: list[str] = []
    for axes_row, task in zip(panels, edited, strict=True):
        for axes, measure in zip(axes_row, MEASURES, strict=True):
            if (column := main_column(group, task, measure)) is None:
                axes.set_axis_off()
                continue
            means = _means(group, task, column)
            n = {stage: max(mean.n for mean in of_stage.values()) for stage, of_stage in means.items()}
            # A mean over few of the cases of the others is not comparable with theirs.
            drawn = {
                stage: {row: mean for row, mean in of_stage.items() if 2 * mean.n >= n[stage]}
                for stage, of_stage in means.items()
            }
            left_out += [row for row in looks if any(row not in of_stage for of_stage in drawn.values())]
            numbers += _draw_rows(axes, group, drawn, looks)
            ticks = [f"{_words(stage, total)}\nn = {count}{' (few)' * (count < FEW)}" for stage, count in n.items()]
            axes.set_xticks(range(len(n)), ticks)
            axes.grid(visible=False, axis="x")
            for at in range(1, len(n)):
                axes.axvline(at - 0.5, color="#bbbbbb", linewidth=0.9 if list(n)[at - 1] == FIRST else 0.4)
            axes.set_xlim(-0.5, len(n) - 0.5)
            axes.set_title(f"{task_title(group.run, task)}, {words(column)}, {seeds_of(group)}")
            axes.set_ylabel(f"{measure.capitalize()} (%)")
            percent(axes)
    series = {one.series for one in numbers}
    legend(
        figure, [key(row_title(group.run, name), look, line=True) for name, look in looks.items() if name in series], 5
    )
    for axes in panels[-1]:
        axes.set_xlabel("Edits made when scored (K)")
    several = sum(other.run.spec.schedule == "sequential" for other in results.groups) > 1
    name = f"retention-{group.label}" if several else "retention"
    titles = ", ".join(task_title(group.run, task) for task in edited)
    opening = (
        f"Sequential edits of {titles} ({total} in all). Left of the strong line: each case right after its own edit; "
        "right of it: all cases edited so far after K edits, and all of them at the end. The stages are over different "
        "numbers of cases n; only 'own edit' and the last stage are over the same ones."
    )
    notes = [
        "K counts the edits of all tasks together; n is the maximum of any row. A line joins the stages of at least "
        f"{FEW} cases."
    ]
    if left_out:
        notes.append(
            "Not drawn where fewer than half of the cases of a stage could be scored: "
            f"{', '.join(row_title(group.run, row) for row in dict.fromkeys(left_out))} (the others failed; the tables "
            "have the numbers)."
        )
    return drawing(results, [group], name, figure, numbers, opening, few(numbers), notes=notes)


def _means(group: SuiteGroup, task: str, column: Column) -> dict[str, dict[str, SeedMean]]:
    """Return the means of a column by stage and row; only stages that have any."""
    found = {
        stage: {
            row.name: mean for row in group.run.spec.editors if (mean := number(group, row.name, task, column, stage))
        }
        for stage, _ in stages(mean.stage for mean in group.means)
    }
    return {stage: of_stage for stage, of_stage in found.items() if of_stage}


def _draw_rows(
    axes: Axes, group: SuiteGroup, means: Mapping[str, Mapping[str, SeedMean]], looks: Mapping[str, Look]
) -> Iterator[Number]:
    """Draw the means of each row at each stage, joined by a line, and yield them.

    The first stage, and stages of few cases, are not joined.
    """
    for place, (row, look) in enumerate(looks.items()):
        shift = _SPREAD * (place / max(1, len(looks) - 1) - 0.5)
        line = []
        for at, (stage, of_stage) in enumerate(means.items()):
            if (mean := of_stage.get(row)) is None:
                continue
            mark(axes, at + shift, mean, look)
            yield Number(row, stage, group, mean)
            if stage != FIRST and mean.n >= FEW:
                line.append((at + shift, 100 * mean.mean))
        axes.plot([x for x, _ in line], [y for _, y in line], look.line, color=look.colour, linewidth=0.7)


def _words(stage: str, total: int) -> str:
    if stage == FIRST:
        return "own edit"
    return f"{total} (all)" if stage == LAST else stage.removeprefix("after-")
