"""Checks of one line of `cases.jsonl`: it is computed again from the case's texts and from its own answers.

What no other number or text determines (token shares, divergences, likelihoods, facts of the edit) is taken as it is,
moved into its range.
"""

from collections.abc import Iterator, Mapping

from instructedit.benchmark.results.records import Answer, CaseRecord, EditorSpec, Protocol, RunSpec, Score
from instructedit.benchmark.scoring.matching import generation_agreement, matches
from instructedit.benchmark.scoring.metrics import ngram_entropy
from instructedit.benchmark.scoring.old_answer import reversion
from instructedit.editors.cases import EditCase

from .findings import differences

_BOUNDS: Mapping[str, tuple[float, float]] = {
    "target_probability": (0.0, 1.0),
    "at_bound": (0.0, 1.0),
    "converged": (0.0, 1.0),
    "cosine": (-1.001, 1.001),  # single precision
}
"""Bounds of facts of an edit."""
_OF_REQUEST = ("prompt", "target", "subject", "old")


def check_line(
    record: CaseRecord, row: EditorSpec, spec: RunSpec, first: CaseRecord, case: EditCase | None
) -> Iterator[tuple[str, object, object]]:
    """Yield where a line differs from what it has to be: the field, the expected value, and the one that was found.

    Args:
        record: The line.
        row: Its row.
        spec: The specification of its run.
        first: The first line of its case that was edited, or itself: all lines of a case have its texts.
        case: The case, where the data are available.
    """
    expected = dict(record)
    if not record.case_id.startswith(f"{record.task}/"):
        expected["case_id"] = f"an id of '{record.task}/'"
    expected |= {name: getattr(case.request if case else first, name) for name in _OF_REQUEST}
    expected["instruction"] = record.instruction if row.instruction is not None else None
    if record.status == "done":
        answers = _answers(record, row, first, case)
        found = by_probe(record)
        scores: dict[str, Score] = {}
        for number, answer in enumerate(answers):
            values = _probe_scores(answer, found.get(number, {}), record.old, unedited=row.is_base)
            scores |= {
                f"{number}.{protocol}": Score(
                    measure=answer.role,
                    subset=answer.subset,
                    derived=answer.derived,
                    protocol=protocol,
                    value=value,
                    probe=number,
                )
                for protocol, value in values.items()
            }
        entropy = None if record.text is None else ngram_entropy(record.text)
        if entropy is not None:
            scores["fluency"] = Score(measure="fluency", subset="text", protocol="ngram_entropy", value=entropy)
        edit = record.edit | {
            name: min(max(record.edit[name], low), high) for name, (low, high) in _BOUNDS.items() if name in record.edit
        }
        expected |= {"answers": answers, "scores": scores, "edit": edit}
    else:
        expected |= {"scores": {}, "answers": (), "text": None, "reason": record.reason or "a sentence"}
        expected["status"] = "done" if row.method == "none" else record.status
    keyed = {_key(score): score for score in record.scores}
    yield from differences({**dict(record), "scores": keyed}, expected)
    if len(keyed) < len(record.scores):
        yield "scores", "one score of a probe and protocol", "a second one"
    if record.status == "done" and (missing := _missing(record, spec)) > (reasons := sum(record.unscored.values())):
        yield "unscored", f"a reason for each of {missing} scores that are not there", f"{reasons} reasons"


def _key(score: Score) -> str:
    return "fluency" if score.probe is None else f"{score.probe}.{score.protocol}"


def by_probe(record: CaseRecord) -> dict[int | None, dict[Protocol, float]]:
    """Return the scores of a line by probe and protocol; that of fluency has no probe."""
    found: dict[int | None, dict[Protocol, float]] = {}
    for score in record.scores:
        found.setdefault(score.probe, {})[score.protocol] = score.value
    return found


def _answers(record: CaseRecord, row: EditorSpec, first: CaseRecord, case: EditCase | None) -> tuple[Answer, ...]:
    """Return the answers that a line has to have: the texts of the case's probes, and the line's own generated ones.

    Without edit the model generates what it did before.
    """
    own, known = record.answers, (first if first.status == "done" else record).answers
    found = []
    for number in range(len(known) if case is None else len(case.probes)):
        fields: dict[str, object] = dict(known[number]) if number < len(known) else {}
        if case is not None:
            probe = case.probes[number]
            fields |= {field: getattr(probe, field) for field in ("role", "subset", "derived", "prompt")}
            fields |= {"accepted": tuple(probe.answers), "opposed": tuple(probe.opposed)}
        generated = own[number].generated if number < len(own) else None
        found.append(Answer.model_validate({**fields, "generated": fields.get("before") if row.is_base else generated}))
    return tuple(found)


def _probe_scores(
    answer: Answer, found: Mapping[Protocol, float], old: str | None, *, unedited: bool
) -> dict[Protocol, float]:
    """Return the scores of a probe, computed again from its texts and from the `found` ones that nothing determines.

    Either all protocols of teacher forcing are there, or none; those of the old answer may be there.
    """
    scores: dict[Protocol, float] = {}
    if answer.opposed:
        if found:
            z_sent, z_topic = found.get("z_sent", 0.0), 1.0 if unedited else found.get("z_topic", 0.0)
            scores = {"edit_success": z_sent * z_topic, "z_sent": z_sent, "z_topic": z_topic}
        return scores
    local = answer.role == "locality"
    if found.keys() & {"teacher_forced_token", "teacher_forced_exact", "kl_divergence"}:
        token = 1.0 if local and unedited else found.get("teacher_forced_token", 0.0)
        scores |= {"teacher_forced_token": token, "teacher_forced_exact": float(token == 1.0)}
        if local:
            scores["kl_divergence"] = 0.0 if unedited else found.get("kl_divergence", 0.0)
    if answer.before is not None and answer.generated is not None:
        if local:
            right = generation_agreement(answer.before, answer.generated, answer.accepted)
        else:
            right = matches(answer.generated, answer.accepted)
        scores["free_generation"] = float(right)
    if old is not None and answer.role in ("reliability", "generalization"):
        if "reversion" in found and answer.generated is not None:
            scores["reversion"] = reversion(answer.generated, old, answer.accepted)
        scores |= {p: float(found[p] == 1.0) for p in ("probability_order", "known_before") if p in found}
        if answer.role != "reliability":
            scores.pop("known_before", None)
    return scores


def _missing(record: CaseRecord, spec: RunSpec) -> int:
    """Return how many scores a line lacks."""
    found = by_probe(record)
    missing = int(spec.fluency and None not in found)
    for number, answer in enumerate(record.answers):
        own = found.get(number, {})
        missing += ("z_sent" if answer.opposed else "teacher_forced_token") not in own
        missing += not answer.opposed and spec.generation.max_new_tokens > 0 and "free_generation" not in own
    return missing
