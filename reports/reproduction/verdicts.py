"""Measured beside published numbers: which number has a published counterpart, and the verdict on the two."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Literal

from instructedit.benchmark.results.decision import decided
from instructedit.benchmark.results.forms import OURS
from instructedit.benchmark.results.suite_results import SeedMean, SeedPair

from ..tables.paper_numbers import FIGURE4C, SEEN_UNSEEN, TABLE1, TABLE3, Entry, Gaps
from .published_results import Published, PublishedCell

SCALING = ("recent", "counterfact", "convsent")
"""The tasks of the published trainings, in the order in which Figure 4(c) adds them."""
Verdict = Literal[
    "reproduced", "near", "differs", "agrees", "contradicts", "no difference shown", "no published difference"
]


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison with the paper: of a value, or of the difference between two cells."""

    cell: PublishedCell
    other: PublishedCell | None
    """The cell that is subtracted; None for a value."""
    entry: Entry
    minus: Entry | None
    number: SeedMean | SeedPair
    """Our value or difference, in our units."""
    verdict: Verdict | None
    """None where a row's form is not the published one, which answers another question."""
    reasons: tuple[int, ...]
    """Numbers of the known reasons, from 1."""

    @property
    def paper(self) -> float:
        """The published value or difference."""
        return self.cell.value - (self.other.value if self.other else 0.0)

    @property
    def forms(self) -> tuple[str, ...]:
        """The rows whose form is not the published one, each with its form in words."""
        sides = [side for side in (self.entry, self.minus) if side and side.form]
        return tuple(dict.fromkeys(f"{side.address.editor}: {side.form}" for side in sides))


def value_verdict(cell: PublishedCell, ours: float, low: float | None, high: float | None, tolerance: float) -> Verdict:
    """Judge a value.

    `reproduced` if our interval holds the published value within its reading error, else `near` if the two differ by at
    most the tolerance, else `differs`.
    """
    if low is not None and high is not None and low <= cell.value + cell.error and high >= cell.value - cell.error:
        return "reproduced"
    return "near" if abs(ours - cell.value) <= tolerance else "differs"


def direction_verdict(cell: PublishedCell, other: PublishedCell, gap: SeedPair) -> Verdict:
    """Judge which of two is better, by the sign of the published difference and the decision on our difference.

    A published difference within the reading errors has no direction.
    """
    difference = cell.value - other.value
    if abs(difference) <= cell.error + other.error + 1e-9:  # 0.10 - 0.08 is more than 0.02 in floating point
        return "no published difference"
    if decided(gap) == "tie":
        return "no difference shown"
    return "agrees" if (decided(gap) == "better") == (difference > 0) else "contradicts"


def as_published(table: str, entry: Entry) -> bool:
    """Tell whether an entry is trained on the tasks of the published number, as far as these are known.

    Table 3 and the seen and unseen instructions come from one training on the mix. Whether ConvSent, which has no
    number on LLaMA-2, is in that model's mix is not published. The order of tasks in Figure 4(c) is inferred.
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
    """Yield the published values that have a counterpart among our entries; only published forms get a verdict."""
    for cell in cells:
        for entry in [] if by_definition(cell) else counterparts(found, cell):
            verdict = None if entry.form else value_verdict(cell, *in_paper_units(entry.number), tolerance)
            yield Line(cell, None, entry, None, entry.number, verdict, facts.reasons_for(cell))


def directions(found: Sequence[Entry], cells: Sequence[PublishedCell], gaps: Gaps, facts: Published) -> Iterator[Line]:
    """Yield the pairs of published values whose counterparts were compared; only published forms get a verdict.

    A row of another form is compared with rows of the published one and with itself, not with further forms. Departures
    that both rows share, such as an option of their task, do not count.
    """
    for cell, other in pairs(cells):
        for first, second in product(counterparts(found, cell), counterparts(found, other)):
            ours, theirs = {*first.departures}, {*second.departures}
            two_forms = ours - theirs and theirs - ours and first.address.editor != second.address.editor
            if two_forms or (gap := gaps.between(first, second)) is None:
                continue
            verdict = None if first.form or second.form else direction_verdict(cell, other, gap)
            yield Line(cell, other, first, second, gap, verdict, facts.reasons_for(cell, other))


def pairs(cells: Sequence[PublishedCell]) -> Iterator[tuple[PublishedCell, PublishedCell]]:
    """Yield the pairs of published cells that each table compares.

    Table 3: InstructEdit with each editor, then the others with each other; Table 1: a training on another task with
    that on the tested one; unseen with seen instructions; a number of trained tasks with one fewer.
    """
    together: dict[tuple[str, ...], list[PublishedCell]] = {}
    for cell in cells:
        together.setdefault((cell.model, cell.setting, cell.task, cell.measure), []).append(cell)
    for group in together.values():
        table = group[0].table
        of = {cell.variant: cell for cell in group}
        if table == TABLE3:
            # Fluency has no better or worse.
            kept = [cell for cell in group if not by_definition(cell) and cell.measure != "fluency"]
            rest = [cell for cell in kept if cell.editor != OURS]
            yield from product([cell for cell in kept if cell.editor == OURS], rest)
            yield from combinations(reversed(rest), 2)
        elif table == TABLE1:
            yield from ((cell, of[cell.task]) for cell in group if cell.variant != cell.task)
        elif table == SEEN_UNSEEN:
            yield of["unseen"], of["seen"]
        elif table == FIGURE4C:
            yield from ((of[str(n + 1)], of[str(n)]) for n in range(1, len(of)))


def by_definition(cell: PublishedCell) -> bool:
    """Tell whether a value holds by definition, in the paper as here: without an edit locality is 100."""
    return (cell.measure, cell.editor) == ("locality", "none")


def counterparts(found: Sequence[Entry], cell: PublishedCell) -> list[Entry]:
    """Return the entries of a published cell, matched by method: our row names are unknown to the paper."""
    return [entry for entry in found if entry.address._replace(editor=entry.editor.method) == cell.address]


def in_paper_units(number: SeedMean | SeedPair) -> tuple[float, float | None, float | None]:
    """Return a value or difference and the ends of its interval in percent, of entropy as they are."""
    unit = 1.0 if number.protocol == "ngram_entropy" else 100.0
    low, high = (None if end is None else unit * end for end in (number.low, number.high))
    return unit * (number.mean if isinstance(number, SeedMean) else number.difference), low, high
