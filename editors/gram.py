"""Inner products of edits that change weights, without forming the changes as matrices.

An edit changes the weight of each layer it patches by a matrix D. The inner product of two edits is the sum of
<D, D'>_F over the layers that both patch. For low-rank changes D = A B and D' = A' B' it follows from the factors:

    <A B, A' B'>_F = sum((A^T A') * (B B'^T))
"""

import torch
from torch import Tensor

from .edits import Edits
from .errors import InputError
from .patches import Dense, LowRank

COLUMNS = 512
"""Columns of factors that are multiplied with all others at once; 16,000 others then take 65 MB."""


def gram(edits: Edits) -> Tensor:
    """Return the inner products of all pairs of edits, [edits, edits], float64 on the CPU.

    Sums are taken in float64. An edit without patches is the zero vector.

    Raises:
        InputError: If a patch does not change a weight (a codebook, slots).
    """
    found = torch.zeros(len(edits), len(edits), dtype=torch.float64)
    for site in dict.fromkeys(patch.site for edit in edits.patches for patch in edit):
        low, dense = _of_site(edits, site)
        found += _low_rank(low, len(edits))
        for number, (owner, d) in enumerate(dense):
            for other, a, b in low:
                product = float(((a.T @ d) * b).sum())
                found[owner, other] += product
                found[other, owner] += product
            for after, (other, second) in enumerate(dense[number:]):
                product = float((d * second).sum())
                found[owner, other] += product
                if after:
                    found[other, owner] += product
    return found


_Low = list[tuple[int, Tensor, Tensor]]
_Dense = list[tuple[int, Tensor]]


def _of_site(edits: Edits, site: str) -> tuple[_Low, _Dense]:
    """Return the changes of one layer: owner, A and B of the low-rank ones, owner and D of the dense ones."""
    low: _Low = []
    dense: _Dense = []
    for owner, edit in enumerate(edits.patches):
        for patch in (patch for patch in edit if patch.site == site):
            match patch:
                case LowRank():
                    low.append((owner, _double(patch.a), _double(patch.b)))
                case Dense():
                    dense.append((owner, _double(patch.d)))
                case _:
                    raise InputError(
                        f"A {patch.kind} patch on {site} does not change a weight; low-rank or dense edits were "
                        "expected."
                    )
    return low, dense


def _low_rank(low: _Low, count: int) -> Tensor:
    found = torch.zeros(count, count, dtype=torch.float64)
    if not low:
        return found
    a, b = torch.cat([a for _, a, _ in low], dim=1), torch.cat([b for _, _, b in low])  # [d_in, ranks], [ranks, d_out]
    owners = torch.repeat_interleave(
        torch.tensor([owner for owner, _, _ in low]), torch.tensor([len(b) for _, _, b in low])
    )
    for start in range(0, len(owners), COLUMNS):
        part = slice(start, start + COLUMNS)
        products = (a[:, part].T @ a) * (b[part] @ b.T)
        by_other = torch.zeros(len(products), count, dtype=torch.float64).index_add_(1, owners, products)
        found.index_add_(0, owners[part], by_other)
    return (found + found.T) / 2  # both halves are the same sums in different orders


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float64)
