"""Checks of one line of `cases.jsonl`: its scores against its texts, its prompts against those of its case."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from instructedit.benchmark.results.integrity import FailedCheck, out_of_range
from instructedit.benchmark.results.records import OLD_ANSWER, Answer, CaseRecord, EditorSpec, Protocol, RunSpec, Score
from instructedit.benchmark.scoring.matching import generation_agreement, matches
from instructedit.benchmark.scoring.metrics import ngram_entropy
from instructedit.benchmark.scoring.old_answer import reversion
from instructedit.editors.cases import EditCase

from .claims import CLOSE, differences

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
_YES_OR_NO: tuple[Protocol, ...] = ("teacher_forced_exact", "free_generation", *OLD_ANSWER)

Values = Mapping[Protocol, float]
"""Scores of one probe by protocol."""


class CaseText(NamedTuple):
    """Prompts and answers that all lines of a case share."""

    edit: dict[str, str | None]
    """Prompt, target, subject and old answer."""
    probes: tuple[dict[str, Any], ...] | None
    """Fields of each probe; None as long as no line has answers."""
    source: str

    @classmethod
    def of_record(cls, record: CaseRecord) -> "CaseText":
        """Return the texts of a line."""
        edit = {name: getattr(record, name) for name in ("prompt", "target", "subject", "old")}
        probes = tuple({name: value for name, value in answer if name != "generated"} for answer in record.answers)
        return cls(edit, probes if record.status == "done" else None, f"as under row '{record.editor}'")

    @classmethod
    def of_data(cls, case: EditCase) -> "CaseText":
        """Return the texts of a case of the data, which has no answers of a model."""
        request = case.request
        probes = (
            {
                **{field: getattr(probe, field) for field in ("role", "subset", "derived", "prompt")},
                "accepted": tuple(probe.answers),
                "opposed": tuple(probe.opposed),
            }
            for probe in case.probes
        )
        edit = {name: getattr(request, name) for name in ("prompt", "target", "subject", "old")}
        return cls(edit, tuple(probes), "in the data")


def check_text(record: CaseRecord, expected: CaseText) -> Iterator[FailedCheck]:
    """Yield where a line differs from the texts of its case."""
    own = CaseText.of_record(record)
    found = [*differences(own.edit, expected.edit)]
    if own.probes is not None and expected.probes is not None:
        if len(own.probes) != len(expected.probes):
            yield FailedCheck("answers", f"{len(expected.probes)} probes ({expected.source})", str(len(own.probes)))
        for number, (ours, theirs) in enumerate(zip(own.probes, expected.probes, strict=False)):
            found += differences(ours, {**ours, **theirs}, f"answers.{number}")
    for path, wanted, value in found:
        yield FailedCheck(path, f"{wanted!r} ({expected.source})", repr(value))


def check_record(record: CaseRecord, row: EditorSpec, spec: RunSpec) -> Iterator[FailedCheck]:
    """Yield the failed checks of a line by itself: its scores, and whether they follow from its texts."""
    if not record.case_id.startswith(f"{record.task}/"):
        yield FailedCheck("case_id", f"an id of '{record.task}/'", f"'{record.case_id}'")
    if row.instruction is None and record.instruction is not None:
        yield FailedCheck("instruction", "none, the row reads none", f"'{record.instruction}'")
    yield from _check_scored(record, row, spec) if record.status == "done" else _check_unscored(record, row)


def _check_unscored(record: CaseRecord, row: EditorSpec) -> Iterator[FailedCheck]:
    if record.scores or record.answers or record.text is not None:
        yield FailedCheck("scores", f"none of a case that is {record.status}", f"{len(record.scores)}")
    if not record.reason:
        yield FailedCheck("reason", f"why the case is {record.status}", "none")
    if row.method == "none":
        yield FailedCheck("status", "done, the row edits nothing", record.status)


def _check_scored(record: CaseRecord, row: EditorSpec, spec: RunSpec) -> Iterator[FailedCheck]:
    if not all(map(math.isfinite, record.edit.values())):
        yield FailedCheck("edit", "finite numbers", str(record.edit))
    for name, (low, high) in _BOUNDS.items():
        if not low - CLOSE <= (value := record.edit.get(name, low)) <= high + CLOSE:
            yield FailedCheck(f"edit.{name}", f"a number within {low:g} and {high:g}", str(value))
    by_probe: dict[int | None, dict[Protocol, float]] = {}
    for number, score in enumerate(record.scores):
        own = by_probe.setdefault(score.probe, {})
        if score.protocol in own:
            yield FailedCheck(
                f"scores.{number}", "one score of a probe and protocol", f"a second one of {score.protocol}"
            )
        own[score.protocol] = score.value
        yield from (broken._replace(what=f"scores.{number}.{broken.what}") for broken in _check_score(score, record))
    yield from _check_missing(record, by_probe, spec)
    for number, answer in enumerate(record.answers):
        if row.is_base and answer.before != answer.generated:
            expected = f"'{answer.before}' as before, the row edits nothing"
            yield FailedCheck(f"probe {number}, generated", expected, f"'{answer.generated}'")
        values = by_probe.get(number, {})
        for protocol, value, reason in _implied(answer, values, record.old, unedited=row.is_base):
            if abs(values.get(protocol, value) - value) > CLOSE:
                yield FailedCheck(f"probe {number}, {protocol}", f"{value}, {reason}", str(values[protocol]))
    entropy = None if record.text is None else ngram_entropy(record.text)
    found = by_probe.get(None, {}).get("ngram_entropy")
    if entropy != found and (entropy is None or found is None or abs(entropy - found) > 1e-9):
        yield FailedCheck("fluency", f"{entropy}, from the text", str(found))


def _check_score(score: Score, record: CaseRecord) -> Iterator[FailedCheck]:
    """Yield the failed checks of a score: its range, and whether its protocol reads its probe."""
    if broken := out_of_range(score.protocol, score.value):
        yield broken
    elif score.protocol in _YES_OR_NO and score.value not in (0.0, 1.0):
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
    if score.protocol not in {*_group(answer), *_further(answer, record.old)}:
        yield FailedCheck("protocol", f"one that a probe of {answer.role} {answer.subset} is read by", score.protocol)


def _group(answer: Answer) -> set[Protocol]:
    """Return the protocols that a probe has together or not at all."""
    return set(_SENTIMENT if answer.opposed else (*_FORCED, "kl_divergence") if answer.role == "locality" else _FORCED)


def _further(answer: Answer, old: str | None) -> tuple[Protocol, ...]:
    """Return the protocols that a probe may have besides its group's."""
    if answer.opposed:
        return ()
    if old is None or answer.role not in ("reliability", "generalization"):
        return ("free_generation",)
    known: tuple[Protocol, ...] = ("known_before",) if answer.role == "reliability" else ()
    return ("free_generation", "probability_order", "reversion", *known)


def _check_missing(record: CaseRecord, by_probe: Mapping[int | None, Values], spec: RunSpec) -> Iterator[FailedCheck]:
    """Yield a failed check if more scores are missing than the line gives reasons for."""
    missing = int(spec.fluency and None not in by_probe)
    for number, answer in enumerate(record.answers):
        own, group = set(by_probe.get(number, ())), _group(answer)
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


def _implied(
    answer: Answer, values: Values, old: str | None, *, unedited: bool
) -> Iterator[tuple[Protocol, float, str]]:
    """Yield each score that follows from the texts, from other scores, or from a row that edits nothing, and why."""
    local = answer.role == "locality"
    reference: str | list[str]
    if answer.before is not None and answer.generated is not None:
        if local:
            right, reference = generation_agreement(answer.before, answer.generated, answer.accepted), answer.before
        else:
            right, reference = matches(answer.generated, answer.accepted), list(answer.accepted)
        yield "free_generation", float(right), f"'{answer.generated}' compared with {reference!r}"
        if "reversion" in values and old is not None:
            yield (
                "reversion",
                reversion(answer.generated, old, answer.accepted),
                f"'{answer.generated}' against '{old}'",
            )
    if (token := values.get("teacher_forced_token")) is not None:
        yield "teacher_forced_exact", float(token == 1.0), f"the share of tokens being {token}"
    if values.keys() >= set(_SENTIMENT):
        yield "edit_success", values["z_sent"] * values["z_topic"], "z_sent times z_topic"
    if unedited:
        for protocol, value in {**(_UNEDITED if local else {}), "z_topic": 1.0}.items():
            yield protocol, value, "the row edits nothing"


STARTS_WITH_ANSWER = "the text to begin with the answer, exact match under teacher forcing being 1"
UNCHANGED = "the text of before the edit, KL being 0"


def forced_and_free(record: CaseRecord, max_new_tokens: int) -> Iterator[tuple[str, int, bool]]:
    """Yield what teacher forcing implies for each generated text, the probe, and whether the text agrees.

    Exact match under teacher forcing is greedy decoding of the answer's tokens. Where it is 1, the generated text
    begins with the first accepted answer, or is a prefix of it if the maximum number of new tokens cut it off. Only
    two tokens that tie within rounding can break this. A KL of exactly 0 means that the edit does not reach the
    answer, and seldom the text after it. An exact match in locality implies nothing: it is read after the answer of
    the data, not after the model's own text.
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
