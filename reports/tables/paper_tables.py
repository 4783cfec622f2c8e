"""The paper's tables (arXiv 2402.16123) in its own layout, from the results of a suite."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

from instructedit.benchmark.results.records import Measure
from instructedit.benchmark.results.suite_results import SuiteGroup
from instructedit.editors.errors import InputError

from ..render.report import UNMARKED, Block, Cell, Mark, Report, Sheet, Table
from .best_and_ties import Contest
from .captions import DAGGER, paper_footer
from .columns import Column, deviation, interval, p_words, stages
from .paper_numbers import FIGURE4C, SEEN_UNSEEN, TABLE1, TABLE3, Entry, Gap, Gaps, entries
from .protocol_choice import WORDS, label
from .run_facts import CONTROL, suite_header
from .suite_comparisons import seeds_of

EDITORS = ("none", "ft-l", "calinet", "ke", "mend", "grace", "instructedit")
"""Methods in the order of the paper's columns; others follow."""
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
class _Draft:
    """A table line by line, and the records of its numbers."""

    heads: Sequence[str]
    records: list[dict[str, Any]]
    rows: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    cells: list[tuple[Cell | None, ...]] = field(default_factory=list)

    def add(self, group: str, row: str, cells: Iterable[Cell | None]) -> None:
        self.groups.append(group)
        self.rows.append(row)
        self.cells.append(tuple(cells))

    def table(self, title: str, stub: str) -> Table:
        return Table(title, stub, tuple(self.heads), tuple(self.rows), tuple(self.cells), tuple(self.groups))


@dataclass(frozen=True, slots=True)
class _Source:
    """What a table is made of: the entries of one stage, their differences, and the text around its numbers."""

    found: Sequence[Entry]
    gaps: Gaps
    choice: str
    title: str
    """Unit, seeds and stage, added to each title."""
    records: list[dict[str, Any]]

    def parts(self, measures: Sequence[Measure] | None = None) -> Iterator[tuple[str, str, list[Entry]]]:
        """Yield each editor, protocol and its entries; edit success is never combined with other protocols."""
        chosen = [entry for entry in self.found if measures is None or entry.address.measure in measures]
        for editor in _each(entry.address.editor for entry in chosen):
            for protocol in (self.choice, "edit_success"):
                part = [
                    entry
                    for entry in chosen
                    if entry.address.editor == editor
                    and (entry.column.protocol == "edit_success") == (protocol == "edit_success")
                ]
                if part:
                    yield editor, protocol, part


def paper_table(name: str, groups: Sequence[SuiteGroup], choice: str, warnings: Sequence[str] = ()) -> Sheet:
    """Return one of the paper's tables.

    Args:
        name: A key of `TITLES`.
        groups: The runs, equal in what a column must not mix.
        choice: How answers are read, one of `protocol_choice.CHOICES`.
        warnings: What is missing from the results.

    Raises:
        InputError: If the runs have none of its numbers.
    """
    make: dict[str, Callable[[_Source], Iterator[Table]]] = {
        TABLE3: _table3,
        TABLE1: _table1,
        SEEN_UNSEEN: _seen_unseen,
        FIGURE4C: _figure4c,
    }
    found, records = entries(name, groups, choice), list[dict[str, Any]]()
    used = [group for group in groups if any(entry.group is group for entry in found)]
    gaps, seeds = Gaps(used), ", ".join(_each(map(seeds_of, used)))
    tables: list[Table] = []
    for stage, suffix in stages(found):
        of_stage = [entry for entry in found if entry.stage == stage]
        tables += make[name](_Source(of_stage, gaps, choice, f"(%), {seeds}{suffix}", records))
    digests = _each(digest for group in used for digest in group.digests)
    report = Report(
        title=f"Run{'s' if len(digests) > 1 else ''} {', '.join(digests)}",
        warnings=tuple(warnings),
        header=tuple(suite_header(used)),
        blocks=(Block(TITLES[name], tuple(tables)),),
        footer=(
            *paper_footer(
                used,
                {entry.column.protocol for entry in found},
                derived=any(entry.column.derived for entry in found),
                ranked=name == TABLE3,
            ),
            *_forms(found),
        ),
    )
    return Sheet(report, tuple(records))


def _forms(found: Sequence[Entry]) -> Iterator[str]:
    """Yield the rows of another form than the published one, and their tasks."""
    tasks: dict[tuple[str, str], dict[str, None]] = {}
    for entry in found:
        if form := entry.form:
            tasks.setdefault((entry.address.editor, form), {})[entry.address.task] = None
    if tasks:
        words = "; ".join(f"{editor} on {', '.join(of)}: {form}" for (editor, form), of in tasks.items())
        yield f"Of another form than the published one, and not ranked: {words}."


def _table3(source: _Source) -> Iterator[Table]:
    """Yield the main table: a line for each setting, task and measure, a column for each editor."""
    found = source.found
    order = {method: place for place, method in enumerate(EDITORS)}
    ordered = sorted(found, key=lambda entry: order.get(entry.editor.method, len(EDITORS)))
    editors = _each(entry.address.editor for entry in ordered)
    draft, crowded = _Draft(editors, source.records), list[str]()
    for setting in ("multi-task", "hold-out"):
        part = [entry for entry in found if entry.address.setting == setting]
        for task in _each(entry.address.task for entry in part):
            of_task = [entry for entry in part if entry.address.task == task]
            marks = _contest(of_task, source.gaps).marks()
            for column in _columns(of_task, _measures(of_task)):
                line = {entry.address.editor: entry for entry in of_task if entry.column == column}
                marked, words = marks[column], label(column, source.choice)
                draft.records += (entry.record(TABLE3, marked.get(name)) for name, entry in line.items())
                cells = {name: _cell(entry, marked.get(name)) for name, entry in line.items()}
                counts = {entry.n for entry in line.values()}
                if len(counts) == 1:
                    cells = {name: replace(cell, n=None) for name, cell in cells.items()}
                n = f", n = {min(counts)}" if len(counts) == 1 else ""
                draft.add(f"{setting}: {task}", words + n, map(cells.get, editors))
                if marked.tied:
                    crowded.append(f"{setting}, {task}: {words} ({marked.tied} of {marked.rows})")
    table = draft.table(f"{WORDS[source.choice].capitalize()} {source.title}", "Measure")
    note = f"n is too small to tell the best editors of a line apart, none is marked: {'; '.join(crowded)} tie."
    yield replace(table, note=note if crowded else "")


def _contest(of_task: Sequence[Entry], gaps: Gaps) -> Contest:
    """Return what is shown of the editors of a task."""
    of = {(entry.column, entry.address.editor): entry for entry in of_task}
    names = _each(name for _, name in of)
    controls = [name for name in names if any(e.editor.method == CONTROL for (_, n), e in of.items() if n == name)]
    other_form = {entry.address.editor for entry in of_task if entry.form}
    pairs = {
        (column, name, other): pair
        for (column, name), (column_of_other, other) in permutations(of, 2)
        if column == column_of_other and (pair := gaps.pair(of[column, name], of[column, other]))
    }
    means = {key: entry.number.mean for key, entry in of.items()}
    return Contest(means, [name for name in names if name not in {*controls, *other_form}], controls, pairs)


def _table1(source: _Source) -> Iterator[Table]:
    """Yield a table for each editor and protocol: lines are trained tasks by tested task, the tested task first."""
    shown: tuple[Measure, ...] = ("reliability", "generalization", "portability")
    for editor, protocol, part in source.parts(shown):
        columns = _columns(part, shown)
        draft = _Draft([label(column, protocol) for column in columns], source.records)
        for task in _each(entry.address.task for entry in part):
            of = {(entry.column, entry.trained): entry for entry in part if entry.address.task == task}
            for trained in sorted(_each(trained for _, trained in of), key=lambda name: name != task):
                cells: list[Cell | None] = []
                for column in columns:
                    entry, own = of.get((column, trained)), of.get((column, task))
                    if entry is None:
                        cells.append(None)
                        continue
                    draft.records.append(entry.record(TABLE1))
                    drop = source.gaps.between(entry, own) if own and own is not entry else None
                    if own and drop:
                        draft.records.append(_difference(TABLE1, entry, own, drop))
                    cells.append(_cell(entry, note=_words(column, drop)))
                draft.add(f"tested on {task}", f"trained on {trained}", cells)
        text = "in small print the paired difference from the editor trained on the tested task"
        yield draft.table(f"{editor}, {WORDS[protocol]} {source.title}; {text}", "Editor").share_n()


def _seen_unseen(source: _Source) -> Iterator[Table]:
    """Yield a table for each editor: lines are tasks and measures, columns seen, unseen, and their difference."""
    for editor in _each(entry.address.editor for entry in source.found):
        part = [entry for entry in source.found if entry.address.editor == editor]
        draft = _Draft(("Seen", "Unseen", "Unseen minus seen"), source.records)
        for task in _each(entry.address.task for entry in part):
            of_task = [entry for entry in part if entry.address.task == task]
            for column in _columns(of_task, _measures(of_task)):
                line = {entry.address.variant: entry for entry in of_task if entry.column == column}
                seen, unseen = line["seen"], line["unseen"]
                draft.records += (seen.record(SEEN_UNSEEN), unseen.record(SEEN_UNSEEN))
                cells: list[Cell | None] = [replace(_cell(entry), n=None) for entry in (seen, unseen)]
                if gap := source.gaps.between(unseen, seen):
                    draft.records.append(_difference(SEEN_UNSEEN, unseen, seen, gap))
                    ends = interval(column, gap.low, gap.high, "+")
                    cells.append(Cell(column.number(gap.difference, "+"), ends, note=p_words(gap.p)))
                else:
                    cells.append(None)
                draft.add(task, f"{label(column, source.choice)}, n = {seen.n}", cells)
        count = len({row for entry in part for row in _seen_rows(entry)})
        title = f"{editor}, {WORDS[source.choice]} {source.title}; seen is the mean of {count} descriptions"
        yield draft.table(title, "Measure")


def _figure4c(source: _Source) -> Iterator[Table]:
    """Yield a table for each editor and protocol: lines are numbers of trained tasks, columns tested tasks."""
    for editor, protocol, part in source.parts():
        tasks = _each(entry.address.task for entry in part)
        draft = _Draft(tasks, source.records)
        for measure in ("reliability", "generalization"):
            of_measure = [entry for entry in part if entry.address.measure == measure]
            for count in sorted({int(entry.address.variant) for entry in of_measure}):
                line = [entry for entry in of_measure if entry.address.variant == str(count)]
                draft.records += (entry.record(FIGURE4C) for entry in line)
                cells = {entry.address.task: _cell(entry, note=DAGGER * entry.column.derived) for entry in line}
                if len(cells) < len(line):
                    raise InputError(
                        "paper:figure4c: a task has dataset-provided and derived prompts; name a protocol of one."
                    )
                words = f"{count} task{'' if count == 1 else 's'}: {line[0].trained}"
                draft.add(measure.capitalize(), words, map(cells.get, tasks))
        yield draft.table(f"{editor}, {WORDS[protocol]} {source.title}", "Trained on").share_n()


def _each(values: Iterable[str]) -> list[str]:
    """Return values without repetitions, in order."""
    return list(dict.fromkeys(values))


def _columns(found: Collection[Entry], measures: Sequence[Measure]) -> list[Column]:
    columns = {entry.column for entry in found if entry.column.measure in measures}
    return sorted(columns, key=lambda column: (measures.index(column.measure), column.derived, column.protocol))


def _measures(of_task: Collection[Entry]) -> tuple[Measure, ...]:
    return _TEXT if any(entry.column.protocol == "edit_success" for entry in of_task) else _FACT


def _cell(entry: Entry, mark: Mark = UNMARKED, note: str = "") -> Cell:
    column, number = entry.column, entry.number
    ends = interval(column, number.low, number.high, method=number.method)
    notes = ", ".join(filter(None, (deviation(column, number.per_seed), note)))
    return Cell(column.number(number.mean), ends, entry.n, notes, mark)


def _words(column: Column, gap: Gap | None) -> str:
    if gap is None:
        return ""
    return f"{column.number(gap.difference, '+')} {interval(column, gap.low, gap.high, '+')} {p_words(gap.p)}"


def _difference(table: str, entry: Entry, other: Entry, gap: Gap) -> dict[str, Any]:
    numbers = {"value": gap.difference, "low": gap.low, "high": gap.high, "n": gap.n, "p": gap.p, "seed_sd": None}
    return entry.record(table) | numbers | {"interval_method": gap.method, "minus": other.address.variant}


def _seen_rows(entry: Entry) -> Iterator[str]:
    """Yield the rows of the seen descriptions that an entry is the mean of."""
    for comparison in entry.group.comparisons:
        if comparison.question == "unseen" and entry.row == comparison.second:
            yield from comparison.others
