"""Parts of a data set that do not follow the order of its file."""

import hashlib
from collections.abc import Sequence

from instructedit.editors import EditCase


def choose(cases: Sequence[EditCase], limit: int | None) -> tuple[EditCase, ...]:
    """Return at most `limit` cases in the order of the file.

    They are those whose ids have the smallest sha256: a part that does not follow the file's order, is the same on
    every machine, and lies within the part of any larger limit.
    """
    if limit is None or limit >= len(cases):
        return tuple(cases)
    ranked = sorted(cases, key=lambda case: hashlib.sha256(case.request.case_id.encode()).digest())
    chosen = {case.request.case_id for case in ranked[:limit]}
    return tuple(case for case in cases if case.request.case_id in chosen)


def divide(
    cases: Sequence[EditCase], limit: int | None, share: float
) -> tuple[tuple[EditCase, ...], tuple[EditCase, ...]]:
    """Return the training cases of a task and those kept for validation, at least one.

    Both are parts as `choose` makes them, so what a smaller limit keeps for validation no larger limit trains on.

    Args:
        cases: All cases that may be learnt from.
        limit: Most cases of both parts together.
        share: Share of them that is kept for validation.
    """
    within = choose(cases, limit)
    kept = choose(within, max(1, round(share * len(within))))
    ids = {case.request.case_id for case in kept}
    return tuple(case for case in within if case.request.case_id not in ids), kept
