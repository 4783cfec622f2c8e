"""The outer loss of a meta-learned edit (arXiv 2110.11309, section 3.2).

    L = c_edit * L_e + c_loc * L_loc
    L_e   = - mean log p'(y | x')             over the tokens of the target after an equivalent prompt
    L_loc = KL(p || p')                       on locality text, mean over the positions that predict answer tokens

p is the unedited model, p' the edited one. For attitudes L_e is that of SERAC (arXiv 2206.06520): the mean of -log p'
over the tokens of replies with the wanted sentiment plus the mean of -log(1 - p') over those with the opposite one.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..cases import EditCase, EditRequest, Role
from ..editor import Options
from ..edits import Context, Edits
from ..engine.engine import BasePass
from ..engine.model import LanguageModel
from ..engine.packed_batch import by_row
from ..errors import CaseError
from ..models.structure import ReplayStart
from ..models.tokens import Encoder, TokenSequence
from ..texts import token_losses
from ..writing_systems import Joint

Kind = Literal["edit", "opposed", "locality"]
Count = Annotated[int, Field(ge=1)] | Literal["all"]


class ObjectiveConfig(Options):
    """Weights of the outer loss and the texts it is taken over; the defaults are those of the original MEND."""

    c_edit: float = Field(default=0.1, ge=0)
    """Weight of the edit loss. The choice between 0.1 and 1.0 outweighs most differences between editors, so a table
    should name it."""
    c_loc: float = Field(default=1.0, ge=0)
    """Weight of the locality loss."""
    edit_prompt: Literal["equivalent", "same", "both"] = "equivalent"
    """`equivalent`: a rephrase of the prompt where the record has one. `same`: the edit's own prompt, as in the
    released code of InstructEdit, which does not train generalization. `both`: one of each, pooled."""
    locality_rows: Count = 4
    """Maximum number of locality texts of a case in one step, drawn for each step; `all` sets no limit."""
    kl_positions: Literal["predicting", "released"] = "predicting"
    """`released`: at the answer's tokens instead of the positions that predict them, off by one, as in the released
    code of InstructEdit."""
    replies: Count = 1
    """Maximum number of replies of each sentiment of a case in one step; `all` sets no limit."""
    unlikelihood: bool = True
    """Whether replies of the opposite sentiment are made unlikely, token by token, as in SERAC. This includes tokens
    that replies of both sentiments share."""


@dataclass(frozen=True, slots=True)
class Outer:
    """One text of the outer loss.

    Attributes:
        row: The text.
        owner: Index of the case it belongs to.
        kind: Which term it belongs to.
        scale: Weight of one of its tokens in the mean of its case's term.
        bare: For locality text with an instruction, the same text without it, which the unedited model is evaluated on,
            as in scoring; None for `row` itself.
    """

    row: TokenSequence
    owner: int
    kind: Kind
    scale: float
    bare: TokenSequence | None = None


@dataclass(slots=True)
class Losses:
    """Sums over cases of L_e and L_loc in nats, and of two fractions; `mean` divides by the number of cases.

    `exact` is the fraction of target texts whose tokens are all the most likely ones, `agreement` that of locality
    positions where both models have the same most likely token; `local` cases have locality text.
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
    *,
    end: bool = False,
) -> list[Outer]:
    """Draw the texts of the outer loss of one training edit; those that do not fit the model's context are left out.

    They come from the probes of the case; `request` is the one that the editor received, and `owner` the case's index.
    `end` adds the token that ends an answer to wanted texts.

    Raises:
        CaseError: If the target does not fit the context after any prompt, or no reply does.
    """
    wanted, opposed = _edit_rows(model, case, request, context, config, rng, end)
    if not wanted:
        raise CaseError("No reply of the wanted sentiment fits the model's context.")
    local = _locality_rows(model, case, context, config, rng)
    found: list[Outer] = []
    kinds: list[tuple[Kind, list[TokenSequence]]] = [("edit", wanted), ("opposed", opposed)]
    for kind, rows in kinds:
        tokens = sum(len(row.scored) for row in rows)
        found += [Outer(row, owner, kind, 1 / tokens) for row in rows]
    tokens = sum(len(row.scored) for row, _ in local)
    return found + [Outer(row, owner, "locality", 1 / tokens, bare) for row, bare in local]


def _edit_rows(
    model: Encoder,
    case: EditCase,
    request: EditRequest,
    context: Context | None,
    config: ObjectiveConfig,
    rng: random.Random,
    end: bool,
) -> tuple[list[TokenSequence], list[TokenSequence]]:
    """Return the texts that should become likely, and those that should become unlikely."""
    judged = next((probe for probe in case.probes if probe.opposed), None)
    rephrases = [probe.prompt for probe in case.probes if probe.role == "generalization"]
    same = config.edit_prompt == "same" or not rephrases
    # the target of an edit by a descriptor does not answer the question that its replies answer
    described = judged is not None and judged.prompt != request.prompt
    own_prompt = judged.prompt if judged is not None else request.prompt
    prompt = own_prompt if same else rng.choice(list(dict.fromkeys(rephrases)))
    prompt = _prefixed(prompt, context, "reliability" if same else "generalization")
    wanted = [] if described else [model.encode(prompt, request.target, request.joint, end=end)]
    if config.edit_prompt == "both" and not same and not described:
        own = _prefixed(request.prompt, context, "reliability")
        wanted.append(model.encode(own, request.target, request.joint, end=end))
    opposed: list[TokenSequence] = []
    if judged is not None:
        others = [reply for reply in judged.answers if reply != request.target]
        wanted += _some(model, prompt, others, judged.joint, config.replies, rng, end)
        if config.unlikelihood:
            opposed = _some(model, prompt, judged.opposed, judged.joint, config.replies, rng)
    return wanted, opposed


def _locality_rows(
    model: Encoder, case: EditCase, context: Context | None, config: ObjectiveConfig, rng: random.Random
) -> list[tuple[TokenSequence, TokenSequence | None]]:
    """Return the locality texts and, where they have a prefix, the same texts without it."""
    local = [probe for probe in case.probes if probe.role == "locality"]
    found: list[tuple[TokenSequence, TokenSequence | None]] = []
    for probe in rng.sample(local, _at_most(config.locality_rows, len(local))):
        prompt = _prefixed(probe.prompt, context, "locality")
        rows = _some(model, prompt, probe.answers[:1], probe.joint, 1, rng)
        if prompt == probe.prompt:
            found += [(row, None) for row in rows]
            continue
        bare = _some(model, probe.prompt, probe.answers[:1], probe.joint, 1, rng)
        found += [pair for pair in zip(rows, bare, strict=False) if len(pair[0].scored) == len(pair[1].scored)]
    if config.kl_positions == "released":
        found = [(_one_late(row), bare and _one_late(bare)) for row, bare in found]
    return found


def _prefixed(prompt: str, context: Context | None, role: Role) -> str:
    return prompt if context is None else context.prompt_prefix(role) + prompt


def _one_late(row: TokenSequence) -> TokenSequence:
    return TokenSequence(row.ids, tuple(p + 1 for p in row.scored), row.prompt_end)


def _at_most(count: Count, available: int) -> int:
    return available if count == "all" else min(count, available)


def _some(
    model: Encoder,
    prompt: str,
    answers: Sequence[str],
    joint: Joint | None,
    count: Count,
    rng: random.Random,
    end: bool = False,
) -> list[TokenSequence]:
    rows = []
    for answer in rng.sample(list(answers), _at_most(count, len(answers))):
        try:
            rows.append(model.encode(prompt, answer, joint, end=end))
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
    scale: float = 0.0,
    edit_of: Sequence[int] | None = None,
) -> Losses:
    """Return the outer loss of some edits and, if `scale` is not 0, add its gradient times `scale`.

    The gradient reaches everything that the patches' tensors were computed from. It is accumulated at those tensors
    pass by pass and propagated from there once, so that memory does not grow with the number of texts.

    Each text is weighted within its case, and all cases equally, however many an edit carries: `edit_of` has the edit
    of each case, by default its own.
    """
    edit_of = range(len(edits)) if edit_of is None else edit_of
    cut = edits.cut
    assert cut is not None, "an edit without patches has no gradient"
    base, reference = _unedited(model, outers, cut)
    leaves, tensors = _leaves(edits, scale != 0)
    losses = Losses(len(edit_of), len({outer.owner for outer in outers if outer.kind == "locality"}))
    texts = Counter(outer.owner for outer in outers if outer.kind == "edit")
    with torch.set_grad_enabled(scale != 0):
        for batch, output in model.engine.replays(base, leaves, [edit_of[o.owner] for o in outers]):
            terms: list[Tensor] = []
            for index, log_p in by_row(batch, output.logits.to(model.edit_dtype).log_softmax(-1)):
                outer = outers[index]
                if outer.kind == "locality":
                    terms.append(c_loc * _locality_term(outer, log_p, reference[index], losses))
                else:
                    terms.append(c_edit * _edit_term(outer, log_p, losses, texts[outer.owner]))
            total = torch.stack(terms).sum()
            if scale != 0 and total.requires_grad:
                (scale * total).backward()
    # experts that no token is routed to have no gradient
    reached = [(made, leaf.grad) for made, leaf in tensors if leaf.grad is not None]
    if reached:
        torch.autograd.backward([made for made, _ in reached], [gradient for _, gradient in reached])
    return losses


def _unedited(model: LanguageModel, outers: Sequence[Outer], cut: ReplayStart) -> tuple[BasePass, dict[int, Tensor]]:
    """Return a base pass of the texts, and the unedited model's log-probabilities on the locality texts."""
    local: dict[bool, list[int]] = {True: [], False: []}
    for index, outer in enumerate(outers):
        local[outer.kind == "locality" and outer.bare is None].append(index)
    base, stream = model.base(
        [outer.row for outer in outers], [cut], groups=[(rows, read) for read, rows in local.items()]
    )
    found = {index: logits.to(model.edit_dtype).log_softmax(-1) for index, logits in stream}
    bare = {index: outer.bare for index, outer in enumerate(outers) if outer.bare is not None}
    with torch.no_grad():
        for index, (_, logits) in zip(bare, model.forward(list(bare.values())), strict=True):
            found[index] = logits.to(model.edit_dtype).log_softmax(-1)
    return base, found


def _locality_term(outer: Outer, log_p: Tensor, reference: Tensor, losses: Losses) -> Tensor:
    term = outer.scale * (reference.exp() * (reference - log_p)).sum()
    losses.locality += float(term.detach())
    losses.agreement += outer.scale * int((reference.argmax(-1) == log_p.argmax(-1)).sum())
    return term


def _edit_term(outer: Outer, log_p: Tensor, losses: Losses, texts: int) -> Tensor:
    labels = torch.tensor(outer.row.labels, device=log_p.device)
    if outer.kind == "edit":
        losses.exact += float((log_p.argmax(-1) == labels).all()) / texts
    term = outer.scale * token_losses(log_p.gather(1, labels[:, None]), outer.kind == "opposed").sum()
    losses.edit += float(term.detach())
    return term


def _leaves(edits: Edits, gradients: bool) -> tuple[Edits, list[tuple[Tensor, Tensor]]]:
    """Return the edits with detached tensors, and the pairs of original and detached tensors."""
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
    return Edits(tuple(patches), edits.facts), pairs
