"""Passes of a model: rows forward, under edits, and again from the first patched block."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from ..edits import Edits
from ..models.structure import Cut, Structure
from ..models.tokens import Row
from ..patches import Span
from .attention import Keys
from .engine import Engine, Kept, Start
from .hooks import patched
from .packed_batch import Known, Layout, Segment
from .pieces import Pieces
from .prefix_cache import Front


@dataclass(frozen=True, slots=True)
class BasePass:
    """What one pass of the unedited model left.

    Attributes:
        rows: The rows.
        paths: For each row the numbers of its tokens in what was kept; rows that begin alike share them.
        cuts: Where replays may start.
        keys_from: First block whose keys and values were kept; None if none were.
        kept: Hidden states, fronts, keys and values, by the tokens' numbers.
        layouts: How replays were laid out, so that the next one like them need not do it again.
    """

    rows: tuple[Row, ...]
    cuts: tuple[Cut, ...]
    keys_from: int | None
    paths: list[list[int]] = field(default_factory=list)
    kept: Kept = field(default_factory=Kept)
    layouts: dict[tuple[object, ...], list[Layout]] = field(default_factory=dict)


class Passes:
    """What runs rows through a model.

    Attributes:
        model: The model.
        structure: Its blocks and sites.
        engine: Runs layouts.
        standing: An edit that every pass is under, besides those it is given; None for the model as it is.
    """

    model: Any  # a PreTrainedModel, whose parts are found by name
    structure: Structure
    engine: Engine
    standing: Edits | None = None

    def forward(
        self, rows: Sequence[Row], edits: Edits | None = None, owners: Sequence[int | None] | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """Run rows through the model, under the edit that owns each.

        Yields:
            Row index and logits at its scored positions, [scored, vocabulary]; row by row, so that a caller can drop
            them.
        """
        edits = edits or Edits.none(0)
        owners = owners if owners is not None else [None] * len(rows)
        for layout, logits in self.passes(rows, edits, owners):
            yield from by_row(layout, logits)

    def passes(
        self, rows: Sequence[Row], edits: Edits, owners: Sequence[int | None], keys: Keys | None = None
    ) -> Iterator[tuple[Layout, Tensor]]:
        """Yield each pass of `forward`, with logits of the tokens that are read.

        Args:
            rows: The rows.
            edits: The edits.
            owners: For each row the index of its edit, or None.
            keys: Takes keys and values of the latest pass.
        """
        options = {"share": not edits.by_row, "whole_prompts": self._whole_prompts(edits)}
        for layout in self.engine.layouts(rows, owners, **options):
            with self._patched(layout, edits, owners):
                logits = self.engine.run(layout, keys=keys)
            assert logits is not None
            yield layout, logits

    def base(
        self, rows: Sequence[Row], cuts: Sequence[Cut], late: int | None = None
    ) -> "tuple[BasePass, Iterator[tuple[int, Tensor]]]":
        """Run rows through the unedited model and keep what replay needs.

        Args:
            rows: The rows; those of one edit next to each other.
            cuts: Where replays will start.
            late: First block of edits that change a row from the last token of its prompt on only (`Edits.late`); keys
                and values from there on let a replay leave out the tokens in front. None to keep none.

        Returns:
            The pass, which is complete once the iterator is exhausted, and an iterator as `forward` gives.
        """
        base = self._new_base(rows, cuts, late)
        return base, self._base(base, halt=False)

    def base_pass(self, rows: Sequence[Row], cuts: Sequence[Cut], late: int | None = None) -> BasePass:
        """Return a finished base pass whose logits nobody needs; see `base`."""
        base = self._new_base(rows, cuts, late)
        with torch.no_grad():
            for _ in self._base(base, halt=base.keys_from is None):
                pass
        return base

    def _new_base(self, rows: Sequence[Row], cuts: Sequence[Cut], late: int | None) -> BasePass:
        ways = self.engine.ways
        keys_from = late if ways.packing == "rows" and ways.late else None
        ordered = sorted(set(cuts), key=lambda cut: (cut.block, sorted(cut.maps), cut.late))
        base = BasePass(tuple(rows), tuple(ordered), keys_from)
        starts = {start for cut in cuts if (start := self.engine.start_of(cut.block)) is not None}
        base.kept.hidden |= {block: Pieces() for block in starts}
        for block, names in self.structure.fronts(base.cuts).items():
            if names and ways.fronts and block in starts:
                maps = {site.name for site in self.structure.sites[block]} & names.keys()
                prefix = f"{self.structure.blocks_name}.{block}."
                base.kept.fronts[block] = Front(self.structure.blocks[block], prefix, sorted(names), maps)
        if keys_from is not None:
            late_cuts = [cut for cut in base.cuts if cut.block >= keys_from and cut.block in base.kept.fronts]
            for block in self.structure.behind(late_cuts):
                base.kept.hidden.setdefault(block, Pieces())
        return base

    def _base(self, base: BasePass, halt: bool) -> Iterator[tuple[int, Tensor]]:
        for layout in self.engine.layouts(base.rows, [0] * len(base.rows), whole_prompts=self._whole_prompts()):
            base.paths.extend([base.kept.tokens + token for token in path] for path in layout.paths)
            if halt and not base.kept.hidden and base.keys_from is None:
                base.kept.tokens += len(layout.ids)
                continue
            keys: Keys | None = None if base.keys_from is None else {}
            with torch.no_grad(), self._patched(layout):
                logits = self.engine.run(layout, keep=base.kept, keys=keys, halt=halt)
            for module, pair in (keys or {}).items():
                if base.keys_from is not None and self.engine.block_of[module] >= base.keys_from:
                    base.kept.keys.setdefault(module, []).append(pair)
            if logits is not None:
                yield from by_row(layout, logits)

    def replay(
        self, base: BasePass, edits: Edits, owners: Sequence[int | None], among: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """Run the base pass's rows again under their edits, only from the first patched map of the first patched block.

        Where the edits are late and the base pass kept keys and values, only from the end of each prompt, too.
        Gradients flow to the patches' tensors if they ask for them.

        Args:
            base: A finished base pass with a cut at the edits' own or at a block before.
            edits: The edits.
            owners: For each row the index of its edit, or None.
            among: Indices of the rows that are run again; all by default.

        Yields:
            As `forward`. Equal to `forward(rows, edits, owners)` up to rounding.
        """
        if edits.first_block is None:
            yield from self.forward(base.rows)
            return
        for layout, logits in self.replay_passes(base, edits, owners, among):
            yield from by_row(layout, logits)

    def replay_passes(
        self,
        base: BasePass,
        edits: Edits,
        owners: Sequence[int | None],
        among: Sequence[int] | None = None,
        keys: Keys | None = None,
    ) -> Iterator[tuple[Layout, Tensor]]:
        """Yield each pass of `replay`, with logits of the tokens that are read; its graph may be freed before the next.

        Args:
            base: See `replay`.
            edits: See `replay`; one at least patches something.
            owners: See `replay`.
            among: Indices of the rows that are run again; all by default.
            keys: Takes keys and values of the latest pass, in late edits behind those of the base pass; those of the
                first block may be left out if its attention is as it was.
        """
        if not base.rows:
            return
        first = edits.cut
        assert first is not None, "edits that patch nothing need no replay"
        cut = max((c.block for c in base.cuts if c.block <= first.block), default=None)
        if cut is None:
            blocks = sorted({c.block for c in base.cuts})
            raise ValueError(f"The base pass kept blocks {blocks}, none of which is at or before block {first.block}.")
        maps = first.maps if cut == first.block else frozenset()
        for layout, start in self._restarts(base, edits, owners, among, Cut(cut, maps)):
            with self._patched(layout, edits, owners):
                logits = self.engine.run(layout, start, keys=keys)
            assert logits is not None
            yield layout, logits

    def _restarts(
        self, base: BasePass, edits: Edits, owners: Sequence[int | None], among: Sequence[int] | None, cut: Cut
    ) -> Iterator[tuple[Layout, Start]]:
        """Yield the layouts of a replay, and where each starts."""
        late = self._is_late(base, edits, cut.block)
        frozen = base.kept.keys_and_values() if late else None
        shared = base.kept.tokens if late else None
        options = {"share": not edits.by_row, "whole_prompts": self._whole_prompts(edits)}
        for layout in self._again(base, owners, among, shared, options):
            yield layout, self._start(base, layout, cut, frozen)

    def _is_late(self, base: BasePass, edits: Edits, block: int) -> bool:
        """Tell whether a replay from this block starts at the ends of prompts."""
        # what stands may ask at the end of a prompt what becomes of the tokens in front
        known = base.keys_from is not None and base.keys_from <= block and self.engine.start_of(block) == block
        return edits.late and not self._whole_prompts() and known

    def _start(self, base: BasePass, layout: Layout, cut: Cut, frozen: Keys | None = None) -> Start:
        """Return where a replay of a layout starts; the steps of an optimiser start from the same tensors."""
        block = self.engine.start_of(cut.block)
        if block is None:
            return Start()
        if block < cut.block:
            cut = Cut(block)

        def make() -> Start:
            enter, front = base.kept.hidden[cut.block].picked(layout.sources), base.kept.fronts.get(cut.block)
            if front is None:
                return Start(cut.block, enter, frozen=frozen)
            behind = None
            # nothing was kept of a block that is not run on text
            if frozen is not None and len(base.kept.hidden.get(cut.block + 1, ())):
                behind = base.kept.hidden[cut.block + 1].picked(layout.sources)
            return Start(cut.block, enter, cache(partial(front.told, self.structure.front(cut))), frozen, behind)

        return layout.once(("start", cut), make) if torch.is_grad_enabled() else make()

    def _again(
        self,
        base: BasePass,
        owners: Sequence[int | None],
        among: Sequence[int] | None,
        shared: int | None,
        options: Mapping[str, bool],
    ) -> list[Layout]:
        """Return the layouts of a replay; `shared` is the number of known keys if rows begin where prompts end."""
        key = tuple(owners), None if among is None else tuple(among), shared, *options.items()
        if key not in base.layouts:
            some = range(len(base.rows)) if among is None else among
            rows = [base.rows[index] for index in some]
            starts = [0 if shared is None else min(row.prompt_end, *row.scored) for row in rows]
            known = Known([base.paths[index] for index in some], starts)
            own = [owners[index] for index in some]
            base.layouts[key] = list(self.engine.layouts(rows, own, known=known, shared=shared or 0, **options))
            for layout in base.layouts[key]:
                layout.rows = [some[index] for index in layout.rows]
        return base.layouts[key]

    def _whole_prompts(self, edits: Edits | None = None) -> bool:
        return any(found is not None and found.whole_prompts for found in (edits, self.standing))

    @contextmanager
    def _patched(self, layout: Layout, edits: Edits | None = None, owners: Sequence[int | None] = ()) -> Iterator[None]:
        """Let the model compute a layout with what stands and with edits, as long as the context is open."""
        routers = self.structure.routers
        with ExitStack() as stack:
            if self.standing is not None:  # first, so that the edits at hand see what it leaves
                standing = layout.segments([0] * len(layout.rows))
                stack.enter_context(patched(self.model, self.standing, standing, routers))
            if edits is not None and len(edits):
                own = [owners[index] for index in layout.rows]
                stack.enter_context(patched(self.model, edits, layout.segments(own), routers))
            yield

    @contextmanager
    def patched_lines(self, edits: Edits) -> Iterator[list[Segment]]:
        """Let the model compute with edits, as long as the context is open, on whatever segments the list holds."""
        lines: list[Segment] = []

        def everywhere(tokens: int) -> Sequence[Segment]:
            return [Segment(0, 0, tokens, (Span(0, 1, None),))]

        routers = self.structure.routers
        with ExitStack() as stack:
            if self.standing is not None:
                stack.enter_context(patched(self.model, self.standing, everywhere, routers))
            stack.enter_context(patched(self.model, edits, lambda _: lines, routers))
            yield lines


def by_row(layout: Layout, logits: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield the logits of each row of a pass, [scored, vocabulary], from those of the tokens that are read."""
    if [token for tokens in layout.scored for token in tokens] == layout.read:
        # split and not slices: the gradient of a slice is as large as what it was cut from
        yield from zip(layout.rows, logits.split([len(tokens) for tokens in layout.scored]), strict=True)
        return
    place = {token: number for number, token in enumerate(layout.read)}
    for index, tokens in zip(layout.rows, layout.scored, strict=True):
        yield index, logits[[place[token] for token in tokens]]
