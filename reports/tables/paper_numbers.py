"""The numbers of the paper's tables: which number of a suite belongs into which cell, and how two cells differ.

A cell has the same address in the paper and in our results (`Address`), so a published value finds its counterpart by
its address alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from instructedit.benchmark.results.forms import departures
from instructedit.benchmark.results.planned_comparisons import base_name
from instructedit.benchmark.results.records import EditorSpec, Measure
from instructedit.benchmark.results.suite_results import SeedComparison, SeedMean, SeedPair, SuiteGroup
from instructedit.editors.errors import InputError

from ..render.report import UNMARKED, Mark
from .columns import Column, column_of, seed_sd
from .protocol_choice import protocol_for
from .scores import turned

TABLE3, TABLE1, SEEN_UNSEEN, FIGURE4C = "paper:table3", "paper:table1", "paper:seen-unseen", "paper:figure4c"
SETTINGS: dict[str, tuple[str, ...]] = {
    TABLE3: ("multi-task", "hold-out"),
    TABLE1: ("single-task",),
    SEEN_UNSEEN: ("unseen-instruction",),
    FIGURE4C: ("task-scaling",),
}
"""The tables of the paper, and the settings of each."""


class Address(NamedTuple):
    """Place of a number in the paper's tables.

    Attributes:
        setting: `multi-task`, `hold-out`, `single-task`, `unseen-instruction` or `task-scaling`.
        task: The tested task.
        measure: What is measured.
        editor: The editor's name in the configuration; `none` is the paper's Base.
        variant: Distinguishes several numbers of one editor: the trained task (Table 1), `seen` or `unseen`, the number
            of trained tasks (Figure 4c); empty in Table 3.
    """

    setting: str
    task: str
    measure: Measure
    editor: str
    variant: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One number over seeds and cases, with its address and the runs it comes from."""

    address: Address
    editor: EditorSpec
    number: SeedMean
    """Its row is a row of the runs, or the side of a comparison that combines several rows."""
    group: SuiteGroup

    @property
    def column(self) -> Column:
        """The column of the number."""
        return column_of(self.number)

    @property
    def trained(self) -> str:
        """Label of the row's training; empty for editors that are not trained."""
        return self.editor.training.label if self.editor.training else ""

    @property
    def departures(self) -> tuple[str, ...]:
        """How the row's form differs from the published one; see `forms.departures`."""
        return departures(self.group.run.spec, self.editor, self.address.task)

    @property
    def form(self) -> str:
        """The departures in words; empty for the published form."""
        return "; ".join(self.departures)

    def record(self, table: str, mark: Mark = UNMARKED) -> dict[str, Any]:
        """Return the entry as CSV and JSON hold it: shares, not percent."""
        group = self.group
        return {
            "table": table,
            **self.address._asdict(),
            "method": self.editor.method,
            "trained_on": self.trained,
            "form": self.form,
            "schedule": group.run.spec.schedule,
            "stage": self.number.stage,
            "derived": self.column.derived,
            "protocol": self.column.protocol,
            "minus": "",
            "value": self.number.mean,
            "low": self.number.low,
            "high": self.number.high,
            "interval_method": self.number.method,
            "p": "",
            "seed_sd": seed_sd(self.number.per_seed),
            "n": self.number.n,
            "mark": mark.word,
            "split": group.run.spec.split,
            "model": group.run.provenance.model,
            "weights": group.run.spec.model_fingerprint,
            "seeds": group.seeds,
            "runs": group.digests,
        }


class Gaps:
    """The paired differences between all entries of some groups."""

    def __init__(self, groups: Sequence[SuiteGroup]) -> None:
        self._pairs: dict[tuple[Any, ...], SeedPair] = {}
        for group in groups:
            unseen = (_as_pair(found) for found in group.comparisons if found.question == "unseen")
            for pair in (*group.pairs, *unseen):
                self._pairs[id(group), pair.task, pair.stage, column_of(pair), pair.row, pair.other] = pair

    def between(self, entry: Entry, other: Entry) -> SeedPair | None:
        """Return the first entry less the second, paired by case; None if they were not compared."""
        place = id(entry.group), entry.address.task, entry.number.stage, entry.column
        if place != (id(other.group), other.address.task, other.number.stage, other.column):
            return None
        pair = self._pairs.get((*place, other.number.row, entry.number.row))
        return self._pairs.get((*place, entry.number.row, other.number.row)) or (pair and turned(pair))


def _as_pair(found: SeedComparison) -> SeedPair:
    """Return a comparison as that of two rows, whose names are those of its sides."""
    numbers = found.model_dump(exclude={"question", "first", "second", "rows", "others", "per_seed", "sides"})
    return SeedPair(row=found.first, other=found.second, **numbers)


def entries(table: str, groups: Sequence[SuiteGroup], choice: str) -> list[Entry]:
    """Return the numbers of one of the paper's tables that a suite has.

    Args:
        table: A key of `SETTINGS`.
        groups: Runs of the settings of the table, equal in what a column must not mix.
        choice: How answers are read, one of `protocol_choice.CHOICES`.

    Raises:
        InputError: If there is none, or two runs have a number for the same cell.
    """
    found: dict[tuple[Address, str, Column], Entry] = {}
    for group in groups:
        sentiment = {(mean.task, mean.measure) for mean in group.means if mean.protocol == "edit_success"}
        for entry in _descriptions(group) if table == SEEN_UNSEEN else _of_means(table, group):
            address = entry.address
            attitude = (address.task, address.measure) in sentiment
            if entry.column.protocol != protocol_for(choice, address.measure, attitude=attitude):
                continue
            key = address, entry.number.stage, entry.column
            if key in found:
                raise InputError(
                    f"{table}: run {' '.join(found[key].group.digests)} and run {' '.join(group.digests)} both have a "
                    f"number for the editor '{address.editor}' on {address.task}, and a cell takes one; name one of "
                    "the runs."
                )
            found[key] = entry
    if not found:
        raise InputError(f"{table}: the runs have none of its numbers; other editors or another --protocol may have.")
    return list(found.values())


def _of_means(table: str, group: SuiteGroup) -> Iterator[Entry]:
    """Yield the entries of the tables that are made of means.

    Table 3 is multi-task for tasks that were trained on, or whose cases were edited, hold-out for others.
    """
    spec = group.run.spec
    rows = {row.name: row for row in spec.editors}
    learnt = {task for row in spec.editors if row.training for task in row.training.tasks}
    for mean in group.means:
        row = rows[mean.row]
        if table == TABLE3:
            outside = (spec.edited is not None and mean.task not in spec.edited) or (learnt and mean.task not in learnt)
            yield _entry(group, row, mean, "hold-out" if spec.setting == "hold-out" or outside else "multi-task")
        elif row.training and table == TABLE1 and mean.measure != "fluency":
            yield _entry(group, row, mean, "single-task", row.training.label)
        elif row.training and table == FIGURE4C and mean.measure in ("reliability", "generalization"):
            yield _entry(group, row, mean, "task-scaling", str(len(row.training.tasks)))


def _descriptions(group: SuiteGroup) -> Iterator[Entry]:
    """Yield both sides of the comparison of the unseen description with the mean of the seen ones."""
    rows = {row.name: row for row in group.run.spec.editors}
    for found in group.comparisons:
        if found.question == "unseen" and found.sides is not None:
            row = rows[found.rows[0]]
            for variant, side, name in zip(("unseen", "seen"), found.sides, (found.first, found.second), strict=True):
                shared = found.model_dump(include={"task", "stage", "measure", "derived", "protocol", "n"})
                mean = SeedMean(row=name, **shared, **side.model_dump())
                yield _entry(group, row, mean, "unseen-instruction", variant)


def _entry(group: SuiteGroup, row: EditorSpec, mean: SeedMean, setting: str, variant: str = "") -> Entry:
    address = Address(setting, mean.task, mean.measure, base_name(row), variant)
    return Entry(address, row, mean, group)
