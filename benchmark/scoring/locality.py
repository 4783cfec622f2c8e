"""Locality: does the edited model answer an unrelated question as the unedited model does?

The reference is the unedited model's own prediction, never the data's answer, so the unedited model scores 1 (KL: 0).
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from instructedit.editors.cases import Probe
from instructedit.editors.errors import CaseError

from ..results.records import Protocol
from .matching import generation_agreement
from .teacher_forcing import teacher_forced_exact, teacher_forced_token

if TYPE_CHECKING:
    import torch

    from .predictions import BeforeAfter


def locality_scores(probe: Probe, answered: "BeforeAfter") -> Iterator[tuple[Protocol, float]]:
    """Yield the scores of a locality probe, each with its protocol.

    Teacher forced: agreement of the most likely tokens, and the KL divergence, at the positions of the data's answer.
    Free generation: agreement of the first answers.
    """
    for before, after in answered.replies:
        yield "teacher_forced_token", teacher_forced_token(after.predicted, before.predicted)
        yield "teacher_forced_exact", teacher_forced_exact(after.predicted, before.predicted)
        if before.distribution is not None and after.distribution is not None:
            yield "kl_divergence", divergence(before.distribution, after.distribution)
    if answered.before is not None and answered.after is not None:
        yield "free_generation", float(generation_agreement(answered.before, answered.after, probe.answers))


def kl_divergence(base_logits: "torch.Tensor", edited_logits: "torch.Tensor") -> float:
    """How far the edit moved the next-token distributions, in nats, mean over positions; lower is better.

        KL = (1/positions) sum_i sum_v p_i(v) (log p_i(v) - log q_i(v)),    p = softmax(base), q = softmax(edited)

    The arithmetic is float32 whatever the logits are. A token with p(v) = 0 (logit -inf) adds nothing. Rounding can
    make the mean slightly negative; it is clamped at 0.

    Args:
        base_logits: Of the unedited model `[positions, vocabulary]`.
        edited_logits: Of the edited model at the same positions `[positions, vocabulary]`.

    Source: drawdown on other topics in SERAC (arXiv 2206.06520).

    Raises:
        ValueError: If the shapes differ or there is no position.
        CaseError: If the result is not finite.
    """
    import torch

    if base_logits.shape != edited_logits.shape or base_logits.ndim != 2 or not len(base_logits):
        raise ValueError(
            "KL needs two equal shapes [positions, vocabulary] with a position, "
            f"not {list(base_logits.shape)} and {list(edited_logits.shape)}."
        )
    return divergence(*(torch.log_softmax(logits.float(), dim=-1) for logits in (base_logits, edited_logits)))


def divergence(log_p: "torch.Tensor", log_q: "torch.Tensor") -> float:
    """Return `kl_divergence` from log-probabilities.

    Args:
        log_p: Of the unedited model `[positions, vocabulary]`, float32.
        log_q: Of the edited model at the same positions, float32.

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
