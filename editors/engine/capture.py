"""Activations and gradients at chosen modules, and which sequences an edit changes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..edits import Edits
from ..errors import CaseError
from ..models.structure import Site
from ..models.tokens import TokenSequence
from ..patches import Codebook
from .engine import BasePass, Engine
from .forward_pass import Pass
from .hooks import Factors, captured
from .packed_batch import PackedBatch, by_row


def inputs(engine: Engine, base: BasePass, site: Site) -> list[Tensor]:
    """Return the inputs of one site, [tokens, d_in] for each sequence of a base pass with a cut at the site's block.

    Tokens after a sequence's last scored position are left out.
    """
    found: list[Tensor] = []
    for batch in engine.runner.batches(base.rows, range(len(base.rows)), paths=base.paths):
        x = _inputs(engine, base, batch, site.name, site.block)
        found += x.split([len(own) for own in batch.own])
    return found


def _inputs(engine: Engine, base: BasePass, batch: PackedBatch, name: str, block: int) -> Tensor:
    """Return the inputs of a module for all tokens of a batch, [tokens, d_in]."""
    with torch.no_grad(), captured(engine.runner.model, [name], {}, range(len(batch))) as found:
        engine.run(engine.restart(base, batch, block, stop_at_layer=block + 1))
    return found[name][0].x


def capture(
    engine: Engine, rows: Sequence[TokenSequence], sites: Sequence[Site], loss: Callable[[int, Tensor], Tensor]
) -> dict[str, Factors]:
    """Return inputs and output gradients at some sites, per token, of the sum of the sequences' losses.

    Tokens after a sequence's last scored position, which cannot have a gradient, are left out. No parameter of the
    model takes part in the graph. `loss` gives the loss of a sequence (a scalar) from its index and its logits
    [scored, vocabulary].

    Returns:
        Factors by site name; tokens of all sequences one after another, on the site's device, in the model's dtype.

    Raises:
        CaseError: If a site is run more than once in a pass, as in a looped model.
    """
    structure, names = engine.runner.structure, [site.name for site in sites]
    if twice := engine.runner.repeated.intersection(names):
        name = min(twice)
        raise CaseError(f"{name} is run more than once in a pass, so its gradients cannot be separated.")
    routers = {name: router for name in names if (router := structure.router(name)) is not None}
    parts: dict[str, list[Factors]] = {name: [] for name in names}
    for batch in engine.runner.batches(rows, range(len(rows))):
        owner = [index for index, own in zip(batch.rows, batch.own, strict=True) for _ in own]
        with torch.enable_grad(), captured(engine.runner.model, names, routers, owner) as found:
            output = engine.run(Pass(batch))  # the graph begins at the first of the sites
            total = torch.stack([loss(index, own) for index, own in by_row(batch, output.logits)]).sum()
            calls = [(name, call) for name in names for call in found[name]]
            gradients = torch.autograd.grad(total, [call.delta for _, call in calls], materialize_grads=True)
        for (name, call), gradient in zip(calls, gradients, strict=True):
            parts[name].append(Factors(call.x, gradient.reshape(-1, gradient.shape[-1]), call.rows))
    # one site after another, so that no more than one is in memory twice
    return {site.name: _joined(parts.pop(site.name), site, engine) for site in sites}


def _joined(parts: Sequence[Factors], site: Site, engine: Engine) -> Factors:
    if not parts:  # an expert that received no token
        empty = torch.zeros(0, dtype=engine.runner.model.dtype, device=engine.runner.device)
        return Factors(empty.new_zeros(0, site.d_in), empty.new_zeros(0, site.d_out), empty.long())
    return Factors(*(torch.cat([getattr(part, name) for part in parts]) for name in ("x", "delta", "rows")))


def reached(engine: Engine, base: BasePass, edits: Edits, owners: Sequence[int | None]) -> list[int]:
    """Return the sequences that edits may change; for all others the logits are those of the unedited model.

    Where all edits are codebooks of one module whose query is the end of a prompt, these are the sequences near a key.
    For other edits it is not known, and all are returned. Base pass and owners are as in `Engine.replay`.
    """
    books = [[patch for patch in edit if isinstance(patch, Codebook)] for edit in edits.patches]
    sites = {(book.site, book.block) for own in books for book in own}
    alone = [*map(len, books)] == [*map(len, edits.patches)] and len(sites) == 1
    if not alone or not base.rows or not engine.is_late(base, edits):
        return list(range(len(base.rows)))
    ((name, block),) = sites
    with_codebook = {index: owner for index, owner in enumerate(owners) if owner is not None and books[owner]}
    found: list[int] = []
    for batch in engine.replay_batches(base, edits, owners, list(with_codebook)):
        x = _inputs(engine, base, batch, name, block)
        by_owner: dict[int, list[tuple[int, int]]] = {}
        for row, path in zip(batch.rows, batch.paths, strict=True):
            end = path[base.rows[row].prompt_end] - batch.cached
            by_owner.setdefault(with_codebook[row], []).append((row, end))
        for owner, own in by_owner.items():
            queries = x[[end for _, end in own]]
            near = torch.stack([book.nearest(queries)[1] for book in books[owner]]).any(dim=0).tolist()
            found += [row for (row, _), hit in zip(own, near, strict=True) if hit]
    return sorted(found)
