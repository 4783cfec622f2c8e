"""Tables of runs without seeds put together: the report of a run, and the tables by task, subset and protocol."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from instructedit.benchmark.results.records import Mean, Protocol, RunFile, RunSummary
from instructedit.editors.errors import InputError

from ..render.report import UNMARKED, Block, Mark, Report, Sheet, Table
from .captions import DAGGER, footer, runs_footer
from .columns import Column, column_of, stages
from .health import explained, health_lines
from .protocol_choice import CHOICES, PUBLISHED, WORDS, label, protocol_for
from .run_facts import header, runs_header, unscored, warnings
from .scores import Scores, cell_table, mean_cell, merged, scores_of, task_block
from .sources import group_of

Run = tuple[RunFile, RunSummary]
_Shown = tuple[RunFile, Mean, Mark]
"""A number of a table with its run and its mark."""


def run_report(run: RunFile, summary: RunSummary) -> Report:
    """Return all tables of a run, a block for each task; the numbers are means over subsets."""
    group = group_of(run, summary)
    blocks = tuple(task_block(task, group, task, compared=True) for task in run.spec.tasks)
    return Report(
        title=f"Run {run.digest}",
        warnings=warnings(run, summary),
        header=(*header(run), *unscored(summary)),
        blocks=blocks,
        footer=(*footer(run, summary), *explained(block.notes for block in blocks)),
    )


def run_table(name: str, runs: Sequence[Run], protocol: str | None) -> Sheet:
    """Return one table of runs, a block for each task, the rows of all runs one below the other.

    `name` is `tasks`, `subsets` or `protocols`; the runs are equal in what a column must not mix. A `protocol` of None
    is exact match under teacher forcing; `protocols` shows all.

    Raises:
        InputError: If there is nothing to show, or a protocol is given for `protocols`.
    """
    choice = protocol or "teacher_forced_exact"
    if name == "protocols" and protocol:
        raise InputError("--protocol: the table 'protocols' shows all of them; expected none.")
    if choice == PUBLISHED:
        raise InputError(
            f"--protocol: '{PUBLISHED}' is for the paper's tables; expected one of {', '.join(CHOICES[:-1])}."
        )
    files, summaries = [run for run, _ in runs], [summary for _, summary in runs]
    shown: list[_Shown] = []
    tasks = dict.fromkeys(task for run in files for task in run.spec.tasks)
    blocks = [block for task in tasks if (block := _block(name, runs, task, choice, shown)).tables]
    digests = ", ".join(run.digest for run in files)
    if not blocks:
        raise InputError(f"{digests}: nothing to show in a table '{name}'.")
    several = len(runs) > 1
    report = Report(
        title=f"{name.capitalize()} of {'runs' if several else 'run'} {digests}",
        warnings=tuple(f"{run.digest}: {text}" for run, summary in runs for text in warnings(run, summary)),
        header=runs_header(files),
        blocks=tuple(blocks),
        footer=(
            *runs_footer(summaries, [mean for _, mean, _ in shown], ranked=name != "subsets"),
            *explained(block.notes for block in blocks),
        ),
    )
    return Sheet(report, tuple(_record(*one) for one in shown))


def _block(name: str, runs: Sequence[Run], task: str, choice: str, shown: list[_Shown]) -> Block:
    """Return the tables of a task, and add their numbers to those shown."""
    names = [_names([run for run, _ in runs], run, task) for run, _ in runs]
    run_of = {own[row]: run for (run, _), own in zip(runs, names, strict=True) for row in own}
    groups = [(group_of(run, summary), own) for (run, summary), own in zip(runs, names, strict=True)]
    notes = [line for group, own in groups for line in health_lines(group, task, own.__getitem__)]
    means = [
        (own[mean.editor], mean)
        for (_, summary), own in zip(runs, names, strict=True)
        for mean in summary.means
        if mean.task == task
    ]
    tables: list[Table] = []
    for stage, suffix in stages(mean.stage for _, mean in means):
        of_stage = [(row, mean) for row, mean in means if mean.stage == stage]
        parts = [scores_of(group, task, stage, own.__getitem__) for group, own in groups]
        scores = merged(parts)
        if name == "subsets":
            for table, numbers in _subsets(of_stage, scores.rows, choice, suffix):
                tables.append(table)
                shown += ((run_of[row], mean, UNMARKED) for row, mean in numbers)
            continue
        for title, heads in _sections(scores, choice) if name == "tasks" else _by_protocol(scores):
            tables.append(scores.table(f"{title}{suffix}", heads))
            shown += (
                (run_of[row], mean, scores.marks(column).get(row))
                for row, mean in of_stage
                if (column := column_of(mean)) in heads and mean.subset is None
            )
        protocols = {mean.protocol for _, mean, _ in shown}
        for part in parts:
            notes += part.without_difference(suffix, protocols)
    return Block(task, tuple(tables), notes=tuple(notes))


def _names(runs: Sequence[RunFile], run: RunFile, task: str) -> dict[str, str]:
    """Return the names of a run's rows in a table; a name that several runs have is followed by the run's digest."""
    counts = Counter(row.name for other in runs for row in other.spec.editors if row.evaluates(task))
    return {
        row.name: f"{row.name} ({run.digest[:8]})" if counts[row.name] > 1 else row.name for row in run.spec.editors
    }


def _sections(scores: Scores, choice: str) -> Iterator[tuple[str, dict[Column, str]]]:
    """Yield the chosen protocol, and the sections that no choice changes, as titles and heads."""
    others = {"teacher_forced_exact", "teacher_forced_token", "free_generation"} - {choice}
    for title, columns in scores.sections():
        if heads := {column: column.head for column in columns if column.protocol not in others}:
            yield title, heads


_APART: tuple[Protocol, ...] = ("ngram_entropy", "kl_divergence", "reversion")
"""Protocols that read something other than whether a probe is answered as it should be."""


def _by_protocol(scores: Scores) -> Iterator[tuple[str, dict[Column, str]]]:
    """Yield each measure that has several protocols, as title and heads."""
    columns = [column for column in scores.columns() if column.protocol not in _APART]
    for measure, derived in dict.fromkeys((column.measure, column.derived) for column in columns):
        own = [column for column in columns if (column.measure, column.derived) == (measure, derived)]
        if len(own) > 1:
            heads = {column: WORDS[column.protocol].capitalize() for column in own}
            yield f"{measure.capitalize()}{DAGGER if derived else ''} (%), each protocol", heads


def _subsets(
    means: Sequence[tuple[str, Mean]], rows: Sequence[str], choice: str, suffix: str
) -> Iterator[tuple[Table, list[tuple[str, Mean]]]]:
    """Yield a table for each measure whose probes have more than one subset, with its means by row."""
    columns = {column_of(mean) for _, mean in means}
    attitudes = {column.measure for column in columns if column.protocol == "edit_success"}
    for column in sorted(columns, key=Column.order):
        own = [(row, mean) for row, mean in means if column_of(mean) == column and mean.subset is not None]
        heads = {subset: subset for subset in sorted({mean.subset or "" for _, mean in own})}
        wanted = protocol_for(choice, column.measure, attitude=column.measure in attitudes)
        if column.protocol == wanted and len(heads) > 1:
            title = f"{label(column, '')} (%), by subset of the probes{suffix}"
            cells = {(mean.subset or "", row): mean_cell(mean) for row, mean in own}
            yield cell_table(title, "Editor", heads, rows, cells), own


def _record(run: RunFile, mean: Mean, mark: Mark) -> dict[str, Any]:
    spec = run.spec
    shared = {"run": run.digest, "setting": spec.setting, "schedule": spec.schedule, "split": spec.split}
    origin = {"seed": spec.seed, "model": run.provenance.model, "weights": spec.model_fingerprint}
    return {**shared, **mean.model_dump(), "subset": mean.subset or "", "mark": mark.word, **origin}
