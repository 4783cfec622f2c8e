"""Edit directions of each task (figure 4a, b and d of the InstructEdit paper): t-SNE, and statistics below it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from instructedit.benchmark.results.direction_results import FILE, Directions, read_directions
from instructedit.benchmark.results.forms import OURS
from instructedit.benchmark.results.planned_comparisons import THEIRS
from instructedit.benchmark.results.records import EditorSpec, RunFile
from instructedit.benchmark.results.suite_results import SuiteGroup
from instructedit.editors.errors import InputError

from ..tables.columns import minus
from ..titles import row_title, task_title
from . import geometry
from .panels import EDGE, key, legend
from .results import Drawing, NoDataError, Results, sources, warned
from .style import TWO_COLUMNS, Look, task_looks

DEFINITION = (
    "A direction is the weight change of one edit (the changes of all edited layers concatenated to one vector), "
    "divided by its length."
)
_SHOWN = ("silhouette", "probe accuracy", "cosine within", "cosine between")
_RUN = "instructedit directions"


class Panel(NamedTuple):
    """The directions of one panel."""

    title: str
    group: SuiteGroup
    directions: Directions
    row: EditorSpec
    """Their editor; one of several where each task has its own."""


def editors(results: Results) -> Iterator[Drawing]:
    """Yield 4(a): single-task MEND, multi-task MEND and InstructEdit, on the tasks that all panels have."""
    found = list(_all(results))
    panels = [panel for panel in found if panel.directions.about.own_task and panel.row.method == THEIRS][:1]
    for method in (THEIRS, OURS):
        mixes = [p for p in found if p.row.method == method and not p.directions.about.own_task and _mixed(p)]
        panels += sorted(mixes, key=lambda p: (-_mixed(p), -len(set(p.directions.about.tasks))))[:1]
    if len(panels) < 2:
        raise NoDataError(
            "the files of directions hold fewer than two of single-task MEND, multi-task MEND, InstructEdit."
        )
    yield _draw(results, "directions", panels, "Edit directions of each task under three trainings.")


def scaling(results: Results) -> Iterator[Drawing]:
    """Yield 4(b): InstructEdit trained on one, two, three tasks."""
    yield from _of_setting(results, "task-scaling", "directions-scaling", "trained on one task, on two, on three")


def balanced(results: Results) -> Iterator[Drawing]:
    """Yield the directions of 4(d): InstructEdit trained on all of ConvSent, and on a part of it."""
    yield from _of_setting(
        results, "balanced", "directions-balanced", "trained on all of ConvSent (full) and on a part of it (balanced)"
    )


def _of_setting(results: Results, setting: str, name: str, words: str) -> Iterator[Drawing]:
    results.of(setting)
    panels = [p for p in _all(results) if p.group.run.spec.setting == setting and p.row.method == OURS]
    if not panels:
        raise NoDataError(f"the files of directions hold no InstructEdit of the setting '{setting}'.")
    yield _draw(results, name, panels, f"Edit directions of each task under InstructEdit {words}.")


def _all(results: Results) -> Iterator[Panel]:
    """Yield the directions of all runs; of several seeds those of the first."""
    files: list[Path] = []
    for group in results.groups:
        path = results.folders[group.digests[0]] / FILE
        if path.is_file():
            files.append(path)
            known = {row.name: row for row in group.run.spec.editors}
            for one in read_directions(path, group.digests[0])[1]:
                if unknown := sorted(set(one.about.rows) - known.keys()):
                    raise InputError(f"{path}, set '{one.about.name}': the run has no row '{unknown[0]}'.")
                if one.about.rows:
                    row = known[one.about.rows[0]]
                    yield Panel(_title(group.run, row, one), group, one, row)
    if not files:
        raise NoDataError(f"no run has a file {FILE}; '{_RUN} DIR' writes it.")


def _title(run: RunFile, row: EditorSpec, one: Directions) -> str:
    name = row_title(run, row.method)
    if one.about.own_task:
        return f"{name}, each task by the\neditor trained on it alone"
    assert row.training is not None
    trained = ", ".join(task_title(run, task) for task in row.training.tasks)
    label = "" if row.training.label == "+".join(row.training.tasks) else f" ({row.training.label})"
    return f"{name}, trained on\n{trained}{label}"


def _mixed(panel: Panel) -> int:
    """Return how many tasks an editor of the usual mix was trained on; 0 for other trainings."""
    training = panel.row.training
    usual = panel.group.run.spec.setting in ("multi-task", "task-scaling")
    return len(training.tasks) if training and usual and len(training.tasks) > 1 else 0


def _draw(results: Results, name: str, panels: Sequence[Panel], opening: str) -> Drawing:
    geometry.check_installed()
    first = dict.fromkeys(panels[0].directions.about.tasks)
    tasks = [task for task in first if all(task in panel.directions.about.tasks for panel in panels)]
    if len(tasks) < 2:
        raise NoDataError("the sets of directions share fewer than two tasks.")
    looks = task_looks(tasks)
    figure = Figure(figsize=(TWO_COLUMNS, 3.7), layout="constrained")
    axes = figure.subplots(2, len(panels), squeeze=False, height_ratios=(2.5, 1))
    numbers: list[dict[str, Any]] = []
    shares: list[float] = []
    perplexities: list[str] = []
    for place, panel in enumerate(panels):
        cosines, own, rows = _of_tasks(panel, tasks)
        counts = [own.count(task) for task in tasks]
        found = geometry.statistics(cosines, own, f"{panel.group.digests[0]}|{panel.directions.about.name}")
        shares.append(geometry.components(cosines, geometry.COMPONENTS)[1].sum())
        perplexities.append(f"{geometry.perplexity(len(own)):.1f}")
        scatter(axes[0][place], geometry.tsne(cosines), own, looks)
        each = f"{min(counts)}" + (f" to {max(counts)}" if len(set(counts)) > 1 else "")
        axes[0][place].set_title(f"{panel.title}\nn = {len(own)} edits, {each} a task, seed {panel.group.seeds[0]}")
        table(axes[1][place], found, max(counts) / len(own))
        numbers += (
            {
                "panel": panel.title.replace("\n", " "),
                "rows": " ".join(rows),
                "statistic": one.name,
                "tasks": " ".join(tasks) if one.tasks == geometry.ALL else one.tasks,
                "value": one.value,
                "low": one.low,
                "high": one.high,
                "n": one.n,
                "run": panel.group.digests[0],
            }
            for one in found
        )
    note = (
        f"t-SNE of the first {geometry.COMPONENTS} principal components of L2-normalised weight changes; its distances "
        "and sizes mean nothing."
    )
    legend(figure, [key(task_title(panels[0].group.run, task), look) for task, look in looks.items()], 6, note)
    caption = (
        f"{opening} {DEFINITION} Points: t-SNE of the directions, each panel by itself; distances between clusters, "
        "their sizes and their shapes mean nothing. Silhouette: on cosine distance; 1 is separate, 0 is mixed. Probe: "
        "accuracy of a logistic regression that predicts the task, in "
        f"{geometry.FOLDS}-fold cross-validation. Cosine: mean over pairs of edits of one task (within) and of two "
        "tasks (between). Brackets: 95 % intervals over cases.",
        *warned(results),
    )
    notes = (
        *_method_notes(min(shares), list(dict.fromkeys(perplexities))),
        *_left_out(panels),
        *sources(panel.group for panel in panels),
    )
    return Drawing(name, figure, caption, notes, tuple(numbers))


def _of_tasks(panel: Panel, tasks: Sequence[str]) -> tuple[geometry.Array, list[str], list[str]]:
    """Return the cosines of the directions of some tasks [n, n], the task of each, and the rows they are from."""
    about = panel.directions.about
    kept = [number for number, task in enumerate(about.tasks) if task in tasks]
    own = [about.tasks[number] for number in kept]
    for task in tasks:
        if own.count(task) < geometry.FOLDS:
            raise NoDataError(f"'{about.name}' has fewer than {geometry.FOLDS} directions of '{task}'.")
    return panel.directions.cosines[np.ix_(kept, kept)], own, list(dict.fromkeys(about.rows[n] for n in kept))


def _method_notes(share: float, perplexities: Sequence[str]) -> tuple[str, ...]:
    """Return the notes that define the picture and the statistics.

    `share` is the smallest share of the variance in the components of a panel.
    """
    return (
        "The inner products of directions, their cosines, are computed exactly from the edits; principal components "
        f"follow from them. Picture: exact t-SNE of the first {geometry.COMPONENTS} components (at least "
        f"{100 * share:.0f} % of the variance), from the first two, seed {geometry.SEED}, perplexity 30 or a third of "
        f"the other points if that is less (here {', '.join(perplexities)}).",
        "Silhouette: mean over edits. Probe: L2, C = 1, on all principal components, folds over cases; chance is the "
        "share of the most frequent task. Cosines: equal weight for each task and pair of tasks. Intervals: percentile "
        "bootstrap over cases, drawn within each task, 10,000 times; Clopper-Pearson for the probe, which is not "
        "retrained. Each panel is one training; the intervals do not cover other trainings.",
        "Where each task has its own editor, the editors and not the tasks may separate the directions.",
    )


def scatter(axes: Axes, points: geometry.Array, tasks: Sequence[str], looks: dict[str, Look]) -> None:
    """Draw points [n, 2], each task with its own mark; t-SNE has no scale, so the axes have none."""
    for task, look in looks.items():
        own = points[[other == task for other in tasks]]
        axes.scatter(
            own[:, 0], own[:, 1], s=11, marker=look.marker, color=look.colour, edgecolor=EDGE, linewidth=0.3, alpha=0.85
        )
    axes.set(xticks=[], yticks=[], aspect="auto")
    axes.margins(0.06)
    axes.spines[["top", "right"]].set_visible(True)


def table(axes: Axes, found: Sequence[geometry.Statistic], chance: float) -> None:
    """Write the statistics over all tasks under a picture."""
    axes.set_axis_off()
    shown = [one for name in _SHOWN for one in found if (one.name, one.tasks) == (name, geometry.ALL)]
    for line, one in enumerate(shown):
        y = 1 - (line + 0.5) / len(shown)
        label = f"probe (chance {chance:.2f})" if one.name == "probe accuracy" else one.name
        axes.text(0.02, y, label, va="center", transform=axes.transAxes, fontsize=6.5)
        text = minus(f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]".replace("-0.00", "0.00"))
        axes.text(0.98, y, text, va="center", ha="right", transform=axes.transAxes, fontsize=6.5)


def _left_out(panels: Sequence[Panel]) -> Iterator[str]:
    for panel in panels:
        for reason, count in panel.directions.about.left_out.items():
            yield f"{panel.title}: {count} edits without a direction ({reason})."
