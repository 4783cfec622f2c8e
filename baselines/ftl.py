"""FT-L and FT-M: fine-tuning of one MLP output matrix under an L-infinity bound (arXiv 2202.05262, appendix E.1).

Adam runs on W for a few steps, and W is clamped to [W0 - eps, W0 + eps] after each. As an edit this is W = W0 + D with
D = 0 at the start and |D| <= eps. Many edits are optimised side by side, each with its own D and Adam state
(`editors.descent.minimise`).

There are two objectives:

* `prompt_last`, the published FT-L, predicts every target token from the prompt alone: L = - mean_i log p(y_i | x).
  It does not learn targets of several tokens (kmeng01/rome#41, EasyEdit#173).
* `target`, known as FT-M, is causal cross-entropy: L = - mean_i log p(y_i | x, y_<i).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from instructedit.editors import (
    Dense,
    Descent,
    DescentEditor,
    EditorConfig,
    EditRequest,
    EditRows,
    Edits,
    Either,
    LanguageModel,
    LogUniform,
    MetaModel,
    Part,
    Patch,
    Published,
    Range,
    Site,
    TokenSequence,
    Variables,
)
from instructedit.editors.models.parts import ROUTED
from instructedit.editors.search import DEPTH


class FTConfig(EditorConfig):
    """Hyper-parameters of constrained fine-tuning.

    The defaults are those of ROME for GPT2-XL; its code tunes the bias of the layer as well.
    """

    published: ClassVar[Published | None] = Published("GPT2-XL", "gpt2", 48, 1600, ("lr", "steps", "clamp"))
    added: ClassVar[Mapping[str, Any]] = {"part": "down"}

    objective: Literal["prompt_last", "target"] = "prompt_last"
    """`prompt_last` (FT-L as published) or `target` (FT-M)."""
    block: int | float = 0
    """Block whose matrix is tuned: an index (negative counts from the end) or a fraction of the depth."""
    part: Part = "down"
    """Tuned part of the block: the MLP's output matrix `down`, as published, or another part. Of routed experts, those
    that the edit's tokens are routed to are tuned."""
    lr: float = Field(default=5e-4, gt=0)
    """Learning rate of Adam."""
    steps: int = Field(default=25, ge=1)
    """Maximum number of Adam steps."""
    clamp: Annotated[float, Field(gt=0)] | Literal[False] = 5e-4
    """L-infinity bound on the change of each weight; false for no bound (the released setting for LLaMA-2)."""
    stop_loss: float = Field(default=1e-2, ge=0)
    """An edit stops once its loss is below this."""
    batch: int | None = Field(default=None, ge=1)
    """Maximum number of requests in one step of an edit made together, which bounds the memory; none for all."""


class FTMConfig(FTConfig):
    """FT-M: the same with the causal objective."""

    objective: Literal["prompt_last", "target"] = "target"


class FTL(DescentEditor[FTConfig]):
    """Constrained fine-tuning with the published objective."""

    name = "ft-l"
    title = "FT-L"
    source = "Meng et al. 2022, arXiv 2202.05262"
    version = "2"  # an edit that has stopped is not moved again
    Config = FTConfig
    search: ClassVar[Mapping[str, Range]] = {
        "block": DEPTH,
        "lr": LogUniform(1e-4, 3e-2),
        "steps": LogUniform(10, 200, whole=True),
        "clamp": Either(LogUniform(5e-4, 0.3), False),
    }

    @property
    def descent(self) -> Descent:  # noqa: D102
        config = self.config
        adam = partial(torch.optim.Adam, lr=config.lr, fused=True)
        return Descent(config.steps, adam, config.clamp or None, config.stop_loss, config.batch)

    def sites(self, model: LanguageModel | MetaModel) -> tuple[Site, ...]:  # noqa: D102
        return tuple(model.sites(self.config.part, [self.config.block]))

    def variables(self, model: LanguageModel, groups: Sequence[Sequence[EditRequest]], seed: int) -> list[Variables]:
        """Return a D of zeros for the tuned matrix; for routed experts one for each that is reached."""
        sites = self.sites(model)
        if self.config.part not in ROUTED:
            return [_change(model, sites) for _ in groups]
        flat = [EditRows.of([self.texts(model, request) for request in group]).rows for group in groups]
        return [_change(model, _reached(model, [self.row(row) for row in rows], sites)) for rows in flat]

    def row(self, row: TokenSequence) -> TokenSequence:
        """Return the prompt alone for the published objective, prompt and target for the causal one."""
        if self.config.objective == "target":
            return row
        return TokenSequence(row.ids[: row.prompt_end + 1], (row.prompt_end,), row.prompt_end)

    def fitted(self, model: LanguageModel, groups: Sequence[Sequence[EditRequest]], seed: int) -> Edits:
        """See `DescentEditor.fitted`; the fact `at_bound` is the fraction of entries at the bound."""
        edits = super().fitted(model, groups, seed)
        if (bound := self.config.clamp) is False:
            return edits
        shares = [fmean(_at_bound(patch.tensors()["d"], bound) for patch in edit) for edit in edits.patches]
        return replace(edits, facts=tuple({**f, "at_bound": s} for f, s in zip(edits.facts, shares, strict=True)))


def _change(model: LanguageModel, sites: Sequence[Site]) -> Variables:
    def patches(changes: Sequence[Tensor]) -> tuple[Patch, ...]:
        return tuple(Dense(site.name, site.block, d) for site, d in zip(sites, changes, strict=True))

    device = model.site_device(sites[0])
    changes = [torch.zeros(site.d_in, site.d_out, dtype=model.edit_dtype, device=device) for site in sites]
    return Variables(changes, patches)


def _reached(model: LanguageModel, rows: Sequence[TokenSequence], sites: Sequence[Site]) -> tuple[Site, ...]:
    """Return the experts that tokens of some rows are routed to, if the logits depend on them.

    Tuning the experts of a block does not change the routing in this block, so they are known beforehand.
    """
    found = model.capture(rows, sites, lambda _, logits: logits.sum())
    # Llama 4 passes zeros to the experts that a token is not routed to
    return tuple(site for site in sites if bool((found[site.name].x.any(1) & found[site.name].delta.any(1)).any()))


def _at_bound(d: Tensor, bound: float) -> float:
    """Return the fraction of entries at the bound, which the dtype of d may have rounded."""
    return float((d.abs() >= torch.tensor(bound, dtype=d.dtype, device=d.device)).double().mean())


class FTM(FTL):
    """Constrained fine-tuning with the causal objective."""

    name = "ft-m"
    title = "FT-M"
    source = "Zhang et al. 2024 (KnowEdit), arXiv 2401.01286"
    version = "2"
    Config = FTMConfig
