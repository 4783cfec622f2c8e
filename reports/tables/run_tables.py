"""Tables of runs as they are, no seeds put together: by task, by subset of the probes, and by protocol."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from instructedit.benchmark.results.records import Comparison, Mean, RunFile, RunSummary
from instructedit.editors.errors import InputError

from ..render.sheet import Sheet
from ..render.table import Block, Cell, Report, Table, grid
from .captions import controls, header, run_footer, runs_header, warnings
from .columns import SECTIONS, Column, column_of, interval, stages
from .health import column_note, explained, health_lines
from .marks import NO_MARKS, Mark, Marks, crowded, leads, mark_columns
from .protocol_choice import CHOICES, PUBLISHED, WORDS, label, protocol_for

TABLES = ("tasks", "subsets", "protocols")
"""`tasks`: every measure by one protocol; `subsets`: every subset of the probes; `protocols`: every way of reading a
measure, each in a column of its own."""


_Key = tuple[Column, str | None]
"""A column and the subset it is of; None is the mean over subsets."""


class _Row(NamedTuple):
    """A row of a run: its name in the table, the run, and whether it may be marked."""

    name: str
    run: RunFile
    rival: bool


class _Found(NamedTuple):
    """The means of one task and stage by row, those that a table shows, and the pairs of rows that were compared."""

    rows: list[_Row]
    means: dict[tuple[Column, str | None, str], Mean]
    pairs: dict[tuple[Column, str, str], Comparison]


def run_table(name: str, runs: Sequence[tuple[RunFile, RunSummary]], protocol: str | None) -> Sheet:
    """Lay out one table of runs, a block for each task, the rows of all runs side by side.

    Args:
        name: One of `TABLES`.
        runs: The runs, alike in what a column must not mix.
        protocol: How answers are read; None for exact match under teacher forcing. `protocols` shows all.

    Raises:
        InputError: If there is nothing to show, or a protocol is named where all are shown.
    """
    choice = protocol or "teacher_forced_exact"
    if name == "protocols" and protocol:
        raise InputError("--protocol: the table 'protocols' shows each of them; none was expected.")
    if choice == PUBLISHED:
        raise InputError(f"--protocol: '{PUBLISHED}' is for the paper's tables; one of {', '.join(CHOICES[:-1])}.")
    make = {"tasks": _tasks, "subsets": _subsets, "protocols": _protocols}[name]
    records: list[dict[str, Any]] = []
    blocks = []
    for task in dict.fromkeys(task for run, _ in runs for task in run.spec.tasks):
        tables: list[Table] = []
        notes = [note for run, summary in runs for note in _health(runs, run, summary, task)]
        of_task = [mean for _, summary in runs for mean in summary.means if mean.task == task]
        for stage, mark in stages(of_task):
            tables += make(_find(runs, task, stage), choice, mark, records)
            if name != "subsets":
                notes += _columns(_find(runs, task, stage), {record["protocol"] for record in records}, mark)
        if tables:
            blocks.append(Block(task, tuple(tables), notes=tuple(notes)))
    if not blocks:
        raise InputError(f"{', '.join(run.digest for run, _ in runs)}: nothing to show in a table '{name}'.")
    several = len(runs) > 1
    report = Report(
        title=f"{name.capitalize()} of {'runs' if several else 'run'} {', '.join(run.digest for run, _ in runs)}",
        warnings=tuple(f"{run.digest}: {text}" for run, summary in runs for text in warnings(run, summary)),
        header=tuple(runs_header([run for run, _ in runs])) if several else header(runs[0][0]),
        blocks=tuple(blocks),
        footer=(
            *run_footer(
                [summary for _, summary in runs],
                {record["protocol"] for record in records},
                derived=any(record["derived"] for record in records),
                ranked=name != "subsets",
                several=several,
            ),
            *explained(block.notes for block in blocks),
        ),
    )
    return Sheet(report, tuple(records))


def _find(runs: Sequence[tuple[RunFile, RunSummary]], task: str, stage: str) -> _Found:
    """Return the numbers of a task and stage; a name that several runs have gets the run's digest behind it."""
    found = _Found([], {}, {})
    for run, summary in runs:
        names = _names(runs, run, task)
        found.rows.extend(
            _Row(names[row.name], run, row.name not in controls(run))
            for row in run.spec.editors
            if task in run.spec.tasks and row.evaluates(task)
        )
        for mean in summary.means:
            if (mean.task, mean.stage) == (task, stage):
                found.means[column_of(mean), mean.subset, names[mean.editor]] = mean
        for pair in summary.comparisons:
            if (pair.task, pair.stage) == (task, stage):
                found.pairs[column_of(pair), names[pair.editor], names[pair.other]] = pair
    return found


def _names(runs: Sequence[tuple[RunFile, RunSummary]], run: RunFile, task: str) -> dict[str, str]:
    """Return what the rows of a run are called in a table."""
    counts = Counter(row.name for other, _ in runs for row in other.spec.editors if row.evaluates(task))
    return {
        row.name: f"{row.name} ({run.digest[:8]})" if counts[row.name] > 1 else row.name for row in run.spec.editors
    }


def _health(runs: Sequence[tuple[RunFile, RunSummary]], run: RunFile, summary: RunSummary, task: str) -> Iterator[str]:
    return health_lines(run, summary.health, summary.means, task, _names(runs, run, task).__getitem__)


def _columns(found: _Found, protocols: Collection[str], mark: str) -> Iterator[str]:
    """Yield what is to be said of the columns of a stage; rows of two runs are not compared with each other."""
    means = {
        (column, row): mean.mean
        for (column, subset, row), mean in found.means.items()
        if subset is None and column.protocol in protocols
    }
    for run in {row.run.digest: row.run for row in found.rows}.values():
        own = [row for row in found.rows if row.run is run]
        names = {row.name for row in own}
        yield from column_note(
            {key: mean for key, mean in means.items() if key[1] in names},
            [row.name for row in own if not row.rival],
            [row.name for row in own if row.rival],
            found.pairs,
            mark,
        )


def _tasks(found: _Found, choice: str, stage: str, records: list[dict[str, Any]]) -> Iterator[Table]:
    """Yield a table of the chosen protocol, and one of each kind of number that no choice changes."""
    others = {"teacher_forced_exact", "teacher_forced_token", "free_generation"} - {choice}
    for title, protocols in SECTIONS:
        columns = [
            column
            for column in sorted({column for column, subset, _ in found.means if subset is None}, key=Column.order)
            if column.protocol in protocols and column.protocol not in others
        ]
        yield from _table(
            title + stage, {(column, None): column.head for column in columns}, found, records, _marked(found)
        )


def _subsets(found: _Found, choice: str, stage: str, records: list[dict[str, Any]]) -> Iterator[Table]:
    """Yield a table for each measure whose probes are of more than one subset."""
    attitudes = {column.measure for column, _, _ in found.means if column.protocol == "edit_success"}
    for column in sorted({column for column, _, _ in found.means}, key=Column.order):
        subsets = sorted({subset for other, subset, _ in found.means if other == column and subset is not None})
        wanted = protocol_for(choice, column.measure, attitude=column.measure in attitudes)
        if column.protocol == wanted and len(subsets) > 1:
            title = f"{label(column, '')} (%), by subset of the probes{stage}"
            yield from _table(title, {(column, subset): subset for subset in subsets}, found, records, {})


def _protocols(found: _Found, _: str, stage: str, records: list[dict[str, Any]]) -> Iterator[Table]:
    """Yield a table for each measure that is read in more than one way."""
    columns = sorted({column for column, subset, _ in found.means if subset is None}, key=Column.order)
    columns = [column for column in columns if column.protocol not in ("ngram_entropy", "kl_divergence")]
    for measure, derived in dict.fromkeys((column.measure, column.derived) for column in columns):
        own = [column for column in columns if (column.measure, column.derived) == (measure, derived)]
        if len(own) > 1:
            heads: dict[_Key, str] = {(column, None): WORDS[column.protocol].capitalize() for column in own}
            title = f"{measure.capitalize()}{'†' if derived else ''} (%), each way of reading{stage}"
            yield from _table(title, heads, found, records, _marked(found))


def _table(
    title: str,
    heads: Mapping[_Key, str],
    found: _Found,
    records: list[dict[str, Any]],
    marked: Mapping[Column, Marks],
) -> Iterator[Table]:
    """Yield the table of the given columns, if there are any, and add its numbers to the records."""
    if not heads:
        return
    numbers = {
        ((column, subset), row): mean
        for (column, subset, row), mean in found.means.items()
        if (column, subset) in heads
    }
    runs = {row.name: row.run for row in found.rows}
    for ((column, _), row), mean in numbers.items():
        records.append(_record(runs[row], mean, marked.get(column, NO_MARKS).get(row)))

    def cell(key: _Key, row: str, mean: Mean, show_n: bool) -> Cell:
        column, _ = key
        ends, mark = interval(column, mean.low, mean.high, method=mean.method), marked.get(column, NO_MARKS).get(row)
        return Cell(column.number(mean.mean), ends, mean.n if show_n else None, "", mark)

    note = crowded({column: head for (column, _), head in heads.items()}, marked)
    yield replace(grid(title, "Editor", heads, [row.name for row in found.rows], numbers, cell), note=note)


def _marked(found: _Found) -> dict[Column, Marks]:
    means = {(column, row): mean.mean for (column, subset, row), mean in found.means.items() if subset is None}
    rivals = [row.name for row in found.rows if row.rival]
    return mark_columns(means, rivals, [row.name for row in found.rows if not row.rival], leads(found.pairs))


def _record(run: RunFile, mean: Mean, mark: Mark) -> dict[str, Any]:
    spec = run.spec
    shared = {"run": run.digest, "setting": spec.setting, "schedule": spec.schedule, "split": spec.split}
    origin = {"seed": spec.seed, "model": run.provenance.model, "weights": spec.model_fingerprint}
    return {**shared, **mean.model_dump(), "subset": mean.subset or "", "mark": mark.word, **origin}
