"""Predictions of the unedited and the edited model for a batch of probes, and their pairs probe by probe."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from instructedit.editors import BasePass, Edits, LanguageModel, seed_of
from instructedit.editors.engine.decoding import Prompts, read_prompts
from instructedit.editors.engine.generation import answers, texts

from ..results.records import GenerationSpec
from .matching import finished
from .probe_batch import ProbeBatch, ProbeSequences

_TOGETHER = 32
"""Sequences whose logits are reduced at once."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's prediction of a teacher-forced answer, at its scored positions.

    Attributes:
        finite: Whether all logits are finite or -inf.
        labels: Tokens of the answer, [answer].
        predicted: Most likely tokens, [answer].
        log_p: Log-probabilities of the labels, [answer].
        distribution: All log-probabilities, [answer, vocabulary] in float32, where a KL divergence is scored.
    """

    finite: bool
    labels: list[int]
    predicted: list[int]
    log_p: list[float]
    distribution: Tensor | None


@dataclass(frozen=True, slots=True)
class Predictions:
    """All predictions of one model for a batch: teacher-forced answers by index, greedy answers, sampled texts."""

    forced: dict[int, Prediction]
    generated: list[str]
    free: list[str]


@dataclass(frozen=True, slots=True)
class Decoding:
    """How answers and texts are generated, and the seed of the run."""

    spec: GenerationSpec
    seed: int


class Unedited:
    """The unedited model's `predictions` for a batch, and the cached passes from which edits are replayed."""

    def __init__(self, model: LanguageModel, batch: ProbeBatch, edits: Iterable[Edits], decoding: Decoding) -> None:
        cuts = [cut for own in edits if (cut := own.cut) is not None]
        late = min((cut.block for cut in cuts if cut.late), default=None)
        self._model, self._batch, self._decoding = model, batch, decoding
        self._base: BasePass
        self._base, logits = model.base(batch.forced.rows, cuts, late)
        forced = _reduced(batch, logits)
        self._prompts: tuple[Prompts | None, Prompts | None] = (
            read_prompts(model, batch.prompts.rows, self._base.cuts),
            read_prompts(model, batch.free.rows, self._base.cuts),
        )
        generated, free = _continued(model, batch, Edits.none(len(batch.cases)), decoding, self._prompts)
        self.predictions = Predictions(forced, generated, free)

    def edited(self, edits: Edits) -> Predictions:
        """Return the predictions under edits; sequences that no edit reaches keep the unedited prediction."""
        model, batch, before = self._model, self._batch, self.predictions
        reached = model.reached(self._base, edits, batch.forced.owners)
        kept = before.forced.keys() - set(reached)
        forced = {index: before.forced[index] for index in kept}
        forced |= _reduced(batch, model.replay(self._base, edits, batch.forced.owners, reached))
        greedy, sampled = (
            None if prompts is None else model.reached(prompts.base, edits, sequences.owners)
            for prompts, sequences in zip(self._prompts, (batch.prompts, batch.free), strict=True)
        )
        generated, free = _continued(model, batch, edits, self._decoding, self._prompts, (greedy, sampled))
        return Predictions(forced, _only(generated, greedy, before.generated), _only(free, sampled, before.free))


def predict(model: LanguageModel, batch: ProbeBatch, edits: Edits, decoding: Decoding) -> Predictions:
    """Return the predictions under edits by full passes."""
    forced = _reduced(batch, model.forward(batch.forced.rows, edits, batch.forced.owners))
    return Predictions(forced, *_continued(model, batch, edits, decoding))


@dataclass(frozen=True, slots=True)
class BeforeAfter:
    """Predictions for one probe: of the unedited model for the bare question, of the edited model as it was queried.

    Attributes:
        replies: Predictions of the accepted replies that both models could be given, before and after the edit.
        opposed: Those of the replies of the opposite sentiment.
        old: Those of the old answer; None where it is not read.
        split: Number of replies left out because their tokens differ between the two.
        before: Greedy answer of the unedited model.
        after: Greedy answer of the edited model.
    """

    replies: list[tuple[Prediction, Prediction]]
    opposed: list[tuple[Prediction, Prediction]]
    old: tuple[Prediction, Prediction] | None
    split: int
    before: str | None
    after: str | None


def before_after(bare: ProbeSequences, queried: ProbeSequences, before: Predictions, after: Predictions) -> BeforeAfter:
    """Pair the predictions of two models for one probe."""

    def pairs(old: Mapping[int, int], new: Mapping[int, int]) -> list[tuple[Prediction, Prediction]]:
        return [(before.forced[old[reply]], after.forced[new[reply]]) for reply in new if reply in old]

    def comparable(pair: tuple[Prediction, Prediction]) -> bool:
        return pair[0].labels == pair[1].labels

    replies, opposed = pairs(bare.forced, queried.forced), pairs(bare.opposed, queried.opposed)
    return BeforeAfter(
        list(filter(comparable, replies)),
        list(filter(comparable, opposed)),
        None if bare.old is None or queried.old is None else (before.forced[bare.old], after.forced[queried.old]),
        sum(not comparable(pair) for pair in replies + opposed),
        None if bare.generated is None else before.generated[bare.generated],
        None if queried.generated is None else after.generated[queried.generated],
    )


def _reduced(batch: ProbeBatch, stream: Iterable[tuple[int, Tensor]]) -> dict[int, Prediction]:
    """Reduce a stream of (index, logits) of teacher-forced sequences to predictions by index."""
    found: dict[int, Prediction] = {}
    waiting = iter(stream)
    while sequences := list(islice(waiting, _TOGETHER)):
        found |= _reduce(batch, sequences)
    return found


def _reduce(batch: ProbeBatch, sequences: Sequence[tuple[int, Tensor]]) -> dict[int, Prediction]:
    logits = torch.cat([own for _, own in sequences])
    answers = [batch.forced.rows[index].labels for index, _ in sequences]
    labels = torch.tensor([label for answer in answers for label in answer], device=logits.device)
    distributions = logits.float().log_softmax(dim=-1)
    log_p = distributions.gather(1, labels[:, None])[:, 0].tolist()
    # The largest logit is NaN or infinite if any is; -inf is a token that is ruled out.
    largest, predicted = (found.tolist() for found in logits.max(dim=-1))
    found: dict[int, Prediction] = {}
    first = 0
    for (index, own), answer in zip(sequences, answers, strict=True):
        part = slice(first, first + len(own))
        distribution = distributions[part].clone() if index in batch.kept else None
        finite = all(value < math.inf for value in largest[part])
        found[index] = Prediction(finite, list(answer), predicted[part], log_p[part], distribution)
        first += len(own)
    return found


def _continued(
    model: LanguageModel,
    batch: ProbeBatch,
    edits: Edits,
    decoding: Decoding,
    prompts: tuple[Prompts | None, Prompts | None] = (None, None),
    among: tuple[Sequence[int] | None, Sequence[int] | None] = (None, None),
) -> tuple[list[str], list[str]]:
    """Return the greedy answers and the sampled texts; `among` has the indices of both that are continued, or all."""
    accepted: list[list[str]] = [[] for _ in batch.prompts.rows]
    for case, sequences in zip(batch.cases, batch.probes, strict=True):
        for probe, own in zip(case.probes, sequences, strict=True):
            if own.generated is not None:
                accepted[own.generated] += probe.answers
    greedy = []
    if batch.prompts.rows:
        greedy = answers(
            model,
            batch.prompts.rows,
            edits,
            batch.prompts.owners,
            max_new_tokens=decoding.spec.max_new_tokens,
            finished=lambda row, text: finished(text, accepted[row]),
            prompts=prompts[0],
            among=among[0],
        )
    case_ids = [batch.cases[owner].request.case_id for owner in batch.free.owners]
    free = texts(
        model,
        batch.free.rows,
        edits,
        batch.free.owners,
        new_tokens=decoding.spec.fluency_tokens,
        top_k=decoding.spec.fluency_top_k,
        seeds=[seed_of(decoding.seed, "fluency", case_id) for case_id in case_ids],
        prompts=prompts[1],
        among=among[1],
    )
    return greedy, free


def _only(new: Sequence[str], among: Sequence[int] | None, old: Sequence[str]) -> list[str]:
    """Return the new texts at some indices, all by default, and the old ones elsewhere."""
    some = range(len(new)) if among is None else {*among}
    return [one if index in some else before for index, (one, before) in enumerate(zip(new, old, strict=True))]
