"""Predictions of a model for a batch of probes, and pairs of them probe by probe."""

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import islice
from statistics import fmean

import torch
from torch import Tensor

from instructedit.editors import Edits, LanguageModel, Probe, TokenSequence, seed_of
from instructedit.editors.engine.decoding import Prompts
from instructedit.editors.engine.generation import answers, texts

from ..results.records import GenerationSpec
from .matching import finished
from .probe_batch import ProbeBatch, ProbeSequences, compares

_TOGETHER = 32
"""Sequences whose logits are reduced at once."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's prediction of a teacher-forced answer: its tokens, the most likely ones and `log_p` of the labels.

    These have one entry for each scored position. `distribution` has all log-probabilities, [answer, vocabulary] in
    float32, where a KL divergence is scored. `finite` tells whether all logits are finite or -inf.
    """

    finite: bool
    labels: list[int]
    predicted: list[int]
    log_p: list[float]
    distribution: Tensor | None

    @property
    def exact(self) -> bool:
        """Whether the most likely tokens are the answer's."""
        return self.predicted == self.labels

    @property
    def probability(self) -> float:
        """Geometric mean of the probabilities of the answer's tokens, each given the correct ones before it."""
        return math.exp(fmean(self.log_p))


@dataclass(frozen=True, slots=True)
class Predictions:
    """All predictions of one model, by the index of the sequence: forced answers, greedy answers, sampled texts."""

    forced: dict[int, Prediction]
    generated: dict[int, str]
    free: dict[int, str]


@dataclass(frozen=True, slots=True)
class Decoding:
    """How answers and texts are generated, and the seed of the run."""

    spec: GenerationSpec
    seed: int


@dataclass(frozen=True, slots=True)
class BeforeAfter:
    """Predictions for one probe: of the unedited model for the bare question, of the edited model as it was queried.

    `replies` and `opposed` are predictions after the edit of the replies that both models could be given, `references`
    those of the accepted ones before it, where a score compares with them (`compares`). `old` has the old answer's
    before and after the edit; `before` and `after` are greedy answers. `split` counts replies left out because their
    tokens differ between the two.
    """

    replies: list[Prediction]
    references: list[Prediction]
    opposed: list[Prediction]
    old: tuple[Prediction, Prediction] | None
    split: int
    before: str | None
    after: str | None


def before_after(
    probe: Probe,
    rows: Sequence[TokenSequence],
    bare: ProbeSequences,
    queried: ProbeSequences,
    before: Predictions,
    after: Predictions,
) -> BeforeAfter:
    """Pair the predictions of two models for one probe; `rows` are the teacher-forced sequences."""

    def pairs(old: Mapping[int, int], new: Mapping[int, int]) -> list[tuple[int, int]]:
        return [(old[reply], row) for reply, row in new.items() if reply in old]

    def comparable(pair: tuple[int, int]) -> bool:
        return rows[pair[0]].labels == rows[pair[1]].labels

    replies, opposed = pairs(bare.forced, queried.forced), pairs(bare.opposed, queried.opposed)
    kept = list(filter(comparable, replies))
    return BeforeAfter(
        [after.forced[row] for _, row in kept],
        [before.forced[row] for row, _ in kept] if compares(probe) else [],
        [after.forced[row] for _, row in filter(comparable, opposed)],
        None if bare.old is None or queried.old is None else (before.forced[bare.old], after.forced[queried.old]),
        sum(not comparable(pair) for pair in replies + opposed),
        None if bare.generated is None else before.generated[bare.generated],
        None if queried.generated is None else after.generated[queried.generated],
    )


def reduced(
    rows: Sequence[TokenSequence], kept: Set[int], stream: Iterable[tuple[int, Tensor]]
) -> dict[int, Prediction]:
    """Reduce a stream of (index, logits) of teacher-forced sequences to predictions; `kept` keep distributions."""
    found: dict[int, Prediction] = {}
    waiting = iter(stream)
    while sequences := list(islice(waiting, _TOGETHER)):
        found |= _reduce(rows, kept, sequences)  # a function, whose tensors are freed before the next pass
    return found


def _reduce(
    rows: Sequence[TokenSequence], kept: Set[int], sequences: Sequence[tuple[int, Tensor]]
) -> dict[int, Prediction]:
    logits = torch.cat([own for _, own in sequences])
    labels = torch.tensor([label for index, _ in sequences for label in rows[index].labels], device=logits.device)
    distributions = logits.float().log_softmax(dim=-1)
    log_p = distributions.gather(1, labels[:, None])[:, 0].tolist()
    # The largest logit is NaN or infinite if any is; -inf is a token that is ruled out.
    largest, predicted = (values.tolist() for values in logits.max(dim=-1))
    found: dict[int, Prediction] = {}
    first = 0
    for index, own in sequences:
        part = slice(first, first + len(own))
        distribution = distributions[part].clone() if index in kept else None
        finite = all(value < math.inf for value in largest[part])
        found[index] = Prediction(finite, list(rows[index].labels), predicted[part], log_p[part], distribution)
        first += len(own)
    return found


def accepted_answers(batches: Sequence[ProbeBatch]) -> list[list[str]]:
    """Return for each prompt of a chunk that is continued greedily the answers that its probes accept, each once."""
    accepted: list[dict[str, None]] = [{} for _ in batches[0].prompts.rows]
    for batch in batches:
        for case, sequences in zip(batch.cases, batch.probes, strict=True):
            for probe, found in zip(case.probes, sequences, strict=True):
                if found.generated is not None:
                    accepted[found.generated] |= dict.fromkeys(probe.answers)
    return [list(answers) for answers in accepted]


def continued(
    model: LanguageModel,
    batches: Sequence[ProbeBatch],
    edits: Edits,
    decoding: Decoding,
    prompts: tuple[Prompts | None, Prompts | None],
    among: tuple[Sequence[int], Sequence[int]],
) -> tuple[dict[int, str], dict[int, str]]:
    """Return the greedy answers and the sampled texts at the indices that `among` has of both."""
    batch, accepted = batches[0], accepted_answers(batches)
    greedy: list[str] = []
    if among[0]:
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
    free: list[str] = []
    if among[1]:
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
    return {row: greedy[row] for row in among[0]}, {row: free[row] for row in among[1]}
