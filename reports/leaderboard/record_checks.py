"""Checks of one line of `cases.jsonl`: its scores against its texts, its prompts against those of its case."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from instructedit.benchmark.results.integrity import FailedCheck, out_of_range
from instructedit.benchmark.results.records import Answer, CaseRecord, EditorSpec, Protocol, RunSpec, Score
from instructedit.benchmark.scoring.matching import generation_agreement, matches
from instructedit.benchmark.scoring.metrics import ngram_entropy
from instructedit.editors.cases import EditCase

CLOSE = 1e-12
"""Allowed difference of two floats that come from the same operations."""
LARGEST = 1_000_000
"""Maximum score; KL and entropy are some bits or nats. A sum of larger ones may exceed any float."""
_SENTIMENT: tuple[Protocol, ...] = ("edit_success", "z_sent", "z_topic")
_FORCED: tuple[Protocol, ...] = ("teacher_forced_token", "teacher_forced_exact")
_UNEDITED: Mapping[Protocol, float] = {**dict.fromkeys(_FORCED, 1.0), "free_generation": 1.0, "kl_divergence": 0.0}
"""Locality of the unedited model."""
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "target_probability": (0.0, 1.0),
    "at_bound": (0.0, 1.0),
    "converged": (0.0, 1.0),
    "cosine": (-1.001, 1.001),  # single precision
}
"""Bounds of statistics of an edit."""
_PROBE_FIELDS = ("role", "subset", "derived", "prompt", "accepted", "opposed", "before")

Values = Mapping[Protocol, float]
"""Scores of one probe by protocol."""


class CaseText(NamedTuple):
    """Prompts and answers that all lines of a case share."""

    edit: tuple[str, str, str]
    """Prompt, target and subject."""
    probes: tuple[tuple[Any, ...], ...] | None
    """`_PROBE_FIELDS` of each probe; None as long as no line has answers."""
    source: str

    @classmethod
    def of_record(cls, record: CaseRecord) -> "CaseText":
        """Return the texts of a line."""
        probes = tuple(tuple(getattr(answer, field) for field in _PROBE_FIELDS) for answer in record.answers)
        edit = (record.prompt, record.target, record.subject)
        return cls(edit, probes if record.status == "done" else None, f"as under row '{record.editor}'")

    @classmethod
    def of_data(cls, case: EditCase) -> "CaseText":
        """Return the texts of a case of the data, which has no answers of a model."""
        probes = tuple((p.role, p.subset, p.derived, p.prompt, tuple(p.answers), tuple(p.opposed)) for p in case.probes)
        return cls((case.request.prompt, case.request.target, case.request.subject), probes, "in the data")


def check_text(record: CaseRecord, expected: CaseText) -> Iterator[FailedCheck]:
    """Yield where a line differs from the texts of its case."""
    own, source = CaseText.of_record(record), f"({expected.source})"
    for name, found, wanted in zip(("prompt", "target", "subject"), own.edit, expected.edit, strict=True):
        if found != wanted:
            yield FailedCheck(name, f"'{wanted}' {source}", f"'{found}'")
    if own.probes is None or expected.probes is None:
        return
    if len(own.probes) != len(expected.probes):
        yield FailedCheck("answers", f"{len(expected.probes)} probes {source}", str(len(own.probes)))
    for number, pair in enumerate(zip(own.probes, expected.probes, strict=False)):
        for name, found, wanted in zip(_PROBE_FIELDS, *pair, strict=False):
            if found != wanted:
                yield FailedCheck(f"answers.{number}.{name}", f"{wanted!r} {source}", repr(found))


def check_record(record: CaseRecord, row: EditorSpec, spec: RunSpec) -> Iterator[FailedCheck]:
    """Yield the failed checks of a line by itself: its scores, and whether they follow from its texts."""
    if not record.case_id.startswith(f"{record.task}/"):
        yield FailedCheck("case_id", f"an id of '{record.task}/'", f"'{record.case_id}'")
    if row.instruction is None and record.instruction is not None:
        yield FailedCheck("instruction", "none, the row reads none", f"'{record.instruction}'")
    if record.status != "done":
        yield from _check_unscored(record, row)
        return
    yield from _check_statistics(record)
    by_probe: dict[int | None, dict[Protocol, float]] = {}
    for number, score in enumerate(record.scores):
        own = by_probe.setdefault(score.probe, {})
        if score.protocol in own:
            yield FailedCheck(
                f"scores.{number}", "one score of a probe and protocol", f"a second one of {score.protocol}"
            )
        own[score.protocol] = score.value
        yield from _prefixed(f"scores.{number}.", _check_score(score, record))
    yield from _check_missing(record, by_probe, spec)
    for number, answer in enumerate(record.answers):
        values = by_probe.get(number, {})
        yield from _prefixed(f"probe {number}, ", _check_probe(answer, values))
        if row.is_base:
            yield from _prefixed(f"probe {number}, ", _check_unedited(answer, values))
    entropy = None if record.text is None else ngram_entropy(record.text)
    found = by_probe.get(None, {}).get("ngram_entropy")
    if entropy != found and (entropy is None or found is None or abs(entropy - found) > 1e-9):
        yield FailedCheck("fluency", f"{entropy}, from the text", str(found))


def _prefixed(prefix: str, breaks: Iterable[FailedCheck]) -> Iterator[FailedCheck]:
    return (found._replace(what=prefix + found.what) for found in breaks)


def _check_unscored(record: CaseRecord, row: EditorSpec) -> Iterator[FailedCheck]:
    if record.scores or record.answers or record.text is not None:
        yield FailedCheck("scores", f"none of a case that is {record.status}", f"{len(record.scores)}")
    if not record.reason:
        yield FailedCheck("reason", f"why the case is {record.status}", "none")
    if row.method == "none":
        yield FailedCheck("status", "done, the row edits nothing", record.status)


def _check_statistics(record: CaseRecord) -> Iterator[FailedCheck]:
    if not all(map(math.isfinite, record.edit.values())):
        yield FailedCheck("edit", "finite numbers", str(record.edit))
    for name, (low, high) in _BOUNDS.items():
        if not low - CLOSE <= (value := record.edit.get(name, low)) <= high + CLOSE:
            yield FailedCheck(f"edit.{name}", f"a number within {low:g} and {high:g}", str(value))


def _check_score(score: Score, record: CaseRecord) -> Iterator[FailedCheck]:
    """Yield the failed checks of a score: its range, and whether its protocol reads its probe."""
    if broken := out_of_range(score.protocol, score.value):
        yield broken
    elif score.protocol in ("teacher_forced_exact", "free_generation") and score.value not in (0.0, 1.0):
        yield FailedCheck("value", f"{score.protocol} of 0 or 1", str(score.value))
    if score.probe is None:
        if (score.measure, score.subset, score.derived, score.protocol) != ("fluency", "text", False, "ngram_entropy"):
            yield FailedCheck("probe", "the number of an answer", "none")
        return
    if not 0 <= score.probe < len(record.answers):
        yield FailedCheck("probe", f"one of {len(record.answers)} answers", str(score.probe))
        return
    answer = record.answers[score.probe]
    if (score.measure, score.subset, score.derived) != (answer.role, answer.subset, answer.derived):
        yield FailedCheck(
            "measure", f"that of its answer, {answer.role} {answer.subset}", f"{score.measure} {score.subset}"
        )
    if answer.opposed:
        fits = score.protocol in _SENTIMENT
    else:
        fits = score.protocol in _UNEDITED and (score.protocol != "kl_divergence" or answer.role == "locality")
    if not fits:
        yield FailedCheck("protocol", f"one that a probe of {answer.role} {answer.subset} is read by", score.protocol)


def _check_missing(record: CaseRecord, by_probe: Mapping[int | None, Values], spec: RunSpec) -> Iterator[FailedCheck]:
    """Yield a failed check if more scores are missing than the line gives reasons for."""
    missing = int(spec.fluency and None not in by_probe)
    for number, answer in enumerate(record.answers):
        own = set(by_probe.get(number, ()))
        local: tuple[Protocol, ...] = ("kl_divergence",) if answer.role == "locality" else ()
        group = set(_SENTIMENT if answer.opposed else (*_FORCED, *local))
        missing += not group <= own
        if own & group and not group <= own:
            yield FailedCheck(f"probe {number}, scores", ", ".join(sorted(group)), ", ".join(sorted(own)) or "none")
        if not answer.opposed:
            missing += spec.generation.max_new_tokens > 0 and "free_generation" not in own
            readable = answer.before is not None and answer.generated is not None
            if readable != ("free_generation" in own):
                expected = "a score" if readable else "no score, there is no text"
                yield FailedCheck(f"probe {number}, free_generation", expected, "another")
    if missing > (reasons := sum(record.unscored.values())):
        yield FailedCheck("unscored", f"a reason for each of {missing} scores that are not there", f"{reasons} reasons")


def _check_probe(answer: Answer, values: Values) -> Iterator[FailedCheck]:
    """Yield scores that do not follow from the texts or from another protocol."""
    free = values.get("free_generation")
    if free is not None and answer.before is not None and answer.generated is not None:
        if answer.role == "locality":
            right, reference = (
                generation_agreement(answer.before, answer.generated, answer.accepted),
                repr(answer.before),
            )
        else:
            right, reference = matches(answer.generated, answer.accepted), repr(list(answer.accepted))
        if free != float(right):
            yield FailedCheck(
                "free_generation", f"{float(right)}, compared with {reference}", f"{free} for '{answer.generated}'"
            )
    token, exact = values.get("teacher_forced_token"), values.get("teacher_forced_exact")
    if token is not None and exact is not None and exact != float(token == 1.0):
        yield FailedCheck(
            "teacher_forced_exact", f"{float(token == 1.0)}, the share of tokens being {token}", str(exact)
        )
    if values.keys() >= set(_SENTIMENT):
        product = values["z_sent"] * values["z_topic"]
        if abs(values["edit_success"] - product) > CLOSE:
            yield FailedCheck("edit_success", f"{product}, z_sent times z_topic", str(values["edit_success"]))


def _check_unedited(answer: Answer, values: Values) -> Iterator[FailedCheck]:
    """Yield where a row without edit differs from the base model."""
    if answer.before != answer.generated:
        yield FailedCheck("generated", f"'{answer.before}' as before, the row edits nothing", f"'{answer.generated}'")
    expected = {f"locality, {name}": (name, value) for name, value in _UNEDITED.items() if answer.role == "locality"}
    for what, (protocol, value) in {**expected, "z_topic": ("z_topic", 1.0)}.items():
        if values.get(protocol, value) != value:
            yield FailedCheck(what, f"{value}, the row edits nothing", str(values[protocol]))


STARTS_WITH_ANSWER = "the text to begin with the answer, exact match under teacher forcing being 1"
UNCHANGED = "the text of before the edit, KL being 0"


def forced_and_free(record: CaseRecord, max_new_tokens: int) -> Iterator[tuple[str, int, bool]]:
    """Yield what teacher forcing implies for each generated text, the probe, and whether the text agrees.

    Exact match under teacher forcing is greedy decoding of the answer's tokens. Where it is 1, the generated text
    begins with the first accepted answer, or is a prefix of it if the maximum number of new tokens cut it off. Only
    two tokens that tie within rounding can break this. A KL of exactly 0 means that the edit does not reach the
    answer, and seldom the text after it. An exact match in locality implies nothing: it is read after the answer of
    the data, not after the model's own text.

    Args:
        record: The line.
        max_new_tokens: Maximum number of new tokens of an answer.
    """
    for score in record.scores:
        if score.probe is None or not 0 <= score.probe < len(record.answers):
            continue
        answer = record.answers[score.probe]
        if answer.generated is None:
            continue
        if score.measure == "locality":
            if score.protocol == "kl_divergence" and score.value == 0.0:
                yield UNCHANGED, score.probe, answer.generated == answer.before
        elif score.protocol == "teacher_forced_exact" and score.value == 1.0 and answer.accepted:
            agrees = _starts_with(answer.generated, answer.accepted[0].strip(), max_new_tokens)
            yield STARTS_WITH_ANSWER, score.probe, agrees


def _starts_with(text: str, answer: str, max_new_tokens: int) -> bool:
    # Half a character at the cut is written as U+FFFD. A token has at least one byte, and a leading space may go.
    written = text.strip().rstrip("\ufffd")
    cut_off = len(text.encode("utf-8", "replace")) + 1 >= max_new_tokens
    return written.startswith(answer) or (cut_off and answer.startswith(written))
