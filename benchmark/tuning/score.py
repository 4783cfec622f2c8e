"""The score by which options are chosen: reliability, generalization and locality in one number.

    score = mean over tasks of 3 / (1 / R + 1 / G + 1 / L)

R, G, L are the task's mean reliability, generalization and locality, exact match under teacher forcing. The harmonic
mean is close to its smallest term: an editor that does nothing scores 0 by its reliability, one that destroys the model
0 by its locality. The arithmetic mean would give 33 for each.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from instructedit.editors import EditCase

from ..results.records import CaseRecord, Measure, Protocol
from ..results.stages import SINGLE
from ..results.statistics import RESAMPLES, seeded
from ..results.summary import Column, case_values
from ..results.tuning_trail import Gain, Share, TaskScore

PROTOCOL: Protocol = "teacher_forced_exact"
PARTS: tuple[Measure, ...] = ("reliability", "generalization", "locality")


@dataclass(frozen=True, slots=True)
class Scored:
    """The cases of one task under one set of options."""

    task: str
    cases: tuple[str, ...]
    """Their ids, sorted."""
    values: NDArray[np.float64]
    """R, G and L of each case, `[cases, 3]`; NaN where it has no such probe, 0 where its edit failed."""
    reasons: tuple[str, ...]
    """Why edits failed, one sentence for each such case."""

    def record(self) -> TaskScore:
        """Return the means as a record."""
        counts = (~np.isnan(self.values)).sum(axis=0)
        means = _means(self.values)
        parts = {name: Share(mean=float(m), n=int(n)) for name, m, n in zip(PARTS, means, counts, strict=True)}
        return TaskScore(task=self.task, **parts, score=float(_harmonic(means)), failed=len(self.reasons))


def can_be_scored(cases: Iterable[EditCase]) -> bool:
    """Tell whether a task can be scored: its cases are facts and have probes of all three kinds."""
    roles: set[str] = set()
    for case in cases:
        if case.request.sentiment is not None:
            return False
        roles |= {probe.role for probe in case.probes}
    return roles.issuperset(PARTS)


def read_scores(records: Iterable[CaseRecord], tasks: Iterable[str]) -> tuple[Scored, ...]:
    """Return the cases of each task in the lines of a run of one row.

    Where a task has given and derived probes of one kind, the given ones count.
    """
    lines: dict[str, dict[str, CaseRecord]] = {task: {} for task in tasks}
    for record in records:
        lines[record.task][record.case_id] = record
    return tuple(_scored(task, own) for task, own in lines.items())


def _scored(task: str, lines: Mapping[str, CaseRecord]) -> Scored:
    found = {case: dict(case_values(line)) for case, line in lines.items() if line.status == "done"}
    values = np.full((len(lines), len(PARTS)), np.nan)
    cases = tuple(sorted(lines))
    for part, name in enumerate(PARTS):
        given, derived = (Column(SINGLE, name, kind, PROTOCOL, None) for kind in (False, True))
        column = given if any(given in own for own in found.values()) else derived
        for number, case in enumerate(cases):
            values[number, part] = found[case].get(column, np.nan) if case in found else 0.0
    reasons = tuple(lines[case].reason or "" for case in cases if case not in found)
    return Scored(task, cases, values, reasons)


def total(scored: Iterable[Scored]) -> float:
    """Return the score over tasks."""
    return fmean(float(_harmonic(_means(task.values))) for task in scored)


def gain(after: Iterable[Scored], before: Iterable[Scored], key: str) -> Gain | None:
    """Return the difference of two scores on the same cases, with its 95 % percentile bootstrap interval.

    Cases are drawn with replacement within each task, the same for both. The interval is of the difference on these
    cases: one of the two was chosen by them, which no interval takes back. None where every draw has the same one.
    """
    sides = list(zip(after, before, strict=True))
    draws = np.zeros(RESAMPLES)
    for ours, theirs in sides:
        assert ours.cases == theirs.cases, "the same cases"
        n = len(ours.cases)
        times = seeded(f"{key}|{ours.task}").multinomial(n, np.full(n, 1 / n), RESAMPLES)
        draws += _harmonic(_means(ours.values, times)) - _harmonic(_means(theirs.values, times))
    if np.ptp(draws) < 1e-12:
        return None
    low, high = np.quantile(draws / len(sides), [0.025, 0.975]).round(12)  # machines add in different orders
    difference = total(ours for ours, _ in sides) - total(theirs for _, theirs in sides)
    return Gain(difference=difference, low=float(low), high=float(high))


def _means(values: NDArray[np.float64], times: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """Return the means of `[cases, 3]` over cases, `[3]`; 0 where no case has such a probe.

    With the number of times each case is drawn in each resample, `[resamples, cases]`, they are `[resamples, 3]`.
    """
    has = ~np.isnan(values)
    weights = np.ones(len(values)) if times is None else times.astype(np.float64)
    means: NDArray[np.float64] = (weights @ np.where(has, values, 0.0)) / np.maximum(weights @ has, 1.0)
    return means


def _harmonic(means: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        found: NDArray[np.float64] = means.shape[-1] / (1 / means).sum(axis=-1)
    return found
