"""Which cases `--limit` keeps, and which subjects validate: samples that are independent of the file's order."""

import hashlib
from collections.abc import Sequence

from instructedit.editors import EditCase

from .base import subject_key


def choose(cases: Sequence[EditCase], limit: int | None) -> tuple[EditCase, ...]:
    """Return at most `limit` cases in the order of the file.

    They are those whose ids have the smallest sha256: a sample that is independent of the file's order, the same
    on every machine, and contained in the sample of any larger limit.
    """
    if limit is None or limit >= len(cases):
        return tuple(cases)
    ranked = sorted(cases, key=lambda case: hashlib.sha256(case.request.case_id.encode()).digest())
    chosen = {case.request.case_id for case in ranked[:limit]}
    return tuple(case for case in cases if case.request.case_id in chosen)


def rank(subject: str) -> float:
    """Return a subject's place in [0, 1), by the sha256 of `validation ` and its key.

    All spellings of a subject have the same rank. The prefix makes the order differ from that of subjects for candidate
    instructions (`instructions.material`).
    """
    digest = hashlib.sha256(f"validation {subject_key(subject)}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48  # exact in double precision


def divide(
    cases: Sequence[EditCase], limit: int | None, share: float
) -> tuple[tuple[EditCase, ...], tuple[EditCase, ...]]:
    """Return the training cases of a task and those kept for validation.

    A case is kept for validation where its subject's `rank` is below the share. That depends on the subject alone: a
    subject that one task validates no task trains on, under whatever limit, training or setting.

    A limit keeps the share of each side as far as there are cases, at least one for validation, each chosen as by
    `choose`. What a smaller limit takes of either side a larger one takes too.

    Args:
        cases: All cases that may be learnt from.
        limit: Maximum number of cases of both parts together.
        share: Share of the subjects that are kept for validation.

    Returns:
        Cases to train on and to validate on; either may be empty.
    """
    kept = [case for case in cases if rank(case.request.subject) < share]
    learnt = [case for case in cases if not rank(case.request.subject) < share]
    count = len(cases) if limit is None else min(limit, len(cases))
    validated = min(len(kept), max(1, round(share * count), count - len(learnt)))
    return choose(learnt, count - validated), choose(kept, validated)
