"""What a model says to a plan, and what two models said to the same probe."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from instructedit.editors import BasePass, Edits, LanguageModel, Row, seed_of
from instructedit.editors.engine.decoding import Prompts
from instructedit.editors.engine.generation import answers, texts

from ..results.records import GenerationSpec
from .answers import finished
from .probe_batch import Plan, ProbeRows

TOGETHER = 32
"""Rows that are read at once."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model says to a teacher-forced row, at its scored positions.

    Attributes:
        finite: Whether all logits are numbers.
        labels: Tokens of the answer, [answer].
        predicted: Most likely tokens, [answer].
        log_p: Log-probabilities of the labels, [answer].
        distribution: All log-probabilities, [answer, vocabulary] in float32, where the divergence from the base model
            is wanted.
    """

    finite: bool
    labels: list[int]
    predicted: list[int]
    log_p: list[float]
    distribution: Tensor | None


@dataclass(frozen=True, slots=True)
class Readings:
    """Everything one model (base or edited) says to a plan: forced rows, greedy answers, sampled texts."""

    forced: list[Reading]
    generated: list[str]
    free: list[str]


def read_unedited(
    model: LanguageModel, rows: Sequence[Row], edits: Iterable[Edits]
) -> tuple[BasePass, Iterator[tuple[int, Tensor]]]:
    """Let the unedited model read rows, and keep what reading them again under some sets of edits needs.

    Returns:
        See `LanguageModel.base`.
    """
    cuts = [cut for own in edits if (cut := own.cut) is not None]
    late = min((cut.block for cut in cuts if cut.late), default=None)
    return model.base(rows, cuts, late)


def forced_readings(
    plan: Plan, stream: Iterable[tuple[int, Tensor]], standing: Mapping[int, Reading] | None = None
) -> list[Reading]:
    """Read the logits of the plan's teacher-forced rows, which come as `LanguageModel.forward` gives them.

    Args:
        plan: The rows.
        stream: Logits of all rows that are not in `standing`.
        standing: By row what was said before and stands, because no edit reaches the row.
    """
    found = dict(standing or {})
    waiting: list[tuple[int, Tensor]] = []
    for index, logits in stream:
        waiting.append((index, logits))
        if len(waiting) == TOGETHER:
            found |= _read(plan, waiting)
            waiting = []
    found |= _read(plan, waiting)
    return [found[i] for i in range(len(plan.forced.rows))]


def _read(plan: Plan, rows: Sequence[tuple[int, Tensor]]) -> dict[int, Reading]:
    """Read some rows at once."""
    if not rows:
        return {}
    logits = torch.cat([own for _, own in rows])
    counts = [len(own) for _, own in rows]
    labels = [plan.forced.rows[index].labels for index, _ in rows]
    wanted = torch.tensor([label for own in labels for label in own], device=logits.device)
    distributions = logits.float().log_softmax(dim=-1)
    log_p = distributions.gather(1, wanted[:, None])[:, 0].tolist()
    # the largest number tells of NaN, which it then is, and of infinity; a logit of -inf is a token ruled out
    largest, predicted = (found.tolist() for found in logits.max(dim=-1))
    found: dict[int, Reading] = {}
    first = 0
    for (index, _), count, answer in zip(rows, counts, labels, strict=True):
        part = slice(first, first + count)
        kept = distributions[part].clone() if index in plan.kept else None
        finite = all(value < math.inf for value in largest[part])
        found[index] = Reading(finite, list(answer), predicted[part], log_p[part], kept)
        first += count
    return found


def continued(
    model: LanguageModel,
    plan: Plan,
    edits: Edits,
    generation: GenerationSpec,
    seed: int,
    prompts: tuple[Prompts | None, Prompts | None] = (None, None),
    among: tuple[Sequence[int] | None, Sequence[int] | None] = (None, None),
) -> tuple[list[str], list[str]]:
    """Return the greedy answers and the sampled texts.

    Args:
        model: The model.
        plan: What is asked.
        edits: One edit for each case.
        generation: How answers and texts are generated.
        seed: Seed of the run.
        prompts: The prompts of both as the unedited model has read them.
        among: Which prompts of both are continued; all by default.
    """
    accepted: list[list[str]] = [[] for _ in plan.prompts.rows]
    for case, rows in zip(plan.cases, plan.probes, strict=True):
        for probe, found in zip(case.probes, rows, strict=True):
            if found.generated is not None:
                accepted[found.generated] += probe.answers
    greedy = []
    if plan.prompts.rows:
        greedy = answers(
            model,
            plan.prompts.rows,
            edits,
            plan.prompts.owners,
            max_new_tokens=generation.max_new_tokens,
            finished=lambda row, text: finished(text, accepted[row]),
            prompts=prompts[0],
            among=among[0],
        )
    free = texts(
        model,
        plan.free.rows,
        edits,
        plan.free.owners,
        new_tokens=generation.fluency_tokens,
        top_k=generation.fluency_top_k,
        seeds=[seed_of(seed, "fluency", plan.cases[owner].request.case_id) for owner in plan.free.owners],
        prompts=prompts[1],
        among=among[1],
    )
    return greedy, free


def read_edited(
    model: LanguageModel,
    plan: Plan,
    base: BasePass,
    edits: Edits,
    generation: GenerationSpec,
    seed: int,
    prompts: tuple[Prompts | None, Prompts | None],
    before: Readings,
) -> Readings:
    """Let an edited model say its part to a plan that the unedited model has read.

    Args:
        model: The model.
        plan: What is asked.
        base: The unedited model's pass over the plan's teacher-forced rows.
        edits: One edit for each case.
        generation: How answers and texts are generated.
        seed: Seed of the run.
        prompts: The prompts as the unedited model has read them.
        before: What the unedited model says.
    """
    forced = forced_again(model, plan, base, edits, before.forced)
    return Readings(forced, *continued_again(model, plan, edits, generation, seed, prompts, before))


def forced_again(
    model: LanguageModel, plan: Plan, base: BasePass, edits: Edits, before: Sequence[Reading]
) -> list[Reading]:
    """Return what an edited model says to the teacher-forced rows; what was said before where no edit reaches a row."""
    owners = plan.forced.owners
    some = model.reached(base, edits, owners)
    standing = dict(enumerate(before))
    for index in some:
        del standing[index]
    return forced_readings(plan, model.replay(base, edits, owners, some), standing)


def continued_again(
    model: LanguageModel,
    plan: Plan,
    edits: Edits,
    generation: GenerationSpec,
    seed: int,
    prompts: tuple[Prompts | None, Prompts | None],
    before: Readings,
) -> tuple[list[str], list[str]]:
    """Return an edited model's answers and texts; those of the unedited model where no edit reaches the prompt."""
    greedy, free = (
        None if known is None else model.reached(known.base, edits, own.owners)
        for known, own in zip(prompts, (plan.prompts, plan.free), strict=True)
    )
    said, told = continued(model, plan, edits, generation, seed, prompts, (greedy, free))
    return _filled(said, greedy, before.generated), _filled(told, free, before.free)


def _filled(said: list[str], among: Sequence[int] | None, before: Sequence[str]) -> list[str]:
    """Return what was said, and before where nobody was asked again."""
    some = range(len(said)) if among is None else {*among}
    return [new if index in some else old for index, (new, old) in enumerate(zip(said, before, strict=True))]


@dataclass(frozen=True, slots=True)
class Heard:
    """What was said to one probe, by the unedited model to the bare question and by the edited model as it was asked.

    Attributes:
        replies: Readings of the accepted replies that both could be asked, before and after.
        opposed: The same of the replies of the opposite sentiment.
        split: Replies left out because their tokens are not the same in both.
        before: Greedy answer of the unedited model.
        generated: Greedy answer of the edited model.
    """

    replies: list[tuple[Reading, Reading]]
    opposed: list[tuple[Reading, Reading]]
    split: int
    before: str | None
    generated: str | None


def heard(bare: ProbeRows, asked: ProbeRows, before: Readings, after: Readings) -> Heard:
    """Bring together what two models said to one probe."""

    def pairs(old: Mapping[int, int], new: Mapping[int, int]) -> list[tuple[Reading, Reading]]:
        return [(before.forced[old[reply]], after.forced[new[reply]]) for reply in new if reply in old]

    replies, opposed = pairs(bare.forced, asked.forced), pairs(bare.opposed, asked.opposed)
    return Heard(
        [pair for pair in replies if _alike(pair)],
        [pair for pair in opposed if _alike(pair)],
        sum(not _alike(pair) for pair in replies + opposed),
        None if bare.generated is None else before.generated[bare.generated],
        None if asked.generated is None else after.generated[asked.generated],
    )


def _alike(pair: tuple[Reading, Reading]) -> bool:
    """Tell whether both readings are of the same tokens, so that they can be compared position by position."""
    return pair[0].labels == pair[1].labels
