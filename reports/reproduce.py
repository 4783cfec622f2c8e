"""Our results beside the published ones: values where the base model is the paper's, else directions alone."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any, Literal

from instructedit.benchmark.questions import OURS
from instructedit.editors.errors import InputError

from .columns import Column, interval, stages
from .entries import FIGURE4C, SEEN_UNSEEN, SETTINGS, TABLE1, TABLE3, Address, Entry, Gap, Gaps, entries
from .notes import model as model_words
from .notes import paper_footer
from .paper import TITLES
from .published_results import Published, PublishedCell, published
from .reading import PUBLISHED, WORDS, label
from .sheet import Sheet
from .sources import Choice, read_groups
from .suite import suite_header
from .tables import Block, Cell, Report, Table

TOLERANCE = 5.0
"""Points within which a value is near a published one: about the half width of an interval over 400 cases."""

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
    low: float
    high: float
    n: int
    verdict: Verdict
    reasons: tuple[int, ...]
    """Numbers of the known reasons, from 1."""


def value_verdict(cell: PublishedCell, ours: float, low: float, high: float, tolerance: float) -> Verdict:
    """Judge a value: `reproduced` if our interval holds the published one, give or take how exactly that is known.

    Else `near` if the two are no more than the tolerance apart, else `differs`.
    """
    if low <= cell.value + cell.error and high >= cell.value - cell.error:
        return "reproduced"
    return "near" if abs(ours - cell.value) <= tolerance else "differs"


def direction_verdict(cell: PublishedCell, other: PublishedCell, gap: Gap) -> Verdict:
    """Judge who is better of two: by the sign of the published difference, and by our paired interval.

    Published values no farther apart than they are exactly known have no direction.
    """
    difference = cell.value - other.value
    if abs(difference) <= cell.error + other.error:
        return "no published difference"
    if gap.sign == 0:
        return "no difference shown"
    return "agrees" if gap.sign == math.copysign(1, difference) else "contradicts"


def reproduce(
    table: str,
    directories: Sequence[Path],
    protocol: str | None = None,
    schedule: str | None = None,
    tolerance: float = TOLERANCE,
) -> Sheet:
    """Compare results with one of the paper's tables.

    Args:
        table: `paper:table3`, `paper:table1`, `paper:seen-unseen` or `paper:figure4c`.
        directories: Folders of runs, or of a run, or indices of suites.
        protocol: How answers are read; None for `published`, each measure as the paper's table seems to read it.
        schedule: Which schedule; None for `single` of a folder of several runs.
        tolerance: Points within which a value is `near`.

    Raises:
        InputError: If there is no such table, or the results have no cell in common with it, or may not stand in one
            table.
    """
    if table not in SETTINGS:
        raise InputError(f"'{table}' is nothing to reproduce; one of {', '.join(SETTINGS)} was expected.")
    if not 0 <= tolerance < math.inf:
        raise InputError(f"--tolerance: found {tolerance}; a number of points from 0 was expected.")
    choice, facts = protocol or PUBLISHED, published()
    groups, warnings = read_groups(directories, Choice(SETTINGS[table], schedule))
    found = entries(table, groups, choice)
    model = facts.model_of(groups[0].run)
    cells = [cell for cell in facts.cells if cell.table == table and model in (None, cell.model)]
    if model is None:
        lines = list(_directions(found, cells, Gaps(groups), facts))
    else:
        lines = list(_values(found, cells, facts, tolerance))
    if not lines:
        raise InputError(
            f"{table}: none of its cells has a counterpart in these results; no editor or task is the same."
        )
    used = [group for group in groups if any(line.entry.group is group for line in lines)]
    report = Report(
        title=f"{TITLES[table]}, ours beside the published {'directions' if model is None else 'values'}",
        warnings=warnings,
        header=(*suite_header(used), ("Published", facts.source)),
        blocks=tuple(_blocks(table, lines, cells, facts, choice, tolerance, model_words(used[0].run))),
        footer=(
            *paper_footer(
                {line.entry.column.protocol for line in lines}, derived=any(line.entry.column.derived for line in lines)
            ),
            *_reasons(lines, facts),
        ),
    )
    return Sheet(report, tuple(_record(line) for line in lines))


def _values(
    found: Sequence[Entry], cells: Sequence[PublishedCell], facts: Published, tolerance: float
) -> Iterator[Line]:
    for cell in cells:
        for entry in found:
            if _at(entry) == cell.address:
                scale = _scale(entry.column)
                ours, low, high = (scale * x for x in (entry.number.mean, entry.number.low, entry.number.high))
                verdict = value_verdict(cell, ours, low, high, tolerance)
                yield Line(cell, None, entry, None, cell.value, ours, low, high, entry.n, verdict, _known(facts, cell))


def _directions(found: Sequence[Entry], cells: Sequence[PublishedCell], gaps: Gaps, facts: Published) -> Iterator[Line]:
    """Yield the pairs of published cells whose counterparts were compared; fluency has no better or worse."""
    for cell, other in _pairs(cells):
        for first in (entry for entry in found if _at(entry) == cell.address):
            for second in (entry for entry in found if _at(entry) == other.address):
                if (gap := gaps.between(first, second)) is None:
                    continue
                scale = _scale(first.column)
                known = tuple(sorted({*_known(facts, cell), *_known(facts, other)}))
                yield Line(
                    cell,
                    other,
                    first,
                    second,
                    cell.value - other.value,
                    scale * gap.difference,
                    scale * gap.low,
                    scale * gap.high,
                    gap.n,
                    direction_verdict(cell, other, gap),
                    known,
                )


def _pairs(cells: Sequence[PublishedCell]) -> Iterator[tuple[PublishedCell, PublishedCell]]:
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
            # Without an edit locality is 100 by definition, in the paper as here; fluency has no better or worse.
            kept = [cell for cell in group if (cell.measure, cell.editor) != ("locality", "none")]
            kept = [cell for cell in kept if cell.measure != "fluency"]
            rest = [cell for cell in kept if cell.editor != OURS]
            yield from product([cell for cell in kept if cell.editor == OURS], rest)
            yield from combinations(reversed(rest), 2)
        elif table == TABLE1:
            yield from ((cell, of[cell.task]) for cell in group if cell.variant != cell.task)
        elif table == SEEN_UNSEEN:
            yield of["unseen"], of["seen"]
        elif table == FIGURE4C:
            yield from ((of[str(n + 1)], of[str(n)]) for n in range(1, len(of)))


def _at(entry: Entry) -> Address:
    """Return an entry's address by its method: the paper knows no names of ours."""
    return entry.address._replace(editor=entry.method)


def _scale(column: Column) -> float:
    return 1.0 if column.protocol == "ngram_entropy" else 100.0


def _known(facts: Published, cell: PublishedCell) -> tuple[int, ...]:
    return tuple(number for number, reason in enumerate(facts.reasons, 1) if reason.concerns(cell))


def _blocks(
    table: str,
    lines: Sequence[Line],
    cells: Sequence[PublishedCell],
    facts: Published,
    choice: str,
    tolerance: float,
    model: str,
) -> Iterator[Block]:
    titles = {name: facts.models[name].title for name in dict.fromkeys(line.cell.model for line in lines)}
    directions = lines[0].other is not None
    for name, title in titles.items():
        own = [line for line in lines if line.cell.model == name]
        if not directions:
            text = (
                f"The base model ({model}) is taken for {title} by its type and number of parameters, which other "
                "weights of the same shape share.",
                f"In all, {len(own)} values: {_counts(own)}. {_missing(own, cells, name)}.",
                "Reproduced: our 95 % interval, which the number of cases makes wide or narrow, holds the published "
                f"value. Near: no more than {tolerance:g} points apart. Differs: all else.",
            )
            yield Block(f"{title}: published values", tuple(_tables(own, choice)), text=text)
            continue
        first = [line for line in own if line.cell.editor == OURS or table != TABLE3]
        rest = [line for line in own if line.cell.editor != OURS] if first and table == TABLE3 else []
        first = first or own
        text = (
            f"DIRECTIONS ONLY. The base model ({model}) is none of the paper's, so no value is compared with a "
            "published one: what is compared is which of two is better, by the sign of the published difference and by "
            "our paired difference.",
            f"{'InstructEdit against the others' if rest else 'In all'}, {len(first)} comparisons: {_counts(first)}."
            + (f" All pairs of editors, {len(own)} comparisons: {_counts(own)}." if rest else "")
            + f" {_missing(own, cells, name)}.",
            "Agrees, contradicts: our whole 95 % interval lies on the published, or on the other side of zero. No "
            "difference shown: it does not. No published difference: the two are no farther apart than they are known. "
            "The intervals are not corrected for the number of comparisons. Fluency has no better or worse and is left "
            "out, and so is the unedited model's locality, which is 100 by definition.",
        )
        yield Block(f"Directions published for {title}", tuple(_tables(first, choice)), text=text)
        if rest:
            yield Block(f"Directions published for {title}: the other pairs", tuple(_tables(rest, choice)), detail=True)


def _tables(lines: Sequence[Line], choice: str) -> Iterator[Table]:
    """Yield a table for each stage: lines are cells or pairs of cells, with the protocol, n and the runs of each."""
    directions = lines[0].other is not None
    what = "difference" if directions else "value"
    gap = () if directions else ("Ours minus paper",)
    for stage, mark in stages([line.entry for line in lines]):
        own = [line for line in lines if line.entry.stage == stage]
        yield Table(
            title=f"Published {what} and ours, {WORDS[choice]} (points){mark}",
            stub="Number",
            heads=("Paper", "Ours", *gap, "Verdict", "Reasons", "Runs"),
            rows=tuple(_name(line) for line in own),
            cells=tuple(tuple(_cells(line)) for line in own),
            groups=tuple(
                f"{line.cell.setting}, {line.cell.task}: {label(line.entry.column, '').lower().split(', teacher')[0]}"
                for line in own
            ),
        )


def _name(line: Line) -> str:
    """Return what a line is of: editor and, where the table has several of its numbers, which."""
    own = _side(line.entry)
    if line.minus is None:
        return own
    if line.minus.address.editor == line.entry.address.editor:
        return f"{own} minus {_variant(line.minus)}"
    return f"{own} minus {_side(line.minus)}"


def _side(entry: Entry) -> str:
    return " ".join(filter(None, (entry.address.editor, _variant(entry))))


def _variant(entry: Entry) -> str:
    address = entry.address
    words: Mapping[str, str] = {
        "single-task": f"trained on {address.variant}",
        "unseen-instruction": address.variant,
        "task-scaling": f"{address.variant} task{'' if address.variant == '1' else 's'}",
    }
    return words.get(address.setting, "")


def _cells(line: Line) -> Iterator[Cell]:
    sign = "" if line.other is None else "+"
    column, scale = line.entry.column, _scale(line.entry.column)
    digits = 0 if line.cell.error >= 1 else 1 if line.cell.error >= 0.05 else 2
    yield Cell(f"{line.paper + 0.0:{sign}.{digits}f}")
    yield Cell(
        column.number(line.ours / scale, sign), interval(column, line.low / scale, line.high / scale, sign), line.n
    )
    if line.other is None:
        yield Cell(f"{line.ours - line.paper:+.1f}")
    yield Cell(line.verdict)
    yield Cell(" ".join(map(str, line.reasons)))
    yield Cell(" ".join(digest[:8] for digest in line.entry.group.digests))


def _counts(lines: Sequence[Line]) -> str:
    counts = Counter(line.verdict for line in lines)
    kinds: tuple[Verdict, ...] = ("reproduced", "near", "differs")
    if lines[0].other is not None:
        kinds = ("agrees", "contradicts", "no difference shown", "no published difference")
    return ", ".join(f"{kind} {counts[kind]}" for kind in kinds)


def _missing(lines: Sequence[Line], cells: Sequence[PublishedCell], model: str) -> str:
    """Return how many published values, or comparisons of two, our results do not have."""
    of_model = [cell for cell in cells if cell.model == model]
    if lines[0].other is None:
        known, what = len(of_model), "values"
    else:
        known, what = sum(1 for _ in _pairs(of_model)), "comparisons"
    found = len({(line.cell.address, line.other and line.other.address) for line in lines})
    return f"{known - found} of {known} published {what} have no counterpart in these results"


def _reasons(lines: Sequence[Line], facts: Published) -> Iterator[str]:
    """Yield the known reasons that concern any line, with the cells each concerns."""
    yield "Reasons are known ways in which a published number is another than what is measured here:"
    used = {number for line in lines for number in line.reasons}
    for number, reason in enumerate(facts.reasons, 1):
        if number in used:
            yield f"Reason {number} ({reason.where}): {reason.text}"


def _record(line: Line) -> dict[str, Any]:
    """Return a line with all its keys, as CSV and JSON hold it, in the paper's units."""
    entry, group = line.entry, line.entry.group
    return {
        "table": line.cell.table,
        "kind": "value" if line.other is None else "direction",
        **line.cell.address._asdict(),
        "published_model": line.cell.model,
        "minus_editor": line.other.editor if line.other else "",
        "minus_variant": line.other.variant if line.other else "",
        "row": entry.row,
        "minus_row": line.minus.row if line.minus else "",
        "schedule": group.run.spec.schedule,
        "stage": entry.stage,
        "derived": entry.column.derived,
        "protocol": entry.column.protocol,
        "paper": round(line.paper, 2),
        "ours": line.ours,
        "low": line.low,
        "high": line.high,
        "n": line.n,
        "ours_minus_paper": line.ours - line.paper if line.other is None else None,
        "verdict": line.verdict,
        "reasons": line.reasons,
        "split": group.run.spec.split,
        "model": group.run.provenance.model,
        "weights": group.run.spec.model_fingerprint,
        "seeds": group.seeds,
        "runs": group.digests,
    }
