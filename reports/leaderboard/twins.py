"""Submissions of one run with other answers: at least one of them does not come from that run.

The digest of a run names everything that decides its numbers, so two submissions of one digest have equal lines, up to
the rounding of two machines. Where they do not, neither is ranked, until one of them is run again and agrees.
"""

from collections import defaultdict
from collections.abc import Sequence

from instructedit.benchmark.results.integrity import key_of

from .agreement import agreement
from .findings import short
from .validate import Verdict


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
