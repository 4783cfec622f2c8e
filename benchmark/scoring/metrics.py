"""The metrics by name: pure functions of a few numbers or one text, which know nothing of models, files or cases.

`docs/metrics.md` explains each with an example and the published numbers that it may be compared with; `matching` has
the scores of free generation.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from instructedit.editors.errors import CaseError
from instructedit.editors.writing_systems import UNSPACED

if TYPE_CHECKING:
    import torch

WORDS = "scripts-1"
"""Name of the rule of `words`, recorded in runs; a change of the rule changes the name."""


def teacher_forced_token(predicted: Sequence[int], reference: Sequence[int]) -> float:
    """Share of positions where the most likely token is the reference token.

        score = (1/m) sum_i [predicted_i = reference_i]

    Each prediction follows the right tokens before it (teacher forcing), so single tokens earn partial credit.
    For locality the reference is what the *unedited* model predicts at the same positions: agreement, not accuracy.

    Args:
        predicted: Most likely token ids at the answer's positions `[m]`.
        reference: Answer tokens, or the unedited model's predictions `[m]`.

    Source: token accuracy as in ROME's zsRE evaluation (arXiv 2202.05262) and KnowEdit (arXiv 2401.01286).

    Raises:
        ValueError: If the two differ in length or are empty.
    """
    if not predicted:
        raise ValueError("Token agreement of no tokens is undefined.")
    return sum(bool(p == r) for p, r in zip(predicted, reference, strict=True)) / len(predicted)


def teacher_forced_exact(predicted: Sequence[int], reference: Sequence[int]) -> float:
    """One if every most likely token is the reference token, else zero; arguments as of `teacher_forced_token`.

        score = prod_i [predicted_i = reference_i]

    This equals greedy decoding of exactly m tokens being right: it reveals the answer's length and nothing else.

    Source: edit success of MEND (arXiv 2110.11309).
    """
    return float(teacher_forced_token(predicted, reference) == 1.0)


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
    mean = fmean(log_probabilities)
    if math.isnan(mean):
        raise CaseError("A reply has a token whose log-probability is not a number; expected a number.")
    return mean


def _difference(a: float, b: float) -> float:
    # -inf - -inf = 0: both impossible is no difference.
    return 0.0 if a == b else a - b


def _sigmoid(x: float) -> float:
    # Exponents of negative numbers only, so that no difference is too large.
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def divergence(log_p: "torch.Tensor", log_q: "torch.Tensor") -> float:
    """How far the edit moved the next-token distributions: KL divergence in nats, mean over positions.

        KL = (1/positions) sum_i sum_v p_i(v) (log p_i(v) - log q_i(v))

    A token with p(v) = 0 (logit -inf) adds nothing. Rounding can make the mean slightly negative; it is clamped at 0.

    Args:
        log_p: Log-probabilities of the unedited model `[positions, vocabulary]`, float32.
        log_q: Of the edited model at the same positions, float32.

    Source: drawdown on other topics in SERAC (arXiv 2206.06520).

    Raises:
        CaseError: If the result is not finite.
    """
    import torch

    p, gaps = log_p.exp(), log_p - log_q
    mean = float((p * gaps).sum(dim=-1).mean())
    if math.isnan(mean):
        # Only an exact -inf may be left out: a NaN must reach the check below.
        mean = float(torch.where(log_p == -math.inf, 0.0, p * gaps).sum(dim=-1).mean())
    if not math.isfinite(mean):
        raise CaseError(
            f"The KL divergence between the unedited and the edited model is {mean}; a finite number was expected."
        )
    return max(0.0, mean)


def words(text: str) -> list[str]:
    r"""Split a text into words and marks of punctuation, deterministically and without any data file.

    The rule is the regular expression `\w+(?:['’]\w+)*|[^\w\s]`, where a letter carries its combining marks: case is
    kept, "don't" is one word, "..." is three marks. In writing systems without spaces between words (Chinese, Japanese,
    Thai, ...) each character with its combining marks is a word.
    """
    return _words().findall(text)


@cache
def _words() -> re.Pattern[str]:
    r"""Return the expression of `words`: `re` has no class of combining marks, and `\w` leaves them out."""
    marks = "".join(map(chr, (c for c in range(0x300, 0x1F000) if unicodedata.category(chr(c)).startswith("M"))))
    joined = f"[{marks}\u200c\u200d]*"  # Persian and the scripts of India join letters, or part them, within a word
    letter = rf"[^\W{UNSPACED}]{joined}"
    return re.compile(rf"(?:{letter})+(?:['’](?:{letter})+)*|[{UNSPACED}]{joined}|[^\w\s]")


def ngram_entropy(text: str) -> float | None:
    """Fluency: entropy of the bigrams and trigrams of a text, which falls when the text repeats itself.

        H_n = -sum_g p_n(g) log2 p_n(g)      score = 100 * (H_2 / 3 + 2 H_3 / 3)

    p_n(g) is the share of the n-gram g among the text's n-grams of `words`. A text of m different words reaches about
    100 log2 m, so only texts of equal length compare.

    Args:
        text: Generated text without its prompt.

    Returns:
        The score, or None if the text has fewer than three words and so no trigram.

    Source: generation entropy of ROME (arXiv 2202.05262), with its weights (2/3, 4/3) / 2; times 100 as KnowEdit
    reports it.
    """
    tokens = words(text)
    if len(tokens) < 3:
        return None
    return 100 * (_entropy(tokens, 2) / 3 + 2 * _entropy(tokens, 3) / 3)


def _entropy(tokens: list[str], n: int) -> float:
    counts = Counter(zip(*(tokens[i:] for i in range(n)), strict=False))
    total = counts.total()
    return math.fsum(count / total * math.log2(total / count) for count in counts.values())
