"""Gradient descent on the variables of many edits side by side.

The unedited model runs once. Every step replays only the blocks from the first patched one on, for all edits that have
not converged, in one pass. The loss of an edit is the mean over its requests of a request's loss, which is the sum of
the losses of its rows.
"""

from collections import Counter
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..edits import Edits
from ..engine.engine import BasePass
from ..engine.forward_pass import Pass
from ..engine.model import LanguageModel
from ..engine.packed_batch import by_row
from ..models.tokens import TokenSequence
from ..seeds import seed_of
from .variables import Variables

Loss = Callable[[int, Tensor], Tensor]
"""Loss of a row (a scalar) from its index and the log-probabilities at its scored positions, [scored, vocabulary]."""


@dataclass(frozen=True, slots=True)
class Descent:
    """How edits are optimised.

    Attributes:
        steps: Maximum number of steps.
        optimiser: Makes the optimiser of all tensors, e.g. `partial(torch.optim.Adam, lr=0.1)`. It has to treat each
            tensor separately, as those of torch do, so that edits do not affect each other.
        bound: After each step all tensors are clamped to [-bound, bound]; None for no bound.
        stop_loss: An edit stops once its loss is below this, or is not a number.
        batch: Maximum number of requests in one step of an edit made together, which bounds the memory of a step; None
            for all of them. The batches are drawn from the seed and taken in turn. The loss of the edit is the mean
            over the latest loss of each batch.
    """

    steps: int
    optimiser: Callable[[list[Tensor]], Optimizer]
    bound: float | None = None
    stop_loss: float = 0.0
    batch: int | None = None


def minimise(
    model: LanguageModel,
    rows: Sequence[TokenSequence],
    owners: Sequence[int],
    variables: Sequence[Variables],
    descent: Descent,
    loss: Loss,
    *,
    requests: Sequence[int] | None = None,
    base: BasePass | None = None,
    seed: int = 0,
) -> Edits:
    """Minimise the loss of each edit over its variables.

    Rows are given request by request, `owners` has the edit of each row, and `requests` the request; by default each
    row is a request. `base` is a base pass of all rows that the replays can start from, if there is one already.

    Returns:
        The edits, with these facts: `steps`; `final_loss`, after the last step; `converged`, 1 if the loss fell below
        `stop_loss`, else 0.
    """
    if not variables:
        return Edits(())
    count = len(variables)
    assert {*owners} == {*range(count)}, "each edit owns rows"
    requests = range(len(rows)) if requests is None else requests
    cut = Edits(tuple(own.patches() for own in variables)).cut
    assert cut is not None, "variables make patches"
    batches = _batches(requests, count, descent.batch, seed)
    sizes = [len({requests[row] for row in chosen}) for chosen in batches]
    bases = [base] if base is not None and len(batches) == 1 else None
    bases = bases or [model.base_pass([rows[row] for row in chosen], [cut]) for chosen in batches]
    per_edit = [Counter({requests[row]: owners[row] for row in chosen}.values()) for chosen in batches]
    steps, converged, latest = [0] * count, [False] * count, [dict[int, float]() for _ in variables]
    passes: dict[tuple[int, ...], list[Pass]] = {}  # of the latest steps, by batch and edits
    optimiser = descent.optimiser([tensor for own in variables for tensor in own.tensors])

    def evaluate(turn: int, edits: Sequence[int]) -> dict[int, Tensor]:
        """Return the losses of some edits on a batch, by their indices."""
        own = [owners[row] for row in batches[turn]]
        terms: dict[int, list[Tensor]] = {edit: [] for edit in edits}
        patched = Edits(tuple(variables[edit].patches() if edit in terms else () for edit in range(count)))
        if (turn, *edits) not in passes:
            among = [place for place, owner in enumerate(own) if owner in terms]
            passes.clear()
            passes[turn, *edits] = list(model.engine.replay_passes(bases[turn], patched, own, among))
        for wanted in passes[turn, *edits]:
            logits = model.engine.run(wanted, patched, own).logits
            for place, log_p in by_row(wanted.batch, logits.to(model.edit_dtype).log_softmax(-1)):
                terms[own[place]].append(loss(batches[turn][place], log_p) / per_edit[turn][own[place]])
        losses = {edit: torch.stack(found).sum() for edit, found in terms.items()}
        for edit, value in zip(losses, torch.stack([*losses.values()]).tolist(), strict=True):
            latest[edit][turn] = value
        return losses

    def mean(edit: int) -> float:
        """Return the mean over requests of an edit's latest losses."""
        seen = sum(sizes[turn] for turn in latest[edit])
        return sum(sizes[turn] / seen * value for turn, value in latest[edit].items())

    moving = list(range(count))
    for step in range(descent.steps):
        with torch.enable_grad():
            losses = evaluate(step % len(batches), moving)
            for edit in moving:
                converged[edit] = len(latest[edit]) == len(batches) and mean(edit) < descent.stop_loss
            # false for a loss that is not a number
            moving = [edit for edit in moving if len(latest[edit]) < len(batches) or mean(edit) >= descent.stop_loss]
            if not moving:
                break
            optimiser.zero_grad()
            torch.stack([losses[edit] for edit in moving]).sum().backward()
        _step(optimiser, variables, moving, descent.bound)
        for edit in moving:
            steps[edit] += 1
    # losses so far are from before the last step, and with several batches from several steps
    if last := moving if len(batches) == 1 else list(range(count)):
        with torch.no_grad():
            for turn in range(len(batches)):
                evaluate(turn, last)
    facts = [
        {
            "steps": float(steps[edit]),
            "final_loss": mean(edit),
            "converged": float(converged[edit] or mean(edit) < descent.stop_loss),
        }
        for edit in range(count)
    ]
    return Edits(tuple(own.finished() for own in variables), tuple(facts))


@torch.no_grad()
def _step(optimiser: Optimizer, variables: Sequence[Variables], moving: Container[int], bound: float | None) -> None:
    """Take one step with the variables of the edits that are moving.

    The others lose their gradient: a zero one, which a backward pass through a shared graph leaves, would let Adam's
    momentum move an edit that has stopped, so that it depended on the edits beside it.
    """
    for edit, own in enumerate(variables):
        for tensor in own.tensors:
            if edit not in moving:
                tensor.grad = None
            elif tensor.grad is None:  # an expert that no token of this batch is routed to
                tensor.grad = torch.zeros_like(tensor)
    optimiser.step()
    if bound is not None:
        for tensor in (tensor for edit, own in enumerate(variables) if edit in moving for tensor in own.tensors):
            tensor.clamp_(-bound, bound)


def _batches(requests: Sequence[int], edits: int, size: int | None, seed: int) -> list[list[int]]:
    """Return the rows of each batch: all rows, unless a single edit has more than `size` requests."""
    rows: dict[int, list[int]] = {}
    for row, request in enumerate(requests):
        rows.setdefault(request, []).append(row)
    count = len(rows)
    if size is None or count <= size or edits == count:
        return [list(range(len(requests)))]
    assert edits == 1, "only a single edit is divided into batches"
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed_of(seed, "order"))).tolist()
    return [
        [row for request in order[first : first + size] for row in rows[request]] for first in range(0, count, size)
    ]
