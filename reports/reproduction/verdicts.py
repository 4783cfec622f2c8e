"""Which of our numbers has a published counterpart, and what is to be said of the two."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Literal

from instructedit.benchmark.results.forms import OURS

from ..tables.columns import Column
from ..tables.paper_numbers import FIGURE4C, SEEN_UNSEEN, TABLE1, TABLE3, Address, Entry, Gap, Gaps
from .published_results import Published, PublishedCell

SCALING = ("recent", "counterfact", "convsent")
"""What the published editors are trained on, in the order in which Figure 4(c) adds tasks."""

Verdict = Literal[
    "reproduced", "near", "differs", "agrees", "contradicts", "no difference shown", "no published difference"
]


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison with the paper: of a value, or of what one cell has more than another."""

    cell: PublishedCell
    other: PublishedCell | None
    """What is subtracted; None for a value."""
    entry: Entry
    minus: Entry | None
    paper: float
    ours: float
    """In the paper's units, as are `low` and `high`."""
    low: float | None
    high: float | None
    n: int
    verdict: Verdict | None
    """None where a row's form is not the published one: what is compared then answers another question."""
    reasons: tuple[int, ...]
    """Numbers of the known reasons, from 1."""

    @property
    def forms(self) -> tuple[str, ...]:
        """The rows whose form is not the published one, each with its form in words."""
        sides = [side for side in (self.entry, self.minus) if side and side.form]
        return tuple(dict.fromkeys(f"{side.address.editor}: {side.form}" for side in sides))


def value_verdict(cell: PublishedCell, ours: float, low: float | None, high: float | None, tolerance: float) -> Verdict:
    """Judge a value: `reproduced` if our interval holds the published one, give or take how exactly that is known.

    Else `near` if the two are no more than the tolerance apart, else `differs`.
    """
    if low is not None and high is not None and low <= cell.value + cell.error and high >= cell.value - cell.error:
        return "reproduced"
    return "near" if abs(ours - cell.value) <= tolerance else "differs"


def direction_verdict(cell: PublishedCell, other: PublishedCell, gap: Gap) -> Verdict:
    """Judge who is better of two: by the sign of the published difference, and by what is shown of ours (`decide`).

    Published values no farther apart than they are exactly known have no direction.
    """
    difference = cell.value - other.value
    if abs(difference) <= cell.error + other.error + 1e-9:  # 0.10 - 0.08 is more than 0.02 in floating point
        return "no published difference"
    if gap.decision == "tie":
        return "no difference shown"
    return "agrees" if (gap.decision == "better") == (difference > 0) else "contradicts"


def as_published(table: str, entry: Entry) -> bool:
    """Tell whether an entry's training is on the tasks that the published number's is on, as far as that is known.

    Table 3 and the seen and unseen instructions stand behind one training on the mix; whether ConvSent, which has no
    number on LLaMA-2, is in that model's mix is not said. Figure 4(c) adds tasks in one order, known by inference.
    """
    tasks = frozenset(entry.trained.split("+"))
    if not entry.trained or table == TABLE1:
        return True
    if table == FIGURE4C:
        return tasks == frozenset(SCALING[: int(entry.address.variant)])
    return tasks in (frozenset(SCALING), frozenset(SCALING[:2]))


def values(
    found: Sequence[Entry], cells: Sequence[PublishedCell], facts: Published, tolerance: float
) -> Iterator[Line]:
    """Yield the published values that have a counterpart among our entries; those of published forms get a verdict."""
    for cell in (cell for cell in cells if not given(cell)):
        for entry in found:
            if at(entry) == cell.address:
                unit = scale(entry.column)
                number = entry.number
                ours, low, high = unit * number.mean, scaled(unit, number.low), scaled(unit, number.high)
                verdict = None if entry.form else value_verdict(cell, ours, low, high, tolerance)
                yield Line(cell, None, entry, None, cell.value, ours, low, high, entry.n, verdict, _known(facts, cell))


def directions(found: Sequence[Entry], cells: Sequence[PublishedCell], gaps: Gaps, facts: Published) -> Iterator[Line]:
    """Yield the pairs of published values whose counterparts were compared; those of published forms get a verdict.

    A row of another form is held against rows of the published one, and against itself, not against further forms. What
    both rows depart in, such as an option of their task, is no form that tells them apart.
    """
    for cell, other in pairs(cells):
        for first in (entry for entry in found if at(entry) == cell.address):
            for second in (entry for entry in found if at(entry) == other.address):
                own = first.address.editor == second.address.editor
                ours, theirs = {*first.departures}, {*second.departures}
                if (gap := gaps.between(first, second)) is None or (ours - theirs and theirs - ours and not own):
                    continue
                unit = scale(first.column)
                known = tuple(sorted({*_known(facts, cell), *_known(facts, other)}))
                yield Line(
                    cell,
                    other,
                    first,
                    second,
                    cell.value - other.value,
                    unit * gap.difference,
                    scaled(unit, gap.low),
                    scaled(unit, gap.high),
                    gap.n,
                    None if first.form or second.form else direction_verdict(cell, other, gap),
                    known,
                )


def pairs(cells: Sequence[PublishedCell]) -> Iterator[tuple[PublishedCell, PublishedCell]]:
    """Yield which published cells are held against which: what each table is there to compare.

    Table 3: InstructEdit against each editor, then the others among themselves; Table 1: a training on another task
    against that on the tested one; unseen against seen instructions; a number of trained tasks against one fewer.
    """
    together: dict[tuple[str, ...], list[PublishedCell]] = {}
    for cell in cells:
        together.setdefault((cell.model, cell.setting, cell.task, cell.measure), []).append(cell)
    for group in together.values():
        table = group[0].table
        of = {cell.variant: cell for cell in group}
        if table == TABLE3:
            # Fluency has no better or worse.
            kept = [cell for cell in group if not given(cell) and cell.measure != "fluency"]
            rest = [cell for cell in kept if cell.editor != OURS]
            yield from product([cell for cell in kept if cell.editor == OURS], rest)
            yield from combinations(reversed(rest), 2)
        elif table == TABLE1:
            yield from ((cell, of[cell.task]) for cell in group if cell.variant != cell.task)
        elif table == SEEN_UNSEEN:
            yield of["unseen"], of["seen"]
        elif table == FIGURE4C:
            yield from ((of[str(n + 1)], of[str(n)]) for n in range(1, len(of)))


def given(cell: PublishedCell) -> bool:
    """Tell whether a value holds by definition, in the paper as here: without an edit locality is 100."""
    return (cell.measure, cell.editor) == ("locality", "none")


def at(entry: Entry) -> Address:
    """Return an entry's address by its method: the paper knows no names of ours."""
    return entry.address._replace(editor=entry.editor.method)


def scale(column: Column) -> float:
    """Return what turns one of our numbers into the paper's units: percent, but entropy as it is."""
    return 1.0 if column.protocol == "ngram_entropy" else 100.0


def scaled(unit: float, end: float | None) -> float | None:
    """Return an end of an interval in other units."""
    return None if end is None else unit * end


def _known(facts: Published, cell: PublishedCell) -> tuple[int, ...]:
    return tuple(number for number, reason in enumerate(facts.reasons, 1) if reason.concerns(cell))
