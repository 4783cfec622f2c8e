"""The numbers of the paper's tables: which number of a suite stands in which cell, and what two cells differ by.

A cell has the same address in the paper and in our results (`Address`), so a table is laid out from the entries, and a
published value finds its counterpart, by the address alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from instructedit.benchmark.results.comparisons import base_name
from instructedit.benchmark.results.decision import Decision, decided
from instructedit.benchmark.results.forms import departures
from instructedit.benchmark.results.records import EditorSpec, Measure, Method
from instructedit.benchmark.results.suite_results import SeedComparison, SeedMean, SeedPair, SideMean, SuiteGroup
from instructedit.editors.errors import InputError

from .columns import Column, column_of, seed_sd
from .marks import TURNED, UNMARKED, Mark
from .protocol_choice import protocol_for

TABLE3, TABLE1, SEEN_UNSEEN, FIGURE4C = "paper:table3", "paper:table1", "paper:seen-unseen", "paper:figure4c"
SETTINGS: dict[str, tuple[str, ...]] = {
    TABLE3: ("multi-task", "hold-out"),
    TABLE1: ("single-task",),
    SEEN_UNSEEN: ("unseen-instruction",),
    FIGURE4C: ("task-scaling",),
}
"""The tables of the paper, and the settings that each is made of."""


class Address(NamedTuple):
    """Where a number stands in the paper's tables.

    Attributes:
        setting: `multi-task`, `hold-out`, `single-task`, `unseen-instruction` or `task-scaling`.
        task: The tested task.
        measure: What is measured.
        editor: The editor's name in the configuration; `none` is the paper's Base.
        variant: What tells two numbers of one editor apart: the trained task (Table 1), `seen` or `unseen`, the number
            of trained tasks (Figure 4c); empty in Table 3.
    """

    setting: str
    task: str
    measure: Measure
    editor: str
    variant: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One number over seeds and cases, with its address, its column and the runs it is from."""

    address: Address
    method: str
    row: str
    """Row of the runs, or the side of a comparison that several rows make up."""
    trained: str
    """Label of the row's training; empty where there is none."""
    stage: str
    column: Column
    number: SeedMean | SideMean
    n: int
    group: SuiteGroup
    departures: tuple[str, ...] = ()
    """In what the row's form is not the published one; see `forms.departures`."""

    @property
    def form(self) -> str:
        """The row's form where it is not the published one, in words."""
        return "; ".join(self.departures)

    def record(self, table: str, mark: Mark = UNMARKED) -> dict[str, Any]:
        """Return the entry with all its keys, as CSV and JSON hold it; shares, not percent."""
        group = self.group
        return {
            "table": table,
            **self.address._asdict(),
            "method": self.method,
            "trained_on": self.trained,
            "form": self.form,
            "schedule": group.run.spec.schedule,
            "stage": self.stage,
            "derived": self.column.derived,
            "protocol": self.column.protocol,
            "minus": "",
            "value": self.number.mean,
            "low": self.number.low,
            "high": self.number.high,
            "interval_method": self.number.method,
            "p": "",
            "seed_sd": seed_sd(self.number.per_seed),
            "n": self.n,
            "mark": mark.word,
            "split": group.run.spec.split,
            "model": group.run.provenance.model,
            "weights": group.run.spec.model_fingerprint,
            "seeds": group.seeds,
            "runs": group.digests,
        }


class Gap(NamedTuple):
    """What one entry has more than another: the mean paired difference, and which of the two is shown to be better."""

    difference: float
    low: float | None
    high: float | None
    method: Method
    n: int
    p: float | None
    """Adjusted over the pairs of its column."""
    decision: Decision


def entries(table: str, groups: Sequence[SuiteGroup], choice: str) -> list[Entry]:
    """Return the numbers of one of the paper's tables that a suite has.

    Args:
        table: A key of `SETTINGS`.
        groups: Runs of the settings of the table, alike in what a column must not mix.
        choice: How answers are read, one of `reading.CHOICES`.

    Raises:
        InputError: If there is none, or two runs have a number for the same cell.
    """
    make: dict[str, Callable[[SuiteGroup], Iterator[Entry]]] = {
        TABLE3: _main,
        TABLE1: _single_task,
        SEEN_UNSEEN: _descriptions,
        FIGURE4C: _scaling,
    }
    found: dict[tuple[Address, str, Column], Entry] = {}
    for group in groups:
        sentiment = {(mean.task, mean.measure) for mean in group.means if mean.protocol == "edit_success"}
        for entry in make[table](group):
            address = entry.address
            attitude = (address.task, address.measure) in sentiment
            if entry.column.protocol != protocol_for(choice, address.measure, attitude=attitude):
                continue
            key = address, entry.stage, entry.column
            if key in found:
                raise InputError(
                    f"{table}: {_runs(found[key])} and {_runs(entry)} both have a number for the editor "
                    f"'{address.editor}' on {address.task}, of which a cell takes one; name one of them."
                )
            found[key] = entry
    if not found:
        raise InputError(f"{table}: the runs have none of its numbers; other editors or another --protocol may have.")
    return list(found.values())


class Gaps:
    """The paired differences of all entries of some groups."""

    def __init__(self, groups: Sequence[SuiteGroup]) -> None:
        self._of: dict[tuple[Any, ...], Gap] = {}
        for group in groups:
            compared: list[SeedPair | SeedComparison] = [*group.pairs]
            compared += [comparison for comparison in group.comparisons if comparison.question == "unseen"]
            for pair in compared:
                first, second = (pair.row, pair.other) if isinstance(pair, SeedPair) else (pair.first, pair.second)
                cell, shown = (id(group), pair.task, pair.stage, column_of(pair)), decided(pair)
                low, high = (None if end is None else -end for end in (pair.high, pair.low))
                shared = (pair.method, pair.n, pair.p_holm)
                self._of[*cell, first, second] = Gap(pair.difference, pair.low, pair.high, *shared, shown)
                self._of[*cell, second, first] = Gap(-pair.difference, low, high, *shared, TURNED[shown])

    def between(self, entry: Entry, other: Entry) -> Gap | None:
        """Return what the first entry has more than the second, case by case; None where they were not compared."""
        if entry.group is not other.group or (entry.stage, entry.column) != (other.stage, other.column):
            return None
        return self._of.get((id(entry.group), entry.address.task, entry.stage, entry.column, entry.row, other.row))


def _main(group: SuiteGroup) -> Iterator[Entry]:
    """Table 3: a task that the editors were trained on, or whose cases were edited, is multi-task, others hold-out."""
    spec = group.run.spec
    learnt = {task for row in spec.editors if row.training for task in row.training.tasks}
    for row, mean in _means(group):
        outside = (spec.edited is not None and mean.task not in spec.edited) or (learnt and mean.task not in learnt)
        setting = "hold-out" if spec.setting == "hold-out" or outside else "multi-task"
        yield _entry(group, row, mean, Address(setting, mean.task, mean.measure, base_name(row)))


def _single_task(group: SuiteGroup) -> Iterator[Entry]:
    for row, mean in _means(group):
        if row.training and mean.measure != "fluency":
            address = Address("single-task", mean.task, mean.measure, base_name(row), row.training.label)
            yield _entry(group, row, mean, address)


def _scaling(group: SuiteGroup) -> Iterator[Entry]:
    for row, mean in _means(group):
        if row.training and mean.measure in ("reliability", "generalization"):
            count = str(len(row.training.tasks))
            yield _entry(group, row, mean, Address("task-scaling", mean.task, mean.measure, base_name(row), count))


def _descriptions(group: SuiteGroup) -> Iterator[Entry]:
    """Seen and unseen: both sides of the comparison of the unseen description with the mean of the seen ones."""
    rows = {row.name: row for row in group.run.spec.editors}
    for found in group.comparisons:
        if found.question == "unseen" and found.sides is not None:
            row = rows[found.rows[0]]
            for variant, side, name in zip(("unseen", "seen"), found.sides, (found.first, found.second), strict=True):
                address = Address("unseen-instruction", found.task, found.measure, base_name(row), variant)
                label = row.training.label if row.training else ""
                other = departures(group.run.spec, row, found.task)
                column = column_of(found)
                yield Entry(address, row.method, name, label, found.stage, column, side, found.n, group, other)


def _means(group: SuiteGroup) -> Iterator[tuple[EditorSpec, SeedMean]]:
    rows = {row.name: row for row in group.run.spec.editors}
    return ((rows[mean.row], mean) for mean in group.means)


def _entry(group: SuiteGroup, row: EditorSpec, mean: SeedMean, address: Address) -> Entry:
    label = row.training.label if row.training else ""
    other = departures(group.run.spec, row, mean.task)
    return Entry(address, row.method, row.name, label, mean.stage, column_of(mean), mean, mean.n, group, other)


def _runs(entry: Entry) -> str:
    return f"run {' '.join(entry.group.digests)}"
