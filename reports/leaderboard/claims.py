"""Claimed numbers against those computed from the records: the summary and the manifest."""

import math
from collections.abc import Iterable
from typing import Any

from instructedit.benchmark.results.records import Record, RunSummary

from .findings import Findings
from .manifest import RunEntry
from .record_checks import CLOSE

_PARTS = {
    "means": ("mean", ("editor", "task", "stage", "measure", "subset", "derived", "protocol")),
    "comparisons": ("comparison", ("editor", "other", "task", "stage", "measure", "derived", "protocol")),
    "health": ("health", ("editor", "task", "stage")),
    "consistency": ("consistency", ("editor", "task")),
}
"""Lists of a summary: the name of one number, and its key."""
_OPTIONAL = ("health", "consistency")
"""Lists that older versions did not write."""


def compare_summary(claimed: RunSummary, computed: RunSummary, file: str, findings: Findings) -> None:
    """Compare a claimed summary with the one that the records give, number by number."""
    for field in ("digest", "valid", "complete", "counts"):
        findings.equal(file, field, getattr(computed, field), getattr(claimed, field))
    for part, (what, key) in _PARTS.items():
        if part not in _OPTIONAL or getattr(claimed, part):
            _compare(what, key, getattr(claimed, part), getattr(computed, part), file, findings)


def _compare(
    what: str,
    key: tuple[str, ...],
    claimed: Iterable[Record],
    computed: Iterable[Record],
    file: str,
    findings: Findings,
) -> None:
    def keyed(number: Record) -> tuple[Any, ...]:
        return tuple(getattr(number, name) for name in key)

    def place(values: tuple[Any, ...]) -> str:
        named = zip(key, values, strict=True)
        shown = (f"{name} {value}" for name, value in named if value not in (None, False, "single"))
        return f"{what} of {', '.join(shown)}"

    expected, seen = {keyed(number): number for number in computed}, set[tuple[Any, ...]]()
    for number in claimed:
        own = keyed(number)
        if own in seen:
            findings.add(file, what, "each once", "a second one", place(own))
        elif own not in expected:
            findings.add(file, what, "none, the records give no such number", "one", place(own))
        else:
            _compare_fields(number, expected[own], file, place(own), findings)
        seen.add(own)
    for own in expected.keys() - seen:
        findings.add(file, what, "one, the records give it", "none", place(own))


def compare_entry(claimed: RunEntry, computed: RunEntry, file: str, findings: Findings) -> None:
    """Compare the entry of a run in the manifest with the files of the run."""
    _compare_fields(claimed, computed, file, f"run {computed.digest}", findings)


def _compare_fields(claimed: Record, computed: Record, file: str, place: str, findings: Findings) -> None:
    for field in type(computed).model_fields:
        found, expected = getattr(claimed, field), getattr(computed, field)
        if isinstance(found, dict) and isinstance(expected, dict):
            for key in sorted(found.keys() | expected.keys()):
                if (key in found) != (key in expected) or not _close(found.get(key), expected.get(key)):
                    findings.add(file, f"{field}.{key}", expected.get(key), found.get(key), place)
        elif not _close(found, expected):
            findings.add(file, field, expected, found, place)


def _close(found: Any, expected: Any) -> bool:
    if isinstance(found, float) and isinstance(expected, float):
        return math.isfinite(found) and abs(found - expected) <= CLOSE
    return bool(found == expected)
