"""Full passes, base passes and replays: many edits at once, each sequence under the edit that owns it.

A base pass runs the unedited model once and caches the hidden states that enter the blocks from which replays start. A
replay runs the same sequences under edits from the first patched block on. Late edits change a sequence from the last
token of its prompt on only; with cached keys and values their replay runs the tokens from there on.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ..edits import Edits
from ..models.structure import ReplayStart
from ..models.tokens import TokenSequence
from .attention import Attention, Keys
from .forward_pass import Output, Pass, Runner
from .hooks import patched
from .packed_batch import PackedBatch, by_row, integers, step_segments

Group = tuple[Sequence[int], bool]
"""Indices of sequences that share passes, and whether their logits are read."""


class HiddenStates(Protocol):
    """Hidden states of earlier base passes, [tokens, width], by a group's sequences in their order, and the block."""

    def get(self, key: tuple[tuple[TokenSequence, ...], int], /) -> Tensor | None:
        """Return those that enter a block; None if they are not known."""

    def __setitem__(self, key: tuple[tuple[TokenSequence, ...], int], hidden: Tensor, /) -> None:
        """Keep those that enter a block."""


@dataclass(frozen=True, slots=True)
class BasePass:
    """What a pass of the unedited model left.

    Attributes:
        rows: The sequences.
        late: Whether replays of late edits may start from it.
        starts: Blocks whose input is cached.
        keys_from: First block whose keys and values are cached; None if none are.
        paths: For each sequence the indices of its tokens in what is cached; sequences share those of common prefixes.
        hidden: Inputs of the blocks in `starts`, [tokens, width] each.
        keys: Keys and values, [tokens, key heads, head width] each.
    """

    rows: tuple[TokenSequence, ...]
    late: bool
    starts: tuple[int, ...]
    keys_from: int | None
    paths: list[list[int]] = field(default_factory=list)
    hidden: dict[int, Tensor] = field(default_factory=dict)
    keys: Keys = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Engine:
    """Runs sequences through a model.

    Attributes:
        runner: Runs single passes.
        active: An edit that every pass is under, before those it is given; None for the model as it is.
    """

    runner: Runner
    active: Edits | None = None

    def forward(
        self, rows: Sequence[TokenSequence], edits: Edits | None = None, owners: Sequence[int | None] | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """Run sequences, each under the edit that owns it.

        Yields:
            Index and logits at the scored positions, [scored, vocabulary], sequence by sequence.
        """
        for batch, output in self.passes(rows, edits or Edits.none(0), owners or [None] * len(rows)):
            yield from by_row(batch, output.logits)

    def passes(
        self, rows: Sequence[TokenSequence], edits: Edits, owners: Sequence[int | None], cache_keys: bool = False
    ) -> Iterator[tuple[PackedBatch, Output]]:
        """Yield each pass of `forward`."""
        for batch in self.runner.batches(rows, owners, share=not edits.by_row, whole_prompts=self.whole_prompts(edits)):
            yield batch, self.run(Pass(batch, cache_keys=cache_keys), edits, owners)

    def under(self, edits: Edits, owners: Sequence[int | None]) -> tuple[Edits, Sequence[int | None]]:
        """Return edits on top of the active one, which see its output, and the edit of each owner."""
        if self.active is None:
            return edits, owners
        (active,) = self.active.patches
        both = Edits((*((*active, *own) for own in edits.patches), active))
        return both, [len(edits) if owner is None else owner for owner in owners]

    def run(self, wanted: Pass, edits: Edits | None = None, owners: Sequence[int | None] | None = None) -> Output:
        """Run one pass under the active edit and the given ones, `owners` as in `forward`."""
        batch, model = wanted.batch, self.runner.model
        edits, owners = self.under(edits or Edits.none(0), [owners[row] if owners else None for row in batch.rows])
        own = batch.segments(owners)
        with patched(model, edits, lambda _: own, self.runner.structure.routers):
            return self.runner.run(wanted)

    def step(
        self,
        ids: Sequence[int],
        positions: Sequence[int],
        attention: Attention,
        edits: Edits,
        owners: Sequence[int | None],
    ) -> Tensor:
        """Run one more token of each of many sequences; return their logits, [tokens, vocabulary]."""
        edits, owners = self.under(edits, owners)
        own = step_segments(owners)
        with patched(self.runner.model, edits, lambda _: own, self.runner.structure.routers):
            return self.runner.step(ids, positions, attention)

    def whole_prompts(self, edits: Edits | None = None) -> bool:
        """Return whether what happens to a prompt's tokens depends on its end."""
        return any(found is not None and found.whole_prompts for found in (edits, self.active))

    def base(
        self,
        rows: Sequence[TokenSequence],
        cuts: Sequence[ReplayStart],
        keys_from: int | None = None,
        groups: Sequence[Group] | None = None,
        known: HiddenStates | None = None,
    ) -> tuple[BasePass, Iterator[tuple[int, Tensor]]]:
        """Run sequences through the unedited model and cache what replays need.

        Args:
            rows: The sequences.
            cuts: Where replays will start.
            keys_from: First block whose keys and values are cached; by default the first cut of late edits, whose
                replays need them.
            groups: The sequences that are run and may be replayed, each in one group; by default all in one that is
                read. A group that is not read runs up to the last block that a replay starts from, where no edit is
                late.
            known: Hidden states of earlier base passes: a group is run from there, or not at all; new ones are added.

        Returns:
            The base pass, which is complete once the iterator is exhausted, and an iterator as `forward` gives.
        """
        ways, late = self.runner.ways, [cut.block for cut in cuts if cut.late]
        starts = {cut.block for cut in cuts if ways.starts}
        keys_from = min(late, default=None) if keys_from is None else keys_from
        if ways.packing != "rows" or not ways.late:
            keys_from = None
        base = BasePass(tuple(rows), bool(late), tuple(sorted(starts)), keys_from)
        return base, self._filled(base, [(range(len(rows)), True)] if groups is None else groups, known)

    def base_pass(self, rows: Sequence[TokenSequence], cuts: Sequence[ReplayStart]) -> BasePass:
        """Return a finished base pass whose logits are not read; see `base`."""
        base, run = self.base(rows, cuts, groups=[(range(len(rows)), False)])
        for _ in run:
            pass
        return base

    def _filled(
        self, base: BasePass, groups: Sequence[Group], known: HiddenStates | None
    ) -> Iterator[tuple[int, Tensor]]:
        """Run a base pass and fill it; yield the logits of the sequences that are read."""
        packed = [self._packed(base, rows) for rows, _ in groups]
        total, first = sum(len(batch) for batches in packed for batch in batches), 0
        base.paths.extend([] for _ in base.rows)
        for (_, read), batches in zip(groups, packed, strict=True):
            yield from self._run_group(base, batches, read, known, first, total)
            first += sum(map(len, batches))

    def _run_group(
        self,
        base: BasePass,
        batches: Sequence[PackedBatch],
        read: bool,
        known: HiddenStates | None,
        first: int,
        total: int,
    ) -> Iterator[tuple[int, Tensor]]:
        """Run what is not known of a group, whose tokens are those from `first` on of the base pass."""
        rows, begun = tuple(base.rows[index] for batch in batches for index in batch.rows), first
        looked_up = {} if known is None else {block: known.get((rows, block)) for block in base.starts}
        found = {block: own.to(self.runner.device) for block, own in looked_up.items() if own is not None}
        lacking = tuple(block for block in base.starts if block not in found)
        stop = None if read or base.late else max(lacking, default=0)
        end = len(self.runner.structure) if stop is None else stop
        needed = [*lacking, *([end] if read else ())]
        if base.keys_from is not None and base.keys_from < end:
            needed.append(base.keys_from)
        start = max((block for block in found if needed and block <= min(needed)), default=None)
        for batch in batches:
            for index, path in zip(batch.rows, batch.paths, strict=True):
                base.paths[index] = [first + token for token in path]
            if needed:
                options: dict[str, Any] = {
                    "stop_at_layer": stop,
                    "cache_hidden": lacking,
                    "cache_keys": base.keys_from is not None,
                }
                hidden = None if start is None else found[start][first - begun :][: len(batch)]
                with torch.no_grad():
                    output = self.run(Pass(batch, start or 0, hidden, **options))
                self._cache(base, output.hidden, output.keys, first, total)
                if read:
                    yield from by_row(batch, output.logits)
            first += len(batch)
        self._cache(base, found, {}, begun, total)
        if known is not None and rows:
            for block in lacking:
                known[rows, block] = base.hidden[block][begun:first]

    def _packed(self, base: BasePass, rows: Sequence[int]) -> list[PackedBatch]:
        """Pack a group of a base pass's sequences."""
        # those with a common beginning, such as an instruction, next to each other: passes compute it once
        order = sorted(rows, key=lambda index: base.rows[index].ids)
        found = [base.rows[index] for index in order]
        batches = list(self.runner.batches(found, [0] * len(order), whole_prompts=self.whole_prompts()))
        for batch in batches:
            batch.rows = [order[index] for index in batch.rows]
        return batches

    def _cache(self, base: BasePass, hidden: Mapping[int, Tensor], keys: Keys, first: int, total: int) -> None:
        """Copy what a pass left into tensors of all tokens."""

        def written(whole: Tensor | None, part: Tensor) -> Tensor:
            whole = part.new_empty(total, *part.shape[1:]) if whole is None else whole
            whole[first : first + len(part)] = part
            return whole

        for block, entering in hidden.items():
            base.hidden[block] = written(base.hidden.get(block), entering)
        for module, (own, values) in keys.items():
            if base.keys_from is not None and self.runner.block_of[module] >= base.keys_from:
                before = base.keys.get(module, (None, None))
                base.keys[module] = written(before[0], own), written(before[1], values)

    def replay(
        self, base: BasePass, edits: Edits, owners: Sequence[int | None], among: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """Run the base pass's sequences again under their edits, from the first patched block on.

        Where the edits are late and the base pass has keys and values, from the end of each prompt on. Gradients flow
        to the patches' tensors if they require them.

        Args:
            base: A finished base pass with a cut at the edits' first block or before it.
            edits: The edits.
            owners: For each sequence the index of its edit, or None.
            among: Indices of the sequences that are run again; all by default.

        Yields:
            As `forward`. Equal to `forward(rows, edits, owners)` up to rounding.

        Raises:
            ValueError: If the base pass has no cut at the edits' first block or before it.
        """
        if edits.first_block is None:
            yield from self.forward(base.rows)
            return
        for batch, output in self.replays(base, edits, owners, among):
            yield from by_row(batch, output.logits)

    def replays(
        self,
        base: BasePass,
        edits: Edits,
        owners: Sequence[int | None],
        among: Sequence[int] | None = None,
        cache_keys: bool = False,
    ) -> Iterator[tuple[PackedBatch, Output]]:
        """Yield each pass of `replay`, whose graph may be freed before the next.

        Keys and values of late edits include those of the base pass.
        """
        for wanted in self.replay_passes(base, edits, owners, among, cache_keys=cache_keys):
            yield wanted.batch, self.run(wanted, edits, owners)

    def replay_passes(
        self,
        base: BasePass,
        edits: Edits,
        owners: Sequence[int | None],
        among: Sequence[int] | None = None,
        **options: Any,
    ) -> Iterator[Pass]:
        """Yield the passes of a replay, to be run under these edits or others of the same sites; options of `Pass`."""
        first = edits.first_block
        assert first is not None or not base.rows, "edits without patches need no replay"
        for batch in self.replay_batches(base, edits, owners, among):
            yield self.restart(base, batch, first or 0, **options)

    def is_late(self, base: BasePass, edits: Edits) -> bool:
        """Return whether a replay starts at the ends of prompts."""
        # an active edit may change the tokens of a prompt according to its end
        if edits.first_block is None or not edits.late or not base.late or self.whole_prompts():
            return False
        start = self._start(base, edits.first_block)
        return start is not None and base.keys_from is not None and base.keys_from <= start

    def _start(self, base: BasePass, block: int) -> int | None:
        """Return the block from which a base pass is replayed for edits of a block; None for the embeddings."""
        if not self.runner.ways.starts:
            return None
        known = [start for start in base.starts if start <= block]
        if not known:
            raise ValueError(
                f"The base pass has blocks {list(base.starts)}, none of which is at or before block {block}."
            )
        return max(known)

    def restart(self, base: BasePass, batch: PackedBatch, block: int, **options: Any) -> Pass:
        """Return the pass of a batch from a block on; the options are those of `Pass`."""
        start = self._start(base, block)
        hidden = None if start is None else base.hidden[start][integers(batch.sources)]
        return Pass(batch, start or 0, hidden, cached=base.keys if batch.cached else None, **options)

    def replay_batches(
        self, base: BasePass, edits: Edits, owners: Sequence[int | None], among: Sequence[int] | None
    ) -> Iterator[PackedBatch]:
        """Yield the batches of a replay; their sequences have the base pass's indices."""
        some = range(len(base.rows)) if among is None else among
        rows, paths = [base.rows[index] for index in some], [base.paths[index] for index in some]
        late = self.is_late(base, edits) and bool(rows)
        for batch in self.runner.batches(
            rows,
            [owners[index] for index in some],
            share=not edits.by_row,
            whole_prompts=self.whole_prompts(edits),
            paths=paths,
            starts=[min(row.prompt_end, *row.scored) for row in rows] if late else None,
            cached=1 + max(max(path, default=0) for path in base.paths) if late else 0,
        ):
            batch.rows = [some[index] for index in batch.rows]
            yield batch
