"""The answer before the edit: which cases have one to score, and its scores.

Source of `probability_order`: efficacy and paraphrase score of ROME (arXiv 2202.05262, section 3.1): the share of cases
with P(new) > P(old) after the edit, which its code reads as the lower mean negative log-likelihood of a token.
"""

from collections.abc import Sequence
from statistics import fmean

from instructedit.editors import EditCase, Probe

from .matching import matches, normalise

OLD_RULE = "mean-nll-1"
"""Name of the rule, recorded in runs; a change of the rule changes the name."""
SAME = "old answer: it is an accepted new one"


def old_of(case: EditCase) -> str | None:
    """Return the old answer of a case that the edit is meant to replace; None for an edit of an attitude."""
    return None if any(probe.opposed for probe in case.probes) else case.request.old


def scored_old(case: EditCase) -> str | None:
    """Return the old answer of a case if it is known and none of the accepted new ones."""
    old = old_of(case)
    new = {case.request.target, *(answer for probe in asked(case) for answer in probe.answers)}
    return None if old is None or normalise(old) in set(map(normalise, new)) else old


def asked(case: EditCase) -> list[Probe]:
    """Return the probes that the old answer is scored on: those that ask for the edit's target."""
    target = case.request.target
    roles = ("reliability", "generalization")
    return [p for p in case.probes if p.role in roles and p.answers[:1] == (target,) and not p.opposed]


def probability_order(new: Sequence[float], old: Sequence[float]) -> float:
    """Return 1 if the new answer is likelier than the old one, else 0; a tie is 0.

        score = [mean_i -log p(new_i) < mean_i -log p(old_i)]

    Args:
        new: Natural log-probabilities of the new answer's tokens under the edited model, each after the right tokens
            before it `[new]`.
        old: Those of the old answer after the same prompt `[old]`.

    Raises:
        ValueError: If one of them is empty.
    """
    if not new or not old:
        raise ValueError("The order of two answers needs at least one token of each.")
    return float(fmean(new) > fmean(old))


def reversion(text: str, old: str, accepted: Sequence[str]) -> float:
    """Return 1 if a free generation of the edited model is the old answer and no accepted new one, else 0."""
    return float(matches(text, [old]) and not matches(text, accepted))
