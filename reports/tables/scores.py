"""The numbers of one task at one stage: its tables, its best, second and tied rows, and columns without a difference.

Every decision between two rows is that of `benchmark.results.decision`: p < 0.05, adjusted by Holm over the pairs of
the column. This module only derives marks from these decisions.
"""

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple, TypeVar
from urllib.parse import urlencode

from instructedit.benchmark.results.decision import ALPHA, Decision, by_definition, decided
from instructedit.benchmark.results.records import LOWER_IS_BETTER, OLD_ANSWER, Mean, Protocol
from instructedit.benchmark.results.suite_results import SeedMean, SeedPair, SuiteGroup

from ..render.report import UNMARKED, Block, Cell, Mark, Table
from .columns import SECTIONS, Column, column_of, deviation, interval, p_words, stages
from .health import NO_DIFFERENCE, SMALL_N, health_lines
from .protocol_choice import short
from .run_facts import controls, grouped

K = TypeVar("K", bound=Hashable)
_DIFFERENCES = "Paired differences, exact match (points, first minus second)"
CHANGED = ("reliability", "generalization", "portability")
"""Measures that an edit is meant to change. Equality with the unedited model is a fault in these only."""
_EDITED: tuple[Protocol, ...] = ("edit_success", "teacher_forced_exact", "teacher_forced_token", "free_generation")
"""Protocols that show whether a row edits at all, where the column itself cannot: the first available one counts."""
_MATCHED: tuple[Protocol, ...] = ("teacher_forced_token", "teacher_forced_exact", "free_generation")
"""Protocols that a column's head does not name because the title of its table does."""


class Marks(NamedTuple):
    """The marks of a column."""

    of: Mapping[str, Mark]
    tied: int = 0
    """Number of rows that tie for best, where they are more than half of all, so that none is marked; else 0."""
    rows: int = 0
    """Number of rows that could have been marked."""

    def get(self, row: str) -> Mark:
        """Return a row's mark."""
        return self.of.get(row, UNMARKED)


def turned(pair: SeedPair) -> SeedPair:
    """Return a difference from the other side; its rows stay as they are."""
    low, high = (None if end is None else -end for end in (pair.high, pair.low))
    return pair.model_copy(update={"difference": -pair.difference, "low": low, "high": high})


@dataclass(frozen=True)
class Scores:
    """The numbers of one task at one stage.

    Attributes:
        rows: Names of the rows, in the order of the run.
        controls: Those that edit nothing; the first one is the unedited model.
        means: Mean over subsets by column and row.
        pairs: Paired differences by column, first and second row.
        unranked: Further rows that are never marked.
        known: Sentence on the old answers that the unedited model knows; empty without any.
        address: Which cases the numbers are of, as the site's list of cases takes it: run, task and stage. Empty where
            rows of several runs stand together.
    """

    rows: tuple[str, ...]
    controls: tuple[str, ...]
    means: Mapping[tuple[Column, str], SeedMean]
    pairs: Mapping[tuple[Column, str, str], SeedPair]
    unranked: Collection[str] = ()
    known: str = ""
    address: str = ""

    @property
    def rivals(self) -> list[str]:
        """The rows that may be marked."""
        return [row for row in self.rows if row not in self.controls and row not in self.unranked]

    def columns(self) -> list[Column]:
        """Return the columns in order."""
        return sorted({column for column, _ in self.means}, key=Column.order)

    def sections(self) -> Iterator[tuple[str, list[Column]]]:
        """Yield each section of protocols that has numbers, as its title and columns."""
        for title, protocols in SECTIONS:
            if columns := [column for column in self.columns() if column.protocol in protocols]:
                yield title, columns

    def tables(self, suffix: str) -> Iterator[Table]:
        """Yield a table for each section; the suffix is added to each title."""
        for title, columns in self.sections():
            yield self.table(f"{title}{suffix}", {column: column.head for column in columns})

    def table(self, title: str, heads: Mapping[Column, str]) -> Table:
        """Return the table of some columns, with marks, and below it what is to be said of a column.

        That are columns in which too many rows tie, and which old answers the unedited model knows.
        """
        marks = {column: self.marks(column) for column in heads}
        cells = {}
        for (column, row), mean in self.means.items():
            if column in heads:
                link = case_link(self.address, column, row) if self.address else ""
                cells[column, row] = replace(mean_cell(mean, marks[column].get(row)), link=link)
        known = self.known if any(column.protocol in OLD_ANSWER for column in heads) else ""
        note = " ".join(filter(None, (crowded(heads, marks), known)))
        return cell_table(title, "Editor", heads, self.rows, cells, note=note)

    def differences(self, suffix: str) -> Iterator[Table]:
        """Yield the table of the paired differences of all rows that edit, in exact match."""
        exact = {key: pair for key, pair in self.pairs.items() if key[0].protocol == "teacher_forced_exact"}
        cells = {
            (column, f"{first} vs {second}"): pair_cell(pair)
            for (column, first, second), pair in exact.items()
            if not {first, second} & set(self.controls)
        }
        names = [name for pair in combinations(self.rivals, 2) if (name := " vs ".join(pair)) in {n for _, n in cells}]
        heads = {column: column.head for column in sorted({column for column, _ in cells}, key=Column.order)}
        if heads:
            yield cell_table(_DIFFERENCES + suffix, "Editors", heads, names, cells)

    def pair(self, column: Column, row: str, other: str) -> SeedPair | None:
        """Return the difference of two rows of a column, the first less the second; None if they were not compared."""
        if pair := self.pairs.get((column, row, other)):
            return pair
        pair = self.pairs.get((column, other, row))
        return pair and turned(pair)

    def decision(self, column: Column, row: str, other: str) -> Decision | None:
        """Decide between two rows of a column; None if they were not compared."""
        pair = self.pair(column, row, other)
        return decided(pair) if pair else None

    def marks(self, column: Column) -> Marks:
        """Mark a column.

        Candidates are the rows that are shown to be better than the unedited model in it. Where its number
        holds by definition (locality, z_topic), they are the rows that are shown to be better in reliability, because a
        row that edits nothing could not lose there. Best is the candidate with the highest mean (of KL the lowest),
        with every candidate that it is not shown to be better than. Second is the candidate with the highest mean among
        the rest, if it is shown to be better than all others of the rest. Nothing is marked where more than half of the
        rows tie for best, where the leader was not compared with every other row, in fluency, and where there are fewer
        than two rows. Without a control that has a number, every row is a candidate.
        """
        means = {row: self.means[column, row].mean for row in self.rivals if (column, row) in self.means}
        candidates = self._candidates(column, list(means))
        if column.protocol == "ngram_entropy" or len(means) < 2 or not candidates:
            return Marks({})
        sign = -1 if column.protocol in LOWER_IS_BETTER else 1
        leader = max(candidates, key=lambda row: sign * means[row])
        shown = {row: self.decision(column, leader, row) for row in means if row != leader}
        if None in shown.values():
            return Marks({})
        ties = [leader, *(row for row, decision in shown.items() if decision != "better")]
        if 2 * len(ties) > len(means):
            return Marks({}, len(ties), len(means))
        found = {row: Mark(1, len(ties) > 1) for row in ties if row in candidates}
        rest = [row for row in means if row not in ties]
        second = max((row for row in rest if row in candidates), key=lambda row: sign * means[row], default=None)
        if second and all(self.decision(column, second, row) == "better" for row in rest if row != second):
            found[second] = Mark(2)
        return Marks(found, 0, len(means))

    def _candidates(self, column: Column, rows: list[str]) -> list[str]:
        controls = [control for control in self.controls if any(row == control for _, row in self.means)]
        if not controls:
            return rows
        tested: Column | None = column
        if by_definition(column.measure, column.protocol):
            known = {column for column, _ in self.means}
            order = [protocol for protocol in (column.protocol, *_EDITED) if protocol in _EDITED]
            tested = next((c for p in order if (c := Column("reliability", False, p)) in known), None)
        return [row for row in rows if tested and self._beats(tested, row, controls)]

    def _beats(self, column: Column, row: str, controls: Sequence[str]) -> bool:
        """Tell whether a row is shown to be better than every control that it was compared with, at least one."""
        shown = [self.decision(column, row, control) for control in controls]
        return any(shown) and all(decision in ("better", None) for decision in shown)

    def without_difference(self, suffix: str, protocols: Collection[str] | None = None) -> Iterator[str]:
        """Yield a sentence on the columns of some protocols in which no row is shown to differ from the unedited model.

        Columns in which some row would differ if it alone had been compared get their own sentence: there n is too
        small, and the edits may have worked.
        """
        if not self.controls:
            return
        control = self.controls[0]
        shown = [column for column in self.columns() if protocols is None or column.protocol in protocols]
        silent = [column for column in shown if column.measure in CHANGED and self._is_silent(column, control)]
        small = [column for column in silent if self._differs_alone(column, control)]
        for words, found in ((SMALL_N, small), (NO_DIFFERENCE, [column for column in silent if column not in small])):
            if found:
                yield f"{words} '{control}'{suffix}: {_listed(found)}."

    def _is_silent(self, column: Column, control: str) -> bool:
        """Tell whether no row of a column is shown to differ; rows that were not compared differ if their means do."""
        rows = [row for row in self.rivals if (column, row) in self.means]
        if not rows or (column, control) not in self.means:
            return False
        plain = self.means[column, control].mean
        shown = {row: self.decision(column, row, control) for row in rows}
        return all(self.means[column, row].mean == plain if d is None else d == "tie" for row, d in shown.items())

    def _differs_alone(self, column: Column, control: str) -> bool:
        """Tell whether some row would differ from the control without the adjustment for the other pairs."""
        found = (self.pairs.get((column, *rows)) for row in self.rivals for rows in ((row, control), (control, row)))
        return any(pair is not None and pair.p is not None and pair.p < ALPHA for pair in found)


def scores_of(group: SuiteGroup, task: str, stage: str, name: Callable[[str], str] = str) -> Scores:
    """Return the numbers of a task and stage of a setting; `name` maps the name of a row to that in the table."""
    place, run = (task, stage), group.run
    rows = [row.name for row in run.spec.editors if task in run.spec.tasks and row.evaluates(task)]
    means = [mean for mean in group.means if (mean.task, mean.stage) == place]
    return Scores(
        tuple(map(name, rows)),
        tuple(name(row) for row in rows if row in controls(run)),
        {(column_of(mean), name(mean.row)): mean for mean in means if mean.protocol != "known_before"},
        {(column_of(p), name(p.row), name(p.other)): p for p in group.pairs if (p.task, p.stage) == place},
        known=_known_before(means),
        address=urlencode({"run": run.digest, "task": task, "stage": stage}),
    )


def _known_before(means: Sequence[SeedMean]) -> str:
    """Return the sentence on the old answers that the unedited model knows, from the row with the most cases."""
    known = [mean for mean in means if mean.protocol == "known_before"]
    if not known:
        return ""
    mean, column = max(known, key=lambda mean: mean.n), column_of(known[0])
    share = f"{column.number(mean.mean)} % {interval(column, mean.low, mean.high, method=mean.method)}"
    return (
        f"Known before the edit: the unedited model has the old answer, teacher forced, in {share} of {mean.n} cases."
    )


def staged_scores(group: SuiteGroup, task: str) -> Iterator[tuple[str, str, Scores]]:
    """Yield the numbers of a task at each stage, with the stage and the suffix that it adds to titles."""
    for stage, suffix in stages(mean.stage for mean in group.means if mean.task == task):
        yield stage, suffix, scores_of(group, task, stage)


def task_block(
    heading: str, group: SuiteGroup, task: str, words: str = "", *, detail: bool = False, compared: bool = False
) -> Block:
    """Return all numbers of a task, with the paired differences if `compared`; words follow each title."""
    tables: list[Table] = []
    differences: list[Table] = []
    notes = [*health_lines(group, task)]
    for _, suffix, scores in staged_scores(group, task):
        tables += scores.tables(words + suffix)
        differences += scores.differences(suffix) if compared else ()
        notes += scores.without_difference(suffix)
    return Block(heading, tuple(tables), tuple(differences), notes=tuple(notes), detail=detail)


def merged(parts: Sequence[Scores]) -> Scores:
    """Return the numbers of several runs, rows one below the other; rows of two runs are not compared."""
    return Scores(
        tuple(row for part in parts for row in part.rows),
        tuple(row for part in parts for row in part.controls),
        {key: mean for part in parts for key, mean in part.means.items()},
        {key: pair for part in parts for key, pair in part.pairs.items()},
        known=" ".join(dict.fromkeys(part.known for part in parts if part.known)),
    )


def case_link(address: str, column: Column, row: str, other: str = "", outcome: str = "") -> str:
    """Return the address of a row's cases on the site, beside those of another row if one is given.

    Protocol, measure and outcome are part of it where the site judges cases by them (`JUDGED` and `MEASURES`).
    """
    wanted = {"editor": row, "other": other}
    if column.protocol in ("teacher_forced_exact", "free_generation"):
        wanted |= {"measure": column.measure, "protocol": column.protocol, "outcome": outcome}
    return f"{address}&{urlencode({name: value for name, value in wanted.items() if value})}"


def cell_table(
    title: str,
    stub: str,
    heads: Mapping[K, str],
    rows: Sequence[str],
    cells: Mapping[tuple[K, str], Cell],
    note: str = "",
) -> Table:
    """Return a table of cells by column and row; shared n go into the heads."""
    lines = tuple(tuple(cells.get((key, row)) for key in heads) for row in rows)
    return Table(title, stub, tuple(heads.values()), tuple(rows), lines, note=note).share_n()


def mean_cell(mean: Mean | SeedMean, mark: Mark = UNMARKED, note: str = "") -> Cell:
    """Return the cell of a mean, with the standard deviation over seeds where there are several."""
    column = column_of(mean)
    spread = deviation(column, mean.per_seed) if isinstance(mean, SeedMean) else ""
    ends = interval(column, mean.low, mean.high, method=mean.method)
    return Cell(column.number(mean.mean), ends, mean.n, ", ".join(filter(None, (spread, note))), mark)


def pair_cell(pair: SeedPair) -> Cell:
    """Return the cell of a paired difference with its adjusted p."""
    column = column_of(pair)
    ends = interval(column, pair.low, pair.high, "+")
    return Cell(column.number(pair.difference, "+"), ends, pair.n, p_words(pair.p_holm))


def crowded(heads: Mapping[Column, str], marked: Mapping[Column, Marks]) -> str:
    """Return the line below a table on columns in which too many rows tie for best; empty if there are none."""
    found = [
        f"{head} ({marked[column].tied} of {marked[column].rows} rows tie)"
        for column, head in heads.items()
        if column in marked and marked[column].tied
    ]
    return f"n is too small to tell the best rows apart, none is marked: {'; '.join(found)}." if found else ""


def _listed(columns: Sequence[Column]) -> str:
    """Return columns in words; measures with the same protocols stand together."""
    protocols = grouped((column.head, short(column.protocol) * (column.protocol in _MATCHED)) for column in columns)
    heads = grouped((f" ({', '.join(names)})" if any(names) else "", head) for head, names in protocols.items())
    return "; ".join(f"{', '.join(names)}{suffix}" for suffix, names in heads.items())
