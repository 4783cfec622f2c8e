"""The tables of a run as data: what stands in which cell. Renderers only draw them.

One block a task, in it one small table per stage and way of reading an answer, so that no column, and no table, mixes
protocols or schedules. Rows are the editors in the order of the run.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple, TypeVar, get_args

from instructedit.benchmark.results import Comparison, Mean, Measure, Protocol, RunFile, RunSummary
from instructedit.benchmark.suite_results import SeedComparison, SeedMean

from .notes import DAGGER, controls, footer, header, warnings

SECTIONS: tuple[tuple[str, tuple[Protocol, ...]], ...] = (
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
N = TypeVar("N", Mean, Comparison, SeedMean, SeedComparison)


@dataclass(frozen=True, slots=True)
class Cell:
    """One number with its interval, as text; or a word."""

    value: str
    interval: str = ""
    n: int | None = None
    """Number of cases where the rows of the column differ in it, else None and it stands in the head."""
    note: str = ""
    """What is said of it: a p-value, a verdict, the spread over seeds."""
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
    """Tables that belong together: those of one task, or the answer to one question."""

    heading: str
    tables: tuple[Table, ...]
    comparisons: tuple[Table, ...] = ()
    text: tuple[str, ...] = ()
    """Sentences above the tables."""
    detail: bool = False
    """Whether the files alone have it: the terminal shows another view of the same numbers."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a reader sees of a run, or of a suite."""

    title: str
    warnings: tuple[str, ...]
    header: tuple[tuple[str, str], ...]
    blocks: tuple[Block, ...]
    footer: tuple[str, ...]


def build(run: RunFile, summary: RunSummary) -> Report:
    """Lay out a run's summary as tables; the numbers are the means over subsets (the CSV file has every subset)."""
    return Report(
        title=f"Run {run.digest}",
        warnings=warnings(run, summary),
        header=header(run),
        blocks=tuple(_block(run, summary, task) for task in run.spec.tasks),
        footer=footer(run, summary),
    )


def column_of(number: Mean | Comparison | SeedMean | SeedComparison) -> Column:
    """Return the column a number stands in."""
    return Column(number.measure, number.derived, number.protocol)


def stages(numbers: Iterable[Mean | Comparison | SeedMean | SeedComparison]) -> list[tuple[str, str]]:
    """Return the stages that numbers are of, each with what it adds to the title of its tables.

    Right after the edit comes first, then numbers of edits as people count, `after-10` behind `after-9`, then all. An
    edit on its own, the rule, is not named.
    """
    found = {number.stage for number in numbers}
    counts = {stage: int(number[0]) for stage in found if (number := re.findall(r"\d+", stage))}
    ordered = sorted(found, key=lambda stage: (stage != "after-edit", stage not in counts, counts.get(stage, 0), stage))
    return [(stage, "" if stage == "single" else f", stage {stage}") for stage in ordered]


def layout(
    title: str,
    stub: str,
    protocols: Sequence[Protocol],
    rows: Sequence[str],
    numbers: Mapping[Key, N],
    cell: Callable[[Column, str, N, bool], Cell],
) -> Iterator[Table]:
    """Yield the table of the given protocols, or nothing where there is no such number.

    Args:
        title: Its title.
        stub: Head of the column of row names.
        protocols: Those of its columns.
        rows: Names of its rows.
        numbers: By column and row.
        cell: From the column, the row, the number and whether its n is shown, because n differs within the column, to
            the cell.
    """
    columns = sorted({column for column, _ in numbers if column.protocol in protocols}, key=Column.order)
    shared = {column: {number.n for (other, _), number in numbers.items() if other == column} for column in columns}
    heads = [
        f"{column.head}\nn = {min(shared[column])}" if len(shared[column]) == 1 else column.head for column in columns
    ]
    cells = [
        tuple(
            cell(column, row, number, len(shared[column]) > 1) if (number := numbers.get((column, row))) else None
            for column in columns
        )
        for row in rows
    ]
    if columns:
        yield Table(title, stub, tuple(heads), tuple(rows), tuple(cells))


def interval(column: Column, low: float, high: float, sign: str = "") -> str:
    """Return an interval in the units of its column."""
    return f"[{column.number(low, sign)}, {column.number(high, sign)}]"


def spread(column: Column, values: Sequence[float], sign: str = "") -> str:
    """Return the lowest and the highest of several values, in the units of their column."""
    return f"{column.number(min(values), sign)}..{column.number(max(values), sign)}"


def _block(run: RunFile, summary: RunSummary, task: str) -> Block:
    means = [mean for mean in summary.means if mean.task == task and mean.subset is None]
    comparisons = [comparison for comparison in summary.comparisons if comparison.task == task]
    tables: list[Table] = []
    pairs: list[Table] = []
    for stage, mark in stages(means):
        found = _tables(
            run,
            task,
            mark,
            [mean for mean in means if mean.stage == stage],
            [comparison for comparison in comparisons if comparison.stage == stage],
        )
        tables += found.tables
        pairs += found.comparisons
    return Block(task, tuple(tables), tuple(pairs))


def _tables(run: RunFile, task: str, mark: str, numbers: Sequence[Mean], compared: Sequence[Comparison]) -> Block:
    """Return the tables of one stage."""
    editors = [editor.name for editor in run.spec.editors if editor.evaluates(task)]
    rivals = [editor for editor in editors if editor not in controls(run)]
    means = {(column_of(m), m.editor): m for m in numbers}
    pairs = {(column_of(c), f"{c.editor} vs {c.other}"): c for c in compared if {c.editor, c.other} <= set(rivals)}
    best = {column: _best(column, rivals, means, pairs) for column, _ in means}
    named = {name for _, name in pairs}
    names = [name for pair in combinations(rivals, 2) if (name := " vs ".join(pair)) in named]

    def mean_cell(column: Column, row: str, mean: Mean, show_n: bool) -> Cell:
        ends = interval(column, mean.low, mean.high)
        return Cell(column.number(mean.mean), ends, mean.n if show_n else None, best=best[column] == row)

    def pair_cell(column: Column, _: str, pair: Comparison, show_n: bool) -> Cell:
        ends = interval(column, pair.low, pair.high, "+")
        return Cell(column.number(pair.difference, "+"), ends, pair.n if show_n else None, _p(pair.p))

    return Block(
        heading=task,
        tables=tuple(
            table
            for title, protocols in SECTIONS
            for table in layout(title + mark, "Editor", protocols, editors, means, mean_cell)
        ),
        comparisons=tuple(layout(_COMPARISON + mark, "Editors", ("teacher_forced_exact",), names, pairs, pair_cell)),
    )


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


def _p(p: float) -> str:
    return "p<0.001" if p < 0.001 else f"p={p:.3f}"
