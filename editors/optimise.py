"""Gradient descent on the tensors of many edits side by side.

An editor that fine-tunes says which tensors of an edit are free, what patches they make, and how a row is judged. The
unedited model runs once; every step replays only the blocks from the first patched one on, all edits in one pass. The
loss of an edit is the mean over its requests, so an edit of one request and an edit of a thousand are the same code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer

from .edits import Edits
from .model import LanguageModel
from .passes import BasePass
from .patches import Patch
from .rows import Row
from .seeds import seed_of


@dataclass(frozen=True, slots=True)
class Descent:
    """How free tensors are optimised.

    Attributes:
        optimiser: Makes the optimiser of a list of tensors. It must keep a state for each tensor by itself, and leave
            a tensor without a gradient alone, as those of torch do: this is what keeps edits independent.
        steps: Most steps of an edit.
        stop_loss: An edit whose loss is below this takes no further step.
        batch: Most requests of one step, which bounds the memory a step takes; None for all of them. The requests of
            an edit are cut into parts in an order drawn from the seed, and the steps go round the parts. Its loss is
            then the mean over the last round.
        project: What is done to each tensor after each step, in place, e.g. a clamp.
    """

    optimiser: Callable[[list[Tensor]], Optimizer]
    steps: int
    stop_loss: float = 0.0
    batch: int | None = None
    project: Callable[[Tensor], object] | None = None


@dataclass(slots=True)
class _Progress:
    """What one edit has done: its steps, and its latest loss on each part of its requests."""

    steps: int = 0
    losses: dict[int, float] = field(default_factory=dict)


def minimise(
    model: LanguageModel,
    rows: Sequence[Row],
    owners: Sequence[int],
    tensors: Sequence[Sequence[Tensor]],
    patches: Callable[[Sequence[Tensor]], tuple[Patch, ...]],
    loss: Callable[[int, Tensor], Tensor],
    descent: Descent,
    *,
    seed: int = 0,
) -> Edits:
    """Minimise, for each edit, the mean loss of its rows over its own tensors.

    Args:
        model: The frozen model.
        rows: What is run, one row a request.
        owners: For each row the index of its edit.
        tensors: For each edit its free tensors; they ask for gradients and are changed in place.
        patches: From one edit's tensors, its patches.
        loss: From a row's index and its logits [scored, vocabulary], the row's loss (a scalar).
        descent: How.
        seed: Seed of the order of requests, where they are cut into parts.

    Returns:
        The edits, with the number of steps and the last loss as facts. The loss is the one the last step was taken on,
        or the one that stopped the edit.
    """
    progress = [_Progress() for _ in tensors]
    if not tensors:
        return Edits(())
    parts = _parts(owners, len(tensors), descent.batch, seed)
    cut = Edits(tuple(map(patches, tensors))).cut
    assert cut is not None, "free tensors make patches"
    bases = [model.base_pass([rows[i] for i in part], [cut]) for part in parts]
    flat = [tensor for own in tensors for tensor in own]
    optimiser = descent.optimiser(flat)
    for step in range(descent.steps):
        turn = step % len(parts)
        losses = _losses(model, bases[turn], parts[turn], owners, tensors, patches, loss)
        for edit, value in zip(progress, losses, strict=True):
            edit.losses[turn] = value.item()
        active = [len(edit.losses) < len(parts) or _mean(edit.losses, parts) >= descent.stop_loss for edit in progress]
        if not any(active):
            break
        optimiser.zero_grad()
        torch.stack(losses).sum().backward()
        for edit, own, moves in zip(progress, tensors, active, strict=True):
            edit.steps += moves
            for tensor in own:
                tensor.grad = tensor.grad if moves else None
        optimiser.step()
        if descent.project is not None:
            with torch.no_grad():
                for tensor in flat:
                    descent.project(tensor)
    return Edits(
        tuple(patches([tensor.detach() for tensor in own]) for own in tensors),
        tuple({"steps": float(edit.steps), "last_loss": _mean(edit.losses, parts)} for edit in progress),
    )


def _parts(owners: Sequence[int], edits: int, batch: int | None, seed: int) -> list[list[int]]:
    """Return the rows of each part: all of them, unless one edit has more than `batch`."""
    count = len(owners)
    if batch is None or count <= batch or edits == count:
        return [list(range(count))]
    assert edits == 1, "only one edit at a time is cut into parts"
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed_of(seed, "order"))).tolist()
    return [order[first : first + batch] for first in range(0, count, batch)]


def _losses(
    model: LanguageModel,
    base: BasePass,
    part: Sequence[int],
    owners: Sequence[int],
    tensors: Sequence[Sequence[Tensor]],
    patches: Callable[[Sequence[Tensor]], tuple[Patch, ...]],
    loss: Callable[[int, Tensor], Tensor],
) -> list[Tensor]:
    """Return the loss of each edit: the mean over its rows of a part."""
    found: list[list[Tensor]] = [[] for _ in tensors]
    with torch.enable_grad():
        edits = Edits(tuple(map(patches, tensors)))
        for place, logits in model.replay(base, edits, [owners[i] for i in part]):
            found[owners[part[place]]].append(loss(part[place], logits))
        return [torch.stack(losses).mean() for losses in found]


def _mean(losses: dict[int, float], parts: Sequence[Sequence[int]]) -> float:
    """Return the mean over requests of the latest losses of their parts."""
    sizes = {part: len(parts[part]) for part in losses}
    return sum(size / sum(sizes.values()) * losses[part] for part, size in sizes.items())
