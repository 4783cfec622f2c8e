"""Gradient descent on the tensors of many edits side by side.

An editor that fine-tunes says what is free in an edit, and which tokens are wanted where. The unedited model runs once;
every step replays only the blocks from the first patched one on, all edits that still move in one pass. The loss of an
edit is the mean over its requests, so an edit of one request and an edit of a thousand are the same code. A request may
have several texts (`texts`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ..edits import Edits
from ..engine.engine import BasePass
from ..engine.model import LanguageModel
from ..engine.packed_batch import PackedBatch
from ..models.tokens import Row
from ..seeds import seed_of
from ..texts import EditRows, token_losses
from .variables import Free


@dataclass(frozen=True, slots=True)
class Descent:
    """How long edits are optimised, and how much of one at once.

    Attributes:
        steps: Most steps of an edit.
        stop_loss: An edit whose loss is below this, or no number, takes no further step.
        batch: Most requests of one step, which bounds the memory a step takes; None for all of them. The requests of
            an edit are cut into parts in an order drawn from the seed, and the steps go round the parts. Its loss is
            then the mean over the last round.
    """

    steps: int
    stop_loss: float = 0.0
    batch: int | None = None


@dataclass(slots=True)
class _Progress:
    """What one edit has done.

    Attributes:
        steps: Its steps.
        losses: Its latest loss on each part of its requests.
        stale: Parts whose loss was looked at before the last step.
    """

    steps: int = 0
    losses: dict[int, float] = field(default_factory=dict)
    stale: set[int] = field(default_factory=set)


def minimise(
    model: LanguageModel,
    rows: Sequence[Row],
    labels: Sequence[Sequence[int]],
    owners: Sequence[int],
    free: Sequence[Free],
    descent: Descent,
    *,
    seed: int = 0,
    texts: EditRows | None = None,
) -> Edits:
    """Minimise, for each edit, the mean over its requests of a request's loss over the labels of its rows.

    Args:
        model: The frozen model.
        rows: What is run, those of a request next to each other.
        labels: For each row the tokens the loss is over: one at each scored position, or any number at the only one.
        owners: For each row the index of its edit.
        free: The edits.
        descent: How long, and how much at once.
        seed: Seed of the order of requests, where they are cut into parts.
        texts: The requests that the rows belong to, and which rows are opposed; by default each row is a request.

    Returns:
        The edits, with these facts: `steps`; `final_loss`, the loss of the edit as it is returned, behind its last
        step; `converged`, 1 if a loss fell below `stop_loss`, else 0.
    """
    progress = [_Progress() for _ in free]
    if not free:
        return Edits(())
    assert {*owners} == {*range(len(free))}, "each edit owns rows"
    texts = texts or EditRows.of(rows)
    parts = _parts(texts.requests, len(free), descent.batch, seed)
    sizes = [len({texts.requests[row] for row in part}) for part in parts]
    cut = Edits(tuple(edit.patches() for edit in free)).cut
    assert cut is not None, "free tensors make patches"
    bases = [model.base_pass([rows[i] for i in part], [cut]) for part in parts]
    moving = list(range(len(free)))

    def look(turn: int, ran: Sequence[int], *, grad: bool = True) -> tuple[Tensor, Tensor]:
        """Note the losses of some edits on a part of the requests; return what `_terms` does."""
        own = [owners[i] for i in parts[turn]]
        wanted = [labels[i] for i in parts[turn]]
        terms, owner = _terms(model, bases[turn], texts, parts[turn], wanted, own, free, ran, grad=grad)
        # on the CPU, where a sum is the same every time
        losses = torch.zeros(len(free), dtype=terms.dtype).index_add_(0, owner, terms.detach().cpu()).tolist()
        for edit in ran:
            progress[edit].losses[turn] = losses[edit]
            progress[edit].stale.discard(turn)
        return terms, owner

    below: set[int] = set()
    for step in range(descent.steps):
        turn, ran = step % len(parts), moving
        terms, owner = look(turn, ran)
        moving = [edit for edit in ran if not _done(progress[edit], sizes, descent.stop_loss)]
        below |= {edit for edit in {*ran} - {*moving} if _mean(progress[edit].losses, sizes) < descent.stop_loss}
        if not moving:
            break
        for edit in moving:
            free[edit].zero_grad()
        if moving != ran:
            terms = terms[torch.isin(owner, torch.tensor(moving)).to(terms.device)]
        terms.sum().backward()
        for edit in moving:
            free[edit].step()
            progress[edit].steps += 1
            progress[edit].stale |= {*range(len(parts))}
        if moving != ran:
            for edit in {*ran} - {*moving}:
                free[edit].zero_grad()  # zeros, which came back for the rows it had in the pass
            bases[turn].batches.clear()  # and the tensors that steps of more edits started from
    for turn in range(len(parts)):
        if stale := [number for number, own in enumerate(progress) if turn in own.stale]:
            look(turn, stale, grad=False)
    facts = []
    for number, own in enumerate(progress):
        loss = _mean(own.losses, sizes)
        converged = number in below or loss < descent.stop_loss
        facts.append({"steps": float(own.steps), "final_loss": loss, "converged": float(converged)})
    return Edits(tuple(edit.made() for edit in free), tuple(facts))


def _done(progress: _Progress, sizes: Sequence[int], stop_loss: float) -> bool:
    """Return whether the loss of an edit is low enough, or no number, all parts of it having been looked at."""
    return len(progress.losses) == len(sizes) and not _mean(progress.losses, sizes) >= stop_loss


def _parts(requests: Sequence[int], edits: int, batch: int | None, seed: int) -> list[list[int]]:
    """Return the rows of each part: all of them, unless one edit has more than `batch` requests."""
    rows: dict[int, list[int]] = {}
    for row, request in enumerate(requests):
        rows.setdefault(request, []).append(row)
    count = len(rows)
    if batch is None or count <= batch or edits == count:
        return [list(range(len(requests)))]
    assert edits == 1, "only one edit at a time is cut into parts"
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed_of(seed, "order"))).tolist()
    parts = [order[first : first + batch] for first in range(0, count, batch)]
    return [[row for request in part for row in rows[request]] for part in parts]


def _terms(
    model: LanguageModel,
    base: BasePass,
    texts: EditRows,
    part: Sequence[int],
    labels: Sequence[Sequence[int]],
    owners: Sequence[int],
    free: Sequence[Free],
    moving: Sequence[int],
    *,
    grad: bool,
) -> tuple[Tensor, Tensor]:
    """Return the terms whose sums are the losses of the edits that still move, and on the CPU the edit of each term."""
    edit_of_request = {texts.requests[row]: owner for row, owner in zip(part, owners, strict=True)}
    count, some = Counter(edit_of_request.values()), {*moving}
    among = [place for place, edit in enumerate(owners) if edit in some]

    def wanted(layout: PackedBatch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        place = {token: number for number, token in enumerate(layout.read)}
        at, tokens, share, opposed, owner = [], [], [], [], []
        for row, scored in zip(layout.rows, layout.scored, strict=True):
            own = labels[row]
            for token, label in zip(scored if len(scored) > 1 else [scored[0]] * len(own), own, strict=True):
                at.append(place[token])
                tokens.append(label)
                share.append(1 / (texts.tokens[part[row]] * count[owners[row]]))
                opposed.append(texts.opposed[part[row]])
                owner.append(owners[row])
        shares = torch.tensor(share, dtype=model.edit_dtype)
        return torch.tensor(at), torch.tensor(tokens), shares, torch.tensor(opposed), torch.tensor(owner)

    terms: list[Tensor] = []
    edit_of: list[Tensor] = []
    with torch.set_grad_enabled(grad):
        edits = Edits(tuple(edit.patches() if number in some else () for number, edit in enumerate(free)))
        for layout, logits in model.replay_passes(base, edits, owners, among):
            at, tokens, share, unlikely, owner = layout.once("wanted", partial(wanted, layout))
            at, tokens, share, unlikely = (t.to(logits.device) for t in (at, tokens, share, unlikely))
            log_p = logits.to(share.dtype).log_softmax(dim=-1)[at, tokens]
            terms.append(token_losses(log_p, unlikely if bool(unlikely.any()) else False) * share)
            edit_of.append(owner)
        return torch.cat(terms), torch.cat(edit_of)


def _mean(losses: dict[int, float], sizes: Sequence[int]) -> float:
    """Return the mean over requests of the latest losses of their parts, which have so many requests each."""
    seen = sum(sizes[part] for part in losses)
    return sum(sizes[part] / seen * loss for part, loss in losses.items())
