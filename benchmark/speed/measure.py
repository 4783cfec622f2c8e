"""The measurement: engine and slow path in turn within one process, repeated, and held to equal numbers."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from instructedit.editors import EditCase, Editor, Edits, Row, TrainedEditor

from ..readings import Reading
from . import fast, slow
from .cases import make_cases
from .compare import Difference
from .generating import Generating
from .record import Phase, Rate, SpeedRow
from .samples import Samples, spread
from .shapes import ModelShape, make_model
from .slow_edits import REFERENCES
from .subjects import GENERATED, prepared
from .training import Training
from .watch import Watch, gemm_rate
from .work import Needed


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    Attributes:
        repeats: Times that everything is measured.
        chunks: Numbers of cases that the engine is given at once; texts are continued for the middle one.
        slow_cases: Cases that the slow path works on in each repeat. It takes them one by one, so that what one costs
            does not depend on how many there are.
        texts: Whether trainings and texts are timed.
        editors: Editors; all if empty.
    """

    repeats: int = 5
    chunks: tuple[int, ...] = (4, 8, 16)
    slow_cases: int = 2
    texts: bool = True
    editors: tuple[str, ...] = ()


Before = tuple[list[list[Reading]], float | None]
"""What the unedited model says to the slow path's cases, and the seconds of one of them; None if it was not run."""


class Bench:
    """A shape, ready to be measured.

    Args:
        shape: The shape.
        editors: Names of editors.
        effort: How much.
        device: Where.
    """

    def __init__(self, shape: ModelShape, editors: Sequence[str], effort: Effort, device: str = "cpu") -> None:
        self.shape, self.effort, self.watch = shape, effort, Watch(device)
        self.model = make_model(shape, device)
        self.bytes = sum(weight.numel() * weight.element_size() for weight in self.model.model.parameters())
        self.cases = make_cases(max(effort.chunks), shape.vocabulary)
        self.twin = slow.Twin(self.model) if self._fits() else None
        self.editors: dict[str, tuple[Editor[Any], list[EditCase]]] = {
            name: prepared(name, self.model, self.cases) for name in editors
        }
        self.samples: dict[tuple[str, Phase, int], Samples] = {}
        self.gemm: list[float] = []
        self.steps: dict[str, float] = {}

    def _fits(self) -> bool:
        """Tell whether the slow path's copy of the model fits beside it; a computer's memory is not asked."""
        return not self.watch.card or torch.cuda.mem_get_info(self.watch.device)[0] > 2 * self.bytes

    def run(self) -> list[SpeedRow]:
        """Measure everything and return its rows.

        Raises:
            InputError: If engine and slow path do not give the same numbers.
        """
        fast.score(self.model, self.cases[:2], {})  # the first call of a process pays for what later ones find made
        others: list[Training | Generating] = []
        if self.effort.texts:
            for name, (editor, own) in self.editors.items():
                if isinstance(editor, TrainedEditor):
                    others.append(Training(name, editor, own, self.model, self.twin, self.watch))
                if name in GENERATED:
                    chunk = sorted(self.effort.chunks)[len(self.effort.chunks) // 2]
                    others.append(Generating(name, editor, own[:chunk], self.model, self.twin, self.watch))
        for repeat in range(self.effort.repeats):
            self.gemm.append(gemm_rate(self.watch, self.shape.width, self.model.model.dtype))
            before = self._slow_base()
            base = self._fast_base(before)
            for name in self.editors:
                self._editor(name, base, before, repeat == 0)
            for other in others:
                samples = self._of(other.name, other.phase, other.chunk)
                other.measure(samples)
                self._check(other.name, other.phase, samples.difference)
        return self._rows(others)

    def _check(self, name: str, phase: Phase, difference: Difference | None) -> None:
        """Refuse to time different work; in a half type, rounding is no such difference."""
        if difference is not None and self.shape.dtype == "float32":
            difference.check(f"{name} on {self.shape.name}, {phase}")

    def _of(self, editor: str, phase: Phase, chunk: int) -> Samples:
        return self.samples.setdefault((editor, phase, chunk), Samples())

    def _slow_base(self) -> Before:
        """Read the unedited model one row at a time; return what it says and the seconds of one case."""
        if self.twin is None:
            return [], None
        twin, cases = self.twin, self.cases[: self.effort.slow_cases]
        found, seconds = self.watch.time(lambda: [slow.read(twin, case, slow.probe_rows(twin, case)) for case in cases])
        return found, seconds / len(cases)

    def _fast_base(self, before: Before) -> dict[int, float]:
        """Return the seconds of one case by chunk."""
        found = {}
        for chunk in self.effort.chunks:
            samples, cases = self._of("all", "base", chunk), self.cases[:chunk]
            first = not samples.fast
            held = self.watch.begin() if first else None
            _, seconds = self.watch.time(lambda cases=cases: fast.score(self.model, cases, {}))  # type: ignore[misc]
            samples.peak = self.watch.end(held) if first else samples.peak
            found[chunk] = seconds / chunk
            samples.fast.append(found[chunk])
            if before[1] is not None:
                samples.slow.append(before[1])
                if first:
                    own = fast.readings(self.model, cases, Edits.none(len(cases)))
                    for a, b in zip(own, before[0], strict=False):
                        samples.compared.readings(a, b)
                    self._check("all", "base", samples.difference)
        return found

    def _editor(
        self, name: str, base: dict[int, float], before: Before, first: bool
    ) -> None:
        """Measure one editor's edits and scores, the slow path's and then the engine's for each chunk."""
        editor, cases = self.editors[name]
        after, slow_edit, slow_score = self._slow_editor(name)
        for chunk in self.effort.chunks:
            own = cases[:chunk]
            edit, score, loop = (self._of(name, phase, chunk) for phase in ("edit", "score", "loop"))
            held = self.watch.begin() if first else None
            made, edit_seconds = self.watch.time(lambda own=own: fast.edit(self.model, own, editor))  # type: ignore[misc]
            self.watch.look()
            edit.peak = self.watch.end(held) if first else edit.peak
            held = self.watch.begin() if first else None
            records, both = self.watch.time(
                lambda own=own, made=made: fast.score(self.model, own, {name: made})  # type: ignore[misc]
            )
            self.watch.look()
            score.peak = self.watch.end(held) if first else score.peak
            loop.peak = None if edit.peak is None or score.peak is None else max(edit.peak, score.peak)
            self.steps[name] = statistics.fmean(facts.get("steps", 0.0) for facts in made.edits.facts)
            edit.fast.append(edit_seconds / chunk)
            score.fast.append(max(both / chunk - base[chunk], 1e-9))
            loop.fast.append(edit.fast[-1] + score.fast[-1] + base[chunk] / len(self.editors))
            if before[1] is None:
                continue
            edit.slow.append(slow_edit)
            score.slow.append(slow_score)
            loop.slow.append(slow_edit + before[1] + slow_score)
            difference = loop.compared
            if first:
                for a, b in zip(fast.readings(self.model, own, made.edits), after, strict=False):
                    difference.readings(a, b)
            for record, case, old, new in zip(records, own, before[0], after, strict=False):
                difference.scores(record, slow.scores(case, old, new))
            edit.difference = score.difference = loop.difference = difference
            self._check(name, "loop", difference)

    def _slow_editor(self, name: str) -> tuple[list[list[Reading]], float, float]:
        """Edit and read one case after another; return what the edited models say, and the seconds of one case."""
        if self.twin is None:
            return [], 0.0, 0.0
        twin, (editor, cases) = self.twin, self.editors[name]
        found, edit, score = [], 0.0, 0.0
        chosen = cases[: self.effort.slow_cases]
        for case in chosen:
            rows = slow.probe_rows(twin, case)
            change, seconds = self.watch.time(lambda case=case: REFERENCES[name](twin, editor, case.request, 0))  # type: ignore[misc]
            edit += seconds / len(chosen)

            def ask(case: EditCase = case, rows: list[Row] = rows, change: slow.Change = change) -> list[Reading]:
                with twin.under(change):
                    return slow.read(twin, case, rows)

            readings, seconds = self.watch.time(ask)
            score += seconds / len(chosen)
            found.append(readings)
        return found, edit, score

    def _rows(self, others: Sequence["Training | Generating"]) -> list[SpeedRow]:
        done = {(other.name, other.phase): other.gflop for other in others}
        utilisation = self.watch.utilisation
        rows = []
        for (name, phase, chunk), samples in self.samples.items():
            editor = self.editors[name][0] if name in self.editors else None
            needed = Needed(self.shape, editor, self.steps.get(name, 0.0))
            base = needed.base()
            work = {"base": base, "edit": 0.0, "score": 0.0, "loop": 0.0}
            if editor is not None:
                work |= {"edit": needed.edit(), "score": needed.score()}
                work["loop"] = work["edit"] + work["score"] + base / len(self.editors)
            gflop = done[name, phase](needed) / 1e9 if (name, phase) in done else work[phase] / 1e9
            rows.append(self._row(name, phase, chunk, samples, gflop, utilisation))
        order = ["all", *self.editors]
        return sorted(rows, key=lambda row: order.index(row.editor))

    def _row(
        self, name: str, phase: Phase, chunk: int, samples: Samples, gflop: float, utilisation: float | None
    ) -> SpeedRow:
        rate = statistics.median(self.gemm)
        low, median, high = spread(samples.fast)
        ratios = [b / a for a, b in zip(samples.fast, samples.slow, strict=False)]
        ratio = spread(ratios) if ratios else (None, None, None)
        return SpeedRow(
            editor=name,
            shape=self.shape.name,
            phase=phase,
            chunk=chunk,
            cpu_seconds=median,
            cpu_low=low,
            cpu_high=high,
            slow_seconds=statistics.median(samples.slow) if samples.slow else None,
            ratio=ratio[1],
            ratio_low=ratio[0],
            ratio_high=ratio[2],
            gflop=gflop,
            gflop_per_second=gflop / median,
            gemm_share=gflop / median / rate,
            peak_bytes=samples.peak,
            model_bytes=self.bytes,
            cases=self.effort.slow_cases if self.twin is not None else 0,
            repeats=len(samples.fast),
            largest_difference=None if samples.difference is None else samples.difference.largest,
            differing=None if samples.difference is None else samples.difference.differing,
            utilisation=utilisation,
        )

    @property
    def rate(self) -> Rate:
        """The machine's rate of matrix products."""
        low, median, high = spread(self.gemm)
        return Rate(median=median, low=low, high=high)
