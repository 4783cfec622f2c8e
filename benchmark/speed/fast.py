"""The engine as the speed benchmark calls it: only what any caller of it may use stands here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from instructedit.editors import Cut, EditCase, Editor, Edits, LanguageModel, TrainedEditor, TrainingSet
from instructedit.editors.engine.decoding import Prompts, read_prompts
from instructedit.editors.hypernet.objective import Losses
from instructedit.editors.hypernet.trainer import step_losses

from ..results.records import CaseRecord, GenerationSpec
from ..run.accumulated import AccumulatedEdit
from ..scoring.predictions import (
    Reading,
    Readings,
    continued,
    continued_again,
    forced_again,
    forced_readings,
    read_unedited,
)
from ..scoring.probe_batch import Plan, make_plan
from ..scoring.scoring import Made, edit_each, score_chunk

FORCED = GenerationSpec(max_new_tokens=0)
"""Teacher forcing only."""
RUN = "0" * 16
"""Stands for the digest of a run in records that nobody keeps."""


def edit(model: LanguageModel, cases: Sequence[EditCase], editor: Editor[Any], seed: int = 0) -> Made:
    """Make the edits of a chunk.

    Raises:
        RuntimeError: If a case cannot be edited; those of this benchmark can.
    """
    requests = [case.request for case in cases]
    edits, failures = edit_each(model, requests, editor, seed)
    if failures:
        raise RuntimeError(f"{editor.name} failed: {failures}")
    return Made(requests, edits, failures, 0.0)


def score(
    model: LanguageModel, cases: Sequence[EditCase], made: Mapping[str, Made], seed: int = 0
) -> tuple[list[CaseRecord], dict[str, float]]:
    """Read the unedited model, then every editor, and score.

    Returns:
        The records, editor by editor, and the wall-clock seconds of each editor; the base pass is in none of them.
    """
    records, timings = score_chunk(model, cases, made, run=RUN, seed=seed, generation=FORCED, fluency=False)
    return records, {timing.editor: timing.score_seconds for timing in timings}


@torch.no_grad()
def readings(
    model: LanguageModel, cases: Sequence[EditCase], edits: Mapping[str, Edits]
) -> tuple[list[list[Reading]], dict[str, list[list[Reading]]]]:
    """Return what the model says to each probe of each case, unedited and under edits, as scoring reads it.

    Args:
        model: The model.
        cases: The cases.
        edits: By editor an edit for each case.
    """
    plan = make_plan(model, cases, FORCED, fluency=False)

    def by_probe(found: Sequence[Reading]) -> list[list[Reading]]:
        return [[found[probe.forced[0]] for probe in probes] for probes in plan.probes]

    base, stream = read_unedited(model, plan.forced.rows, edits.values())
    before = forced_readings(plan, stream)
    return by_probe(before), {
        name: by_probe(forced_again(model, plan, base, own, before)) for name, own in edits.items()
    }


@dataclass(frozen=True, slots=True)
class Told:
    """What the unedited model leaves for the texts of all editors.

    Attributes:
        plan: The prompts.
        prompts: They, read.
        before: How the unedited model continues them.
    """

    plan: Plan
    prompts: tuple[Prompts | None, Prompts | None]
    before: Readings


def unedited(
    model: LanguageModel, cases: Sequence[EditCase], cuts: Sequence[Cut], generation: GenerationSpec, seed: int = 0
) -> Told:
    """Let the unedited model read and continue all prompts, to be continued again under edits with these cuts."""
    plan = make_plan(model, cases, generation, fluency=True)
    prompts = read_prompts(model, plan.prompts.rows, cuts), read_prompts(model, plan.free.rows, cuts)
    none = Edits.none(len(cases))
    return Told(plan, prompts, Readings([], *continued(model, plan, none, generation, seed, prompts)))


def edited(
    model: LanguageModel, told: Told, edits: Edits, generation: GenerationSpec, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Return the answers and texts under edits."""
    return continued_again(model, told.plan, edits, generation, seed, told.prompts, told.before)


def by_case(plan: Plan, answers: Sequence[str], texts: Sequence[str]) -> list[tuple[list[str], str]]:
    """Return for each case the greedy answers to its prompts, each prompt once, and its sampled text."""
    found: list[tuple[list[str], str]] = []
    for number, text in enumerate(plan.texts):
        own = [answer for answer, owner in zip(answers, plan.prompts.owners, strict=True) if owner == number]
        assert text is not None, "the texts of this benchmark fit"
        found.append((own, texts[text]))
    return found


def losses(
    model: LanguageModel,
    editor: TrainedEditor[Any],
    cases: Sequence[EditCase],
    training: TrainingSet,
    seeds: Sequence[int],
) -> Losses:
    """Return the outer losses of a step's cases and add the gradient of their mean."""
    return step_losses(editor, model, cases, training, seeds)


def take(model: LanguageModel, editor: Editor[Any], state: AccumulatedEdit, case: EditCase, seed: int = 0) -> None:
    """Make one more edit on top of those that a run has made.

    Raises:
        RuntimeError: If the case cannot be edited in; those of this benchmark can.
    """
    state.add(model, editor, case.request, seed)
    if state.failures:
        raise RuntimeError(f"{editor.name} failed: {state.failures}")


def size(edits: Edits) -> int:
    """Return the bytes of all tensors of some edits."""
    tensors = [tensor for patches in edits.patches for patch in patches for tensor in patch.tensors().values()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
