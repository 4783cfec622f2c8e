"""Measured beside published numbers: values on the paper's base models, on others only which editor is better."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from instructedit.benchmark.results.forms import OURS
from instructedit.benchmark.results.suite_results import SeedMean
from instructedit.editors.errors import InputError

from ..render.report import Block, Cell, Report, Sheet, Table
from ..tables.captions import paper_footer
from ..tables.columns import interval, stages
from ..tables.paper_numbers import SETTINGS, TABLE3, Entry, Gaps, entries
from ..tables.paper_tables import TITLES
from ..tables.protocol_choice import PUBLISHED, WORDS, label
from ..tables.run_facts import model as model_words
from ..tables.run_facts import suite_header
from ..tables.scores import pair_cell
from ..tables.sources import read_groups
from .published_results import Published, PublishedCell, published
from .verdicts import Line, Verdict, as_published, by_definition, directions, in_paper_units, pairs, values

TOLERANCE = 5.0
"""Points within which a value is near the published one: about half the width of an interval over 400 cases."""
_VALUE_VERDICTS, _DIRECTION_VERDICTS = get_args(Verdict)[:3], get_args(Verdict)[3:]


def reproduce(
    table: str,
    directories: Sequence[Path],
    protocol: str | None = None,
    schedule: str | None = None,
    tolerance: float = TOLERANCE,
) -> Sheet:
    """Compare results with one of the paper's tables.

    Arguments are as those of `tables.build.make_table`. A `protocol` of None is `published`, each measure as the paper
    appears to read it. A value is `near` within `tolerance` points.

    Raises:
        InputError: If there is no such table, or the results have no cell in common with it, or may not share a table.
    """
    if table not in SETTINGS:
        raise InputError(f"'{table}' is nothing to reproduce; expected one of {', '.join(SETTINGS)}.")
    if not 0 <= tolerance < math.inf:
        raise InputError(f"--tolerance: found {tolerance}, expected a number of points from 0.")
    choice, facts = protocol or PUBLISHED, published()
    groups, warnings = read_groups(directories, SETTINGS[table], schedule)
    every = entries(table, groups, choice)
    found = [entry for entry in every if as_published(table, entry)]
    if others := {f"'{entry.number.row}' on {entry.trained}" for entry in every if not as_published(table, entry)}:
        warnings += (f"Left out, trained on other tasks than the published ones: {', '.join(sorted(others))}.",)
    model = facts.model_of(groups[0].run)
    cells = [cell for cell in facts.cells if cell.table == table and model in (None, cell.model)]
    if model is None:
        lines = list(directions(found, cells, Gaps(groups), facts))
    else:
        lines = list(values(found, cells, facts, tolerance))
    if not lines:
        raise InputError(
            f"{table}: none of its cells has a counterpart in these results; they share no editor or no task."
        )
    used = [group for group in groups if any(line.entry.group is group for line in lines)]
    model_text = model_words(used[0].run)
    blocks: list[Block] = []
    for name in dict.fromkeys(line.cell.model for line in lines if line.verdict):
        own = [line for line in lines if line.verdict and line.cell.model == name]
        missing = _missing(own, [cell for cell in cells if cell.model == name])
        title = facts.models[name].title
        if model is None:
            blocks += _direction_blocks(table, title, own, choice, model_text, missing)
        else:
            blocks.append(_value_block(title, own, choice, model_text, missing, tolerance))
    for name in dict.fromkeys(line.cell.model for line in lines if not line.verdict):
        own = [line for line in lines if not line.verdict and line.cell.model == name]
        blocks.append(_other_forms(facts.models[name].title, own, choice))
    report = Report(
        title=f"{TITLES[table]}, ours beside the published {'directions' if model is None else 'values'}",
        warnings=warnings,
        header=(*suite_header(used), ("Published", facts.source)),
        blocks=tuple(blocks),
        footer=(*paper_footer(used, [line.entry.number for line in lines]), *_reasons(lines, facts)),
    )
    return Sheet(report, tuple(_record(line) for line in lines))


def _value_block(title: str, lines: Sequence[Line], choice: str, model: str, missing: str, tolerance: float) -> Block:
    text = (
        f"The base model ({model}) is taken for {title} by its type and number of parameters, which other weights of "
        "the same shape share.",
        f"In all, {len(lines)} values: {_counts(lines, _VALUE_VERDICTS)}. {missing}.",
        "Reproduced: our 95 % interval, whose width depends on the number of cases, holds the published value. Near: "
        f"no more than {tolerance:g} points apart. Differs: all else. The unedited model's locality is 100 by "
        "definition and left out.",
    )
    return Block(f"{title}: published values", tuple(_tables(lines, choice)), text=text)


def _direction_blocks(
    table: str, title: str, lines: Sequence[Line], choice: str, model: str, missing: str
) -> Iterator[Block]:
    """Yield the comparisons of InstructEdit in Table 3, then the other pairs as a detail; of other tables all."""
    first = [line for line in lines if line.cell.editor == OURS or table != TABLE3] or lines
    rest = [line for line in lines if line not in first]
    count = len({line.entry.number.stage for line in lines})
    over = f", over {count} stages" if count > 1 else ""
    totals = [(f"{'InstructEdit against the others' if rest else 'In all'}", first)]
    totals += [("All pairs of editors", list(lines))] if rest else []
    sums = [f"{what}, {len(own)} comparisons{over}: {_counts(own, _DIRECTION_VERDICTS)}." for what, own in totals]
    text = (
        f"DIRECTIONS ONLY. The base model ({model}) is none of the paper's, so no value is compared with a published "
        "one. The comparison is which of two is better, by the sign of the published difference and our paired "
        "difference.",
        " ".join([*sums, f"{missing}."]),
        "Agrees, contradicts: our difference is shown (p < 0.05, adjusted by Holm over the pairs of rows of a column) "
        "and has the sign of the published one, or the other sign. No difference shown: p is larger. No published "
        "difference: the published values differ by no more than their reading errors. Fluency has no better or worse "
        "and is left out; so is the unedited model's locality, which is 100 by definition.",
    )
    yield Block(f"Directions published for {title}", tuple(_tables(first, choice)), text=text)
    if rest:
        yield Block(f"Directions published for {title}: the other pairs", tuple(_tables(rest, choice)), detail=True)


def _other_forms(title: str, lines: Sequence[Line], choice: str) -> Block:
    """Return the lines without a verdict, each with the form that is not the published one."""
    forms = dict.fromkeys(words for line in lines for words in line.forms)
    text = (
        f"NO VERDICT. {len(lines)} {'comparisons' if lines[0].other else 'values'} are of rows whose form is not the "
        "published one. They answer another question than the published numbers, so agreement would confirm nothing "
        f"and disagreement refute nothing. The forms: {'; '.join(forms)}.",
    )
    return Block(f"{title}: other forms than the published one", tuple(_tables(lines, choice)), text=text)


def _tables(lines: Sequence[Line], choice: str) -> Iterator[Table]:
    """Yield a table for each stage: lines are cells or pairs of cells, with the protocol, n and the runs of each."""
    what, gap = ("difference", ()) if lines[0].other else ("value", ("Ours minus paper",))
    for stage, suffix in stages(line.entry.number.stage for line in lines):
        own = [line for line in lines if line.entry.number.stage == stage]
        yield Table(
            title=f"Published {what} and ours, {WORDS[choice]} (points){suffix}",
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
    """Return the editor of a line, with its variant and what is subtracted."""
    own = _side(line.entry)
    if line.minus is None:
        return own
    same = line.minus.address.editor == line.entry.address.editor
    return f"{own} minus {_variant(line.minus) if same else _side(line.minus)}"


def _side(entry: Entry) -> str:
    return " ".join(filter(None, (entry.address.editor, _variant(entry))))


def _variant(entry: Entry) -> str:
    address = entry.address
    words = {
        "single-task": f"trained on {address.variant}",
        "unseen-instruction": address.variant,
        "task-scaling": f"{address.variant} task{'' if address.variant == '1' else 's'}",
    }
    return words.get(address.setting, "")


def _cells(line: Line) -> Iterator[Cell]:
    column, number, sign = line.entry.column, line.number, "+" if line.other else ""
    digits = 0 if line.cell.error >= 1 else 1 if line.cell.error >= 0.05 else 2
    yield Cell(f"{line.paper + 0.0:{sign}.{digits}f}")
    if isinstance(number, SeedMean):
        yield Cell(column.number(number.mean), interval(column, number.low, number.high), number.n)
        yield Cell(f"{round(in_paper_units(number)[0] - line.paper, 1) + 0.0:+.1f}")
    else:
        yield replace(pair_cell(number), note="")
    yield Cell(line.verdict or "; ".join(line.forms))
    yield Cell(" ".join(map(str, line.reasons)))
    yield Cell(" ".join(digest[:8] for digest in line.entry.group.digests))


def _counts(lines: Sequence[Line], verdicts: Sequence[str]) -> str:
    counts = Counter(line.verdict for line in lines)
    return ", ".join(f"{verdict} {counts[verdict]}" for verdict in verdicts)  # type: ignore[index]


def _missing(lines: Sequence[Line], cells: Sequence[PublishedCell]) -> str:
    """Return how many published values, or comparisons of two, have no counterpart in the results."""
    if lines[0].other is None:
        known, what = sum(not by_definition(cell) for cell in cells), "values"
    else:
        known, what = sum(1 for _ in pairs(cells)), "comparisons"
    found = len({(line.cell.address, line.other and line.other.address) for line in lines})
    return f"{known - found} of {known} published {what} have no counterpart in these results"


def _reasons(lines: Sequence[Line], facts: Published) -> Iterator[str]:
    """Yield the known reasons that concern any line, with the cells of each."""
    yield "Reasons are known ways in which a published number differs from what is measured here:"
    used = {number for line in lines for number in line.reasons}
    for number, reason in enumerate(facts.reasons, 1):
        if number in used:
            yield f"Reason {number} ({reason.where}): {reason.text}"


def _record(line: Line) -> dict[str, Any]:
    """Return a line with all its keys, as CSV and JSON hold it, in the paper's units."""
    entry, group = line.entry, line.entry.group
    ours, low, high = in_paper_units(line.number)
    return {
        "table": line.cell.table,
        "kind": "value" if line.other is None else "direction",
        **line.cell.address._asdict(),
        "published_model": line.cell.model,
        "minus_editor": line.other.editor if line.other else "",
        "minus_variant": line.other.variant if line.other else "",
        "row": entry.number.row,
        "minus_row": line.minus.number.row if line.minus else "",
        "schedule": group.run.spec.schedule,
        "stage": entry.number.stage,
        "derived": entry.column.derived,
        "protocol": entry.column.protocol,
        "paper": round(line.paper, 2),
        "ours": ours,
        "low": low,
        "high": high,
        "n": line.number.n,
        "ours_minus_paper": ours - line.paper if line.other is None else None,
        "verdict": line.verdict,
        "form": "; ".join(line.forms),
        "reasons": line.reasons,
        "split": group.run.spec.split,
        "model": group.run.provenance.model,
        "weights": group.run.spec.model_fingerprint,
        "seeds": group.seeds,
        "runs": group.digests,
    }
