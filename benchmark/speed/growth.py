"""What one more case costs as the run, the model, or the edits made before grow."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from instructedit.editors import EditCase, Editor, LanguageModel

from ..run.accumulated import AccumulatedEdit
from . import fast
from .cases import make_cases
from .record import GrowthRow, SpeedRow
from .shapes import ModelShape, make_model
from .subjects import prepared
from .watch import Watch

CHUNK = 8
"""Cases at once, as a run's."""
SHORTER = {"ft-l": {"steps": 10}, "grace": {"steps": 20}}
"""Steps of edits on top of edits: what grows with their number does not depend on them, and a thousand take long."""
LAST = 10
"""Edits on top of edits whose median is taken."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """How far growth is followed.

    Attributes:
        cases: Numbers of cases of a run, multiples of `CHUNK`.
        edits: Numbers of edits on top of edits.
        single: Editors whose runs grow.
        sequential: Editors whose edits are made on top of one another.
    """

    cases: tuple[int, ...] = (8, 32, 128)
    edits: tuple[int, ...] = (10, 100, 1000)
    single: tuple[str, ...] = ("ft-l", "mend", "instructedit", "grace")
    sequential: tuple[str, ...] = ("ft-l", "mend", "grace")


def grown(shape: ModelShape, lengths: Lengths, editors: Sequence[str], device: str) -> list[GrowthRow]:
    """Follow the cost of one case, and of one more edit, on one shape.

    Args:
        shape: The shape.
        lengths: How far.
        editors: Only these editors.
        device: Where.
    """
    watch, model = Watch(device), make_model(shape, device)
    most = max(*lengths.cases, *lengths.edits)
    cases = make_cases(most, shape.vocabulary)
    rows: list[GrowthRow] = []
    for name in (name for name in lengths.single if name in editors):
        editor, own = prepared(name, model, cases[: max(lengths.cases)])
        _chunk(model, editor, own[:CHUNK])  # the first one pays for what later ones find made
        for size in lengths.cases:
            held, spent = watch.begin(), 0.0
            for first in range(0, size, CHUNK):
                spent += watch.time(partial(_chunk, model, editor, own[first : first + CHUNK]))[1]
            peak = watch.end(held)
            rows.append(
                GrowthRow(
                    of="cases", editor=name, shape=shape.name, size=size, cpu_seconds=spent / size, peak_bytes=peak
                )
            )
    for name in (name for name in lengths.sequential if name in editors):
        editor, own = prepared(name, model, cases[: max(lengths.edits)], **SHORTER.get(name, {}))
        state, times, held = AccumulatedEdit(), [], watch.begin()
        for number, case in enumerate(own, start=1):
            times.append(watch.time(partial(fast.take, model, editor, state, case))[1])
            if number in lengths.edits:
                rows.append(
                    GrowthRow(
                        of="edits",
                        editor=name,
                        shape=shape.name,
                        size=number,
                        cpu_seconds=statistics.median(times[-LAST:]),
                        peak_bytes=watch.end(held),
                        edit_bytes=fast.size(state.edits),
                    )
                )
    return rows


def _chunk(model: LanguageModel, editor: Editor[Any], cases: Sequence[EditCase]) -> None:
    fast.score(model, cases, {editor.name: fast.edit(model, cases, editor)})


def by_model(rows: Iterable[SpeedRow], parameters: dict[str, int]) -> list[GrowthRow]:
    """Return the whole loops of several shapes as growth with the model.

    Args:
        rows: Rows of the shapes.
        parameters: Number of weights of each.
    """
    found = [row for row in rows if row.phase == "loop" and row.chunk == CHUNK and row.shape in parameters]
    return [
        GrowthRow(
            of="model",
            editor=row.editor,
            shape=row.shape,
            size=parameters[row.shape],
            cpu_seconds=row.cpu_seconds,
            gflop=row.gflop,
            peak_bytes=row.peak_bytes,
        )
        for row in sorted(found, key=lambda row: (row.editor, parameters[row.shape]))
    ]
