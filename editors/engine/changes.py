"""Norms of edits and their pairwise cosines, for any editor's patches that change weights, in the patches' dtype.

The changes of all patched weights are one vector of the edit. Its norm |dW| and cosines follow from inner products.
"""

import torch

from ..edits import Edits
from ..gram import changes_weight, inner_products
from .model import LanguageModel


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
