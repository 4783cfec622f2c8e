"""The unedited model on the probes of a chunk: its predictions, and the cached passes from which edits are replayed."""

from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest
from typing import Any

from instructedit.editors import BasePass, Edits, LanguageModel
from instructedit.editors.engine.decoding import read_prompts
from instructedit.editors.engine.engine import Group

from .base_passes import NOT_KEPT, BasePasses, sequences
from .predictions import Decoding, Prediction, Predictions, accepted_answers, continued, reduced
from .probe_batch import KINDS, Kind, ProbeBatch


class Unedited:
    """The unedited model's `predictions`, and the cached passes from which edits are replayed.

    Args:
        model: The model.
        batches: The batches of a chunk, each with the edits it is scored under; the first, without, has the bare
            questions. The unedited model predicts what scores compare with (`ProbeBatch.references`) and what edits may
            leave as it is: batches under edits without patches or late edits. Of all other sequences it runs only the
            blocks that no edit changes.
        decoding: How texts are generated.
        passes: Base passes of earlier runs, to which those of this chunk are added.
    """

    def __init__(
        self,
        model: LanguageModel,
        batches: Sequence[tuple[ProbeBatch, Edits | None]],
        decoding: Decoding,
        passes: BasePasses = NOT_KEPT,
    ) -> None:
        self._model, self._decoding, self._passes = model, decoding, passes
        edited = [(batch, edits) for batch, edits in batches if edits is not None]
        cuts = [cut for _, edits in edited if (cut := edits.cut) is not None]
        bare = batches[0][0]
        self._predicted = [bare, *(batch for batch, edits in edited if edits.cut is None or edits.cut.late)]
        self._compared = {row for batch in self._predicted for row in batch.kept}
        self._found: dict[Kind, dict[int, Any]] = {}
        groups = {kind: self._groups(kind, [batch for batch, _ in edited]) for kind in KINDS}
        self._base: BasePass
        self._base, logits = model.base(bare.forced.rows, cuts, groups=groups["forced"], known=passes or None)
        self._found["forced"] |= reduced(bare.forced.rows, self._compared, logits)
        self._prompts = (
            read_prompts(model, bare.prompts.rows, cuts, groups["prompts"]),
            read_prompts(model, bare.free.rows, cuts, groups["free"]),
        )
        none = Edits.none(len(bare.cases))
        lacking = {kind: [rows for rows, read in groups[kind] if read] for kind in KINDS}
        for among in zip_longest(lacking["prompts"], lacking["free"], fillvalue=()):
            answers, texts = continued(model, self._predicted, none, decoding, self._prompts, among)
            self._found["prompts"] |= answers
            self._found["free"] |= texts
        for kind in KINDS:
            for rows in lacking[kind]:
                self._keep(kind, rows)
        self.predictions = Predictions(self._found["forced"], self._found["prompts"], self._found["free"])

    def _groups(self, kind: Kind, scored: Sequence[ProbeBatch]) -> list[Group]:
        """Return the sequences that share passes; those that have to be predicted and are not found in a file are read.

        Those of the bare questions do not depend on the rows of a run, so neither do their numbers, nor what is kept.
        """
        bare, *left = self._predicted
        every = set(bare.rows(kind))
        first = bare.references() if kind == "forced" else every
        wanted = first.union(*(batch.rows(kind) for batch in left))
        sets = [batch.rows(kind) for batch in scored]
        others = every - first
        # all of them or none, even if some cases have no instruction and others have one
        groups = _disjoint([first, () if others.isdisjoint(chain.from_iterable(sets)) else others, *sets])
        self._found[kind] = {}
        for rows in groups:
            if not wanted.isdisjoint(rows):
                self._found[kind] |= self._find(kind, rows)
        lacking = wanted - self._found[kind].keys()
        return [(rows, not lacking.isdisjoint(rows)) for rows in groups]

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
        predicted |= reduced(batch.forced.rows, batch.kept, logits)
        answers, free = continued(self._model, [batch], edits, self._decoding, self._prompts, (greedy, sampled))
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

    def _find(self, kind: Kind, rows: Sequence[int]) -> dict[int, Any]:
        """Return what was kept of a group of sequences: predictions or texts, by their index."""
        if (found := self._passes.find(kind, self._content(kind, rows))) is None:
            return {}
        values, tensors = found
        if kind != "forced":
            return dict(zip(rows, values, strict=True))
        own = {number: tensor.to(self._model.device) for number, tensor in tensors.items()}
        predictions = [Prediction(**value, distribution=own.get(str(n))) for n, value in enumerate(values)]
        return dict(zip(rows, predictions, strict=True))

    def _keep(self, kind: Kind, rows: Sequence[int]) -> None:
        """Keep what was found for a group of sequences."""
        values, tensors = [self._found[kind][row] for row in rows], {}
        if kind == "forced":
            own = ((str(number), value.distribution) for number, value in enumerate(values))
            tensors = {number: distribution for number, distribution in own if distribution is not None}
            fields = ("finite", "labels", "predicted", "log_p")
            values = [{field: getattr(value, field) for field in fields} for value in values]
        self._passes.keep(kind, self._content(kind, rows), values, tensors)

    def _content(self, kind: Kind, rows: Sequence[int]) -> object:
        """Return what decides the predictions or texts of a group of sequences."""
        bare, spec = self._predicted[0], self._decoding.spec
        own = sequences([bare.sequences(kind).rows[row] for row in rows])
        if kind == "forced":
            return own, [row in self._compared for row in rows]
        if kind == "prompts":
            accepted = accepted_answers(self._predicted)
            return own, [accepted[row] for row in rows], spec.max_new_tokens
        case_ids = [bare.cases[bare.free.owners[row]].request.case_id for row in rows]
        return own, case_ids, self._decoding.seed, spec.fluency_tokens, spec.fluency_top_k


def _disjoint(sets: Iterable[Iterable[int]]) -> list[list[int]]:
    """Return sets of indices without those that an earlier one has, in ascending order, and none that is empty."""
    found: list[list[int]] = []
    seen: set[int] = set()
    for rows in sets:
        if new := sorted(set(rows) - seen):
            found.append(new)
            seen.update(new)
    return found
