"""Changes of weights by edits: their inner products, norms and cosines.

An edit changes the weight of each layer it patches by a matrix D. The inner product of two edits is the sum of
<D, D'>_F over the layers that both patch. A low-rank D = A B is never built as a whole:

    <A B, A' B'>_F = sum((A^T A') * (B B'^T))

or, where that takes longer, some rows of D at a time.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .edits import Edits
from .errors import InputError
from .patches import LowRank, Patch

if TYPE_CHECKING:
    from .engine.model import LanguageModel

PIECE, PRODUCTS = 1 << 20, 1 << 26
"""Most elements in memory at once: of all edits' changes of a layer (4 MB in float32), and of products of factors."""


def gram(edits: Edits) -> Tensor:
    """Return the inner products of all pairs of edits, [edits, edits], float64 on the CPU; sums are taken in float64.

    Raises:
        InputError: If a patch does not change a weight (a codebook, slots).
    """
    for patch in (patch for edit in edits.patches for patch in edit if not changes_weight(patch)):
        raise InputError(
            f"A {patch.kind} patch on {patch.site} does not change a weight; low-rank or dense edits were expected."
        )
    found = inner_products([[_double(patch) for patch in edit] for edit in edits.patches])
    return (found + found.T) / 2  # both halves are the same sums in different orders


def change_facts(model: "LanguageModel", edits: Edits, *, apart: bool = True) -> list[dict[str, float]]:
    """Return norms and cosines, one mapping for each edit.

    The changes of all patched weights are one vector of the edit, in the patches' dtype.

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
        if own and all(map(changes_weight, own)):
            first.setdefault(key, number)
    products = inner_products([edits.patches[number] for number in first.values()])
    squares = products.diagonal().clamp(min=0)
    changed = squares > 0
    scales = torch.where(changed, squares.rsqrt(), 0.0)
    sums = (products * scales).fill_diagonal_(0.0).sum(dim=1) * scales
    others = int(changed.sum()) - 1
    found: dict[int, dict[str, float]] = {}
    for place, (key, number) in enumerate(first.items()):
        norm = float(squares[place]) ** 0.5
        sites = dict.fromkeys(patch.site for patch in edits.patches[number])
        whole = sum(model.weight_norm(site) ** 2 for site in sites) ** 0.5
        found[key] = {"delta_norm": norm} | ({"relative_norm": norm / whole} if whole else {})
        if apart and others > 0 and changed[place]:
            found[key]["cosine"] = float(sums[place]) / others
    return [dict(found.get(key, {})) for key in keys]


def changes_weight(patch: Patch) -> bool:
    """Tell whether a patch is an update of a weight."""
    return isinstance(patch, LowRank) or patch.delta() is not None


def inner_products(edits: Sequence[Sequence[Patch]]) -> Tensor:
    """Return the inner products in the dtype of the patches, summed over layers in float64, [edits, edits] on the CPU.

    An edit without patches is the zero vector. The product of an edit with itself does not depend on the others.
    """
    products = torch.zeros(len(edits), len(edits), dtype=torch.float64)
    for site in dict.fromkeys(patch.site for edit in edits for patch in edit):
        changes = [[patch for patch in edit if patch.site == site] for edit in edits]
        own = [number for number, change in enumerate(changes) if change]
        found = _products([changes[number] for number in own])
        for place, number in enumerate(own):
            found[place, place] = _products([changes[number]])[0, 0]
        products[torch.tensor(own)[:, None], torch.tensor(own)] += found.cpu()
    return products


def _double(patch: Patch) -> Patch:
    return replace(patch, **{name: t.detach().to("cpu", torch.float64) for name, t in patch.tensors().items()})  # type: ignore[arg-type]


def _products(changes: Sequence[Sequence[Patch]]) -> Tensor:
    """Return <D_i, D_j> at one layer, [edits, edits] in float64; patches of one edit add up."""
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
    a = torch.cat([a for _, a, _ in thin], dim=1)  # [d_in, ranks]
    b = torch.cat([b for _, _, b in thin])  # [ranks, d_out]
    owners = torch.repeat_interleave(torch.tensor([i for i, _, _ in thin]), torch.tensor([len(b) for _, _, b in thin]))
    member = torch.nn.functional.one_hot(owners, count).to(a.device, torch.float64)  # [ranks, edits]
    found = torch.zeros(count, count, dtype=torch.float64, device=a.device)
    for part in torch.arange(len(owners)).split(max(1, PRODUCTS // len(owners))):
        rows = slice(int(part[0]), int(part[-1]) + 1)
        found += member[rows].T @ ((a[:, rows].T @ a) * (b[rows] @ b.T)).double() @ member
    return found


def _of_rows(changes: Sequence[Sequence[Patch]]) -> Tensor:
    """Return the products of any changes of weights, some rows at a time."""
    whole = [[(p.a, p.b) if isinstance(p, LowRank) else (p.delta(), None) for p in own] for own in changes]
    factors = [[(a.detach(), None if b is None else b.detach()) for a, b in own if a is not None] for own in whole]
    left, right = factors[0][0]
    d_in, d_out = len(left), left.shape[1] if right is None else right.shape[1]
    found = torch.zeros(len(changes), len(changes), dtype=torch.float64, device=left.device)
    step = max(1, PIECE // (len(changes) * d_out))
    for start in range(0, d_in, step):
        rows = slice(start, start + step)
        pieces = [reduce(torch.add, [a[rows] if b is None else a[rows] @ b for a, b in own]) for own in factors]
        piece = torch.stack(pieces).flatten(1)
        found += (piece @ piece.T).double()
    return found
