"""What a submission claims, against what its records give: the summary, the manifest, the base pass of others."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from instructedit.benchmark.results import Record, RunFile, RunSummary

from .findings import Findings, listed
from .laws import CLOSE
from .manifest import BaseReader, RunEntry

_MEAN = ("editor", "task", "stage", "measure", "subset", "derived", "protocol")
_COMPARISON = ("editor", "other", "task", "stage", "measure", "derived", "protocol")
ALIKE = 1e-3
"""How far a score of likelihoods may be from ours: machines add in another order, and half precision rounds."""


def compare_summary(claimed: RunSummary, computed: RunSummary, file: str, findings: Findings) -> None:
    """Compare a claimed summary with the one that the records give, number by number."""
    for field in ("digest", "valid", "complete", "counts"):
        if getattr(claimed, field) != getattr(computed, field):
            findings.add(file, field, getattr(computed, field), getattr(claimed, field))
    _compare("mean", claimed.means, computed.means, _MEAN, file, findings)
    _compare("comparison", claimed.comparisons, computed.comparisons, _COMPARISON, file, findings)


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


def same_model(run: RunFile, other: RunFile, task: str) -> bool:
    """Tell whether the unedited model was asked the same of a task in two runs."""
    ours, theirs = run.spec, other.spec
    return all(
        getattr(ours, field) == getattr(theirs, field)
        for field in ("split", "limit", "model_fingerprint", "tokenizer_fingerprint", "dtype")
    ) and (ours.data[task], ours.readers[task], ours.generation.max_new_tokens) == (
        theirs.data.get(task),
        theirs.readers.get(task),
        theirs.generation.max_new_tokens,
    )


def compare_base(
    run: RunFile,
    base: BaseReader,
    references: Iterable[tuple[RunFile, BaseReader]],
    file: str,
    findings: Findings,
) -> None:
    """Compare what the unedited model says with what it says in runs that are trusted.

    Args:
        run: The run.
        base: What its lines say of the unedited model.
        references: Trusted runs.
        file: Name of its file of cases.
        findings: Takes the cases in which the two differ.
    """
    for task in run.spec.tasks:
        alike = [(other, reader) for other, reader in references if same_model(run, other, task)]
        checked = []
        for other, reader in alike:
            place = f"task '{task}', against run {other.digest}"
            for what, ours, theirs in (
                ("answers before the edit", base.answers[task], reader.answers[task]),
                ("scores of the row without edit", base.scores[task], reader.scores[task]),
            ):
                if not ours or not theirs or (what.startswith("answers") and not run.spec.generation.max_new_tokens):
                    continue
                checked.append(what)
                if wrong := sorted(case for case in ours.keys() | theirs.keys() if ours.get(case) != theirs.get(case)):
                    findings.add(
                        file, f"base pass, {what}", "those of the reference", f"others in {listed(wrong)}", place
                    )
            _compare_floats(base.floats[task], reader.floats[task], file, place, findings)
        if not checked:
            findings.note(
                f"The base pass of '{task}' in run {run.digest} was not compared: the reference has no run of the same "
                "data, model, limit and generated tokens with a row without edit, or generated answers."
            )


def _compare_floats(
    ours: Mapping[str, list[float]], theirs: Mapping[str, list[float]], file: str, place: str, findings: Findings
) -> None:
    far = [
        case
        for case in sorted(ours.keys() & theirs.keys())
        if len(ours[case]) != len(theirs[case])
        or any(abs(a - b) > ALIKE for a, b in zip(ours[case], theirs[case], strict=False))
    ]
    if far:
        expected = f"those of the reference within {ALIKE}"
        findings.add(file, "base pass, z_sent of the row without edit", expected, f"others in {listed(far)}", place)
