"""Our results beside the published ones: values where the base model is the paper's, else directions alone."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from instructedit.benchmark.results.forms import OURS
from instructedit.editors.errors import InputError

from ..render.report import Block, Cell, Report, Sheet, Table
from ..tables.captions import paper_footer
from ..tables.columns import interval, stages
from ..tables.paper_numbers import SETTINGS, TABLE3, Entry, Gaps, entries
from ..tables.paper_tables import TITLES
from ..tables.protocol_choice import PUBLISHED, WORDS, label
from ..tables.run_facts import model as model_words
from ..tables.run_facts import suite_header
from ..tables.sources import Choice, read_groups
from .published_results import Published, PublishedCell, published
from .verdicts import Line, Verdict, as_published, directions, given, pairs, scale, scaled, values

TOLERANCE = 5.0
"""Points within which a value is near a published one: about the half width of an interval over 400 cases."""


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
        raise InputError(f"'{table}' is nothing to reproduce; expected one of {', '.join(SETTINGS)}.")
    if not 0 <= tolerance < math.inf:
        raise InputError(f"--tolerance: found {tolerance}, expected a number of points from 0.")
    choice, facts = protocol or PUBLISHED, published()
    groups, warnings = read_groups(directories, Choice(SETTINGS[table], schedule))
    every = entries(table, groups, choice)
    found = [entry for entry in every if as_published(table, entry)]
    others = sorted({f"'{entry.row}' on {entry.trained}" for entry in every if not as_published(table, entry)})
    if others:
        warnings = (
            *warnings,
            f"Left out, trained on other tasks than the published ones: {', '.join(others)}.",
        )
    model = facts.model_of(groups[0].run)
    cells = [cell for cell in facts.cells if cell.table == table and model in (None, cell.model)]
    if model is None:
        lines = list(directions(found, cells, Gaps(groups), facts))
    else:
        lines = list(values(found, cells, facts, tolerance))
    if not lines:
        raise InputError(
            f"{table}: none of its cells has a counterpart in these results; no editor or task is the same."
        )
    used = [group for group in groups if any(line.entry.group is group for line in lines)]
    report = Report(
        title=f"{TITLES[table]}, ours beside the published {'directions' if model is None else 'values'}",
        warnings=warnings,
        header=(*suite_header(used), ("Published", facts.source)),
        blocks=(
            *_blocks(table, [x for x in lines if x.verdict], cells, facts, choice, tolerance, model_words(used[0].run)),
            *_other_forms([line for line in lines if line.verdict is None], facts, choice),
        ),
        footer=(
            *paper_footer(
                used,
                {line.entry.column.protocol for line in lines},
                derived=any(line.entry.column.derived for line in lines),
            ),
            *_reasons(lines, facts),
        ),
    )
    return Sheet(report, tuple(_record(line) for line in lines))


def _blocks(
    table: str,
    lines: Sequence[Line],
    cells: Sequence[PublishedCell],
    facts: Published,
    choice: str,
    tolerance: float,
    model: str,
) -> Iterator[Block]:
    for title, name, own in _by_model(lines, facts):
        if own[0].other is None:
            text = (
                f"The base model ({model}) is taken for {title} by its type and number of parameters, which other "
                "weights of the same shape share.",
                f"In all, {len(own)} values: {_counts(own)}. {_missing(own, cells, name)}.",
                "Reproduced: our 95 % interval, which the number of cases makes wide or narrow, holds the published "
                f"value. Near: no more than {tolerance:g} points apart. Differs: all else. The unedited model's "
                "locality is 100 by definition and left out.",
            )
            yield Block(f"{title}: published values", tuple(_tables(own, choice)), text=text)
            continue
        first = [line for line in own if line.cell.editor == OURS or table != TABLE3]
        rest = [line for line in own if line.cell.editor != OURS] if first and table == TABLE3 else []
        first = first or own
        count = len({line.entry.stage for line in own})
        over = f", over {count} stages" if count > 1 else ""
        text = (
            f"DIRECTIONS ONLY. The base model ({model}) is none of the paper's, so no value is compared with a "
            "published one: what is compared is which of two is better, by the sign of the published difference and by "
            "our paired difference.",
            f"{'InstructEdit against the others' if rest else 'In all'}, {len(first)} comparisons{over}: "
            f"{_counts(first)}."
            + (f" All pairs of editors, {len(own)} comparisons{over}: {_counts(own)}." if rest else "")
            + f" {_missing(own, cells, name)}.",
            "Agrees, contradicts: our difference is shown (p < 0.05, adjusted by Holm over the pairs of rows of a "
            "column) and has the sign of the published one, or the other. No difference shown: it is not. No published "
            "difference: the two are no farther apart than they are known. Fluency has no better or worse and is left "
            "out, and so is the unedited model's locality, which is 100 by definition.",
        )
        yield Block(f"Directions published for {title}", tuple(_tables(first, choice)), text=text)
        if rest:
            yield Block(f"Directions published for {title}: the other pairs", tuple(_tables(rest, choice)), detail=True)


def _by_model(lines: Sequence[Line], facts: Published) -> Iterator[tuple[str, str, list[Line]]]:
    """Yield the lines of each of the paper's models, with its title and its name."""
    for name in dict.fromkeys(line.cell.model for line in lines):
        yield facts.models[name].title, name, [line for line in lines if line.cell.model == name]


def _other_forms(lines: Sequence[Line], facts: Published, choice: str) -> Iterator[Block]:
    """Yield the lines without a verdict, each with the form that is not the published one."""
    for title, _, own in _by_model(lines, facts):
        forms = dict.fromkeys(words for line in own for words in line.forms)
        what = "values" if own[0].other is None else "comparisons"
        text = (
            f"NO VERDICT. {len(own)} {what} are of rows whose form is not the published one. They answer another "
            "question than the published numbers, so agreement would confirm nothing and disagreement refute nothing. "
            f"The forms: {'; '.join(forms)}.",
        )
        yield Block(f"{title}: other forms than the published one", tuple(_tables(own, choice)), text=text)


def _tables(lines: Sequence[Line], choice: str) -> Iterator[Table]:
    """Yield a table for each stage: lines are cells or pairs of cells, with the protocol, n and the runs of each."""
    by_direction = lines[0].other is not None
    what = "difference" if by_direction else "value"
    gap = () if by_direction else ("Ours minus paper",)
    for stage, mark in stages([line.entry for line in lines]):
        own = [line for line in lines if line.entry.stage == stage]
        yield Table(
            title=f"Published {what} and ours, {WORDS[choice]} (points){mark}",
            stub="Number",
            heads=("Paper", "Ours", *gap, "Verdict" if own[0].verdict else "Form", "Reasons", "Runs"),
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
    column, unit = line.entry.column, scale(line.entry.column)
    digits = 0 if line.cell.error >= 1 else 1 if line.cell.error >= 0.05 else 2
    yield Cell(f"{line.paper + 0.0:{sign}.{digits}f}")
    yield Cell(column.number(line.ours / unit, sign), _ends(line, sign), line.n)
    if line.other is None:
        yield Cell(f"{round(line.ours - line.paper, 1) + 0.0:+.1f}")
    yield Cell(line.verdict or "; ".join(line.forms))
    yield Cell(" ".join(map(str, line.reasons)))
    yield Cell(" ".join(digest[:8] for digest in line.entry.group.digests))


def _ends(line: Line, sign: str) -> str:
    unit = 1 / scale(line.entry.column)
    return interval(line.entry.column, scaled(unit, line.low), scaled(unit, line.high), sign)


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
        known, what = sum(not given(cell) for cell in of_model), "values"
    else:
        known, what = sum(1 for _ in pairs(of_model)), "comparisons"
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
        "form": "; ".join(line.forms),
        "reasons": line.reasons,
        "split": group.run.spec.split,
        "model": group.run.provenance.model,
        "weights": group.run.spec.model_fingerprint,
        "seeds": group.seeds,
        "runs": group.digests,
    }
