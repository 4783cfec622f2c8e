"""One chunk of cases under several editors: edit, run the probes again, score.

`run_chunk` and `score_chunk` are plain functions of their arguments, so that a chunk can be computed anywhere. The base
pass, the prompts' rows and the base model's own answers are shared by all editors of the run; every editor is read by
the same decoder at the same positions. Probes with a prefix, an editor's own or the instruction of the case's own
request, are rows of their own; what they are compared with is always the unedited model without any prefix.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
from instructedit.editors.engine.changes import change_facts
from instructedit.editors.engine.decoding import read_prompts
from instructedit.editors.models.tokens import tokens_begin_with
from instructedit.editors.texts import LEFT_OUT

from ..results.consistency import OTHER_TOKENS, SAME_TOKENS, otherwise
from ..results.records import Answer, CaseRecord, GenerationSpec, Measure, Protocol, Score
from ..results.stages import SINGLE
from . import metrics
from .answers import generation_agreement, matches
from .predictions import Heard, Readings, continued, forced_readings, heard, read_edited, read_unedited
from .probe_batch import Plan, make_plan

NOT_FINITE = "The edit holds numbers that are not finite."


@dataclass(frozen=True, slots=True)
class Made:
    """What an editor made for the cases of a chunk.

    Attributes:
        requests: What it was asked for, one request a case.
        edits: The edit that each case is scored under; one and the same if it carries them all.
        failures: Why there is no edit, by the number of the case.
        seconds: Time the edits took.
    """

    requests: Sequence[EditRequest]
    edits: Edits
    failures: Mapping[int, str]
    seconds: float


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds spent on a chunk by one editor."""

    editor: str
    cases: int
    edit_seconds: float
    score_seconds: float


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
) -> tuple[list[CaseRecord], list[Timing]]:
    """Edit, probe and score a chunk of cases one by one under every editor.

    A case that cannot be edited costs itself only: its record says `failed` and why.

    Args:
        model: The frozen model.
        cases: The cases of the chunk.
        editors: The editors by the name of their row.
        requests: What the editor of a row is asked for, where that is not the cases' own requests.
        probes: Which probes of a row carry the instruction, where that is not as its editor has it.
        run: Digest of the run.
        seed: Seed of the run.
        generation: How answers and texts are generated.
        fluency: Whether to sample texts.

    Returns:
        A record for each editor and case, editor by editor in the given order, and the time each editor took.
    """
    made: dict[str, Made] = {}
    for name, editor in editors.items():
        asked_for = (requests or {}).get(name, [case.request for case in cases])
        begun = perf_counter()
        edits, failures = edit_each(model, asked_for, editor, seed)
        made[name] = Made(asked_for, edits, failures, perf_counter() - begun)
    carry = {name: editor.instructed_probes for name, editor in editors.items()} | dict(probes or {})
    return score_chunk(model, cases, made, probes=carry, run=run, seed=seed, generation=generation, fluency=fluency)


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
) -> tuple[list[CaseRecord], list[Timing]]:
    """Probe and score a chunk of cases under edits that are made already.

    What one editor scores does not depend on which others are scored beside it.

    Args:
        model: The frozen model.
        cases: The cases of the chunk.
        made: What each editor made for them, by the name of its row.
        stage: Stage of the records.
        probes: Which probes of a row carry the instruction of the case's own request; none of a row that is missing.
        run: Digest of the run.
        seed: Seed of the run.
        generation: How answers and texts are generated.
        fluency: Whether to sample texts.

    Returns:
        As `run_chunk`.
    """
    plan = make_plan(model, cases, generation, fluency)
    base, stream = read_unedited(model, plan.forced.rows, [found.edits for found in made.values()])
    none = Edits.none(len(cases))
    forced = forced_readings(plan, stream)
    prompts = read_prompts(model, plan.prompts.rows, base.cuts), read_prompts(model, plan.free.rows, base.cuts)
    before = Readings(forced, *continued(model, plan, none, generation, seed, prompts))
    records: list[CaseRecord] = []
    timings: list[Timing] = []
    for name, found in made.items():
        begun = perf_counter()
        edits, asked, after = found.edits, plan, before
        if any(contexts := _contexts(name, found, (probes or {}).get(name, "none"))):
            asked = make_plan(model, cases, generation, fluency, contexts)
        if edits.first_block is not None or asked is not plan:
            with torch.no_grad():
                if asked is plan:
                    after = read_edited(model, plan, base, edits, generation, seed, prompts, before)
                else:
                    stream = model.forward(asked.forced.rows, edits, asked.forced.owners)
                    forced = forced_readings(asked, stream)
                    after = Readings(forced, *continued(model, asked, edits, generation, seed))
        changes = change_facts(model, edits, apart=stage == SINGLE)
        for owner, request in enumerate(found.requests):
            head = _head(request, name, run, stage)
            try:
                if owner in found.failures:
                    raise CaseError(found.failures[owner])
                scored = _scored(plan, asked, owner, before, after)
                if asked is plan and edits.first_block is None:
                    scored["remarks"] = _remarks(model, plan, owner, scored)
                if left_out := edits.facts[owner].get(LEFT_OUT):
                    scored["unscored"] |= {"edit: reply left out, longer than the model's context": int(left_out)}
                facts = {**edits.facts[owner], **changes[owner], **_target(plan, asked, owner, request, after)}
                # JSON has no word for what is no number
                facts = {name: value for name, value in facts.items() if math.isfinite(value)}
                records.append(head.model_copy(update={**scored, "edit": facts}))
            except CaseError as error:
                records.append(head.model_copy(update={"status": "failed", "reason": str(error)}))
        timings.append(Timing(name, len(cases), found.seconds, perf_counter() - begun))
    return records, timings


def _contexts(row: str, made: Made, probes: InstructedProbes) -> list[Context | None]:
    """Return the prefix of each case's probes: what its edit says, or the instruction of its own request."""
    if probes != "none" and any(made.edits.contexts):
        raise InputError(f"The edits of the row '{row}' put a text before probes that carry instructions already.")
    pairs = zip(made.edits.contexts, made.requests, strict=True)
    return [own or instruction_context(request, probes) for own, request in pairs]


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
    """Tell whether all numbers of one edit are finite."""
    tensors = [tensor for patch in edits.patches[number] for tensor in patch.tensors().values() if tensor.numel()]
    # a sum is finite only if all numbers are, and is found many times as fast as each is looked at; it may overflow
    return all(math.isfinite(float(t.detach().sum())) or bool(t.isfinite().all()) for t in tensors)


def _head(request: EditRequest, editor: str, run: str, stage: str) -> CaseRecord:
    return CaseRecord(
        run=run,
        task=request.task,
        case_id=request.case_id,
        editor=editor,
        stage=stage,
        prompt=request.prompt,
        target=request.target,
        subject=request.subject,
        instruction=request.instruction,
    )


def _scored(plan: Plan, asked: Plan, owner: int, before: Readings, after: Readings) -> dict[str, Any]:
    """Return the fields of a record that hold what was measured.

    Args:
        plan: The bare questions.
        asked: The questions as they were put to the edited model; the same unless the edit has a context.
        owner: Number of the case.
        before: What the unedited model says to `plan`.
        after: What the edited model says to `asked`.

    Raises:
        CaseError: If the edited model's numbers are not finite.
    """
    case = plan.cases[owner]
    own = (reading for reading, row in zip(after.forced, asked.forced.owners, strict=True) if row == owner)
    if not all(reading.finite for reading in own):
        raise CaseError("The edited model's logits are not all numbers.")
    unscored = asked.unscored[owner].copy()
    scores: list[Score] = []
    spoken: list[Answer] = []
    for number, probe in enumerate(case.probes):
        said = heard(plan.probes[owner][number], asked.probes[owner][number], before, after)
        if said.split:
            unscored[f"{probe.role}: behind the edit's text the answer is split into other tokens"] += said.split
        for protocol, value in _values(probe, said):
            scores.append(_score(probe.role, probe.subset, probe.derived, protocol, value, number))
        spoken.append(
            Answer(
                role=probe.role,
                subset=probe.subset,
                derived=probe.derived,
                prompt=probe.prompt,
                accepted=probe.answers,
                opposed=probe.opposed,
                before=said.before,
                generated=said.generated,
            )
        )
        if probe.opposed and not (said.replies and said.opposed):
            unscored["sentiment: no reply of one sentiment fits the model's context"] += 1
    text = asked.texts[owner]
    if text is not None:
        entropy = metrics.ngram_entropy(after.free[text])
        if entropy is None:
            unscored["fluency: the text has fewer than three words"] += 1
        else:
            scores.append(_score("fluency", "text", False, "ngram_entropy", entropy, None))
    return {
        "scores": tuple(scores),
        "answers": tuple(spoken),
        "text": None if text is None else after.free[text],
        "unscored": dict(sorted(unscored.items())),
        "remarks": dict(sorted(asked.remarks[owner].items())),
    }


def _remarks(model: LanguageModel, plan: Plan, owner: int, scored: Mapping[str, Any]) -> dict[str, int]:
    """Return the remarks on a case of the unedited model, those of the check of `consistency` among them."""
    values: dict[int, dict[Protocol, float]] = {}
    for score in scored["scores"]:
        if score.probe is not None:
            values.setdefault(score.probe, {})[score.protocol] = score.value
    found = Counter(scored["remarks"])
    for number, probe in enumerate(plan.cases[owner].probes):
        generated = scored["answers"][number].generated
        forced = plan.probes[owner][number].forced
        if generated is None or 0 not in forced:
            continue
        if otherwise(probe, values.get(number, {})):
            row = plan.forced.rows[forced[0]]
            same = tokens_begin_with(model.tokenizer, probe.prompt, generated, row)
            found[f"{probe.role}: {SAME_TOKENS if same else OTHER_TOKENS}"] += 1
    return dict(sorted(found.items()))


def _target(plan: Plan, asked: Plan, owner: int, request: EditRequest, after: Readings) -> dict[str, float]:
    """Return the probability of the edit's own target under the edited model, if a probe of reliability asks for it.

    It is the geometric mean over the target's tokens, each behind the right ones before it: exp(mean log p).
    """
    for probe, rows in zip(plan.cases[owner].probes, asked.probes[owner], strict=True):
        wanted = (probe.role, probe.prompt, probe.answers[:1]) == ("reliability", request.prompt, (request.target,))
        if wanted and not probe.opposed and 0 in rows.forced:
            log_p = after.forced[rows.forced[0]].log_p
            return {"target_probability": math.exp(math.fsum(log_p) / len(log_p))}
    return {}


def _values(probe: Probe, said: Heard) -> Iterable[tuple[Protocol, float]]:
    """Yield the scores of one probe, each with its protocol."""
    if probe.opposed:
        if said.replies and said.opposed:
            plus = [value for _, new in said.replies for value in new.log_p]
            minus = [value for _, new in said.opposed for value in new.log_p]
            plus_before = [value for old, _ in said.replies for value in old.log_p]
            success = metrics.edit_success(plus, minus, plus_before)
            yield "edit_success", success.edit_success
            yield "z_sent", success.z_sent
            yield "z_topic", success.z_topic
        return
    local = probe.role == "locality"
    for old, new in said.replies:
        reference = old.predicted if local else new.labels
        yield "teacher_forced_token", metrics.teacher_forced_token(new.predicted, reference)
        yield "teacher_forced_exact", metrics.teacher_forced_exact(new.predicted, reference)
        # A probe of another role may share the row of a locality probe, and with it what is kept of it.
        if local and old.distribution is not None and new.distribution is not None:
            yield "kl_divergence", metrics.divergence(old.distribution, new.distribution)
    if said.before is not None and said.generated is not None:
        if local:
            agreed = generation_agreement(said.before, said.generated, probe.answers)
            yield "free_generation", float(agreed)
        else:
            yield "free_generation", float(matches(said.generated, probe.answers))


def _score(measure: Measure, subset: str, derived: bool, protocol: Protocol, value: float, probe: int | None) -> Score:
    return Score(measure=measure, subset=subset, derived=derived, protocol=protocol, value=value, probe=probe)
