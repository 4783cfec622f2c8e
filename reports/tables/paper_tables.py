"""The paper's tables (arXiv 2402.16123) in its own layout, from the results of a suite."""

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any

from instructedit.benchmark.results.records import Measure
from instructedit.benchmark.results.suite_results import SeedPair, SuiteGroup
from instructedit.editors.errors import InputError

from ..render.report import Block, Cell, Report, Sheet, Table
from .captions import DAGGER, paper_footer
from .columns import Column, stages
from .paper_numbers import FIGURE4C, SEEN_UNSEEN, TABLE1, TABLE3, Entry, Gaps, entries
from .protocol_choice import WORDS, label
from .run_facts import CONTROL, grouped, suite_header
from .scores import Scores, mean_cell, pair_cell
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
_Cells = dict[tuple[str, str, Hashable], Cell]
"""The cells of a table by the group and the name of their line, and by their column."""


@dataclass(slots=True)
class _Source:
    """What a table is made of: the entries of one stage, their differences, and the text around its numbers."""

    found: Sequence[Entry]
    gaps: Gaps
    choice: str
    title: str
    """Unit, seeds and stage, added to each title."""
    records: list[dict[str, Any]]
    """Takes the records of the numbers in the order of the tables."""

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
    """Return one of the paper's tables; arguments as `paper_numbers.entries`.

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
    for stage, suffix in stages(entry.number.stage for entry in found):
        of_stage = [entry for entry in found if entry.number.stage == stage]
        tables += make[name](_Source(of_stage, gaps, choice, f"(%), {seeds}{suffix}", records))
    digests = _each(digest for group in used for digest in group.digests)
    report = Report(
        title=f"Run{'s' if len(digests) > 1 else ''} {', '.join(digests)}",
        warnings=tuple(warnings),
        header=suite_header(used),
        blocks=(Block(TITLES[name], tuple(tables)),),
        footer=(
            *paper_footer(used, [entry.number for entry in found], ranked=name == TABLE3),
            *_forms(found),
        ),
    )
    return Sheet(report, tuple(records))


def _forms(found: Sequence[Entry]) -> Iterator[str]:
    """Yield the rows of another form than the published one, and their tasks."""
    tasks = grouped(((entry.address.editor, entry.form), entry.address.task) for entry in found if entry.form)
    if tasks:
        words = "; ".join(f"{editor} on {', '.join(of)}: {form}" for (editor, form), of in tasks.items())
        yield f"Of another form than the published one, and not ranked: {words}."


def _table3(source: _Source) -> Iterator[Table]:
    """Yield the main table: a line for each setting, task and measure, a column for each editor."""
    order = {method: place for place, method in enumerate(EDITORS)}
    ordered = sorted(source.found, key=lambda entry: order.get(entry.editor.method, len(EDITORS)))
    cells, crowded = _Cells(), list[str]()
    for setting in ("multi-task", "hold-out"):
        part = [entry for entry in source.found if entry.address.setting == setting]
        for task in _each(entry.address.task for entry in part):
            of_task = [entry for entry in part if entry.address.task == task]
            scores = _scores(of_task, source.gaps)
            for column in _columns(of_task, _measures(of_task)):
                line = {entry.address.editor: entry for entry in of_task if entry.column == column}
                marked, words = scores.marks(column), label(column, source.choice)
                counts = {entry.number.n for entry in line.values()}
                n = f", n = {min(counts)}" if len(counts) == 1 else ""
                for name, entry in line.items():
                    cell = mean_cell(entry.number, marked.get(name))
                    cells[f"{setting}: {task}", words + n, name] = replace(cell, n=None) if n else cell
                    source.records.append(entry.record(TABLE3, marked.get(name)))
                if marked.tied:
                    crowded.append(f"{setting}, {task}: {words} ({marked.tied} of {marked.rows})")
    note = f"n is too small to tell the best editors of a line apart, none is marked: {'; '.join(crowded)} tie."
    title = f"{WORDS[source.choice].capitalize()} {source.title}"
    editors = _each(entry.address.editor for entry in ordered)
    yield _table(title, "Measure", {name: name for name in editors}, cells, note if crowded else "")


def _scores(of_task: Sequence[Entry], gaps: Gaps) -> Scores:
    """Return the numbers of the editors of a task; those of another form than the published one are not ranked."""
    of = {(entry.column, entry.address.editor): entry for entry in of_task}
    return Scores(
        rows=tuple(_each(name for _, name in of)),
        controls=tuple(_each(entry.address.editor for entry in of_task if entry.editor.method == CONTROL)),
        means={key: entry.number for key, entry in of.items()},
        pairs={
            (column, name, other): pair
            for (column, name), (column_of_other, other) in combinations(of, 2)
            if column == column_of_other and (pair := gaps.between(of[column, name], of[column, other]))
        },
        unranked=[entry.address.editor for entry in of_task if entry.form],
    )


def _table1(source: _Source) -> Iterator[Table]:
    """Yield a table for each editor and protocol: lines are trained tasks by tested task, the tested task first."""
    shown: tuple[Measure, ...] = ("reliability", "generalization", "portability")
    for editor, protocol, part in source.parts(shown):
        columns, cells = _columns(part, shown), _Cells()
        for task in _each(entry.address.task for entry in part):
            of = {(entry.column, entry.trained): entry for entry in part if entry.address.task == task}
            trainings = sorted(_each(entry.trained for entry in of.values()), key=lambda trained: trained != task)
            for trained, column in product(trainings, columns):
                if (entry := of.get((column, trained))) is None:
                    continue
                own = of.get((column, task))
                drop = source.gaps.between(entry, own) if own and own is not entry else None
                source.records.append(entry.record(TABLE1))
                note = ""
                if own and drop:
                    source.records.append(_difference(TABLE1, entry, own, drop))
                    gap = pair_cell(drop)
                    note = f"{gap.value} {gap.interval} {gap.note}"
                cells[f"tested on {task}", f"trained on {trained}", column] = mean_cell(entry.number, note=note)
        text = "in small print the paired difference from the editor trained on the tested task"
        title = f"{editor}, {WORDS[protocol]} {source.title}; {text}"
        yield _table(title, "Editor", {column: label(column, protocol) for column in columns}, cells).share_n()


def _seen_unseen(source: _Source) -> Iterator[Table]:
    """Yield a table for each editor: lines are tasks and measures, columns seen, unseen, and their difference."""
    heads = ("Seen", "Unseen", "Unseen minus seen")
    for editor in _each(entry.address.editor for entry in source.found):
        part = [entry for entry in source.found if entry.address.editor == editor]
        cells = _Cells()
        for task in _each(entry.address.task for entry in part):
            of_task = [entry for entry in part if entry.address.task == task]
            for column in _columns(of_task, _measures(of_task)):
                line = {entry.address.variant: entry for entry in of_task if entry.column == column}
                seen, unseen = line["seen"], line["unseen"]
                source.records += (seen.record(SEEN_UNSEEN), unseen.record(SEEN_UNSEEN))
                found = [mean_cell(seen.number), mean_cell(unseen.number)]
                if gap := source.gaps.between(unseen, seen):
                    source.records.append(_difference(SEEN_UNSEEN, unseen, seen, gap))
                    found.append(pair_cell(gap))
                words = f"{label(column, source.choice)}, n = {seen.number.n}"
                for head, cell in zip(heads, found, strict=False):
                    cells[task, words, head] = replace(cell, n=None)
        count = len(
            {
                row
                for entry in part
                for one in entry.group.comparisons
                if one.question == "unseen" and entry.number.row == one.second
                for row in one.others
            }
        )
        title = f"{editor}, {WORDS[source.choice]} {source.title}; seen is the mean of {count} descriptions"
        yield _table(title, "Measure", {head: head for head in heads}, cells)


def _figure4c(source: _Source) -> Iterator[Table]:
    """Yield a table for each editor and protocol: lines are numbers of trained tasks, columns tested tasks."""
    for editor, protocol, part in source.parts():
        cells = _Cells()
        for entry in sorted(
            part, key=lambda entry: (entry.address.measure != "reliability", int(entry.address.variant))
        ):
            count, task = entry.address.variant, entry.address.task
            place = entry.address.measure.capitalize(), f"{count} task{'' if count == '1' else 's'}: {entry.trained}"
            if (*place, task) in cells:
                raise InputError(
                    "paper:figure4c: a task has dataset-provided and derived prompts; name a protocol of one."
                )
            cells[*place, task] = mean_cell(entry.number, note=DAGGER * entry.column.derived)
            source.records.append(entry.record(FIGURE4C))
        tasks = {task: task for task in _each(entry.address.task for entry in part)}
        yield _table(f"{editor}, {WORDS[protocol]} {source.title}", "Trained on", tasks, cells).share_n()


def _table(title: str, stub: str, heads: Mapping[Any, str], cells: _Cells, note: str = "") -> Table:
    """Return the table of some cells; the lines are in the order in which they first occur."""
    lines = list(dict.fromkeys(place[:2] for place in cells))
    found = tuple(tuple(cells.get((*line, head)) for head in heads) for line in lines)
    groups, rows = zip(*lines, strict=True)
    return Table(title, stub, tuple(heads.values()), rows, found, groups, note)


def _each(values: Iterable[str]) -> list[str]:
    """Return values without repetitions, in order."""
    return list(dict.fromkeys(values))


def _columns(found: Collection[Entry], measures: Sequence[Measure]) -> list[Column]:
    columns = {entry.column for entry in found if entry.column.measure in measures}
    return sorted(columns, key=lambda column: (measures.index(column.measure), column.derived, column.protocol))


def _measures(of_task: Collection[Entry]) -> tuple[Measure, ...]:
    return _TEXT if any(entry.column.protocol == "edit_success" for entry in of_task) else _FACT


def _difference(table: str, entry: Entry, other: Entry, gap: SeedPair) -> dict[str, Any]:
    numbers = {"value": gap.difference, "low": gap.low, "high": gap.high, "n": gap.n, "p": gap.p_holm, "seed_sd": None}
    return entry.record(table) | numbers | {"interval_method": gap.method, "minus": other.address.variant}
