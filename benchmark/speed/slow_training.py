"""A training step one by one: a plain pass for each text, with the edited weights dense and in the graph."""

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from instructedit.editors import EditCase, Row, TrainingSet, seed_of
from instructedit.editors.hypernet.objective import Losses, outer_rows

from .slow import Twin
from .slow_edits import factors, gated, transformed


def losses(twin: Twin, editor: Any, cases: Sequence[EditCase], training: TrainingSet, seeds: Sequence[int]) -> Losses:
    """Return the outer losses of a step's cases and add the gradient of their mean, batch by batch."""
    sums, size = Losses(), editor.config.training.batch
    for first in range(0, len(cases), size):
        part = slice(first, first + size)
        sums.add(_batch(twin, editor, cases[part], training, seeds[part], 1 / len(cases)))
    return sums


def _batch(
    twin: Twin, editor: Any, cases: Sequence[EditCase], training: TrainingSet, seeds: Sequence[int], share: float
) -> Losses:
    """Do the same for a batch; running statistics take all of it in before its first case is edited."""
    requests = [training.request(case, seed) for case, seed in zip(cases, seeds, strict=True)]
    rows = [editor.encode(twin.base, request) for request in requests]
    found = [factors(twin, row, editor.shape.sites) for row in rows]
    if editor.name != "ke":
        for own in found:
            for site in editor.shape.sites:
                editor.network.observe(site, *own[site.name])
    sums = Losses(cases=len(cases), local=len(cases))
    c_edit, c_loc = editor.loss_weights()
    for number, case in enumerate(cases):
        changes = (
            gated(editor, found[number], rows[number]) if editor.name == "ke" else transformed(editor, found[number])
        )
        weights = {f"{site.name}.weight": twin.plus(site, changes[site.name]) for site in editor.shape.sites}
        dice = random.Random(seed_of(seeds[number], "outer"))
        context = editor.context(requests[number])
        terms: list[Tensor] = []
        for outer in outer_rows(twin.base, case, requests[number], 0, context, editor.config.objective, dice):
            new = _edited(twin, weights, outer.row)
            if outer.kind == "locality":
                with torch.no_grad():
                    old = twin.logits(outer.bare or outer.row).log_softmax(dim=-1)
                term = outer.scale * (old.exp() * (old - new)).sum()
                sums.locality += float(term.detach())
                sums.agreement += outer.scale * int((old.argmax(-1) == new.argmax(-1)).sum())
                terms.append(c_loc * term)
            else:
                labels = twin.labels(outer.row)
                term = -outer.scale * new.gather(1, labels[:, None]).sum()
                sums.edit += float(term.detach())
                sums.exact += float((new.argmax(-1) == labels).all())
                terms.append(c_edit * term)
        (share * torch.stack(terms).sum()).backward()
    return sums


def _edited(twin: Twin, weights: dict[str, Tensor], row: Row) -> Tensor:
    """Return log-probabilities at a row's scored positions under new weights, [scored, vocabulary]."""
    ids = torch.tensor([row.ids], device=twin.base.device)
    out = functional_call(twin.model, weights, (), {"input_ids": ids, "use_cache": False})
    logits: Tensor = out.logits[0, list(row.scored)]
    return logits.to(twin.base.edit_dtype).log_softmax(dim=-1)
