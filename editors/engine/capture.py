"""What passes show at chosen modules: their inputs, the gradients of their outputs, and which rows an edit reaches."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..activations import differentiated_once
from ..edits import Edits
from ..errors import CaseError
from ..models.structure import Cut, Site
from ..models.tokens import Row
from ..patches import Codebook
from .hooks import Tapped, tapped, tapped_experts
from .packed_batch import Known
from .passes import BasePass, Passes, by_row
from .pieces import integers


@dataclass(frozen=True, slots=True)
class Factors:
    """Per-token factors of the gradient at one site: dL/dW = sum over tokens of x_t (outer) delta_t.

    Attributes:
        x: Inputs of the module, [tokens, d_in].
        delta: Gradients of the loss with respect to the module's output, [tokens, d_out].
        rows: For each token the index of the row it belongs to, [tokens].
    """

    x: Tensor
    delta: Tensor
    rows: Tensor


def _rows(owner: Sequence[int], tokens: int) -> Sequence[int]:
    """Return the row of each token of a pass; modules that route treat all of them."""
    assert tokens == len(owner), "all tokens of the pass"
    return owner


class Taps(Passes):
    """Passes that are listened to; the part of `LanguageModel` that editors and scoring work with."""

    def inputs(self, base: BasePass, site: Site) -> list[Tensor]:
        """Return the inputs of one site, [tokens, d_in] for each row of a base pass that was cut at the site's block.

        Tokens behind a row's last scored position are left out.
        """
        if not base.rows:
            return []
        cut = Cut(site.block, frozenset({site.name}))
        found: list[Tensor] = []
        known = Known(base.paths, [0] * len(base.rows))
        for layout in self.engine.layouts(base.rows, range(len(base.rows)), known=known):
            seen: dict[str, Tensor] = {}
            with torch.no_grad(), tapped(self.model, [site.name], seen, {}, halt=True), self._patched(layout):
                self.engine.run(layout, self._start(base, layout, cut), whole=True)
            found += seen[site.name].reshape(-1, site.d_in).split([len(own) for own in layout.own])
        return found

    def capture(
        self, rows: Sequence[Row], sites: Sequence[Site], loss: Callable[[int, Tensor], Tensor]
    ) -> dict[str, Factors]:
        """Return inputs and output gradients at some sites, per token, of the sum of the rows' losses.

        Tokens that cannot have a gradient are left out: those behind a row's last scored position, and in the last
        block those that are not scored.

        A zero leaf is added to each site's output; its gradient is delta. No parameter of the model takes part in the
        graph.

        Args:
            rows: The rows.
            sites: Where to capture.
            loss: From a row's index and its logits [scored, vocabulary], the row's loss (a scalar).

        Raises:
            CaseError: If a site is run more than once in a pass, as in a looped model.

        Returns:
            Factors by site name; tokens of all rows one after another, on the site's device, in the model's type.
        """
        names = [site.name for site in sites]
        if twice := self.engine.repeated.intersection(names):
            name = min(twice)
            raise CaseError(f"{name} is run more than once in a pass, and gradients at it cannot be taken apart.")
        first = min(site.block for site in sites)
        cut = Cut(first, frozenset(site.name for site in sites if site.block == first))
        base = self.base_pass(rows, [cut])
        known = Known(base.paths, [0] * len(rows))
        # a map that is no part of an MLP may lie in front of a block's attention, which not all tokens get behind
        whole = any(site not in self.structure.mlp(site.block) for site in sites)
        routers = {name: router for name in names if (router := self.structure.router(name)) is not None}
        plain = [site for site in sites if site.name not in routers]
        parts: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {name: [] for name in names}
        for layout in self.engine.layouts(rows, range(len(rows)), known=known):
            inputs: dict[str, Tensor] = {}
            leaves: dict[str, Tensor] = {}
            start = self._start(base, layout, cut)
            owner = [index for index, own in zip(layout.rows, layout.own, strict=True) for _ in own]
            routed = {name: Tapped() for name in routers}
            tap = tapped(self.model, [site.name for site in plain], inputs, leaves)
            inner = tapped_experts(self.model, routers, partial(_rows, owner), routed) if routed else nullcontext()
            with torch.enable_grad(), differentiated_once(), tap, inner, self._patched(layout):
                logits = self.engine.run(layout, start, whole=whole)
                assert logits is not None
                total = torch.stack([loss(index, own) for index, own in by_row(layout, logits)]).sum()
                every = [
                    *(leaves[site.name] for site in plain),
                    *(leaf for own in routed.values() for leaf in own.leaves),
                ]
                gradients = list(torch.autograd.grad(total, every, materialize_grads=True))
            for site, gradient in zip(plain, gradients, strict=False):
                x = inputs[site.name].reshape(-1, site.d_in)
                of = owner if len(x) == len(owner) else [owner[token] for token in layout.read]
                parts[site.name].append((x, gradient.reshape(-1, site.d_out), integers(of).to(x.device)))
            done = len(plain)
            for site in sites:
                own = routed.get(site.name, Tapped())
                for x, row in zip(own.inputs, own.rows, strict=True):
                    rows_of = integers([row] * len(x)).to(x.device)
                    parts[site.name].append((x, gradients[done].reshape(-1, site.d_out), rows_of))
                    done += 1
        found: dict[str, Factors] = {}
        empty = torch.zeros(0, dtype=self.model.dtype, device=self.engine.device)
        nothing = {s.name: (empty.new_zeros(0, s.d_in), empty.new_zeros(0, s.d_out), empty.long()) for s in sites}
        for name in names:  # one after another, so that no more than one stands there twice
            pieces = parts.pop(name) or [nothing[name]]
            found[name] = Factors(*(torch.cat([piece[i] for piece in pieces]) for i in range(3)))
        return found

    def reached(self, base: BasePass, edits: Edits, owners: Sequence[int | None]) -> list[int]:
        """Return the rows that edits may change; to all others the model says what the unedited one says.

        Where all edits are codebooks of one module that are asked at the end of a prompt, they are asked here, and
        reach the rows that are near a key. Of other edits it is not known; all rows are returned.

        Args:
            base: A finished base pass, as `replay` takes it.
            edits: The edits.
            owners: For each row the index of its edit, or None.
        """
        books = [[patch for patch in edit if isinstance(patch, Codebook)] for edit in edits.patches]
        sites = {(book.site, book.block) for own in books for book in own}
        alone = [*map(len, books)] == [*map(len, edits.patches)] and len(sites) == 1
        if not alone or not base.rows:
            return list(range(len(base.rows)))
        ((name, block),) = sites
        cut = Cut(block, frozenset({name}))
        if cut.block not in {c.block for c in base.cuts} or not self._is_late(base, edits, block):
            return list(range(len(base.rows)))
        found: list[int] = []
        asked = {index: owner for index, owner in enumerate(owners) if owner is not None and books[owner]}
        for layout, start in self._restarts(base, edits, owners, list(asked), cut):
            seen: dict[str, Tensor] = {}
            with torch.no_grad(), tapped(self.model, [name], seen, {}, halt=True), self._patched(layout):
                self.engine.run(layout, start)
            x = seen[name].reshape(-1, seen[name].shape[-1])
            treated = (range(len(layout.ids)), layout.ends, layout.read)
            numbers = next(own for own in treated if own is not None and len(own) == len(x))
            place = {token: number for number, token in enumerate(numbers)}
            asking: dict[int, list[tuple[int, int]]] = {}
            for row, path in zip(layout.rows, layout.paths, strict=True):
                end = place.get(path[base.rows[row].prompt_end] - layout.shared)
                if end is not None:  # the last block does not treat it where nobody reads it, and asks nothing then
                    asking.setdefault(asked[row], []).append((row, end))
            for owner, own in asking.items():
                queries = x[[end for _, end in own]]
                near = torch.stack([book.nearest(queries)[1] for book in books[owner]]).any(dim=0).tolist()
                found += [row for (row, _), hit in zip(own, near, strict=True) if hit]
        return sorted(found)
