"""The paper's tables (arXiv 2402.16123), laid out as there and made from the results of a suite."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from instructedit.benchmark.results.decision import Decision
from instructedit.benchmark.results.records import Measure
from instructedit.benchmark.results.suite_results import SuiteGroup
from instructedit.editors.errors import InputError

from ..render.sheet import Sheet
from ..render.table import Block, Cell, Report, Table
from .captions import CONTROL, DAGGER, paper_footer
from .columns import Column, deviation, interval, p_words, stages
from .entries import FIGURE4C, SEEN_UNSEEN, TABLE1, TABLE3, Entry, Gap, Gaps, entries
from .marks import UNMARKED, Mark, Marks, mark_columns
from .protocol_choice import WORDS, label
from .suite_tables import suite_header
from .versus import seeds_of

EDITORS = ("none", "ft-l", "calinet", "ke", "mend", "grace", "instructedit")
"""Methods in the order of the paper's columns; others stand behind them."""
TITLES = {
    TABLE3: "The paper's Table 3 (multi-task and hold-out editing)",
    TABLE1: "The paper's Table 1 (trained on one task, tested on another)",
    SEEN_UNSEEN: "The paper's seen against unseen instructions",
    FIGURE4C: "The paper's Figure 4(c) (numbers of trained tasks)",
}
_FACT: tuple[Measure, ...] = ("reliability", "generalization", "locality", "portability")
_TEXT: tuple[Measure, ...] = ("reliability", "locality", "fluency")
"""The paper's rows for facts and for ConvSent, in its order."""


@dataclass(slots=True)
class _Lines:
    """A table in the making, and the records of its numbers."""

    heads: Sequence[str]
    rows: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    cells: list[tuple[Cell | None, ...]] = field(default_factory=list)

    def add(self, group: str, row: str, cells: Sequence[Cell | None]) -> None:
        self.groups.append(group)
        self.rows.append(row)
        self.cells.append(tuple(cells))

    def table(self, title: str, stub: str, *, shared: bool = False) -> Table:
        """Return the table; with `shared` the n that all cells of a column have goes into its head."""
        columns = [list(column) for column in zip(*self.cells, strict=True)]
        heads = list(self.heads)
        for number, column in enumerate(columns):
            counts = {cell.n for cell in column if cell}
            if shared and len(counts) == 1:
                heads[number] += f"\nn = {counts.pop()}"
                columns[number] = [cell and replace(cell, n=None) for cell in column]
        cells = tuple(zip(*columns, strict=True))
        return Table(title, stub, tuple(heads), tuple(self.rows), cells, tuple(self.groups))


_Records = list[dict[str, Any]]


def paper_table(name: str, groups: Sequence[SuiteGroup], choice: str, warnings: Sequence[str] = ()) -> Sheet:
    """Lay out one of the paper's tables.

    Args:
        name: A key of `TITLES`.
        groups: The runs, alike in what a column must not mix.
        choice: How answers are read, one of `reading.CHOICES`.
        warnings: What is missing from the results.

    Raises:
        InputError: If the runs have none of its numbers.
    """
    build: dict[str, Callable[[Sequence[Entry], Gaps, str, str, _Records], Iterator[Table]]] = {
        TABLE3: _table3,
        TABLE1: _table1,
        SEEN_UNSEEN: _seen_unseen,
        FIGURE4C: _figure4c,
    }
    found, records = entries(name, groups, choice), list[dict[str, Any]]()
    used = [group for group in groups if any(entry.group is group for entry in found)]
    gaps, seeds = Gaps(used), ", ".join(dict.fromkeys(map(seeds_of, used)))
    tables: list[Table] = []
    for stage, mark in stages(found):
        of_stage = [entry for entry in found if entry.stage == stage]
        tables += build[name](of_stage, gaps, choice, f"(%), {seeds}{mark}", records)
    columns = {entry.column for entry in found}
    digests = list(dict.fromkeys(digest for group in used for digest in group.digests))
    report = Report(
        title=f"Run{'s' if len(digests) > 1 else ''} {', '.join(digests)}",
        warnings=tuple(warnings),
        header=tuple(suite_header(used)),
        blocks=(Block(TITLES[name], tuple(tables)),),
        footer=(
            *paper_footer(
                used,
                {column.protocol for column in columns},
                derived=any(column.derived for column in columns),
                ranked=name == TABLE3,
            ),
            *_forms(found),
        ),
    )
    return Sheet(report, tuple(records))


def _forms(found: Sequence[Entry]) -> Iterator[str]:
    """Yield which rows are of another form than the published one, and on which tasks."""
    tasks: dict[tuple[str, str], dict[str, None]] = {}
    for entry in (entry for entry in found if entry.form):
        tasks.setdefault((entry.address.editor, entry.form), {})[entry.address.task] = None
    if tasks:
        words = "; ".join(f"{editor} on {', '.join(of)}: {form}" for (editor, form), of in tasks.items())
        yield f"Of another form than the published one, and not ranked: {words}."


def _table3(found: Sequence[Entry], gaps: Gaps, choice: str, title: str, records: _Records) -> Iterator[Table]:
    """Yield the main table: a line for each setting, task and measure, a column for each editor."""
    order = sorted(found, key=lambda entry: EDITORS.index(entry.method) if entry.method in EDITORS else len(EDITORS))
    editors = list(dict.fromkeys(entry.address.editor for entry in order))
    lines, crowded = _Lines(editors), list[str]()
    for setting in ("multi-task", "hold-out"):
        part = [entry for entry in found if entry.address.setting == setting]
        for task in dict.fromkeys(entry.address.task for entry in part):
            of_task = [entry for entry in part if entry.address.task == task]
            every = _marked(of_task, gaps)
            for column in _columns(of_task, _TEXT if _is_attitude(of_task) else _FACT):
                line = {entry.address.editor: entry for entry in of_task if entry.column == column}
                marked = every[column]
                records += (entry.record(TABLE3, marked.get(name)) for name, entry in line.items())
                shown, n = _share_n(line.values())
                cells = [_cell(line[name], shown, marked.get(name)) if name in line else None for name in editors]
                lines.add(f"{setting}: {task}", label(column, choice) + n, cells)
                if marked.tied:
                    crowded.append(f"{setting}, {task}: {label(column, choice)} ({marked.tied} of {marked.rows})")
    table = lines.table(f"{WORDS[choice].capitalize()} {title}", "Measure")
    note = f"n is too small to tell the best editors of a line apart, none is marked: {'; '.join(crowded)} tie."
    yield replace(table, note=note if crowded else "")


def _marked(of_task: Sequence[Entry], gaps: Gaps) -> dict[Column, Marks]:
    """Return the marks of each line of a task, whose rows are editors."""
    of = {(entry.column, entry.address.editor): entry for entry in of_task}

    def lead(column: Column, row: str, other: str) -> Decision | None:
        ours, theirs = of.get((column, row)), of.get((column, other))
        found = gaps.between(ours, theirs) if ours and theirs else None
        return None if found is None else found.decision

    means = {key: entry.number.mean for key, entry in of.items()}
    names = dict.fromkeys(name for _, name in of)
    controls = [name for name in names if any(e.method == CONTROL for (_, n), e in of.items() if n == name)]
    other_form = {entry.address.editor for entry in of_task if entry.form}
    rivals = [name for name in names if name not in controls and name not in other_form]
    return mark_columns(means, rivals, controls, lead)


def _table1(found: Sequence[Entry], gaps: Gaps, choice: str, title: str, records: _Records) -> Iterator[Table]:
    """Yield a table for each editor and way of reading: lines are trained tasks under the tested one, first its own."""
    shown: tuple[Measure, ...] = ("reliability", "generalization", "portability")
    for editor, way, part in _parts([entry for entry in found if entry.address.measure in shown], choice):
        columns = _columns(part, shown)
        lines = _Lines([label(column, way) for column in columns])
        for task in dict.fromkeys(entry.address.task for entry in part):
            of_task = [entry for entry in part if entry.address.task == task]
            trained = dict.fromkeys(entry.trained for entry in of_task)
            for variant in sorted(trained, key=lambda name: name != task):
                cells: list[Cell | None] = []
                for column in columns:
                    line = {entry.trained: entry for entry in of_task if entry.column == column}
                    if entry := line.get(variant):
                        records.append(entry.record(TABLE1))
                        drop = None
                        if (own := line.get(task)) and own is not entry and (drop := gaps.between(entry, own)):
                            records.append(_difference(TABLE1, entry, own, drop))
                        cells.append(_cell(entry, True, note=_words(column, drop)))
                    else:
                        cells.append(None)
                lines.add(f"tested on {task}", f"trained on {variant}", cells)
        text = "behind a number its paired difference from the editor trained on the tested task"
        yield lines.table(f"{editor}, {WORDS[way]} {title}; {text}", "Editor", shared=True)


def _seen_unseen(found: Sequence[Entry], gaps: Gaps, choice: str, title: str, records: _Records) -> Iterator[Table]:
    """Yield a table for each editor: lines are tasks and measures, columns seen, unseen, and their difference."""
    for editor in dict.fromkeys(entry.address.editor for entry in found):
        part = [entry for entry in found if entry.address.editor == editor]
        lines = _Lines(("Seen", "Unseen", "Unseen minus seen"))
        for task in dict.fromkeys(entry.address.task for entry in part):
            of_task = [entry for entry in part if entry.address.task == task]
            for column in _columns(of_task, _TEXT if _is_attitude(of_task) else _FACT):
                line = {entry.address.variant: entry for entry in of_task if entry.column == column}
                seen, unseen = line["seen"], line["unseen"]
                records += (seen.record(SEEN_UNSEEN), unseen.record(SEEN_UNSEEN))
                cells = [_cell(seen, False), _cell(unseen, False), None]
                if (found_gap := gaps.between(unseen, seen)) is not None:
                    records.append(_difference(SEEN_UNSEEN, unseen, seen, found_gap))
                    ends = interval(column, found_gap.low, found_gap.high, "+")
                    cells[2] = Cell(column.number(found_gap.difference, "+"), ends, note=p_words(found_gap.p))
                lines.add(task, f"{label(column, choice)}, n = {seen.n}", cells)
        count = len({row for entry in part for row in _seen_rows(entry)})
        yield lines.table(f"{editor}, {WORDS[choice]} {title}; seen is the mean of {count} descriptions", "Measure")


def _figure4c(found: Sequence[Entry], gaps: Gaps, choice: str, title: str, records: _Records) -> Iterator[Table]:
    """Yield a table for each editor and way of reading: lines are numbers of trained tasks, columns tested tasks."""
    for editor, way, part in _parts(found, choice):
        tasks = list(dict.fromkeys(entry.address.task for entry in part))
        lines = _Lines(tasks)
        for measure in ("reliability", "generalization"):
            of_measure = [entry for entry in part if entry.address.measure == measure]
            for count in sorted({int(entry.address.variant) for entry in of_measure}):
                line = [entry for entry in of_measure if entry.address.variant == str(count)]
                records += (entry.record(FIGURE4C) for entry in line)
                of_task = {entry.address.task: entry for entry in line}
                if len(of_task) < len(line):
                    raise InputError("paper:figure4c: a task has given and derived prompts; name a protocol of one.")
                cells = [
                    _cell(entry, True, note=DAGGER if entry.column.derived else "")
                    if (entry := of_task.get(task))
                    else None
                    for task in tasks
                ]
                lines.add(measure.capitalize(), f"{count} task{'' if count == 1 else 's'}: {line[0].trained}", cells)
        yield lines.table(f"{editor}, {WORDS[way]} {title}", "Trained on", shared=True)


def _parts(found: Sequence[Entry], choice: str) -> Iterator[tuple[str, str, list[Entry]]]:
    """Yield each editor, way of reading and its entries; those read by edit success are never in one with others."""
    for editor in dict.fromkeys(entry.address.editor for entry in found):
        own = [entry for entry in found if entry.address.editor == editor]
        for way in (choice, "edit_success"):
            if part := [entry for entry in own if (entry.column.protocol == "edit_success") == (way == "edit_success")]:
                yield editor, way, part


def _columns(found: Sequence[Entry], measures: Sequence[Measure]) -> list[Column]:
    columns = {entry.column for entry in found if entry.column.measure in measures}
    return sorted(columns, key=lambda column: (measures.index(column.measure), column.derived, column.protocol))


def _is_attitude(found: Sequence[Entry]) -> bool:
    return any(entry.column.protocol == "edit_success" for entry in found)


def _share_n(line: Collection[Entry]) -> tuple[bool, str]:
    """Return whether each cell of a line has to say its n, and else what the line says of it."""
    counts = {entry.n for entry in line}
    return (True, "") if len(counts) > 1 else (False, f", n = {min(counts)}")


def _cell(entry: Entry, show_n: bool, mark: Mark = UNMARKED, note: str = "") -> Cell:
    column, number = entry.column, entry.number
    ends = interval(column, number.low, number.high, method=number.method)
    notes = ", ".join(filter(None, (deviation(column, number.per_seed), note)))
    return Cell(column.number(number.mean), ends, entry.n if show_n else None, notes, mark)


def _words(column: Column, gap: Gap | None) -> str:
    if gap is None:
        return ""
    return f"{column.number(gap.difference, '+')} {interval(column, gap.low, gap.high, '+')} {p_words(gap.p)}"


def _difference(table: str, entry: Entry, other: Entry, gap: Gap) -> dict[str, Any]:
    numbers = {"value": gap.difference, "low": gap.low, "high": gap.high, "n": gap.n, "p": gap.p, "seed_sd": None}
    return entry.record(table) | numbers | {"interval_method": gap.method, "minus": other.address.variant}


def _seen_rows(entry: Entry) -> Iterator[str]:
    for comparison in entry.group.comparisons:
        if comparison.question == "unseen" and entry.row == comparison.second:
            yield from comparison.others
