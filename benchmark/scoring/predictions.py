"""Predictions of the unedited and the edited model for a batch of probes, and their pairs probe by probe."""

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from instructedit.editors import BasePass, Edits, LanguageModel, Probe, TokenSequence, seed_of
from instructedit.editors.engine.decoding import Prompts, read_prompts
from instructedit.editors.engine.generation import answers, texts

from ..results.records import GenerationSpec
from .matching import finished
from .probe_batch import KINDS, Kind, ProbeBatch, ProbeSequences, compares

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


class Unedited:
    """The unedited model's `predictions`, and the cached passes from which edits are replayed.

    Args:
        model: The model.
        batches: The batches of a chunk, each with the edits it is scored under; the first, without, has the bare
            questions. The unedited model predicts what scores compare with (`ProbeBatch.references`) and what edits may
            leave as it is: batches under edits without patches or late edits. Of all other sequences it runs only the
            blocks that no edit changes.
        decoding: How texts are generated.
    """

    def __init__(
        self, model: LanguageModel, batches: Sequence[tuple[ProbeBatch, Edits | None]], decoding: Decoding
    ) -> None:
        cuts = [cut for _, edits in batches if edits is not None and (cut := edits.cut) is not None]
        self._model, self._decoding, bare = model, decoding, batches[0][0]
        left = [batch for batch, edits in batches if edits is not None and (edits.cut is None or edits.cut.late)]
        forced = {row for batch in left for row in batch.rows("forced")} | bare.references()
        greedy, sampled = ({row for batch in (bare, *left) for row in batch.rows(kind)} for kind in KINDS[1:])
        self._base: BasePass
        among = {row for batch, edits in batches if edits is not None for row in batch.rows("forced")} | forced
        self._base, logits = model.base(bare.forced.rows, cuts, read=forced, among=among)
        predicted = _reduced(bare.forced.rows, {row for batch in (bare, *left) for row in batch.kept}, logits)
        self._prompts = (
            read_prompts(model, bare.prompts.rows, cuts, greedy),
            read_prompts(model, bare.free.rows, cuts, sampled),
        )
        none = Edits.none(len(bare.cases))
        texts = _continued(model, [bare, *left], none, decoding, self._prompts, (sorted(greedy), sorted(sampled)))
        self.predictions = Predictions(predicted, *texts)

    def edited(self, batch: ProbeBatch, edits: Edits) -> Predictions:
        """Return the predictions for a batch under edits; sequences that no edit reaches keep the unedited ones."""
        before = self.predictions
        if edits.first_block is None:
            return before
        passes = (self._base, *(None if prompts is None else prompts.base for prompts in self._prompts))
        forced, greedy, sampled = (
            self._reached(base, batch, kind, edits) for kind, base in zip(KINDS, passes, strict=True)
        )
        logits = self._model.replay(self._base, edits, batch.forced.owners, forced)
        # a sequence that edits reach is never taken from the unedited model
        predicted = {row: before.forced[row] for row in set(batch.rows("forced")) - set(forced)}
        predicted |= _reduced(batch.forced.rows, batch.kept, logits)
        answers, free = _continued(self._model, [batch], edits, self._decoding, self._prompts, (greedy, sampled))
        return Predictions(predicted, before.generated | answers, before.free | free)

    def _reached(self, base: BasePass | None, batch: ProbeBatch, kind: Kind, edits: Edits) -> list[int]:
        """Return those of a batch's sequences that edits may change, case by case; all of them without a base pass."""
        rows = batch.rows(kind)
        if base is None:
            return rows
        own = set(rows)
        owners = [owner if row in own else None for row, owner in enumerate(batch.sequences(kind).owners)]
        found = set(self._model.reached(base, edits, owners))
        return [row for row in rows if row in found]


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


def _reduced(
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


def _continued(
    model: LanguageModel,
    batches: Sequence[ProbeBatch],
    edits: Edits,
    decoding: Decoding,
    prompts: tuple[Prompts | None, Prompts | None],
    among: tuple[Sequence[int], Sequence[int]],
) -> tuple[dict[int, str], dict[int, str]]:
    """Return the greedy answers and the sampled texts at the indices that `among` has of both."""
    batch = batches[0]
    accepted: list[list[str]] = [[] for _ in batch.prompts.rows]
    for own in batches:
        for case, sequences in zip(own.cases, own.probes, strict=True):
            for probe, found in zip(case.probes, sequences, strict=True):
                if found.generated is not None:
                    accepted[found.generated] += probe.answers
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
