"""What a loop is asked for and what its trials come to, as records; nothing here needs a model."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import Field

from ..results.records import Record
from ..results.statistics import Interval, Paired, mean_interval, paired
from .proposal import Measures

MEASURES = ("reliability", "generalization", "locality", "portability")
"""What a trial measures, each as a share from 0 to 1."""


class LoopConfig(Record):
    """What decides the numbers of a loop."""

    task: str
    proposer: str = "offline"
    rounds: int = Field(default=5, ge=1)
    """Most rounds."""
    candidates: int = Field(default=10, ge=1)
    """Candidates that are asked for in each round."""
    patience: int = Field(default=2, ge=1)
    """Rounds in a row without a better candidate after which the loop stops."""
    shown: int = Field(default=6, ge=2)
    """Earlier candidates that the proposer is shown, half of them the best and half the worst."""
    examples: int = Field(default=4, ge=1)
    """Training cases that the proposer is shown."""
    cases: int = Field(default=100, ge=2)
    """Most cases that candidates are tried on."""
    test_cases: int = Field(default=100, ge=2)
    """Most cases of the test split."""
    anew: int | None = Field(default=None, ge=1)
    """Steps of an editor that is trained for each candidate, under that candidate; None: one editor for all."""
    seed: int = 0


class Trial(Record):
    """What the trial of one description came to.

    The score of a case is the mean of the measures that it has.
    """

    text: str
    cases: dict[str, dict[str, float]]
    """By case id the value of each measure, and `score`."""
    failed: int = 0
    """Cases that could not be edited; their score is 0."""

    def values(self, measure: str = "score") -> dict[str, float]:
        """Return a measure of the cases that have it, by case id."""
        return {case: found[measure] for case, found in self.cases.items() if measure in found}

    def means(self) -> Measures:
        """Return the mean over cases of each measure and of the score, in percent."""
        found = {measure: list(self.values(measure).values()) for measure in (*MEASURES, "score")}
        return {measure: 100 * sum(values) / len(values) for measure, values in found.items() if values}


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Return trials by their mean score, best first, equal ones by their text; those without a case are left out."""
    scored = [trial for trial in trials if trial.cases]
    return sorted(scored, key=lambda trial: (-trial.means()["score"], trial.text))


def difference(first: Sequence[Trial], second: Sequence[Trial], measure: str = "score") -> Paired | None:
    """Compare two groups of descriptions: the paired difference of a measure over the cases both have, as shares.

    A case's value in a group is the mean over the group's descriptions.

    Returns:
        The comparison, or None if no case has the measure in both.
    """
    return paired(_together(first, measure), _together(second, measure))


def mean(trials: Sequence[Trial], measure: str = "score") -> Interval | None:
    """Return a group's mean of a measure over cases with its 95 % interval, as shares; None if no case has it."""
    values = _together(trials, measure)
    key = f"trials|{measure}|{'|'.join(trial.text for trial in trials)}"
    return mean_interval(list(values.values()), key) if values else None


def _together(trials: Sequence[Trial], measure: str) -> dict[str, float]:
    """Return by case the mean over a group's descriptions; of cases that have the measure under all of them."""
    found: list[dict[str, Any]] = [trial.values(measure) for trial in trials]
    shared = set.intersection(*(set(values) for values in found)) if found else set()
    return {case: sum(values[case] for values in found) / len(found) for case in sorted(shared)}
