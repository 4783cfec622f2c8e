"""One chunk of cases under several editors: edit, predict, score.

`run_chunk` and `score_chunk` depend on their arguments alone, so a chunk can be computed anywhere. All editors of a run
share the passes of the unedited model, and are decoded alike at the same positions. Probes with a prompt prefix, an
editor's own or the instruction of the case's request, are sequences of their own, shared by all editors with the same
prefix; they are always compared with the unedited model without any prefix.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch

from instructedit.editors import (
    CaseError,
    Context,
    EditCase,
    Editor,
    EditRequest,
    Edits,
    InputError,
    InstructedProbes,
    LanguageModel,
    Probe,
    instruction_context,
)
from instructedit.editors.changes import change_facts
from instructedit.editors.models.tokens import tokens_begin_with
from instructedit.editors.texts import LEFT_OUT

from ..results.consistency import OTHER_TOKENS, SAME_TOKENS, otherwise, values_by_probe
from ..results.records import Answer, CaseRecord, GenerationSpec, Protocol, Score
from ..results.resources import ChunkTime
from ..results.stages import SINGLE
from .base_passes import NOT_KEPT, BasePasses
from .matching import generation_agreement, matches
from .metrics import divergence, edit_success, ngram_entropy, teacher_forced_exact, teacher_forced_token
from .old_answer import probability_order, reversion, scored_old
from .predictions import BeforeAfter, Decoding, Predictions, before_after
from .probe_batch import ProbeBatch, make_probe_batch
from .references import lacks_answer, with_references
from .unedited import Unedited

NOT_FINITE = "The edit holds numbers that are not finite."
_OF_REQUEST = ("task", "case_id", "prompt", "target", "subject", "old", "instruction")


@dataclass(frozen=True, slots=True)
class Made:
    """What an editor made of one request per case: the edit that each case is scored under, or why there is none.

    `failures` are by the index of the case; `seconds` is the time that the edits took.
    """

    requests: Sequence[EditRequest]
    edits: Edits
    failures: Mapping[int, str]
    seconds: float


def run_chunk(
    model: LanguageModel,
    cases: Sequence[EditCase],
    editors: Mapping[str, Editor[Any]],
    *,
    requests: Mapping[str, Sequence[EditRequest]] | None = None,
    probes: Mapping[str, InstructedProbes] | None = None,
    run: str,
    seed: int,
    generation: GenerationSpec,
    fluency: bool,
    passes: BasePasses = NOT_KEPT,
) -> tuple[list[CaseRecord], list[ChunkTime]]:
    """Edit, probe and score a chunk of cases one by one under every editor.

    If a case cannot be edited, only its record says `failed` and why. `requests` has those of a row's editor where they
    are not the cases' own, `probes` which probes of a row carry the instruction where this is not its editor's default.
    """
    made: dict[str, Made] = {}
    for name, editor in editors.items():
        own = (requests or {}).get(name, [case.request for case in cases])
        begun = perf_counter()
        edits, failures = edit_each(model, own, editor, seed)
        made[name] = Made(own, edits, failures, perf_counter() - begun)
    carry = {name: editor.instructed_probes for name, editor in editors.items()} | dict(probes or {})
    options: dict[str, Any] = {"generation": generation, "fluency": fluency, "passes": passes}
    return score_chunk(model, cases, made, probes=carry, run=run, seed=seed, **options)


def score_chunk(
    model: LanguageModel,
    cases: Sequence[EditCase],
    made: Mapping[str, Made],
    *,
    stage: str = SINGLE,
    probes: Mapping[str, InstructedProbes] | None = None,
    run: str,
    seed: int,
    generation: GenerationSpec,
    fluency: bool,
    passes: BasePasses = NOT_KEPT,
) -> tuple[list[CaseRecord], list[ChunkTime]]:
    """Probe and score a chunk of cases under finished edits; return records and times editor by editor.

    The scores of one editor do not depend on which others are scored with it. `probes` has which probes of a row carry
    the instruction of the case's own request; those of a row that is missing carry none. `passes` are base passes of
    earlier runs.
    """
    decoding = Decoding(generation, seed)
    without, cases = cases, with_references(model, cases, generation.max_new_tokens)
    bare = make_probe_batch(model, cases, generation, fluency)
    batches: dict[tuple[Context | None, ...], ProbeBatch] = {(None,) * len(cases): bare}
    batch_of: dict[str, ProbeBatch] = {}
    for name, found in made.items():
        contexts = _contexts(name, found, (probes or {}).get(name, "none"))
        if contexts not in batches:
            batches[contexts] = make_probe_batch(model, cases, generation, fluency, contexts, bare)
        batch_of[name] = batches[contexts]
    pairs = [(batch_of[name], found.edits) for name, found in made.items()]
    unedited = Unedited(model, [(bare, None), *pairs], decoding, passes)
    before = unedited.predictions
    records: list[CaseRecord] = []
    timings: list[ChunkTime] = []
    first = cases[0].request
    chunk: dict[str, Any] = {"task": first.task, "stage": stage, "first_case": first.case_id, "cases": len(cases)}
    for name, found in made.items():
        begun = perf_counter()
        edits, queried = found.edits, batch_of[name]
        with torch.no_grad():
            after = unedited.edited(queried, edits)
        changes = change_facts(model, edits, apart=stage == SINGLE)
        for owner, request in enumerate(found.requests):
            given = {field: getattr(request, field) for field in _OF_REQUEST}
            head = CaseRecord(run=run, editor=name, stage=stage, **given)
            try:
                if owner in found.failures:
                    raise CaseError(found.failures[owner])
                fields = _scored(without[owner], bare, queried, owner, before, after)
            except CaseError as error:
                records.append(head.model_copy(update={"status": "failed", "reason": str(error)}))
                continue
            if queried is bare and after is before:
                fields["remarks"] = _remarks(model, bare, owner, fields)
            if left_out := edits.facts[owner].get(LEFT_OUT):
                fields["unscored"] |= {"edit: reply left out, longer than the model's context": int(left_out)}
            facts = {**edits.facts[owner], **changes[owner], **_target(bare, queried, owner, request, after)}
            # JSON has no number for infinity and NaN.
            fields["edit"] = {fact: value for fact, value in facts.items() if math.isfinite(value)}
            records.append(head.model_copy(update=fields))
        seconds = perf_counter() - begun
        timings.append(ChunkTime(editor=name, edit_seconds=found.seconds, score_seconds=seconds, **chunk))
    return records, timings


def _contexts(row: str, made: Made, probes: InstructedProbes) -> tuple[Context | None, ...]:
    """Return the prompt prefix of each case's probes: its edit's own, or the instruction of its own request."""
    if probes != "none" and any(made.edits.contexts):
        raise InputError(f"The edits of the row '{row}' put a text before probes that carry instructions already.")
    pairs = zip(made.edits.contexts, made.requests, strict=True)
    return tuple(own or instruction_context(request, probes) for own, request in pairs)


def edit_each(
    model: LanguageModel, requests: Sequence[EditRequest], editor: Editor[Any], seed: int
) -> tuple[Edits, dict[int, str]]:
    """Return an edit for each request, an empty one where it failed, and the reasons of failures by request."""
    failures: dict[int, str] = {}
    try:
        edits = editor.edit(model, requests, seed)
    except CaseError:
        parts = []
        for owner, request in enumerate(requests):
            try:
                parts.append(editor.edit(model, [request], seed))
            except CaseError as error:
                failures[owner] = str(error)
                parts.append(Edits.none(1))
        edits = Edits.join(parts)
    assert len(edits) == len(requests), f"{editor.name} made {len(edits)} edits of {len(requests)} requests"
    failures |= {owner: NOT_FINITE for owner in range(len(requests)) if not is_finite(edits, owner)}
    healthy = [Edits.none(1) if owner in failures else edits.select([owner]) for owner in range(len(requests))]
    return Edits.join(healthy), failures


def is_finite(edits: Edits, number: int = 0) -> bool:
    """Return whether all numbers of one edit are finite."""
    tensors = [tensor for patch in edits.patches[number] for tensor in patch.tensors().values() if tensor.numel()]
    # A sum is many times faster than a look at each number; if it is not finite, it may have overflowed.
    return all(math.isfinite(float(t.detach().sum())) or bool(t.isfinite().all()) for t in tensors)


def _scored(
    case: EditCase, bare: ProbeBatch, queried: ProbeBatch, owner: int, before: Predictions, after: Predictions
) -> dict[str, Any]:
    """Return the measured fields of a case's record: `before` predicts `bare`, `after` predicts `queried`.

    `case` is the one of the data; in the batches its locality probes have an answer.

    Raises:
        CaseError: If the edited model's numbers are not finite.
    """
    if not all(after.forced[row].finite for probe in queried.probes[owner] for row in probe.teacher_forced):
        raise CaseError("The edited model's logits are not all numbers.")
    unscored = queried.unscored[owner].copy()
    scores: list[Score] = []
    answers: list[Answer] = []
    old = scored_old(case)
    for number, probe in enumerate(case.probes):
        own = bare.probes[owner][number], queried.probes[owner][number]
        pair = before_after(probe, bare.forced.rows, *own, before, after)
        if pair.split:
            unscored[f"{probe.role}: after the edit's text the answer is split into other tokens"] += pair.split
        if probe.opposed and not (pair.replies and pair.opposed):
            unscored["sentiment: no reply of one sentiment fits the model's context"] += 1
        place: dict[str, Any] = {"subset": probe.subset, "derived": probe.derived}
        for protocol, value in _probe_scores(probe, pair, old):
            scores.append(Score(measure=probe.role, protocol=protocol, value=value, probe=number, **place))
        texts: dict[str, Any] = {"prompt": probe.prompt, "before": pair.before, "generated": pair.after}
        if lacks_answer(probe):
            texts["reference"] = next(iter(bare.cases[owner].probes[number].answers), None)
        answers.append(Answer(role=probe.role, accepted=probe.answers, opposed=probe.opposed, **place, **texts))
    index = queried.texts[owner]
    text = None if index is None else after.free[index]
    if text is not None:
        entropy = ngram_entropy(text)
        if entropy is None:
            unscored["fluency: the text has fewer than three words"] += 1
        else:
            scores.append(Score(measure="fluency", subset="text", protocol="ngram_entropy", value=entropy))
    return {
        "scores": tuple(scores),
        "answers": tuple(answers),
        "text": text,
        "unscored": dict(sorted(unscored.items())),
        "remarks": dict(sorted(queried.remarks[owner].items())),
    }


def _probe_scores(probe: Probe, pair: BeforeAfter, old: str | None) -> Iterator[tuple[Protocol, float]]:
    """Yield the scores of one probe, each with its protocol.

    The reference of locality is the unedited model's own prediction, never the data's answer, so the unedited model
    scores 1 (KL: 0).
    """
    if probe.opposed:
        if pair.replies and pair.opposed:
            kinds = pair.replies, pair.opposed, pair.references
            success = edit_success(*([value for own in kind for value in own.log_p] for kind in kinds))
            yield "edit_success", success.edit_success
            yield "z_sent", success.z_sent
            yield "z_topic", success.z_topic
        return
    locality = probe.role == "locality"
    for number, after in enumerate(pair.replies):
        expected = pair.references[number].predicted if locality else after.labels
        yield "teacher_forced_token", teacher_forced_token(after.predicted, expected)
        yield "teacher_forced_exact", teacher_forced_exact(after.predicted, expected)
        if after.distribution is not None and pair.references:
            reference = pair.references[number].distribution
            assert reference is not None, "both keep the distributions of locality"
            yield "kl_divergence", divergence(reference, after.distribution)
    if pair.before is not None and pair.after is not None:
        if locality:
            right = generation_agreement(pair.before, pair.after, probe.answers)
        else:
            right = matches(pair.after, probe.answers)
        yield "free_generation", float(right)
    if old is None or pair.old is None or not pair.replies:
        return
    known, after_old = pair.old
    yield "probability_order", probability_order(pair.replies[0].log_p, after_old.log_p)
    if pair.after is not None:
        yield "reversion", reversion(pair.after, old, probe.answers)
    if probe.role == "reliability":
        yield "known_before", teacher_forced_exact(known.predicted, known.labels)


def _remarks(model: LanguageModel, batch: ProbeBatch, owner: int, fields: Mapping[str, Any]) -> dict[str, int]:
    """Return the remarks on a case of the unedited model, those of the check of `consistency` included."""
    values = values_by_probe(fields["scores"])
    found = Counter(fields["remarks"])
    for number, probe in enumerate(batch.cases[owner].probes):
        generated, forced = fields["answers"][number].generated, batch.probes[owner][number].forced
        if generated is not None and 0 in forced and otherwise(probe, values[number]):
            same = tokens_begin_with(model.tokenizer, probe.prompt, generated, batch.forced.rows[forced[0]], model.chat)
            found[f"{probe.role}: {SAME_TOKENS if same else OTHER_TOKENS}"] += 1
    return dict(sorted(found.items()))


def _target(
    bare: ProbeBatch, queried: ProbeBatch, owner: int, request: EditRequest, after: Predictions
) -> dict[str, float]:
    """Return the probability of the edit's own target under the edited model, if a probe of reliability asks for it."""
    for probe, sequences in zip(bare.cases[owner].probes, queried.probes[owner], strict=True):
        wanted = (probe.role, probe.prompt, probe.answers[:1]) == ("reliability", request.prompt, (request.target,))
        if wanted and not probe.opposed and 0 in sequences.forced:
            return {"target_probability": after.forced[sequences.forced[0]].probability}
    return {}
