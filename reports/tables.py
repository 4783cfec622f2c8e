"""The tables of a run as data: what stands in which cell. Renderers only draw them.

One block a task, in it one small table per way of reading an answer, so that no column, and no table, mixes protocols.
Rows are the editors in the order of the run.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple, get_args

from instructedit.benchmark.results import Comparison, Mean, Measure, Protocol, RunFile, RunSummary

from .notes import DAGGER, controls, footer, header, warnings

_SECTIONS: tuple[tuple[str, tuple[Protocol, ...]], ...] = (
    ("Sentiment (%)", ("edit_success", "z_sent", "z_topic")),
    ("Exact match, teacher forced (%)", ("teacher_forced_exact",)),
    ("Token share, teacher forced (%)", ("teacher_forced_token",)),
    ("Free generation (%)", ("free_generation",)),
    ("Drift and fluency", ("kl_divergence", "ngram_entropy")),
)
_COMPARISON = "Paired differences, exact match (points, first minus second)"
_SHORT: dict[Protocol, str] = {
    "edit_success": " ES",
    "z_sent": " z_sent",
    "z_topic": " z_topic",
    "kl_divergence": " KL (nats, lower is better)",
    "ngram_entropy": " (n-gram entropy)",
}
"""What a column's head adds to the measure where the table's title does not name one protocol."""


class Column(NamedTuple):
    """What a column of numbers is: never more than one protocol, never derived and given together."""

    measure: Measure
    derived: bool
    protocol: Protocol

    def order(self) -> tuple[int, bool, int]:
        """Sort key: as the records list measures and protocols, given before derived."""
        return get_args(Measure).index(self.measure), self.derived, get_args(Protocol).index(self.protocol)

    @property
    def head(self) -> str:
        """Words above the column."""
        return f"{self.measure.capitalize()}{DAGGER if self.derived else ''}{_SHORT.get(self.protocol, '')}"

    def number(self, value: float, sign: str = "") -> str:
        """Return a value as the table shows it: percent, but nats and entropy as they are."""
        scale, digits = {"kl_divergence": (1, 3), "ngram_entropy": (1, 1)}.get(self.protocol, (100, 1))
        # Adding zero turns -0.0 into 0.0.
        return f"{round(scale * value, digits) + 0.0:{sign}.{digits}f}"


Key = tuple[Column, str]
"""Column and row name of a number."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One number with its interval, as text."""

    value: str
    interval: str
    n: int | None = None
    """Number of cases where the rows of the column differ in it, else None and it stands in the head."""
    p: str = ""
    best: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A small table: `cells[row][column]`, None where there is no number."""

    title: str
    stub: str
    """Head of the column of row names."""
    heads: tuple[str, ...]
    rows: tuple[str, ...]
    cells: tuple[tuple[Cell | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Block:
    """The tables of one task."""

    task: str
    tables: tuple[Table, ...]
    comparisons: tuple[Table, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a reader sees of one run."""

    digest: str
    warnings: tuple[str, ...]
    header: tuple[tuple[str, str], ...]
    blocks: tuple[Block, ...]
    footer: tuple[str, ...]


def build(run: RunFile, summary: RunSummary) -> Report:
    """Lay out a run's summary as tables; the numbers are the means over subsets (the CSV file has every subset)."""
    return Report(
        digest=run.digest,
        warnings=warnings(summary),
        header=header(run),
        blocks=tuple(_block(run, summary, task) for task in run.spec.tasks),
        footer=footer(run, summary),
    )


def _block(run: RunFile, summary: RunSummary, task: str) -> Block:
    editors = [editor.name for editor in run.spec.editors if editor.evaluates(task)]
    rivals = [editor for editor in editors if editor not in controls(run)]
    means = {(_column(m), m.editor): m for m in summary.means if m.task == task and m.subset is None}
    pairs = {
        (_column(c), f"{c.editor} vs {c.other}"): c
        for c in summary.comparisons
        if c.task == task and {c.editor, c.other} <= set(rivals)
    }
    best = {column: _best(column, rivals, means, pairs) for column, _ in means}
    compared = {name for _, name in pairs}
    names = [name for pair in combinations(rivals, 2) if (name := " vs ".join(pair)) in compared]
    return Block(
        task=task,
        tables=tuple(
            table
            for title, protocols in _SECTIONS
            for table in _table(title, "Editor", protocols, editors, means, best)
        ),
        comparisons=tuple(_table(_COMPARISON, "Editors", ("teacher_forced_exact",), names, pairs, {})),
    )


def _column(number: Mean | Comparison) -> Column:
    return Column(number.measure, number.derived, number.protocol)


def _best(column: Column, editing: list[str], means: Mapping[Key, Mean], pairs: Mapping[Key, Comparison]) -> str | None:
    """Return which of the rows that edit beats every other one, or None."""
    if column.protocol == "ngram_entropy":
        return None
    rivals = [editor for editor in editing if (column, editor) in means]
    better = -1 if column.protocol == "kl_divergence" else 1

    def beats(editor: str, other: str) -> bool:
        """Read the pair's one comparison, from the other side if it stands the other way round."""
        for names, side in (((editor, other), better), ((other, editor), -better)):
            if pair := pairs.get((column, " vs ".join(names))):
                return pair.p < 0.05 and min(side * pair.low, side * pair.high) > 0
        return False

    winners = (e for e in rivals if all(beats(e, other) for other in rivals if other != e))
    return next(winners, None) if len(rivals) > 1 else None


def _table(
    title: str,
    stub: str,
    protocols: tuple[Protocol, ...],
    rows: list[str],
    numbers: Mapping[Key, Mean] | Mapping[Key, Comparison],
    best: Mapping[Column, str | None],
) -> Iterator[Table]:
    """Yield the table of the given protocols, or nothing where there is no such number."""
    columns = sorted({column for column, _ in numbers if column.protocol in protocols}, key=Column.order)
    shared = {column: {number.n for (other, _), number in numbers.items() if other == column} for column in columns}
    heads = [
        f"{column.head}\nn = {min(shared[column])}" if len(shared[column]) == 1 else column.head for column in columns
    ]
    cells = [
        tuple(
            _cell(column, number, best.get(column) == row, show_n=len(shared[column]) > 1)
            if (number := numbers.get((column, row)))
            else None
            for column in columns
        )
        for row in rows
    ]
    if columns:
        yield Table(title, stub, tuple(heads), tuple(rows), tuple(cells))


def _cell(column: Column, number: Mean | Comparison, best: bool, show_n: bool) -> Cell:
    sign, value, p = ("", number.mean, "") if isinstance(number, Mean) else ("+", number.difference, _p(number.p))
    interval = f"[{column.number(number.low, sign)}, {column.number(number.high, sign)}]"
    return Cell(column.number(value, sign), interval, number.n if show_n else None, p, best)


def _p(p: float) -> str:
    return "p<0.001" if p < 0.001 else f"p={p:.3f}"
