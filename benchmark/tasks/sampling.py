"""Which cases `--limit` keeps, and which subjects validate: samples that are independent of the file's order."""

import hashlib
from collections.abc import Iterable, Sequence

from instructedit.editors import EditCase

from .base import subject_key


def choose(cases: Sequence[EditCase], limit: int | None) -> tuple[EditCase, ...]:
    """Return at most `limit` cases, those whose ids have the smallest sha256, in the order of the file.

    It is a sample that is independent of the file's order, the same on every machine, and contained in the sample of
    any larger limit.
    """
    if limit is None or limit >= len(cases):
        return tuple(cases)
    chosen = {case.request.case_id for case in nested(cases)[:limit]}
    return tuple(case for case in cases if case.request.case_id in chosen)


def nested(cases: Iterable[EditCase]) -> list[EditCase]:
    """Return cases ordered by the sha256 of their ids: those of a smaller limit come first, in the same order."""
    return sorted(cases, key=lambda case: hashlib.sha256(case.request.case_id.encode()).digest())


def rank(subject: str) -> float:
    """Return a subject's position in [0, 1), from the sha256 of `validation ` and its key.

    All spellings of a subject have the same rank. The prefix makes the order differ from that of subjects for candidate
    instructions (`instructions.material`).
    """
    digest = hashlib.sha256(f"validation {subject_key(subject)}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48  # exact in double precision


def divide(
    cases: Sequence[EditCase], limit: int | None, share: float
) -> tuple[tuple[EditCase, ...], tuple[EditCase, ...]]:
    """Return the training cases of a task and those kept for validation; either may be empty.

    A case is kept for validation if its subject's `rank` is below the share. That depends on the subject alone, so no
    task, limit or setting trains on a subject that another one validates.

    A limit is divided by the same share as far as there are cases, with at least one case for validation, each side
    chosen as by `choose`. Each side of a smaller limit is a subset of that of a larger one.
    """
    kept = [case for case in cases if rank(case.request.subject) < share]
    learnt = [case for case in cases if not rank(case.request.subject) < share]
    count = len(cases) if limit is None else min(limit, len(cases))
    validated = min(len(kept), max(1, round(share * count), count - len(learnt)))
    return choose(learnt, count - validated), choose(kept, validated)
