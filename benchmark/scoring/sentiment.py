"""SERAC's edit success: the score of a sentiment probe from the log-probabilities of replies of both sentiments."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from instructedit.editors.errors import CaseError


class Sentiment(NamedTuple):
    """SERAC's edit success with its two factors, each within [0, 1]."""

    edit_success: float
    z_sent: float
    z_topic: float


def edit_success(plus_post: Sequence[float], minus_post: Sequence[float], plus_pre: Sequence[float]) -> Sentiment:
    """Score a changed sentiment: the right sentiment, still on the topic.

        z_sent       = sigmoid(L+_post - L-_post)
        z_topic      = min(1, exp(L+_post - L+_pre))
        edit success = z_sent * z_topic

    L is the mean log-probability of a token, pooled over all tokens of all replies (a long reply weighs more than a
    short one). L+ reads the replies of the edited sentiment, L- those of the opposite one; pre is the unedited model,
    post the edited one.

    Two impossible sets of replies (both L = -inf) count as no difference: z_sent = 1/2, z_topic = 1.

    Args:
        plus_post: Natural log-probabilities of all tokens of the replies with the edited sentiment, edited model
            `[tokens+]`.
        minus_post: Those of the replies with the opposite sentiment, edited model `[tokens-]`.
        plus_pre: As `plus_post`, unedited model `[tokens+]`.

    Source: sentiment editing in SERAC (arXiv 2206.06520).

    Raises:
        ValueError: If one of the three is empty or the first and third differ in length.
        CaseError: If a log-probability is not a number.
    """
    if not plus_post or not minus_post:
        raise ValueError("Edit success needs at least one token of each sentiment.")
    if len(plus_post) != len(plus_pre):
        raise ValueError("Edit success reads the same replies before and after the edit: token counts must be equal.")
    after, opposite, before = (_mean(values) for values in (plus_post, minus_post, plus_pre))
    z_sent = _sigmoid(_difference(after, opposite))
    # The minimum is taken first so that exp cannot overflow.
    z_topic = math.exp(min(0.0, _difference(after, before)))
    return Sentiment(z_sent * z_topic, z_sent, z_topic)


def _mean(log_probabilities: Sequence[float]) -> float:
    mean = math.fsum(log_probabilities) / len(log_probabilities)
    if math.isnan(mean):
        raise CaseError("A reply has a token whose log-probability is not a number; expected a number.")
    return mean


def _difference(a: float, b: float) -> float:
    """Return a - b, with -inf - -inf = 0: both impossible is no difference."""
    return 0.0 if a == b else a - b


def _sigmoid(x: float) -> float:
    # Exponents of negative numbers only, so that no difference is too large.
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
