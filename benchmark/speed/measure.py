"""Engine and reference in turn within one process, repeated, and compared: times of different work mean nothing."""

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from instructedit.editors import EditCase, Editor, InputError, TrainedEditor, instruction_context
from instructedit.editors.hypernet.training_loop import step_losses

from ..results.records import CaseRecord, GenerationSpec
from ..results.speed_results import Phase, SpeedRow
from ..scoring.scoring import Made, edit_each, score_chunk
from . import reference
from .cases import ModelShape, make_cases, make_model, prepare
from .clock import Clock
from .reference_edits import REFERENCES
from .training import Learner, largest_difference, reference_losses

ALL = "all"
"""Stands for the unedited model in the rows about texts."""
TEACHER_FORCED, WITH_TEXTS = GenerationSpec(max_new_tokens=0), GenerationSpec()
TOLERANCE = 1e-3
"""Differences up to this are rounding errors in float32."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: how often, and for which editors loops, trainings, and answers and texts.

    The engine processes `chunks` of cases together, with texts for the middle one; the reference processes its cases
    one at a time. With `once`, training and texts, the longest parts of the reference, are measured once only.
    """

    repeats: int = 5
    chunks: tuple[int, ...] = (8, 32)
    reference_cases: int = 2
    editors: tuple[str, ...] = tuple(REFERENCES)
    trained: tuple[str, ...] = tuple(REFERENCES)
    generated: tuple[str, ...] = ("ft-l", "grace", "mend")
    once: bool = False


@dataclass(slots=True)
class Samples:
    """Measurements of one editor in one phase.

    Seconds are of one case, by repeat; those of the reference are empty if it was not run. `peak` are the bytes of the
    engine's first repeat, `largest` the largest difference of numbers, `differing` the number of texts that differ.
    """

    engine: list[float] = field(default_factory=list)
    reference: list[float] = field(default_factory=list)
    peak: int | None = None
    largest: float | None = None
    differing: int | None = None


@dataclass(slots=True)
class Outcome:
    """Results of the reference on some cases, under one edit a case or none: seconds for one case, and what was read.

    `numbers` has for each case its scores, then the mean log-probability of its target; `texts` its answers and text.
    """

    edit: float = 0.0
    score: float = 0.0
    numbers: list[list[float]] = field(default_factory=list)
    texts: list[list[str]] = field(default_factory=list)


class ShapeBenchmark:
    """The measurements of some editors on one shape."""

    def __init__(self, shape: ModelShape, editors: Sequence[str], effort: Effort, device: str = "cpu") -> None:
        self.shape, self.effort, self.clock = shape, effort, Clock(device)
        self.model = make_model(shape, device)
        self.model_bytes = sum(weight.numel() * weight.element_size() for weight in self.model.model.parameters())
        self.cases = make_cases(max(effort.chunks), shape.vocabulary)
        # on a GPU the reference needs memory for a second model and its activations
        fits = not self.clock.gpu or torch.cuda.mem_get_info(self.clock.device)[0] > 2 * self.model_bytes
        self.reference = reference.ReferenceModel(self.model) if fits else None
        self.editors: dict[str, tuple[Editor[Any], list[EditCase]]] = {
            name: prepare(name, self.model, self.cases) for name in editors
        }
        self.samples: dict[tuple[str, Phase, int], Samples] = {}

    def run(self) -> list[SpeedRow]:
        """Measure everything and return its rows; `InputError` if engine and reference do not give the same numbers."""
        self._score({}, 2, TEACHER_FORCED)  # warm-up: the first pass of a process is slower
        self.samples.clear()
        for name in self.editors:
            self._compare_training(name)
        self._compare_texts()
        for _ in range(self.effort.repeats):
            outcomes = self._reference_outcomes(list(self.editors), texts=False)
            for chunk in self.effort.chunks:
                self._compare_loop(chunk, outcomes)
        order = [ALL, *self.editors]
        rows = [self._row(*key, samples) for key, samples in self.samples.items()]
        return sorted(rows, key=lambda row: order.index(row.editor))

    def _compare_loop(self, chunk: int, outcomes: Mapping[str, Outcome]) -> None:
        """Edit a chunk and score it as a run of one editor does, editor by editor."""
        for name, (editor, cases) in self.editors.items():
            edit, base, score, loop = (self._of(name, phase, chunk) for phase in ("edit", "base", "score", "loop"))
            requests = [case.request for case in cases[:chunk]]
            (edits, failures), seconds = self._timed(edit, partial(edit_each, self.model, requests, editor, 0))
            if failures:
                raise RuntimeError(f"{name} failed: {failures}")
            edit.engine.append(seconds / chunk)
            records = self._score({name: Made(requests, edits, failures, 0.0)}, chunk, TEACHER_FORCED)
            loop.engine.append(edit.engine[-1] + base.engine[-1] + score.engine[-1])
            loop.peak = None if edit.peak is None or base.peak is None else max(edit.peak, base.peak)
            if outcomes:
                own, unedited = outcomes[name], outcomes[ALL].score
                edit.reference.append(own.edit)
                base.reference.append(unedited)
                score.reference.append(own.score)
                loop.reference.append(own.edit + unedited + own.score)
                pairs = zip(records[name], own.numbers, strict=False)
                largest = max(_largest(numbers(record), expected) for record, expected in pairs)
                self._check(loop, largest, f"{name}, loop")

    def _compare_texts(self) -> None:
        """Time scoring with greedy answers and sampled texts, for the base model and under edits."""
        names = [name for name in self.editors if name in self.effort.generated]
        chunk = sorted(self.effort.chunks)[len(self.effort.chunks) // 2]
        requests = {name: [case.request for case in self.editors[name][1][:chunk]] for name in names}
        made = {
            name: Made(own, edit_each(self.model, own, self.editors[name][0], 0)[0], {}, 0.0)
            for name, own in requests.items()
        }
        for _ in range(0 if not names else 1 if self.effort.once else self.effort.repeats):
            outcomes = self._reference_outcomes(names, texts=True)
            records = self._score(made, chunk, WITH_TEXTS)
            for name, own in outcomes.items():
                samples = self._of(name, "generate", chunk)
                samples.reference.append(own.score)
                if name in made:
                    pairs = zip(records[name], own.texts, strict=False)
                    differing = sum(
                        a != b for record, expected in pairs for a, b in zip(texts(record), expected, strict=True)
                    )
                    samples.differing = max(samples.differing or 0, differing)
                    if differing and self.shape.dtype == "float32":
                        raise InputError(
                            f"{name} on {self.shape.name}: the engine and the reference write other texts."
                        )

    def _compare_training(self, name: str) -> None:
        editor, cases = self.editors[name]
        if not isinstance(editor, TrainedEditor) or name not in self.effort.trained:
            return
        engine = Learner(editor, cases, self.model, step_losses)
        other = None
        if self.reference is not None:
            other = Learner(editor, cases, self.reference, reference_losses)
        size = editor.config.training.batch * editor.config.training.accumulate
        samples = self._of(name, "train", size)
        for _ in range(1 if self.effort.once else self.effort.repeats):
            own, seconds = self._timed(samples, engine.step)
            samples.engine.append(seconds / size)
            if other is not None:
                expected, seconds = self.clock.time(other.step)
                samples.reference.append(seconds / size)
                self._check(samples, largest_difference(own, expected), f"{name}, train")

    def _score(self, made: Mapping[str, Made], chunk: int, generation: GenerationSpec) -> dict[str, list[CaseRecord]]:
        """Score edits of a chunk; note the seconds of the base pass and of each editor's share, and return records."""
        texts, cases = generation is WITH_TEXTS, self.cases[:chunk]
        base = self._of(ALL, "generate", chunk) if texts else self._of(next(iter(made), ALL), "base", chunk)
        score = partial(
            score_chunk,
            self.model,
            cases,
            made,
            probes={name: self.editors[name][0].instructed_probes for name in made},
            run="0" * 16,
            seed=0,
            generation=generation,
            fluency=texts,
        )
        wall = time.perf_counter()
        (records, timings), seconds = self._timed(base, score)
        wall = time.perf_counter() - wall
        # the engine reports wall-clock time of each editor; its share of the call is its share of the processor time
        shares = {timing.editor: timing.score_seconds / wall for timing in timings}
        base.engine.append(seconds / chunk * (1 - sum(shares.values())))
        for name, share in shares.items():
            samples = self._of(name, "generate" if texts else "score", chunk)
            samples.engine.append(seconds / chunk * share)
            samples.peak = base.peak
        return {name: [record for record in records if record.editor == name] for name in made}

    def _reference_outcomes(self, names: Sequence[str], *, texts: bool) -> dict[str, Outcome]:
        """Process the reference's cases one at a time: read the unedited model, then for each editor edit and read."""
        model, found = self.reference, {name: Outcome() for name in (ALL, *names)}
        if model is None:
            return {}
        share = 1 / self.effort.reference_cases
        for number, case in enumerate(self.cases[: self.effort.reference_cases]):
            before, seconds = self.clock.time(partial(reference.probe_predictions, model, case))
            found[ALL].score += share * seconds
            edits = {ALL: reference.UNEDITED}
            for name in names:
                editor, own = self.editors[name]
                request = own[number].request
                edits[name], seconds = self.clock.time(partial(REFERENCES[name], model, editor, request, 0))
                found[name].edit += share * seconds
                context = instruction_context(request, editor.instructed_probes)
                score = partial(reference.probe_predictions, model, case, edits[name], context)
                after, seconds = self.clock.time(score)
                found[name].score += share * seconds
                values = [value for _, value in reference.scores(case, before, after)]
                found[name].numbers.append([*values, statistics.fmean(after[0].log_p)])
            for name, edit in edits.items() if texts else ():
                answers, seconds = self.clock.time(partial(reference.continuations, model, case, WITH_TEXTS, 0, edit))
                found[name].score += share * seconds
                found[name].texts.append(answers)
        return found

    def _of(self, editor: str, phase: Phase, chunk: int) -> Samples:
        return self.samples.setdefault((editor, phase, chunk), Samples())

    def _timed(self, samples: Samples, call: Any) -> tuple[Any, float]:
        """Time a call of the engine; the first one of its samples is measured for memory too."""
        if samples.engine:
            return self.clock.time(call)
        (result, seconds), samples.peak = self.clock.peak(lambda: self.clock.time(call))
        return result, seconds

    def _check(self, samples: Samples, largest: float, what: str) -> None:
        """Note a difference and refuse one that is no rounding error; in half precision any may be."""
        samples.largest = max(samples.largest or 0.0, largest)
        if self.shape.dtype == "float32" and not largest <= TOLERANCE:
            raise InputError(
                f"{what}, shape {self.shape.name}: engine and reference differ by {largest:.2g}; expected at most "
                f"{TOLERANCE:.0e}, so their times cannot be compared."
            )

    def _row(self, editor: str, phase: Phase, chunk: int, samples: Samples) -> SpeedRow:
        low, median, high = quartiles(samples.engine)
        ratios = [slow / fast for fast, slow in zip(samples.engine, samples.reference, strict=False)]
        ratio_low, ratio, ratio_high = quartiles(ratios) if ratios else (None, None, None)
        return SpeedRow(
            editor=editor,
            shape=self.shape.name,
            phase=phase,
            chunk=chunk,
            cpu_seconds=median,
            cpu_low=low,
            cpu_high=high,
            slow_seconds=statistics.median(samples.reference) if samples.reference else None,
            ratio=ratio,
            ratio_low=ratio_low,
            ratio_high=ratio_high,
            peak_bytes=samples.peak,
            model_bytes=self.model_bytes,
            cases=self.effort.reference_cases if samples.reference else 0,
            repeats=len(samples.engine),
            largest_difference=samples.largest,
            differing=samples.differing,
        )


def numbers(record: CaseRecord) -> list[float]:
    """Return the teacher-forced scores of a record, then the mean log-probability of the target."""
    forced = ("teacher_forced_token", "teacher_forced_exact", "kl_divergence")
    values = [score.value for score in record.scores if score.protocol in forced]
    return [*values, math.log(record.edit["target_probability"])]


def texts(record: CaseRecord) -> list[str | None]:
    """Return the greedy answers of a record, then its text."""
    return [*(answer.generated for answer in record.answers), record.text]


def _largest(own: Sequence[float], expected: Sequence[float]) -> float:
    """Return the largest difference of two lists of numbers; one that is not finite differs from all others."""
    gaps = (0.0 if a == b else abs(a - b) for a, b in zip(own, expected, strict=True))
    return max(math.inf if math.isnan(gap) else gap for gap in gaps)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return low, median, high
