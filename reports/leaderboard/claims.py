"""What a submission claims, against what its records give: the summary, the manifest, the base pass of others."""

import math
from collections.abc import Iterable
from typing import Any

from instructedit.benchmark.results.records import Record, RunSummary

from .findings import Findings
from .laws import CLOSE
from .manifest import RunEntry

_MEAN = ("editor", "task", "stage", "measure", "subset", "derived", "protocol")
_HEALTH = ("editor", "task", "stage")
_COMPARISON = ("editor", "other", "task", "stage", "measure", "derived", "protocol")


def compare_summary(claimed: RunSummary, computed: RunSummary, file: str, findings: Findings) -> None:
    """Compare a claimed summary with the one that the records give, number by number."""
    for field in ("digest", "valid", "complete", "counts"):
        if getattr(claimed, field) != getattr(computed, field):
            findings.add(file, field, getattr(computed, field), getattr(claimed, field))
    _compare("mean", claimed.means, computed.means, _MEAN, file, findings)
    _compare("comparison", claimed.comparisons, computed.comparisons, _COMPARISON, file, findings)
    if claimed.health:  # older versions wrote none
        _compare("health", claimed.health, computed.health, _HEALTH, file, findings)
    if claimed.consistency:  # as above
        _compare("consistency", claimed.consistency, computed.consistency, ("editor", "task"), file, findings)


def _compare(
    what: str,
    claimed: Iterable[Record],
    computed: Iterable[Record],
    key: tuple[str, ...],
    file: str,
    findings: Findings,
) -> None:
    ours = {tuple(getattr(number, name) for name in key): number for number in computed}
    seen = set()
    for number in claimed:
        name = tuple(getattr(number, field) for field in key)
        place = f"{what} of {_named(key, name)}"
        if name in seen:
            findings.add(file, what, "each once", "a second one", place)
            continue
        seen.add(name)
        if (expected := ours.get(name)) is None:
            findings.add(file, what, "none, the records give no such number", "one", place)
            continue
        for field in type(number).model_fields:
            if field not in key and not _equal(getattr(number, field), getattr(expected, field)):
                findings.add(file, field, getattr(expected, field), getattr(number, field), place)
    for name in ours.keys() - seen:
        findings.add(file, what, "one, the records give it", "none", f"{what} of {_named(key, name)}")


def _named(key: tuple[str, ...], values: tuple[Any, ...]) -> str:
    return ", ".join(
        f"{name} {value}" for name, value in zip(key, values, strict=True) if value not in (None, False, "single")
    )


def _equal(found: Any, expected: Any) -> bool:
    if isinstance(found, float) and isinstance(expected, float):
        return math.isfinite(found) and abs(found - expected) <= CLOSE
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_equal(found[key], expected[key]) for key in found)
    return bool(found == expected)


def compare_entry(claimed: RunEntry, computed: RunEntry, file: str, findings: Findings) -> None:
    """Compare what the manifest says of a run with what its files say."""
    place = f"run {computed.digest}"
    for field in RunEntry.model_fields:
        found, expected = getattr(claimed, field), getattr(computed, field)
        if isinstance(found, dict) and isinstance(expected, dict):
            for key in sorted(found.keys() | expected.keys()):
                if found.get(key) != expected.get(key):
                    findings.add(file, f"{field}.{key}", expected.get(key), found.get(key), place)
        elif not _equal(found, expected):
            findings.add(file, field, expected, found, place)
