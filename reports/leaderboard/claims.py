"""Claimed values against computed ones, field by field."""

import math
from collections.abc import Iterator
from typing import Any

from instructedit.benchmark.results.records import Record, RunSummary

from .findings import Findings

CLOSE = 1e-12
"""Allowed difference of two floats that come from the same operations."""
_PARTS = {
    "means": ("mean", ("editor", "task", "stage", "measure", "subset", "derived", "protocol")),
    "comparisons": ("comparison", ("editor", "other", "task", "stage", "measure", "derived", "protocol")),
    "health": ("health", ("editor", "task", "stage")),
    "consistency": ("consistency", ("editor", "task")),
}
"""Lists of a summary: the name of one number, and its key."""


def differences(found: Any, expected: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield where two values differ: the path of the field, the expected value, and the one that was found."""
    if found == expected:
        return
    found, expected = (dict(value) if isinstance(value, Record) else value for value in (found, expected))
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(found.keys() | expected.keys()):
            yield from differences(found.get(key), expected.get(key), f"{path}.{key}".lstrip("."))
    elif isinstance(found, tuple) and isinstance(expected, tuple) and len(found) == len(expected):
        for number, pair in enumerate(zip(found, expected, strict=True)):
            yield from differences(*pair, f"{path}.{number}".lstrip("."))
    elif isinstance(found, float) and isinstance(expected, float):
        if not (math.isfinite(found) and abs(found - expected) <= CLOSE):
            yield path, expected, found
    else:
        yield path, expected, found


def compare(found: Any, expected: Any, file: str, place: str, findings: Findings) -> None:
    """Add a finding for each field in which two values differ."""
    for path, wanted, value in differences(found, expected):
        findings.add(file, path, wanted, value, place)


def compare_summary(claimed: RunSummary, computed: RunSummary, file: str, findings: Findings) -> None:
    """Compare a claimed summary with the one that the records give, number by number."""
    for field in ("digest", "valid", "complete", "counts"):
        findings.equal(file, field, getattr(computed, field), getattr(claimed, field))
    for part, (what, key) in _PARTS.items():
        numbers = getattr(claimed, part)
        theirs, ours = ({_place(what, key, one): one for one in of} for of in (numbers, getattr(computed, part)))
        if len(theirs) < len(numbers):
            findings.add(file, part, "each number once", "a second one")
        for place in sorted(theirs.keys() | ours.keys()):
            if place not in ours:
                findings.add(file, what, "none, the records give no such number", "one", place)
            elif place not in theirs:
                findings.add(file, what, "one, the records give it", "none", place)
            else:
                compare(theirs[place], ours[place], file, place, findings)


def _place(what: str, key: tuple[str, ...], number: Record) -> str:
    named = ((name, getattr(number, name)) for name in key)
    shown = (f"{name} {value}" for name, value in named if value not in (None, False, "single"))
    return f"{what} of {', '.join(shown)}"
