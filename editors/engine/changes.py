"""Norms of edits and their pairwise cosines, for any editor's patches that change weights.

An edit changes the weight of each patched site by a matrix D; concatenated, these matrices are one vector of the edit.
The inner product of two edits is the sum of <D, D'>_F over the sites. The norm |dW| of an edit and its cosines follow
from these products. A low-rank D = A B is never built as a whole:

    <A B, A' B'>_F = sum((A^T A') * (B B'^T))

or, where that takes longer, some rows of D at a time. `gram.gram` computes the products of any number of edits in
float64; this module computes those of a chunk during a run, in the dtype of the patches.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from ..edits import Edits
from ..patches import LowRank, Patch
from .model import LanguageModel

PIECE = 1 << 20
"""Elements of all edits' changes of a site that are in memory at once (4 MB in float32)."""


def change_facts(model: LanguageModel, edits: Edits, *, apart: bool = True) -> list[dict[str, float]]:
    """Return norms and cosines, one mapping for each edit.

    Args:
        model: The unedited model.
        edits: The edits. One that does not change weights (a codebook, slots, a text, nothing) has no facts.
        apart: Whether they are independent edits of different cases; else there is no cosine.

    Returns:
        `delta_norm`: |dW|, the Frobenius norm over all patched maps. `relative_norm`: |dW| / |W|, W the unedited
        weights of these maps. `cosine`: the mean cosine between the edit and the other edits, where there are any.
    """
    keys = [number if apart else id(own) for number, own in enumerate(edits.patches)]
    first: dict[int, int] = {}  # an edit of many cases is computed once
    for number, (key, own) in enumerate(zip(keys, edits.patches, strict=True)):
        if own and _weights_only(own):
            first.setdefault(key, number)
    squares, cosines = _geometry([edits.patches[number] for number in first.values()], apart)
    found: dict[int, dict[str, float]] = {}
    for (key, number), square, cosine in zip(first.items(), squares, cosines, strict=True):
        sites = dict.fromkeys(patch.site for patch in edits.patches[number])
        whole = sum(model.weight_norm(site) ** 2 for site in sites) ** 0.5
        found[key] = {"delta_norm": square**0.5} | ({"relative_norm": square**0.5 / whole} if whole else {})
        found[key] |= {} if cosine is None else {"cosine": cosine}
    return [dict(found.get(key, {})) for key in keys]


def _weights_only(patches: Sequence[Patch]) -> bool:
    return all(isinstance(patch, LowRank) or patch.delta() is not None for patch in patches)


def _geometry(edits: Sequence[Sequence[Patch]], apart: bool) -> tuple[list[float], list[float | None]]:
    """Return |D|^2 of each edit, and its mean cosine with the others."""
    products = torch.zeros(len(edits), len(edits), dtype=torch.float64)
    for site in dict.fromkeys(patch.site for edit in edits for patch in edit):
        changes = [[patch for patch in edit if patch.site == site] for edit in edits]
        own = [number for number, change in enumerate(changes) if change]
        found = _products([changes[number] for number in own])
        for place, number in enumerate(own):  # norms alone, so that they do not depend on the other edits
            found[place, place] = _products([changes[number]])[0, 0]
        products[torch.tensor(own)[:, None], torch.tensor(own)] += found.cpu()
    squares = products.diagonal().clamp(min=0)
    cosines: list[float | None] = [None] * len(edits)
    kept = squares > 0
    if apart and (others := int(kept.sum()) - 1) > 0:
        scales = torch.where(kept, squares.rsqrt(), 0.0)
        sums = (products * scales).fill_diagonal_(0.0).sum(dim=1) * scales
        cosines = [float(s) / others if k else None for s, k in zip(sums, kept, strict=True)]
    return squares.tolist(), cosines


def _products(changes: Sequence[Sequence[Patch]]) -> Tensor:
    """Return <D_i, D_j> at one site, [edits, edits] in float64; patches of one edit add up."""
    count = len(changes)
    thin = [(i, p.a.detach(), p.b.detach()) for i, own in enumerate(changes) for p in own if isinstance(p, LowRank)]
    if len(thin) == sum(map(len, changes)):
        ranks = sum(len(b) for _, _, b in thin)
        d_in, d_out = len(thin[0][1]), thin[0][2].shape[1]
        # operations of the two ways
        if ranks**2 * (d_in + d_out) <= d_in * d_out * (ranks + count**2):
            return _of_factors(thin, count)
    return _of_rows(changes)


def _of_factors(thin: Sequence[tuple[int, Tensor, Tensor]], count: int) -> Tensor:
    """Return the products of low-rank changes A B, given as owner, A and B."""
    a, b = (
        torch.cat([a for _, a, _ in thin], dim=1),
        torch.cat([b for _, _, b in thin]),
    )  # [d_in, ranks], [ranks, d_out]
    owners = torch.repeat_interleave(torch.tensor([i for i, _, _ in thin]), torch.tensor([len(b) for _, _, b in thin]))
    member = torch.nn.functional.one_hot(owners, count).to(a.device, torch.float64)  # [ranks, edits]
    return member.T @ ((a.T @ a) * (b @ b.T)).double() @ member


def _of_rows(changes: Sequence[Sequence[Patch]]) -> Tensor:
    """Return the products of any changes of weights, some rows at a time."""
    whole = [
        [
            (p.a.detach(), p.b.detach()) if isinstance(p, LowRank) else (cast(Tensor, p.delta()).detach(), None)
            for p in own
        ]
        for own in changes
    ]
    left, right = whole[0][0]
    d_in, d_out = len(left), left.shape[1] if right is None else right.shape[1]
    found = torch.zeros(len(changes), len(changes), dtype=torch.float64, device=left.device)
    step = max(1, PIECE // (len(changes) * d_out))
    for start in range(0, d_in, step):
        rows = slice(start, start + step)
        pieces = [sum(a[rows] if b is None else a[rows] @ b for a, b in own) for own in whole]
        piece = torch.stack(cast("list[Tensor]", pieces)).flatten(1)
        found += (piece @ piece.T).double()
    return found
