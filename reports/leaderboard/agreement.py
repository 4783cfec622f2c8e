"""Agreement of two sets of lines that should be equal: a run and its repetition, or two submissions of one run."""

from collections.abc import Iterable, Mapping
from typing import Self

from pydantic import NonNegativeInt

from instructedit.benchmark.results.integrity import Key, key_of
from instructedit.benchmark.results.records import CaseRecord, Record

from .base_pass import TOLERANCE

LEAST = 0.99
"""Least share of equal answers, and of equal scores, of a row that is said to agree: another machine rounds otherwise,
so that now and then two tokens change places."""


class Agreement(Record):
    """Numbers of equal answers and scores of a row."""

    lines: NonNegativeInt = 0
    """Cases that both have."""
    answers: NonNegativeInt = 0
    """Texts of the edited model: its answers, and what is sampled for fluency; of a failed case that it failed."""
    equal_answers: NonNegativeInt = 0
    scores: NonNegativeInt = 0
    equal_scores: NonNegativeInt = 0
    """Equal within `TOLERANCE`, of a score above 1 within that share of it."""

    def __add__(self, other: Self) -> "Agreement":
        """Return the sums."""
        return Agreement(**{name: getattr(self, name) + getattr(other, name) for name in Agreement.model_fields})

    @property
    def agrees(self) -> bool:
        """Whether at least the share `LEAST` of answers, and of scores, is equal."""
        return self.equal_answers >= LEAST * self.answers and self.equal_scores >= LEAST * self.scores

    def __str__(self) -> str:
        """Return the numbers in words."""
        return (
            f"{self.equal_answers:,} of {self.answers:,} answers and {self.equal_scores:,} of {self.scores:,} scores "
            "are equal"
        )


def agreement(ours: Mapping[Key, CaseRecord], theirs: Iterable[CaseRecord]) -> dict[str, Agreement]:
    """Compare lines with those of the same case, row and stage, row by row; lines without such a one do not count.

    By row, because rows that agree would make up for one that does not.
    """
    found: dict[str, Agreement] = {}
    for line in theirs:
        if (own := ours.get(key_of(line))) is not None:
            found[line.editor] = found.get(line.editor, Agreement()) + _of_line(own, line)
    return found


def _of_line(one: CaseRecord, two: CaseRecord) -> Agreement:
    answers, scores = (_answers(one), _answers(two)), (_scores(one), _scores(two))
    return Agreement(
        lines=1,
        answers=len(answers[0].keys() | answers[1].keys()),
        equal_answers=sum(answers[1].get(name) == text for name, text in answers[0].items()),
        scores=len(scores[0].keys() | scores[1].keys()),
        equal_scores=sum(
            name in scores[1] and abs(value - scores[1][name]) <= TOLERANCE * max(1.0, abs(value))
            for name, value in scores[0].items()
        ),
    )


def _answers(line: CaseRecord) -> dict[object, str]:
    texts = {number: answer.generated for number, answer in enumerate(line.answers)} | {"text": line.text}
    found: dict[object, str] = {place: text for place, text in texts.items() if text is not None}
    return found if line.status == "done" else {"status": line.status}


def _scores(line: CaseRecord) -> dict[object, float]:
    return {(s.probe, s.measure, s.subset, s.derived, s.protocol): s.value for s in line.scores}
