"""What one line of `cases.jsonl` has to keep, by itself and beside the other lines of its case."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from instructedit.benchmark.results.guard import Break, out_of_range
from instructedit.benchmark.results.records import Answer, CaseRecord, EditorSpec, Protocol, RunSpec, Score
from instructedit.benchmark.scoring.matching import generation_agreement, matches
from instructedit.benchmark.scoring.metrics import ngram_entropy
from instructedit.editors.cases import EditCase

CLOSE = 1e-12
"""How far a float may be from the one that is computed here; both come from the same operations."""
_SENTIMENT: tuple[Protocol, ...] = ("edit_success", "z_sent", "z_topic")
_UNCHANGED: Mapping[Protocol, float] = {
    "teacher_forced_token": 1.0,
    "teacher_forced_exact": 1.0,
    "free_generation": 1.0,
    "kl_divergence": 0.0,
}
"""Locality of a model that is not edited."""


_FACTS: Mapping[str, tuple[float, float]] = {
    "target_probability": (0.0, 1.0),
    "at_bound": (0.0, 1.0),
    "converged": (0.0, 1.0),
    "cosine": (-1.001, 1.001),  # of single precision
}
"""Facts of an edit that lie between two numbers."""


class Asked(NamedTuple):
    """One probe as it was asked, and what the unedited model said."""

    role: str
    subset: str
    derived: bool
    prompt: str
    accepted: tuple[str, ...]
    opposed: tuple[str, ...]
    before: str | None


@dataclass(frozen=True, slots=True)
class Sheet:
    """What all lines of a case share.

    Attributes:
        head: Prompt, target and subject of the edit.
        asked: The probes; None as long as no line has answers.
        whence: Where this was read.
    """

    head: tuple[str, str, str]
    asked: tuple[Asked, ...] | None
    whence: str


def asked(answer: Answer) -> Asked:
    """Return a probe as it was asked."""
    return Asked(
        answer.role,
        answer.subset,
        answer.derived,
        answer.prompt,
        answer.accepted,
        answer.opposed,
        answer.before,
    )


def check_beside(record: CaseRecord, sheet: Sheet, *, before: bool = True) -> Iterator[Break]:
    """Yield where a line differs from what its case asks.

    Args:
        record: The line.
        sheet: What was read elsewhere.
        before: Whether that includes the unedited model's answers.
    """
    for name, found, expected in zip(
        ("prompt", "target", "subject"), (record.prompt, record.target, record.subject), sheet.head, strict=True
    ):
        if found != expected:
            yield Break(name, f"'{expected}' ({sheet.whence})", f"'{found}'")
    if record.status != "done" or sheet.asked is None:
        return
    if len(record.answers) != len(sheet.asked):
        yield Break("answers", f"{len(sheet.asked)} probes ({sheet.whence})", str(len(record.answers)))
    for number, (answer, expected_probe) in enumerate(zip(record.answers, sheet.asked, strict=False)):
        for name, value, wanted in zip(Asked._fields, asked(answer), expected_probe, strict=True):
            if value != wanted and (before or name != "before"):
                yield Break(f"answers.{number}.{name}", f"{wanted!r} ({sheet.whence})", repr(value))


def sheet_of(case: EditCase, whence: str) -> Sheet:
    """Return what a case of the data asks."""
    request = case.request
    probes = tuple(
        Asked(p.role, p.subset, p.derived, p.prompt, tuple(p.answers), tuple(p.opposed), None) for p in case.probes
    )
    return Sheet((request.prompt, request.target, request.subject), probes, whence)


def check_line(record: CaseRecord, row: EditorSpec, spec: RunSpec) -> Iterator[Break]:
    """Yield what is wrong with a line by itself: its scores, and whether they follow from its texts."""
    if not record.case_id.startswith(f"{record.task}/"):
        yield Break("case_id", f"an id of '{record.task}/'", f"'{record.case_id}'")
    if row.instruction is None and record.instruction is not None:
        yield Break("instruction", "none, the row reads none", f"'{record.instruction}'")
    if record.status != "done":
        if record.scores or record.answers or record.text is not None:
            yield Break("scores", f"none of a case that is {record.status}", f"{len(record.scores)}")
        if not record.reason:
            yield Break("reason", f"why the case is {record.status}", "none")
        if row.method == "none":
            yield Break("status", "done, the row edits nothing", record.status)
        return
    yield from _check_facts(record)
    by_probe: dict[int | None, dict[Protocol, Score]] = {}
    for number, score in enumerate(record.scores):
        own = by_probe.setdefault(score.probe, {})
        if score.protocol in own:
            yield Break(f"scores.{number}", "one score of a probe and protocol", f"a second one of {score.protocol}")
        own[score.protocol] = score
        yield from (Break(f"scores.{number}.{b.what}", b.expected, b.found) for b in _check_score(score, record))
    yield from _check_presence(record, by_probe, spec)
    for number, answer in enumerate(record.answers):
        values = {protocol: score.value for protocol, score in by_probe.get(number, {}).items()}
        yield from (Break(f"probe {number}, {b.what}", b.expected, b.found) for b in _check_probe(answer, values))
        if row.is_base:
            yield from (
                Break(f"probe {number}, {b.what}", b.expected, b.found) for b in _check_unedited(answer, values)
            )
    yield from _check_fluency(record, by_probe.get(None, {}))


def _check_facts(record: CaseRecord) -> Iterator[Break]:
    if not all(math.isfinite(fact) for fact in record.edit.values()):
        yield Break("edit", "finite numbers", str(record.edit))
    for name, (low, high) in _FACTS.items():
        if not low - CLOSE <= (fact := record.edit.get(name, low)) <= high + CLOSE:
            yield Break(f"edit.{name}", f"a number within {low:g} and {high:g}", str(fact))


def _check_score(score: Score, record: CaseRecord) -> Iterator[Break]:
    if broken := out_of_range(score.protocol, score.value):
        yield broken
    elif score.protocol in ("teacher_forced_exact", "free_generation") and score.value not in (0.0, 1.0):
        yield Break("value", f"{score.protocol} of 0 or 1", str(score.value))
    if score.probe is None:
        if (score.measure, score.subset, score.derived, score.protocol) != ("fluency", "text", False, "ngram_entropy"):
            yield Break("probe", "the number of an answer", "none")
        return
    if not 0 <= score.probe < len(record.answers):
        yield Break("probe", f"one of {len(record.answers)} answers", str(score.probe))
        return
    answer = record.answers[score.probe]
    named = (score.measure, score.subset, score.derived)
    if named != (answer.role, answer.subset, answer.derived):
        yield Break("measure", f"that of its answer, {answer.role} {answer.subset}", f"{score.measure} {score.subset}")
    if answer.opposed:
        fits = score.protocol in _SENTIMENT
    else:
        fits = score.protocol in _UNCHANGED and (score.protocol != "kl_divergence" or answer.role == "locality")
    if not fits:
        yield Break("protocol", f"one that a probe of {answer.role} {answer.subset} is read by", score.protocol)


def _check_presence(
    record: CaseRecord, by_probe: Mapping[int | None, Mapping[Protocol, Score]], spec: RunSpec
) -> Iterator[Break]:
    """Yield a break if more scores are missing than the line says could not be had."""
    missing = int(spec.fluency and None not in by_probe)
    for number, answer in enumerate(record.answers):
        own = set(by_probe.get(number, ()))
        forced: set[Protocol] = {"teacher_forced_token", "teacher_forced_exact"}
        if answer.role == "locality":
            forced.add("kl_divergence")
        for group in (set(_SENTIMENT),) if answer.opposed else (forced,):
            missing += not group <= own
            if own & group and not group <= own:
                yield Break(f"probe {number}, scores", ", ".join(sorted(group)), ", ".join(sorted(own)) or "none")
        if not answer.opposed:
            missing += spec.generation.max_new_tokens > 0 and "free_generation" not in own
            read = answer.before is not None and answer.generated is not None
            if read != ("free_generation" in own):
                expected = "a score" if read else "no score, there is no text"
                yield Break(f"probe {number}, free_generation", expected, "another")
    if missing > (said := sum(record.unscored.values())):
        yield Break("unscored", f"a reason for each of {missing} scores that are not there", f"{said} reasons")


def _check_probe(answer: Answer, values: Mapping[Protocol, float]) -> Iterator[Break]:
    """Yield what does not follow: free generation from the texts, one protocol from another."""
    if "free_generation" in values and answer.before is not None and answer.generated is not None:
        local = answer.role == "locality"
        if local:
            right = float(generation_agreement(answer.before, answer.generated, answer.accepted))
        else:
            right = float(matches(answer.generated, answer.accepted))
        if values["free_generation"] != right:
            than = f"'{answer.before}'" if local else f"{list(answer.accepted)}"
            found = f"{values['free_generation']} for '{answer.generated}'"
            yield Break("free_generation", f"{right}, compared with {than}", found)
    token, exact = values.get("teacher_forced_token"), values.get("teacher_forced_exact")
    if token is not None and exact is not None and exact != float(token == 1.0):
        yield Break("teacher_forced_exact", f"{float(token == 1.0)}, the share of tokens being {token}", str(exact))
    if set(values) >= set(_SENTIMENT):
        product = values["z_sent"] * values["z_topic"]
        if abs(values["edit_success"] - product) > CLOSE:
            yield Break("edit_success", f"{product}, z_sent times z_topic", str(values["edit_success"]))


def _check_unedited(answer: Answer, values: Mapping[Protocol, float]) -> Iterator[Break]:
    """Yield where a row without edit is not the base model."""
    if answer.before != answer.generated:
        yield Break("generated", f"'{answer.before}' as before, the row edits nothing", f"'{answer.generated}'")
    if answer.role == "locality":
        for protocol, value in values.items():
            if protocol in _UNCHANGED and value != _UNCHANGED[protocol]:
                yield Break(f"locality, {protocol}", f"{_UNCHANGED[protocol]}, the row edits nothing", str(value))
    if values.get("z_topic", 1.0) != 1.0:
        yield Break("z_topic", "1.0, the row edits nothing", str(values["z_topic"]))


def _check_fluency(record: CaseRecord, values: Mapping[Protocol, Score]) -> Iterator[Break]:
    entropy = None if record.text is None else ngram_entropy(record.text)
    found = values["ngram_entropy"].value if "ngram_entropy" in values else None
    if entropy is None or found is None:
        if entropy != found:
            yield Break("fluency", f"{entropy}, from the text", str(found))
    elif abs(entropy - found) > 1e-9:
        yield Break("fluency", f"{entropy}, from the text", str(found))


WRITTEN = "the text to begin with the answer, exact match under teacher forcing being 1"
SAME = "the text of before the edit, KL being 0"


def forced_and_free(record: CaseRecord, most: int) -> Iterator[tuple[str, int, bool]]:
    """Yield per probe what teacher forcing says of the text that was generated, and whether it is so.

    Exact match under teacher forcing is greedy decoding of the answer's tokens: where it is 1 the text that the model
    wrote begins with the first accepted answer, or is the beginning of it where the most new tokens cut it off. Only
    two tokens that tie within rounding can break this. A KL of exactly 0 is an edit that does not reach the answer, and
    seldom what stands behind it. An exact match in locality says nothing of the kind: it is read behind the data's
    answer and not behind the model's own text.

    Args:
        record: The line.
        most: Most new tokens of an answer.
    """
    for score in record.scores:
        if score.probe is None or not 0 <= score.probe < len(record.answers):
            continue
        answer = record.answers[score.probe]
        if answer.generated is None:
            continue
        if score.measure == "locality":
            if score.protocol == "kl_divergence" and score.value == 0.0:
                yield SAME, score.probe, answer.generated == answer.before
        elif score.protocol == "teacher_forced_exact" and score.value == 1.0 and answer.accepted:
            yield WRITTEN, score.probe, _begins(answer.generated, answer.accepted[0].strip(), most)


def _begins(text: str, answer: str, most: int) -> bool:
    """Tell whether a text begins with an answer, or was cut off within it."""
    # Half a character at the cut is written as U+FFFD. A token has at least one byte, of which a leading space may go.
    written = text.strip().rstrip("\ufffd")
    cut_off = len(text.encode("utf-8", "replace")) + 1 >= most
    return written.startswith(answer) or (cut_off and answer.startswith(written))
