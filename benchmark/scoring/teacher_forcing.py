"""Teacher-forced scores: predictions at the answer's positions against reference tokens."""

from collections.abc import Sequence


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
    """One if every most likely token is the reference token, else zero.

        score = prod_i [predicted_i = reference_i]

    This equals greedy decoding of exactly m tokens being right: it reveals the answer's length and nothing else.

    Args:
        predicted: Most likely token ids at the answer's positions `[m]`.
        reference: Answer tokens, or for locality the unedited model's predictions `[m]`.

    Source: edit success of MEND (arXiv 2110.11309).

    Raises:
        ValueError: If the two differ in length or are empty.
    """
    return float(teacher_forced_token(predicted, reference) == 1.0)
