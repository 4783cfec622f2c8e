"""How many tokens a case comes to: the mean over a sample, encoded as the run will encode them."""

import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from instructedit.editors import CaseError, Context, EditCase, Editor, EditRequest, Encoder, Row, TrainedEditor
from instructedit.editors.engine.packed_batch import batches
from instructedit.editors.hypernet.objective import outer_rows

from ..results.records import GenerationSpec
from ..run.trainings import Training
from ..scoring.probe_batch import make_plan
from ..setup.sampling import choose

SAMPLE = 20
"""Cases of a task that are encoded."""


@dataclass(frozen=True, slots=True)
class EditLoad:
    """Means of a case's texts: tokens that are computed, and those of them whose logits are read.

    Of texts that begin alike, under the same edit, the beginning is computed once; what stands behind a text's last
    scored position is not computed.
    """

    tokens: float = 0.0
    scored: float = 0.0

    def __mul__(self, times: float) -> "EditLoad":
        return EditLoad(self.tokens * times, self.scored * times)


@dataclass(frozen=True, slots=True)
class ScoreLoad:
    """Means of a case that is scored.

    Attributes:
        tokens: Of teacher-forced texts, as in `EditLoad`.
        scored: Those of them whose logits are read.
        kept: Positions whose log-probabilities are kept until the chunk is done.
        prompts: Prompts that are continued greedily.
        prompt_tokens: Their tokens.
        texts: Prompts that are continued by sampling, 0 or 1.
        text_tokens: Their tokens.
    """

    tokens: float = 0.0
    scored: float = 0.0
    kept: float = 0.0
    prompts: float = 0.0
    prompt_tokens: float = 0.0
    texts: float = 0.0
    text_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainingLoad:
    """Means of a training case: its edit, and the texts of the outer loss that judge it."""

    edit: EditLoad
    outer: EditLoad


Load = TypeVar("Load", EditLoad, ScoreLoad)


def edit_load(model: Encoder, editor: Editor[Any], requests: Iterable[EditRequest]) -> EditLoad:
    """Return what an edit of these requests comes to; those that do not fit the context are left out."""
    found = [_encoded(model, editor, request) for request in requests]
    return _mean(EditLoad, [_sum([_tokens([row]) for row in rows]) for rows in found if rows])


def score_load(
    model: Encoder,
    cases: Sequence[EditCase],
    contexts: Sequence[Context | None],
    generation: GenerationSpec,
    fluency: bool,
) -> ScoreLoad:
    """Return what scoring one of these cases comes to, asked behind the contexts of their edits."""
    plan = make_plan(model, cases, generation, fluency, contexts)
    forced = _tokens(plan.forced.rows, plan.forced.owners)
    count = max(len(cases), 1)
    return ScoreLoad(
        tokens=forced.tokens / count,
        scored=forced.scored / count,
        kept=sum(len(plan.forced.rows[index].scored) for index in plan.kept) / count,
        prompts=len(plan.prompts.rows) / count,
        prompt_tokens=sum(map(len, plan.prompts.rows)) / count,
        texts=len(plan.free.rows) / count,
        text_tokens=sum(map(len, plan.free.rows)) / count,
    )


def training_load(model: Encoder, training: Training, seed: int) -> TrainingLoad:
    """Return what a case of a training comes to, tasks in the proportion in which they are drawn."""
    shares = training.cases.weights
    edits, outers = [], []
    for task, share in shares.items():
        sample = choose([case for case in training.cases.train if case.request.task == task], SAMPLE)
        requests = [training.cases.request(case, seed) for case in sample]
        edit = edit_load(model, training.editor, requests)
        rng = random.Random(seed)
        rows = [
            _outer(model, training.editor, case, request, rng) for case, request in zip(sample, requests, strict=True)
        ]
        outer = _mean(EditLoad, [_tokens(own) for own in rows if own])
        edits.append(edit * share)
        outers.append(outer * share)
    return TrainingLoad(_sum(edits), _sum(outers))


def mean_load(loads: Sequence[tuple[int, Load]], kind: Callable[..., Load]) -> Load:
    """Return the mean load over tasks, each with its number of cases."""
    total = max(sum(count for count, _ in loads), 1)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: sum(count * getattr(load, name) for count, load in loads) / total for name in names})


def _encoded(model: Encoder, editor: Editor[Any], request: EditRequest) -> list[Row]:
    try:
        texts = editor.texts(model, request)
        return [*texts.wanted, *texts.opposed]
    except CaseError:
        return []


def _outer(
    model: Encoder, editor: TrainedEditor[Any], case: EditCase, request: EditRequest, rng: random.Random
) -> list[Row]:
    try:
        found = outer_rows(model, case, request, 0, editor.context(request), editor.config.objective, rng)
    except CaseError:
        return []
    return [outer.row for outer in found]


def _tokens(rows: Sequence[Row], owners: Sequence[int] | None = None) -> EditLoad:
    """Return what rows come to in one pass; all are of one edit unless owners are given."""
    found = list(batches(rows, owners or [0] * len(rows), sys.maxsize))
    return EditLoad(sum(map(len, found)), sum(len(batch.read) for batch in found))


def _mean(kind: Callable[..., Load], loads: Sequence[Load]) -> Load:
    return mean_load([(1, load) for load in loads], kind)


def _sum(loads: Sequence[EditLoad]) -> EditLoad:
    return EditLoad(sum(load.tokens for load in loads), sum(load.scored for load in loads))
