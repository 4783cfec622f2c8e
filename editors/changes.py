"""How far edits change weights, and whether edits of different cases change them alike; for any editor's patches.

An edit changes the weight of each map it patches by a matrix D. Written behind each other, these are one vector of the
edit. Its norm is |dW|, that of the same maps' weights |W|, and the mean cosine with the edits of other cases follows
from one sum:

    u_i = D_i / |D_i|,  S = sum_j u_j:   mean over j != i of <u_i, u_j> = (<u_i, S> - 1) / (n - 1)

A low-rank D = A B is never made as a matrix: |A B|^2 = sum((A^T A) * (B B^T)), and <A B, S> = sum((A^T S) * B). S is one
matrix of a map's size, and where the factors of all edits are fewer than that, it is not made either.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .edits import Edits
from .model import LanguageModel
from .patches import LowRank, Patch


@dataclass(frozen=True, slots=True)
class _Map:
    """What some edits do to one map.

    Attributes:
        low: Owners, A [d_in, ranks] and B [ranks, d_out] of the low-rank changes, column by column; None if none is.
        dense: Owner and D of the others.
    """

    low: tuple[Tensor, Tensor, Tensor] | None
    dense: Sequence[tuple[int, Tensor]]

    @property
    def is_thin(self) -> bool:
        """Whether all products of factors cost less than the sum S and the products with it."""
        if self.low is None or self.dense:
            return False
        (d_in, ranks), d_out = self.low[1].shape, self.low[2].shape[1]
        return ranks * (d_in + d_out) <= 2 * d_in * d_out


def change_facts(model: LanguageModel, edits: Edits, *, apart: bool = True) -> list[dict[str, float]]:
    """Return what edits do to weights, one mapping for each edit.

    Args:
        model: The unedited model.
        edits: The edits. One that is no change of weights (a codebook, slots, a text, nothing) has no facts.
        apart: Whether they are independent edits of different cases; else no cosine is said of them.

    Returns:
        `delta_norm`: |dW|, the Frobenius norm over all patched maps. `relative_norm`: |dW| / |W|, W the unedited
        weights of these maps. `cosine`: the mean cosine between the edit and the other edits, where there are any.
    """
    keys = [number if apart else id(own) for number, own in enumerate(edits.patches)]
    first: dict[int, int] = {}  # one edit that stands for many cases is looked at once
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
    count = len(edits)
    maps = [_map(edits, site) for site in dict.fromkeys(patch.site for edit in edits for patch in edit)]
    products = torch.zeros(count, count, dtype=torch.float64)  # of the thin maps
    squares = torch.zeros(count, dtype=torch.float64)
    thick = [each for each in maps if not each.is_thin]
    for each in maps:
        if each.is_thin and apart:
            products += _products(each, count)
        else:
            squares += _squares(each, count)
    squares = squares + products.diagonal()
    scales = torch.where(squares > 0, squares.rsqrt(), 0.0)
    others = int((squares > 0).sum()) - 1
    if not apart or others < 1:
        return squares.tolist(), [None] * count
    sums = products @ scales
    for each in thick:
        sums += _with_sum(each, scales)
    cosines = (sums * scales - 1) / others
    return squares.tolist(), [
        float(cosine) if scale > 0 else None for cosine, scale in zip(cosines, scales, strict=True)
    ]


def _map(edits: Sequence[Sequence[Patch]], site: str) -> _Map:
    """Gather what edits do to a map; several patches of an edit there are one change."""
    low: list[tuple[int, Tensor, Tensor]] = []
    dense: list[tuple[int, Tensor]] = []
    for owner, edit in enumerate(edits):
        own = [patch for patch in edit if patch.site == site]
        thin = [patch for patch in own if isinstance(patch, LowRank)]
        if own and len(thin) == len(own):
            low += ((owner, patch.a.detach(), patch.b.detach()) for patch in thin)
        elif own:
            deltas = [delta.detach() for patch in own if (delta := patch.delta()) is not None]
            dense.append((owner, deltas[0] if len(deltas) == 1 else torch.stack(deltas).sum(dim=0)))
    if not low:
        return _Map(None, dense)
    owners = torch.repeat_interleave(torch.tensor([o for o, _, _ in low]), torch.tensor([len(b) for _, _, b in low]))
    return _Map((owners, torch.cat([a for _, a, _ in low], dim=1), torch.cat([b for _, _, b in low])), dense)


def _products(each: _Map, count: int) -> Tensor:
    """Return <D_i, D_j> of all pairs of low-rank changes of a map, [count, count]."""
    assert each.low is not None
    owners, a, b = each.low
    found = ((a.T @ a) * (b @ b.T)).cpu().double()
    by_owner = torch.zeros(count, len(owners), dtype=torch.float64).index_add_(0, owners, found)
    return torch.zeros(count, count, dtype=torch.float64).index_add_(1, owners, by_owner)


def _squares(each: _Map, count: int) -> Tensor:
    """Return |D_i|^2 of each change of a map, [count]."""
    found = torch.zeros(count, dtype=torch.float64)
    for owner, d in each.dense:
        found[owner] += float(torch.linalg.vector_norm(d)) ** 2
    if each.low is not None:
        owners, a, b = each.low
        for owner in owners.unique().tolist():
            own = (owners == owner).to(a.device)
            x, y = a[:, own], b[own]
            found[owner] += float(((x.T @ x) * (y @ y.T)).sum().clamp(min=0))
    return found


def _with_sum(each: _Map, scales: Tensor) -> Tensor:
    """Return <D_i, S> of each change of a map, S = sum_j scales_j D_j; [count]."""
    found = torch.zeros(len(scales), dtype=torch.float64)
    total: Tensor | None = None
    for owner, d in each.dense:
        total = d * float(scales[owner]) if total is None else total.add_(d, alpha=float(scales[owner]))
    if each.low is not None:
        owners, a, b = each.low
        scaled = (a * scales[owners].to(a)) @ b
        total = scaled if total is None else total.add_(scaled)
        found.index_add_(0, owners, ((a.T @ total) * b).sum(dim=1).cpu().double())
    for owner, d in each.dense:
        assert total is not None
        found[owner] += float((d * total).sum())
    return found
