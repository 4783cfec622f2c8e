"""Composition of edits: the edit of a model that was edited before, as one edit of the unedited model."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from .edits import Context, Edits
from .errors import InputError
from .patches import Codebook, Dense, LowRank, Patch, Slots


def compose(before: Edits, after: Edits) -> Edits:
    """Return the composition of an edit and one made for the model that it edits.

    Changes of a weight are added; slots and contexts are concatenated. A sum of low-rank changes whose factors would be
    larger than the matrix becomes dense, so memory is bounded for any number of edits.

    Raises:
        InputError: If both hold a codebook; their editor has to compose them.
    """
    assert len(before) == len(after) == 1, "one edit each"
    if all(any(isinstance(patch, Codebook) for patch in edit.patches[0]) for edit in (before, after)):
        raise InputError("Two codebooks have no sum; the editor has to implement `edit_next`.")
    merged = list(before.patches[0])
    for new in after.patches[0]:
        place = next((i for i, old in enumerate(merged) if _joins(old, new)), None)
        if place is None:
            merged.append(new)
        else:
            merged[place] = _join(merged[place], new)
    return Edits((tuple(merged),), after.facts, (_follow(before.contexts[0], after.contexts[0]),))


def _joins(old: Patch, new: Patch) -> bool:
    if old.site != new.site:
        return False
    if isinstance(old, Slots) and isinstance(new, Slots):
        return (old.source_site, old.activation, old.g is None) == (new.source_site, new.activation, new.g is None)
    return isinstance(old, LowRank | Dense) and isinstance(new, LowRank | Dense)


def _join(old: Patch, new: Patch) -> Patch:
    if isinstance(old, Slots) and isinstance(new, Slots):
        gate = None if old.g is None or new.g is None else torch.cat([old.g, new.g], dim=1)
        return replace(old, k=torch.cat([old.k, new.k], dim=1), v=torch.cat([old.v, new.v]), g=gate)
    if isinstance(old, LowRank) and isinstance(new, LowRank):
        (d_in, rank), d_out = old.a.shape, old.b.shape[1]
        if (rank + new.a.shape[1]) * (d_in + d_out) <= d_in * d_out:
            return replace(old, a=torch.cat([old.a, new.a], dim=1), b=torch.cat([old.b, new.b]))
    first, second = old.delta(), new.delta()
    assert first is not None and second is not None
    return Dense(old.site, old.block, first + second)


def _follow(before: Context | None, after: Context | None) -> Context | None:
    if before is None or after is None:
        return after or before
    roles: Sequence[str] = [role for role in after.roles if role in before.roles]
    assert len(roles) == len(before.roles) == len(after.roles), "contexts of one editor have equal roles"
    return Context(before.text + after.text, tuple(roles))
