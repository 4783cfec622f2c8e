"""FT-L and FT-M: fine-tuning of one MLP output matrix within a box (arXiv 2202.05262, appendix E.1).

Adam on W for a few steps; after each, W is clamped to [W0 - eps, W0 + eps] element by element. Written as an edit: W =
W0 + D with D = 0 at the start, so the clamp is |D| <= eps, Adam on D is Adam on W, and many edits are optimised side by
side, each with its own D and its own Adam state.

Two objectives:

* `prompt_last`, the published FT-L: every target token is pushed to come right behind the prompt,
  L = - mean_i log p(y_i | x), one distribution for all i. Targets of several tokens are mis-optimised (kmeng01/rome#41,
  EasyEdit#173).
* `target`, known as FT-M: causal cross-entropy, L = - mean_i log p(y_i | x, y_<i).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from instructedit.editors import (
    Cost,
    Descent,
    Editor,
    EditorConfig,
    EditRequest,
    Edits,
    Either,
    FreeMatrix,
    FreeTogether,
    LanguageModel,
    LogUniform,
    Part,
    Published,
    Range,
    Row,
    Site,
    Sketch,
    minimise,
)
from instructedit.editors.cost import FLOAT, descent
from instructedit.editors.models.parts import ROUTED
from instructedit.editors.search import DEPTH
from instructedit.editors.texts import EditRows, counted

TENSORS = 3
"""D and Adam's two moments; the gradient is never whole."""
MOVED = 16
"""A step takes as long as so many reads or writes of D: the pass, its gradient, Adam and the clamp."""


class FTConfig(EditorConfig):
    """Hyper-parameters of constrained fine-tuning.

    The defaults are ROME's for GPT2-XL, whose code tunes the map's bias as well.
    """

    published: ClassVar[Published | None] = Published("GPT2-XL", "gpt2", 48, 1600, ("lr", "steps", "clamp"))
    added: ClassVar[Mapping[str, Any]] = {"part": "down"}

    objective: Literal["prompt_last", "target"] = "prompt_last"
    """`prompt_last` (FT-L as published) or `target` (FT-M)."""
    block: int | float = 0
    """Block whose matrix is tuned: an index (negative counts from the end) or a share of the depth."""
    part: Part = "down"
    """What is tuned in it: the MLP's output matrix `down`, as published, or another part that the block has. Of experts
    those are tuned that the edit's tokens go to."""
    lr: float = Field(default=5e-4, gt=0)
    """Learning rate of Adam."""
    steps: int = Field(default=25, ge=1)
    """Most steps of Adam."""
    clamp: Annotated[float, Field(gt=0)] | Literal[False] = 5e-4
    """L-infinity bound on the change of each weight; false leaves it free (the released setting for LLaMA-2)."""
    stop_loss: float = Field(default=1e-2, ge=0)
    """An edit whose loss is below this takes no further step."""
    batch: int | None = Field(default=None, ge=1)
    """Most requests of one step of an edit made together; none for all of them. It bounds the memory."""


class FTMConfig(FTConfig):
    """FT-M: the same with the causal objective."""

    objective: Literal["prompt_last", "target"] = "target"


class FTL(Editor[FTConfig]):
    """Constrained fine-tuning with the published objective."""

    name = "ft-l"
    title = "FT-L"
    source = "Meng et al. 2022, arXiv 2202.05262"
    Config = FTConfig
    search: ClassVar[Mapping[str, Range]] = {
        "block": DEPTH,
        "lr": LogUniform(1e-4, 3e-2),
        "steps": LogUniform(10, 200, whole=True),
        "clamp": Either(LogUniform(5e-4, 0.3), False),
    }

    def cost(self, model: Sketch, requests: int = 1) -> Cost:
        """See `Editor.cost`; all steps are counted, though an edit may stop before."""
        sites = model.sites(self.config.part, [self.config.block])
        together = min(self.config.batch or requests, requests)
        passes, head_passes = descent(model.share(sites[0].block), self.config.steps * together / requests)
        tensor = FLOAT * sum(site.d_in * site.d_out for site in sites)
        return Cost(
            sites=tuple(sites),
            patch_bytes=tensor,
            edit_bytes=TENSORS * tensor,
            passes=passes,
            head_passes=head_passes,
            together=together,
            remembered=requests,
            moved_bytes=self.config.steps * MOVED * tensor,
        )

    def edit(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Optimise one D per request, all requests side by side."""
        return self._tune(model, requests, list(range(len(requests))), seed)

    def sites(self, model: LanguageModel | Sketch) -> Sequence[Site]:
        """See `Editor.sites`."""
        return model.sites(self.config.part, [self.config.block])

    def edit_together(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Optimise one D on the mean loss of all requests."""
        return self._tune(model, requests, [0] * len(requests), seed)

    def _tune(self, model: LanguageModel, requests: Sequence[EditRequest], owners: Sequence[int], seed: int) -> Edits:
        config = self.config
        sites = model.sites(config.part, [config.block])
        texts = [self.texts(model, request) for request in requests]
        flat = EditRows.of(texts)
        bound = None if config.clamp is False else config.clamp
        rows = [self._row(row) for row in flat.rows]
        own = [owners[request] for request in flat.requests]
        count = max(owners, default=-1) + 1
        reached = _reached(model, rows, own, sites, count) if config.part in ROUTED else [sites] * count
        dtype, device = model.edit_dtype, model.site_device(sites[0])
        edits = minimise(
            model,
            rows,
            [row.labels for row in flat.rows],
            own,
            [FreeTogether([FreeMatrix(s, dtype, device, config.lr, bound) for s in some]) for some in reached],
            Descent(config.steps, config.stop_loss, config.batch),
            seed=seed,
            texts=flat,
        )
        edits = counted(edits, texts, owners)
        if bound is None:
            return edits
        shares = [fmean(_at_bound(patch.tensors()["d"], bound) for patch in edit) for edit in edits.patches]
        return replace(edits, facts=tuple({**f, "at_bound": s} for f, s in zip(edits.facts, shares, strict=True)))

    def _row(self, row: Row) -> Row:
        """Return what is run: the prompt alone for the published objective, prompt and target for the causal one."""
        if self.config.objective == "target":
            return row
        end = row.prompt_end
        return Row(row.ids[: end + 1], (end,), end)


def _reached(
    model: LanguageModel, rows: Sequence[Row], owners: Sequence[int], sites: Sequence[Site], edits: int
) -> list[list[Site]]:
    """Return for each edit the experts that tokens of its rows go to.

    A change of a block's experts does not change where the block's router sends tokens, so these are known beforehand.
    """
    found = model.capture(rows, sites, lambda _, logits: logits.sum())
    reached: list[list[Site]] = [[] for _ in range(edits)]
    for site in sites:
        said = found[site.name].x.any(dim=1)  # Llama 4 shows zeros to the experts that a token does not go to
        for owner in {owners[row] for row in found[site.name].rows[said].tolist()}:
            reached[owner].append(site)
    return reached


def _at_bound(d: Tensor, bound: float) -> float:
    """Return the share of a change's entries that stand at their bound, which d's type may have rounded."""
    return float((d.abs() >= torch.tensor(bound, dtype=d.dtype, device=d.device)).double().mean())


class FTM(FTL):
    """Constrained fine-tuning with the causal objective."""

    name = "ft-m"
    title = "FT-M"
    source = "Zhang et al. 2024 (KnowEdit), arXiv 2401.01286"
    Config = FTMConfig
