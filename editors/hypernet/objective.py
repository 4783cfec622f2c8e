"""The outer loss of a meta-learnt edit: what must follow from it, and what must not (arXiv 2110.11309, section 3.2).

    L = c_edit * L_e + c_loc * L_loc
    L_e   = - mean log p'(y | x')             the target behind an equivalent prompt, over its tokens
    L_loc = KL(p || p')                       on locality text, mean over the positions that predict answer tokens

p is the unedited model, p' the edited one. For attitudes L_e is SERAC's (arXiv 2206.06520): the mean of -log p' over
the tokens of replies with the wanted sentiment plus the mean of -log(1 - p') over those with the opposite one.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..cases import EditCase, EditRequest
from ..editor import EditorConfig
from ..edits import Context, Edits
from ..engine.model import LanguageModel
from ..engine.packed_batch import by_row
from ..errors import CaseError
from ..models.tokens import Encoder, Row
from ..scripts import Joint
from ..texts import token_losses

Kind = Literal["edit", "opposed", "locality"]
Count = Annotated[int, Field(ge=1)] | Literal["all"]


class ObjectiveConfig(EditorConfig):
    """Weights of the outer loss and what it is taken over; the defaults are the original MEND's."""

    c_edit: float = Field(default=0.1, ge=0)
    """Weight of the edit loss. 0.1 or 1.0 outweighs most differences between editors: a table should say which."""
    c_loc: float = Field(default=1.0, ge=0)
    """Weight of the locality loss."""
    edit_prompt: Literal["equivalent", "same", "both"] = "equivalent"
    """`equivalent`: a rephrase of the prompt where the record has one. `same`: the edit's own prompt, as in the
    released code of InstructEdit, which leaves generalization untrained. `both`: one of each, pooled."""
    locality_rows: Count = 4
    """Maximum number of locality texts of a case in one step, drawn anew each time; `all` sets no limit."""
    kl_positions: Literal["predicting", "released"] = "predicting"
    """`released`: at the answer's tokens instead of the positions that predict them, one too late, as in the released
    code of InstructEdit."""
    replies: Count = 1
    """Maximum number of replies of each sentiment of a case in one step; `all` sets no limit."""
    unlikelihood: bool = True
    """Whether replies of the opposite sentiment are made unlikely, token by token, as in SERAC. What both sentiments
    say alike is made unlikely with them."""


@dataclass(frozen=True, slots=True)
class Outer:
    """One text of the outer loss.

    Attributes:
        row: The text.
        owner: Index of the case it belongs to.
        kind: Which term it belongs to.
        scale: Share of one of its tokens in the mean of its case's term.
        bare: For locality text behind an edit's instruction the same text without it: what the unedited model is asked,
            as in the score; None for `row` itself.
    """

    row: Row
    owner: int
    kind: Kind
    scale: float
    bare: Row | None = None


@dataclass(slots=True)
class Losses:
    """Sums over cases; `mean` divides by their number.

    Attributes:
        cases: Cases summed.
        local: Those of them that have locality text.
        edit: L_e.
        locality: L_loc in nats.
        exact: Share of the target texts of which every token is the most likely one.
        agreement: Share of locality positions where both models have the same most likely token.
    """

    cases: int = 0
    local: int = 0
    edit: float = 0.0
    locality: float = 0.0
    exact: float = 0.0
    agreement: float = 0.0

    def add(self, other: "Losses") -> None:
        """Add the sums of other cases."""
        for name in ("cases", "local", "edit", "locality", "exact", "agreement"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def mean(self, c_edit: float, c_loc: float) -> dict[str, float]:
        """Return the means, and the total loss."""
        count = max(self.cases, 1)
        means = {name: getattr(self, name) / count for name in ("edit", "locality", "exact")}
        means["agreement"] = self.agreement / max(self.local, 1)
        return {"loss": c_edit * means["edit"] + c_loc * means["locality"], **means}


def outer_rows(
    model: Encoder,
    case: EditCase,
    request: EditRequest,
    owner: int,
    context: Context | None,
    config: ObjectiveConfig,
    rng: random.Random,
) -> list[Outer]:
    """Draw the texts that judge one training edit.

    Args:
        model: Encodes the texts; those that do not fit its context are left out.
        case: The training case, whose probes the texts come from.
        request: Its request, as the editor was given it.
        owner: Index of the case.
        context: What the edited model is asked with.
        config: The objective.
        rng: Draws which rephrase, locality texts and replies are used.

    Raises:
        CaseError: If the target does not fit the context behind any prompt, or no reply does.
    """
    judged = next((probe for probe in case.probes if probe.opposed), None)
    prompts = [probe.prompt for probe in case.probes if probe.role == "generalization"]
    same = config.edit_prompt == "same" or not prompts
    # an edit by a descriptor is judged by replies to a question, which the descriptor's own target does not answer
    described = judged is not None and judged.prompt != request.prompt
    own_prompt = judged.prompt if judged is not None else request.prompt
    prompt = own_prompt if same else rng.choice(list(dict.fromkeys(prompts)))
    front = context.front("reliability" if same else "generalization") if context else ""
    wanted = [] if described else [model.encode(front + prompt, request.target, request.joint)]
    if config.edit_prompt == "both" and not same and not described:
        own = context.front("reliability") if context else ""
        wanted.append(model.encode(own + request.prompt, request.target, request.joint))
    opposed: list[Row] = []
    if judged is not None:
        others = [reply for reply in judged.answers if reply != request.target]  # the target is a text of its own
        wanted += _some(model, front + prompt, others, judged.joint, config.replies, rng)
        if config.unlikelihood:
            opposed = _some(model, front + prompt, judged.opposed, judged.joint, config.replies, rng)
    if not wanted:
        raise CaseError("No reply of the wanted sentiment fits the model's context.")
    local = [probe for probe in case.probes if probe.role == "locality"]
    local_front = context.front("locality") if context else ""
    texts: list[tuple[Row, Row | None]] = []
    for probe in rng.sample(local, _at_most(config.locality_rows, len(local))):
        told = _some(model, local_front + probe.prompt, probe.answers[:1], probe.joint, 1, rng)
        if not local_front:
            texts += [(row, None) for row in told]
            continue
        bare = _some(model, probe.prompt, probe.answers[:1], probe.joint, 1, rng)
        texts += [pair for pair in zip(told, bare, strict=False) if len(pair[0].scored) == len(pair[1].scored)]
    if config.kl_positions == "released":
        texts = [(_one_late(row), bare and _one_late(bare)) for row, bare in texts]
    found: list[Outer] = []
    kinds: list[tuple[Kind, list[Row]]] = [("edit", wanted), ("opposed", opposed)]
    for kind, rows in kinds:
        tokens = sum(len(row.scored) for row in rows)
        found += [Outer(row, owner, kind, 1 / tokens) for row in rows]
    tokens = sum(len(row.scored) for row, _ in texts)
    return found + [Outer(row, owner, "locality", 1 / tokens, bare) for row, bare in texts]


def _one_late(row: Row) -> Row:
    return Row(row.ids, tuple(p + 1 for p in row.scored), row.prompt_end)


def _at_most(count: Count, available: int) -> int:
    return available if count == "all" else min(count, available)


def _some(
    model: Encoder, prompt: str, answers: Sequence[str], joint: Joint | None, count: Count, rng: random.Random
) -> list[Row]:
    rows = []
    for answer in rng.sample(list(answers), _at_most(count, len(answers))):
        try:
            rows.append(model.encode(prompt, answer, joint))
        except CaseError:
            continue
    return rows


def outer_loss(
    model: LanguageModel,
    edits: Edits,
    outers: Sequence[Outer],
    c_edit: float,
    c_loc: float,
    *,
    share: float = 0.0,
    groups: Sequence[int] | None = None,
) -> Losses:
    """Return the outer loss of some edits and, if `share` is not zero, add `share` times its gradient.

    The gradient reaches everything that the patches' tensors were computed from. It is taken bin by bin down to those
    tensors and from there in one go, so that memory does not grow with the number of texts.

    Each text is weighed within its case, and each case alike, however many cases an edit carries.

    Args:
        model: The model.
        edits: The edits.
        outers: The texts, those of one case next to each other.
        c_edit: Weight of L_e.
        c_loc: Weight of L_loc.
        share: Weight of each case in the step's gradient.
        groups: For each edit the number of its cases, which are neighbours; None for one case each.

    Returns:
        Sums over the cases.
    """
    edit_of = [number for number, size in enumerate(groups or [1] * len(edits)) for _ in range(size)]
    rows = [outer.row for outer in outers]
    cut = edits.cut
    assert cut is not None, "an edit without patches has no gradient"
    base, stream = model.base(rows, [cut])
    reference = {i: logits.to(model.edit_dtype).log_softmax(-1) for i, logits in stream if outers[i].kind == "locality"}
    bare = [(index, outer.bare) for index, outer in enumerate(outers) if outer.bare is not None]
    with torch.no_grad():
        for number, logits in model.forward([row for _, row in bare]):
            reference[bare[number][0]] = logits.to(model.edit_dtype).log_softmax(-1)
    leaves, tensors = _leaves(edits, share != 0)
    local = {outer.owner for outer in outers if outer.kind == "locality"}
    losses = Losses(cases=len(edit_of), local=len(local))
    texts = [max(1, sum(o.owner == number and o.kind == "edit" for o in outers)) for number in range(len(edit_of))]
    with torch.set_grad_enabled(share != 0):
        for layout, read in model.replay_passes(base, leaves, [edit_of[o.owner] for o in outers]):
            terms: list[Tensor] = []
            for index, logits in by_row(layout, read):
                outer = outers[index]
                log_p = logits.to(model.edit_dtype).log_softmax(-1)
                if outer.kind == "locality":
                    old = reference[index]
                    term = outer.scale * (old.exp() * (old - log_p)).sum()
                    losses.locality += float(term.detach())
                    losses.agreement += outer.scale * int((old.argmax(-1) == log_p.argmax(-1)).sum())
                    terms.append(c_loc * term)
                    continue
                labels = torch.tensor(outer.row.labels, device=log_p.device)
                own = log_p.gather(1, labels[:, None])[:, 0]
                if outer.kind == "edit":
                    losses.exact += float((log_p.argmax(-1) == labels).all()) / texts[outer.owner]
                term = outer.scale * token_losses(own, outer.kind == "opposed").sum()
                losses.edit += float(term.detach())
                terms.append(c_edit * term)
            total = torch.stack(terms).sum()
            if share != 0 and total.requires_grad:
                (share * total).backward()
    # an expert that no token of a probe goes to has no gradient
    moved = [(made, leaf.grad) for made, leaf in tensors if leaf.grad is not None]
    if share != 0 and moved:
        torch.autograd.backward([made for made, _ in moved], [gradient for _, gradient in moved])
    return losses


def _leaves(edits: Edits, gradients: bool) -> tuple[Edits, list[tuple[Tensor, Tensor]]]:
    """Return the edits with tensors cut off from what they were computed from, and the pairs of both."""
    pairs: list[tuple[Tensor, Tensor]] = []
    patches = []
    for edit in edits.patches:
        own = []
        for patch in edit:
            cut = {}
            for name, tensor in patch.tensors().items():
                cut[name] = tensor.detach().requires_grad_(gradients)
                if tensor.requires_grad:
                    pairs.append((tensor, cut[name]))
            own.append(replace(patch, **cut))  # type: ignore[arg-type]
        patches.append(tuple(own))
    used = Edits(tuple(patches), edits.facts)
    return used, pairs
