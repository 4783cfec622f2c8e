"""Sentences on edits that did not take, did too much, or all did the same; every page reads them from here.

The thresholds are those of `instructedit.benchmark.results.health`, each with a sentence why.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from instructedit.benchmark.results.decision import ALPHA
from instructedit.benchmark.results.health import ALIKE, BOUND, LARGE, MANY, REACHED
from instructedit.benchmark.results.records import Defaults, EditorSpec, Health, Mean, RunFile
from instructedit.benchmark.results.suite_results import SeedMean

from .columns import Column, stages
from .marks import Difference, leads

CHANGED = ("reliability", "generalization", "portability")
"""Measures that an edit is to change: that a row does not differ from the unedited model in locality is no fault."""
SILENT = "No row is shown to differ from"
SMALL = "n is too small to show, adjusted for all pairs of rows, which rows differ from"
MATCHED = {
    "teacher_forced_token": "token share",
    "teacher_forced_exact": "exact match",
    "free_generation": "free generation",
}
"""Protocols that a column's head does not name: the title of its table does."""
EXPLAINED = (
    "The lines under a table are of rows whose edits missed their target (its probability p, the geometric mean over "
    f"its tokens, is below {REACHED:g} in more than {100 * MANY:.0f} % of the cases), changed nothing, changed more "
    f"than {100 * LARGE:.0f} % of the weights' norm, or point the same way in different cases (mean cosine above "
    f"{ALIKE:g}). Their numbers are medians over cases; |dW| and |W| are over the edited maps."
)


class Finding(NamedTuple):
    """One thing that is to be said of a row's edits.

    Attributes:
        flag: A word or two.
        sentence: The same as a part of a sentence.
    """

    flag: str
    sentence: str


def findings(row: EditorSpec, health: Health, defaults: Defaults | None, *, attitude: bool) -> Iterator[Finding]:
    """Yield what is to be said of a row's edits of a task.

    Args:
        row: The row.
        health: What its edits came to.
        defaults: Its options that were left at defaults of another model, if any were.
        attitude: Whether the task is about attitudes. There an edit that no loss on its target made need not make that
            one reply likely.
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
    """Yield what may be the reason for edits that did not take."""
    if (share := facts.get("at_bound", 0.0)) >= BOUND:
        bound = row.config.get("clamp")
        much = "every weight at its" if share > 0.995 else f"{100 * share:.0f} % of the changed weights at their"
        yield f"{much} bound" + (f" {bound:g}" if isinstance(bound, float) else "")
    if "final_loss" in facts and "steps" in facts:
        yield f"loss {facts['final_loss']:.2f} after {facts['steps']:.0f} steps"
    if defaults is not None:
        yield f"options are those published for {defaults.model}: {', '.join(defaults.options)}"


def health_lines(
    run: RunFile,
    health: Iterable[Health],
    means: Iterable[Mean | SeedMean],
    task: str,
    name: Callable[[str], str] = str,
) -> Iterator[str]:
    """Yield a line for each stage and row of a task of whose edits there is something to say.

    Rows of which the very same is to be said share a line: an edit may be asked in several ways.

    Args:
        run: The run.
        health: What the edits of its rows came to.
        means: Its means, of any task.
        task: The task.
        name: From the name of a row to that in the table.
    """
    own = [found for found in health if found.task == task]
    attitude = is_attitude(means, task)
    for stage, mark in stages(own):
        said: dict[str, list[str]] = {}
        for row in run.spec.editors:
            for found in (found for found in own if (found.editor, found.stage) == (row.name, stage)):
                words = [f.sentence for f in findings(row, found, run.defaults.get(row.name), attitude=attitude)]
                if words:
                    said.setdefault("; ".join(words), []).append(name(row.name))
        yield from (f"{', '.join(names)}{mark}: {sentence}." for sentence, names in said.items())


def is_attitude(means: Iterable[Mean | SeedMean], task: str) -> bool:
    """Tell whether a task is scored by sentiment."""
    return any(mean.task == task and mean.protocol == "edit_success" for mean in means)


def column_note(
    means: Mapping[tuple[Column, str], float],
    controls: Sequence[str],
    rivals: Sequence[str],
    pairs: Mapping[tuple[Column, str, str], Difference],
    mark: str,
) -> Iterator[str]:
    """Yield a line on the columns in which no row is shown to differ from the unedited model, if there are any.

    Columns in which some row would be shown to differ if it alone had been compared get a line of their own: there it
    is n that is too small, and the edits may well have done something.

    Args:
        means: By column and row, of one task and stage.
        controls: The rows that edit nothing; the first one stands for the unedited model.
        rivals: The rows that edit.
        pairs: The comparisons by column and rows; two rows that were not compared differ if their means do.
        mark: What the stage adds to a title.
    """
    columns = sorted({column for column, _ in means if column.measure in CHANGED}, key=Column.order)
    silent = [column for column in columns if controls and _is_silent(column, means, controls[0], rivals, pairs)]
    small = [column for column in silent if _is_small(column, controls[0], rivals, pairs)]
    for words, found in ((SMALL, small), (SILENT, [column for column in silent if column not in small])):
        if found:
            yield f"{words} '{controls[0]}'{mark}: {_listed(found)}."


def _is_silent(
    column: Column,
    means: Mapping[tuple[Column, str], float],
    control: str,
    rivals: Sequence[str],
    pairs: Mapping[tuple[Column, str, str], Difference],
) -> bool:
    rows = [row for row in rivals if (column, row) in means]
    if not rows or (column, control) not in means:
        return False
    plain, lead = means[column, control], leads(pairs)
    shown = ((row, lead(column, row, control)) for row in rows)
    return not any(means[column, row] != plain if found is None else found != "tie" for row, found in shown)


def _is_small(
    column: Column, control: str, rivals: Sequence[str], pairs: Mapping[tuple[Column, str, str], Difference]
) -> bool:
    found = (pairs.get((column, *rows)) for row in rivals for rows in ((row, control), (control, row)))
    return any(pair is not None and pair.p is not None and pair.p < ALPHA for pair in found)


def _listed(columns: Sequence[Column]) -> str:
    """Return columns in words; measures that share their protocols stand together, with these behind them."""
    protocols: dict[str, list[str]] = {}
    for column in columns:
        protocols.setdefault(column.head, []).extend(filter(None, [MATCHED.get(column.protocol)]))
    heads: dict[str, list[str]] = {}
    for head, names in protocols.items():
        heads.setdefault(f" ({', '.join(names)})" if names else "", []).append(head)
    return "; ".join(f"{', '.join(names)}{read}" for read, names in heads.items())


def explained(notes: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield how the lines on rows under tables are to be read, if there are any."""
    if any(not note.startswith((SILENT, SMALL)) for of_block in notes for note in of_block):
        yield EXPLAINED
