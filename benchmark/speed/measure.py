"""The measurement: engine and slow path in turn within one process, repeated, and held to equal numbers."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from instructedit.editors import EditCase, Editor, TrainedEditor

from ..results.records import CaseRecord
from ..results.speed_results import Phase, Rate, SpeedRow
from ..scoring.predictions import Reading
from ..scoring.scoring import Made
from . import fast, slow
from .cases import make_cases
from .compare import Difference
from .generating import Generating
from .samples import Samples, spread
from .shapes import ModelShape, make_model
from .slow_edits import REFERENCES
from .subjects import GENERATED, prepared
from .training import Training
from .watch import Watch, gemm_rate
from .work import needed

ALL = "all"
"""Stands for an editor in the rows of what all editors share."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    Attributes:
        repeats: Times that everything is measured.
        chunks: Numbers of cases that the engine is given at once; texts are continued for the middle one.
        slow_cases: Cases that the slow path works on in each repeat. It takes them one by one, so that what one costs
            does not depend on how many there are.
        editors: Editors.
        trained: Those of them whose training is timed, if they are trained.
        generated: Those of them whose answers and texts are timed.
        once: Whether training and texts, which take the slow path longest, are measured once only.
    """

    repeats: int = 5
    chunks: tuple[int, ...] = (4, 8, 16)
    slow_cases: int = 2
    editors: tuple[str, ...] = tuple(REFERENCES)
    trained: tuple[str, ...] = tuple(REFERENCES)
    generated: tuple[str, ...] = GENERATED
    once: bool = False


@dataclass(slots=True)
class Said:
    """What the slow path found out in one repeat.

    Attributes:
        before: What the unedited model says to each probe of each case.
        base: Seconds of one case of it.
        after: The same of the edited models, by editor.
        edit: Seconds of one edit, by editor.
        score: Seconds of reading one edited model, by editor.
    """

    before: list[list[Reading]]
    base: float
    after: dict[str, list[list[Reading]]]
    edit: dict[str, float]
    score: dict[str, float]


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
        # of a card's memory the slow path needs the model once more, and room to work in
        fits = not self.watch.card or torch.cuda.mem_get_info(self.watch.device)[0] > 2 * self.bytes
        self.twin = slow.Twin(self.model) if fits else None
        self.editors: dict[str, tuple[Editor[Any], list[EditCase]]] = {
            name: prepared(name, self.model, self.cases) for name in editors
        }
        self.samples: dict[tuple[str, Phase, int], Samples] = {}
        self.gemm: list[float] = []
        self.steps: dict[str, float] = {}

    def run(self) -> list[SpeedRow]:
        """Measure everything and return its rows.

        Raises:
            InputError: If engine and slow path do not give the same numbers.
        """
        fast.score(self.model, self.cases[:2], {})  # the first call of a process pays for what later ones find made
        others: list[Training | Generating] = []
        middle = sorted(self.effort.chunks)[len(self.effort.chunks) // 2]
        unedited = Generating(ALL, None, self.cases[:middle], self.model, self.twin, self.watch)
        if {*self.editors} & {*self.effort.generated}:
            others.append(unedited)
        for name, (editor, own) in self.editors.items():
            if isinstance(editor, TrainedEditor) and name in self.effort.trained:
                others.append(Training(name, editor, own, self.model, self.twin, self.watch))
            if name in self.effort.generated:
                shared = self.model, self.twin, self.watch, len(self.editors), unedited
                others.append(Generating(name, editor, own[:middle], *shared))
        for repeat in range(self.effort.repeats):
            said = None if self.twin is None else self._slow(self.twin)
            for chunk in self.effort.chunks:
                self._rate()
                self._fast(chunk, said)
            for other in [] if repeat and self.effort.once else others:
                self._rate()
                samples = self._of(other.name, other.phase, other.chunk)
                other.measure(samples)
                if samples.difference is not None:
                    self._check(other.name, other.phase, samples.difference)
        return self._rows(others)

    def _rate(self) -> None:
        """Measure the machine's rate; time and again, because other programs may slow it for a while."""
        self.gemm.append(gemm_rate(self.watch, self.shape.width, self.model.model.dtype))

    def _of(self, editor: str, phase: Phase, chunk: int) -> Samples:
        return self.samples.setdefault((editor, phase, chunk), Samples())

    def _slow(self, twin: slow.Twin) -> Said:
        """Work through the cases one by one: read the unedited model, and for each editor edit, read and take back."""
        cases = self.cases[: self.effort.slow_cases]
        share = 1 / len(cases)
        before, seconds = self.watch.time(lambda: [slow.read(twin, case) for case in cases])
        said = Said(before, share * seconds, {}, {}, {})
        for name, (editor, own) in self.editors.items():
            edit = score = 0.0
            said.after[name] = []
            for case in own[: len(cases)]:
                change, seconds = self.watch.time(partial(REFERENCES[name], twin, editor, case.request, 0))
                edit += share * seconds
                readings, seconds = self.watch.time(partial(slow.read, twin, case, change))
                score += share * seconds
                said.after[name].append(readings)
            said.edit[name], said.score[name] = edit, score
        return said

    def _fast(self, chunk: int, said: Said | None) -> None:
        """Edit by every editor, then score all of them behind one base pass, as a run does."""
        made: dict[str, Made] = {}
        for name, (editor, cases) in self.editors.items():
            samples = self._of(name, "edit", chunk)
            held = None if samples.fast else self.watch.begin()
            made[name], seconds = self.watch.time(partial(fast.edit, self.model, cases[:chunk], editor))
            self.watch.look()
            if not samples.fast:
                samples.peak = self.watch.end(held)
            samples.fast.append(seconds / chunk)
            self.steps[name] = statistics.fmean(facts.get("steps", 0.0) for facts in made[name].edits.facts)
        base = self._of(ALL, "base", chunk)
        held = None if base.fast else self.watch.begin()
        wall = time.perf_counter()
        (records, walls), seconds = self.watch.time(partial(fast.score, self.model, self.cases[:chunk], made))
        wall = time.perf_counter() - wall
        if not base.fast:
            base.peak = self.watch.end(held)
        # the engine says the wall clock of each editor; its share of the call's is its share of the processor's time
        shares = {name: own / wall for name, own in walls.items()}
        base.fast.append(seconds / chunk * (1 - sum(shares.values())))
        for name in self.editors:
            edit, score, loop = (self._of(name, phase, chunk) for phase in ("edit", "score", "loop"))
            score.fast.append(seconds / chunk * shares[name])
            loop.fast.append(edit.fast[-1] + score.fast[-1] + base.fast[-1] / len(self.editors))
            score.peak = base.peak
            loop.peak = None if edit.peak is None or score.peak is None else max(edit.peak, score.peak)
        if said is not None:
            self._compare(chunk, said, made, records)

    def _compare(self, chunk: int, said: Said, made: dict[str, Made], records: Sequence[CaseRecord]) -> None:
        """Take in the slow path's times, and compare what both say; the first time by log-probabilities as well."""
        base = self._of(ALL, "base", chunk)
        if base.difference is None:
            count = min(chunk, len(said.before))
            edits = {name: found.edits.select(range(count)) for name, found in made.items()}
            before, after = fast.readings(self.model, self.cases[:count], edits)
            self._readings(ALL, base, said.before, before)
            for name in self.editors:
                self._readings(name, self._of(name, "loop", chunk), said.after[name], after[name])
        base.slow.append(said.base)
        for number, name in enumerate(self.editors):
            edit, score, loop = (self._of(name, phase, chunk) for phase in ("edit", "score", "loop"))
            edit.slow.append(said.edit[name])
            score.slow.append(said.score[name])
            loop.slow.append(said.edit[name] + said.base + said.score[name])
            own = records[number * chunk : (number + 1) * chunk]
            for record, case, old, new in zip(own, self.cases, said.before, said.after[name], strict=False):
                loop.compared.scores(record, slow.scores(case, old, new))
            edit.difference = score.difference = loop.difference
            self._check(name, "loop", loop.compared)

    def _readings(
        self, name: str, samples: Samples, old: Sequence[list[Reading]], new: Sequence[list[Reading]]
    ) -> None:
        """Compare readings of the cases that the slow path has."""
        for a, b in zip(new, old, strict=False):
            samples.compared.readings(a, b)
        self._check(name, "readings", samples.compared)

    def _check(self, name: str, phase: str, difference: Difference) -> None:
        """Refuse to time different work; in a half type, rounding is no such difference."""
        if self.shape.dtype == "float32":
            difference.check(f"{name} on {self.shape.name}, {phase}")

    def _rows(self, others: Sequence[Training | Generating]) -> list[SpeedRow]:
        counted = {(other.name, other.phase): other.work for other in others}
        rate, utilisation = statistics.median(self.gemm), self.watch.utilisation
        rows = []
        for (name, phase, chunk), samples in self.samples.items():
            editor, own = self.editors.get(name, (None, self.cases))
            need = needed(self.shape, editor, self.steps.get(name, 0.0), own[:chunk])
            if (name, phase) in counted:
                flops = counted[name, phase](need)
            elif phase == "loop":
                flops = need.edit() + need.score() + need.base() / len(self.editors)
            else:
                flops = {"base": need.base, "edit": need.edit, "score": need.score}[phase]()
            rows.append(self._row(name, phase, chunk, samples, flops / 1e9, rate, utilisation))
        order = [ALL, *self.editors]
        return sorted(rows, key=lambda row: order.index(row.editor))

    def _row(
        self,
        name: str,
        phase: Phase,
        chunk: int,
        samples: Samples,
        gflop: float,
        rate: float,
        utilisation: float | None,
    ) -> SpeedRow:
        low, median, high = spread(samples.fast)
        ratios = [b / a for a, b in zip(samples.fast, samples.slow, strict=False)]
        ratio = spread(ratios) if ratios else (None, None, None)
        difference = samples.difference
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
            cases=self.effort.slow_cases if samples.slow else 0,
            repeats=len(samples.fast),
            largest_difference=None if difference is None else difference.largest,
            differing=None if difference is None else difference.differing,
            utilisation=utilisation,
        )

    @property
    def rate(self) -> Rate:
        """The machine's rate of matrix products."""
        low, median, high = spread(self.gemm)
        return Rate(median=median, low=low, high=high)
