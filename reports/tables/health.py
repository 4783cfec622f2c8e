"""Sentences on edits that failed, changed too much, or all changed the same; for every table, page and leaderboard.

The thresholds and their reasons are those of `instructedit.benchmark.results.health`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from instructedit.benchmark.results.health import ALIKE, BOUND, LARGE, MANY, REACHED
from instructedit.benchmark.results.records import Defaults, EditorSpec, Health, Mean
from instructedit.benchmark.results.suite_results import SeedMean, SuiteGroup

from .columns import stages
from .run_facts import grouped

NO_DIFFERENCE = "No row is shown to differ from"
SMALL_N = "n is too small to show, adjusted for all pairs of rows, which rows differ from"
EXPLAINED = (
    "The lines under a table name rows whose edits missed their target (its probability p, the geometric mean over "
    f"its tokens, is below {REACHED:g} in more than {100 * MANY:.0f} % of the cases), changed nothing, changed more "
    f"than {100 * LARGE:.0f} % of the weights' norm, or point the same way in different cases (mean cosine above "
    f"{ALIKE:g}). Their numbers are medians over cases; |dW| and |W| are over the edited layers."
)


class Finding(NamedTuple):
    """One remark on a row's edits."""

    flag: str
    """One or two words; empty for a possible reason."""
    sentence: str


def findings(row: EditorSpec, health: Health, defaults: Defaults | None, *, attitude: bool) -> Iterator[Finding]:
    """Yield the remarks on a row's edits of a task, with its options that were left at defaults of another model.

    For an attitude an edit that was not optimised on its target need not make that one reply likely.
    """
    facts = health.medians
    aimed = health.optimised > 0 or not attitude
    missed = aimed and health.asked > 0 and health.missed > MANY * health.asked
    found = []
    if health.unchanged:
        found.append(Finding("no edit", "made no edit: equal to the unedited model in every reliability score"))
    if missed:
        words = f"{health.missed} of {health.asked} edits did not reach the target (p < {REACHED:g})"
        found.append(Finding("target missed", words))
    if found:
        found += (Finding("", words) for words in _reasons(row, facts, defaults))
    if (size := facts.get("relative_norm", 0.0)) > LARGE:
        found.append(Finding("large change", f"|dW| is {100 * size:.0f} % of |W|"))
    if (cosine := facts.get("cosine", 0.0)) > ALIKE:
        words = f"edits of different cases point the same way (mean cosine {cosine:.2f})"
        found.append(Finding("one direction", words))
    yield from found


def _reasons(row: EditorSpec, facts: Mapping[str, float], defaults: Defaults | None) -> Iterator[str]:
    if (share := facts.get("at_bound", 0.0)) >= BOUND:
        bound = row.config.get("clamp")
        much = "every weight at its" if share > 0.995 else f"{100 * share:.0f} % of the changed weights at their"
        yield f"{much} bound" + (f" {bound:g}" if isinstance(bound, float) else "")
    if "final_loss" in facts and "steps" in facts:
        yield f"loss {facts['final_loss']:.2f} after {facts['steps']:.0f} steps"
    if defaults is not None:
        yield f"options are those published for {defaults.model}: {', '.join(defaults.options)}"


def health_lines(group: SuiteGroup, task: str, name: Callable[[str], str] = str) -> Iterator[str]:
    """Yield a line for each stage and row of a task whose edits have remarks; rows with the same remarks share a line.

    `name` maps the name of a row to that in the table.
    """
    run, own = group.run, [found for found in group.health if found.task == task]
    attitude = is_attitude(group.means, task)
    for stage, mark in stages(found.stage for found in own):
        said = grouped(
            ("; ".join(words), name(row.name))
            for row in run.spec.editors
            for found in own
            if (found.editor, found.stage) == (row.name, stage)
            if (words := [f.sentence for f in findings(row, found, run.defaults.get(row.name), attitude=attitude)])
        )
        yield from (f"{', '.join(names)}{mark}: {sentence}." for sentence, names in said.items())


def warned(group: SuiteGroup) -> Iterator[tuple[str, str]]:
    """Yield the rows of a setting whose edits have a warning, each with its flag, task by task."""
    rows = {row.name: row for row in group.run.spec.editors}
    for health in group.health:
        attitude = is_attitude(group.means, health.task)
        for found in findings(rows[health.editor], health, group.run.defaults.get(health.editor), attitude=attitude):
            if found.flag:
                yield health.editor, found.flag


def is_attitude(means: Iterable[Mean | SeedMean], task: str) -> bool:
    """Tell whether a task is scored by edit success."""
    return any(mean.task == task and mean.protocol == "edit_success" for mean in means)


def explained(notes: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield how to read the lines on rows under tables, if there are any."""
    if any(not note.startswith((NO_DIFFERENCE, SMALL_N)) for of_block in notes for note in of_block):
        yield EXPLAINED
