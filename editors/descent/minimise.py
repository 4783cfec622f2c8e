"""Gradient descent on the variables of many edits side by side.

The unedited model runs once. Every step replays only the blocks from the first patched one on, for all edits that have
not converged, in one pass. The loss of an edit is the mean over its requests of a request's loss, which is the sum of
the losses of its rows.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..edits import Edits
from ..engine.engine import BasePass
from ..engine.model import LanguageModel
from ..models.tokens import TokenSequence
from ..seeds import seed_of
from .variables import JointOptimiser, Variables

Loss = Callable[[int, Tensor], Tensor]
"""Loss of a row (a scalar) from its index and its logits [scored, vocabulary]."""


@dataclass(frozen=True, slots=True)
class Descent:
    """How edits are optimised.

    Attributes:
        steps: Maximum number of steps.
        stop_loss: An edit stops once its loss is below this, or is not a number.
        batch: Maximum number of requests in one step of an edit made together, which bounds the memory of a step; None
            for all of them. The batches are drawn from the seed and taken in turn. The loss of the edit is the mean
            over the latest loss of each batch.
    """

    steps: int
    stop_loss: float = 0.0
    batch: int | None = None


@dataclass(slots=True)
class _Progress:
    steps: int = 0
    losses: dict[int, float] = field(default_factory=dict)
    converged: bool = False


class _Batch:
    """Rows that run together, with their base pass."""

    def __init__(
        self,
        model: LanguageModel,
        rows: Sequence[TokenSequence],
        owners: Sequence[int],
        requests: Sequence[int],
        chosen: Sequence[int],
        base: BasePass,
    ) -> None:
        self.model, self.base = model, base
        self.chosen = chosen
        self.owners = [owners[row] for row in chosen]
        self.requests = Counter({requests[row]: owners[row] for row in chosen}.values())  # by edit

    def losses(self, variables: Sequence[Variables], edits: Iterable[int], loss: Loss) -> dict[int, Tensor]:
        """Return the losses of some edits, by their indices."""
        terms: dict[int, list[Tensor]] = {edit: [] for edit in edits}
        patched = Edits(tuple(own.patches() if edit in terms else () for edit, own in enumerate(variables)))
        among = [place for place, owner in enumerate(self.owners) if owner in terms]
        for place, logits in self.model.replay(self.base, patched, self.owners, among):
            owner = self.owners[place]
            terms[owner].append(loss(self.chosen[place], logits.to(self.model.edit_dtype)) / self.requests[owner])
        return {edit: torch.stack(own).sum() for edit, own in terms.items()}


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
    assert {*owners} == {*range(len(variables))}, "each edit owns rows"
    requests = range(len(rows)) if requests is None else requests
    cut = Edits(tuple(own.patches() for own in variables)).cut
    assert cut is not None, "variables make patches"
    batches, sizes = [], []
    for chosen in _batches(requests, len(variables), descent.batch, seed):
        some = [rows[row] for row in chosen]
        own_base = base if base is not None and len(some) == len(rows) else None
        own_base = own_base or model.base_pass(some, [cut])
        batches.append(_Batch(model, rows, owners, requests, chosen, own_base))
        sizes.append(len({requests[row] for row in chosen}))
    progress = [_Progress() for _ in variables]
    moving = list(range(len(variables)))
    optimiser = JointOptimiser(variables)

    def evaluate(turn: int, edits: Sequence[int]) -> dict[int, Tensor]:
        losses = batches[turn].losses(variables, edits, loss)
        for edit, value in zip(losses, torch.stack([*losses.values()]).tolist(), strict=True):
            progress[edit].losses[turn] = value
        return losses

    for step in range(descent.steps):
        turn, ran = step % len(batches), moving
        with torch.enable_grad():
            losses = evaluate(turn, ran)
            moving = []
            for edit in ran:
                own = progress[edit]
                mean = _mean(own.losses, sizes)
                own.converged = len(own.losses) == len(batches) and mean < descent.stop_loss
                if len(own.losses) < len(batches) or mean >= descent.stop_loss:  # false for a loss that is not a number
                    moving.append(edit)
            if not moving:
                break
            optimiser.zero_grad()
            torch.stack([losses[edit] for edit in moving]).sum().backward()
        optimiser.step([variables[edit] for edit in moving])
        for edit in moving:
            progress[edit].steps += 1
    # losses so far are from before the last step, and with several batches from several steps
    if last := moving if len(batches) == 1 else list(range(len(variables))):
        with torch.no_grad():
            for turn in range(len(batches)):
                evaluate(turn, last)
    facts = []
    for own in progress:
        mean = _mean(own.losses, sizes)
        converged = own.converged or mean < descent.stop_loss
        facts.append({"steps": float(own.steps), "final_loss": mean, "converged": float(converged)})
    return Edits(tuple(own.finished() for own in variables), tuple(facts))


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


def _mean(losses: dict[int, float], sizes: Sequence[int]) -> float:
    """Return the mean over requests of the latest losses of batches with `sizes` requests."""
    seen = sum(sizes[batch] for batch in losses)
    return sum(sizes[batch] / seen * loss for batch, loss in losses.items())
