"""Agreement of two sets of lines that should be equal: a run and its repetition, or two submissions of one run.

The digest of a run names everything that decides its numbers, so two submissions of one digest have equal lines, up to
the rounding of two machines. Where they do not, at least one of them does not come from that run: neither is ranked,
until one of them is run again and agrees.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from pydantic import NonNegativeInt

from instructedit.benchmark.results.integrity import Key, key_of
from instructedit.benchmark.results.records import CaseRecord, Record

from .base_pass import TOLERANCE
from .findings import short
from .validate import Verdict

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


def find_contradictions(submissions: Sequence[Verdict]) -> None:
    """Compare submissions of one run with each other and set their `contradictions`.

    One submission is the reference of a run: one that agrees with its own repetition if there is one. If another
    disagrees with it, all submissions of the run are contradicted, but for a reference with a repetition and those that
    agree with it. The lines of one run are in memory at a time.
    """
    by_run: dict[str, list[Verdict]] = defaultdict(list)
    for submission in submissions:
        for run in submission.runs:
            by_run[run].append(submission)
    for run, own in sorted(by_run.items()):
        if len({_content(submission, run) for submission in own}) > 1:
            _compare(run, sorted(own, key=lambda submission: (not _repeated(submission, run), submission.id)))


def _compare(run: str, submissions: Sequence[Verdict]) -> None:
    reference, *others = submissions
    ours = {key_of(line): line for line in reference.records(run)}
    wrong = {}
    for other in others:
        if _content(other, run) != _content(reference, run):
            rows = agreement(ours, other.records(run))
            if differing := [f"{short(name)}: {row}" for name, row in rows.items() if not row.agrees]:
                wrong[other.id] = "; ".join(differing)
    if not wrong:
        return
    trusted = _repeated(reference, run) and not any(_repeated(o, run) for o in others if o.id in wrong)
    for submission in submissions:
        if submission.id in wrong:
            rivals, what = [reference], wrong[submission.id]
        elif not trusted:
            rivals, what = [o for o in others if o.id in wrong], "; ".join(dict.fromkeys(wrong.values()))
        else:
            continue
        names = ", ".join(f"'{short(r.author[0])}' by {short(', '.join(r.author[1]))}" for r in rivals)
        end = (
            "that one came out the same when it was run again"
            if trusted
            else "neither is ranked until one of them has been run again"
        )
        sentence = f"Run {run} has other answers in the submission {names} ({what}); {end}."
        submission.contradictions += (sentence,)


def _content(submission: Verdict, run: str) -> str:
    assert submission.manifest is not None
    return submission.manifest.files[f"runs/{run}/cases.jsonl.gz"].sha256


def _repeated(submission: Verdict, run: str) -> bool:
    return submission.rerun is not None and submission.rerun.agrees and run in submission.rerun.cases
