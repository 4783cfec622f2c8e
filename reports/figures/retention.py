"""What is left of earlier edits: scores right after each edit, after K edits, and after all of a sequence."""

from collections.abc import Iterator

from instructedit.benchmark.results.records import Measure
from instructedit.benchmark.results.suite_results import SuiteGroup

from ..tables.captions import DAGGER
from ..tables.columns import stages
from ..tables.suite_comparisons import seeds_of
from .panels import grid, key, legend, mark, percent
from .results import WORDS, Drawing, Number, Results, csv_rows, made_of, main_column, number
from .style import TWO_COLUMNS, editor_looks

MEASURES: tuple[Measure, ...] = ("reliability", "locality")
FIRST, LAST = "after-edit", "after-all"
_SPREAD = 0.72
"""How wide all editors of one stage are drawn beside each other; stages are 1 apart."""


def retention(results: Results) -> Iterator[Drawing]:
    """Yield the figure of each run of the schedule `sequential`."""
    settings = {group.run.spec.setting for group in results.groups} or {"multi-task"}
    for group in results.of(*sorted(settings), schedule="sequential"):
        yield _draw(results, group)


def _draw(results: Results, group: SuiteGroup) -> Drawing:
    spec = group.run.spec
    edited = [task for task in spec.tasks if task in (spec.edited or spec.tasks)]
    total = sum(min(data.cases, spec.limit or data.cases) for data in group.run.data if data.task in edited)
    known = [stage for stage, _ in stages(group.means)]
    rows = [(row.name, row.method) for row in spec.editors]
    looks = editor_looks(rows)
    figure, panels = grid(len(edited), len(MEASURES), TWO_COLUMNS, 1.75)
    numbers: list[Number] = []
    thin: dict[str, None] = {}
    for axes_row, task in zip(panels, edited, strict=True):
        for axes, measure in zip(axes_row, MEASURES, strict=True):
            if (column := main_column(group, task, measure)) is None:
                axes.set_axis_off()
                continue
            most = {
                stage: max((m.n for name, _ in rows if (m := number(group, name, task, column, stage))), default=0)
                for stage in known
            }
            own = {stage: n for stage, n in most.items() if n}
            for place, (name, _) in enumerate(rows):
                shift = _SPREAD * (place / max(1, len(rows) - 1) - 0.5)
                line = []
                for at, stage in enumerate(own):
                    mean = number(group, name, task, column, stage)
                    # A mean over few of the cases that the others have stands for other cases.
                    if mean is None or 2 * mean.n < own[stage]:
                        thin[name] = None
                        continue
                    mark(axes, at + shift, mean, looks[name])
                    numbers.append(Number(name, stage, group, mean))
                    if stage != FIRST:
                        line.append((at + shift, 100 * mean.mean))
                at_k, values = [x for x, _ in line], [value for _, value in line]
                axes.plot(at_k, values, looks[name].line, color=looks[name].colour, linewidth=0.7)
            axes.set_xticks(range(len(own)), [f"{_words(stage, total)}\nn = {n}" for stage, n in own.items()])
            axes.grid(visible=False, axis="x")
            for at in range(1, len(own)):
                axes.axvline(at - 0.5, color="#bbbbbb", linewidth=0.9 if list(own)[at - 1] == FIRST else 0.4)
            axes.set_xlim(-0.5, len(own) - 0.5)
            axes.set_title(f"{task}, {WORDS[column.protocol]}{DAGGER if column.derived else ''}, {seeds_of(group)}")
            axes.set_ylabel(f"{measure.capitalize()} (%)")
            percent(axes)
    drawn = {one.series for one in numbers}
    legend(figure, [key(name, looks[name], line=True) for name, _ in rows if name in drawn], 5)
    several = len([other for other in results.groups if other.run.spec.schedule == "sequential"]) > 1
    name = f"retention-{group.label}" if several else "retention"
    caption = (
        f"Edits of {', '.join(edited)} made one on top of the other ({total} in all). Left of the strong line each "
        "case is scored right after its own edit; right of it all cases edited so far are scored after so many "
        "edits, and all of them at the end. The stages are over different cases, as many as n says (the most of any "
        "row), so only 'own edit' and the last stage are over the same ones. K counts the edits of all tasks "
        "together.",
        *(
            [
                f"Not drawn where fewer than half of the cases of a stage could be scored: {', '.join(thin)} (the "
                "others failed; the tables have the numbers)."
            ]
            if thin
            else []
        ),
        *made_of(results, [group]),
    )
    return Drawing(name, figure, caption, csv_rows(numbers))


def _words(stage: str, total: int) -> str:
    if stage == FIRST:
        return "own edit"
    return f"{total} (all)" if stage == LAST else stage.removeprefix("after-")
