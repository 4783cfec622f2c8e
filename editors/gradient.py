"""Editors that turn the gradient of an edit's loss into the edit, token by token (MEND, InstructEdit).

The mechanism is MEND's (arXiv 2110.11309): one forward and backward pass over prompt and target gives x_t and delta_t
at every edited map; the hypernetwork makes x~_t and delta~_t of them; the edit is W + alpha * sum_t x~_t (outer)
delta~_t, a low-rank patch whose rank is the number of tokens.

A joint edit of several requests sums over the tokens of all of them. Its gradient is that of one loss (`mean loss`: the
mean over the target tokens of all requests, in one backward pass) or of each request's own mean loss (`sum`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from .cases import EditRequest
from .cost import FLOAT, Cost
from .edits import Edits
from .hypernetwork import Hypernetwork
from .model import LanguageModel
from .patches import LowRank
from .rows import Row
from .sequence import merge
from .sketch import Sketch
from .structure import Site
from .taps import Factors
from .trained import TOGETHER, Shape, TrainedConfig, TrainedEditor, facts_of


@dataclass(frozen=True, slots=True)
class TokenFactors:
    """Factors of the gradients of some rows at one map.

    Attributes:
        x: Inputs, [tokens, d_in], row by row.
        delta: Gradients of the output, [tokens, d_out].
        counts: Tokens of each row.
    """

    x: Tensor
    delta: Tensor
    counts: Sequence[int]

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        """Return x and delta of one row."""
        own = self.among(row, 1)
        return own.x, own.delta

    def among(self, first: int, count: int) -> "TokenFactors":
        """Return the factors of neighbouring rows."""
        own = slice(skipped := sum(self.counts[:first]), skipped + sum(self.counts[first : first + count]))
        return TokenFactors(self.x[own], self.delta[own], self.counts[first : first + count])


def gradient_factors(
    model: LanguageModel, rows: Sequence[Row], sites: Sequence[Site], shares: Sequence[float] | None = None
) -> dict[str, TokenFactors]:
    """Return the factors of the gradient of each row's loss, the mean negative log-likelihood of its answer's tokens.

    Tokens where x or delta is zero throughout say nothing and would distort the statistics; they are dropped.

    Args:
        model: The model.
        rows: Prompts with their answers.
        sites: Where the factors are taken.
        shares: Weight of each row's loss; 1 by default.

    Returns:
        The factors by the maps' names.
    """

    def loss(index: int, logits: Tensor) -> Tensor:
        labels = torch.tensor(rows[index].labels, device=logits.device)
        own = nn.functional.cross_entropy(logits.to(model.edit_dtype), labels)
        return own if shares is None else shares[index] * own

    found: dict[str, TokenFactors] = {}
    captured = model.capture(rows, sites, loss)
    for name in list(captured):
        factors = captured.pop(name)
        keep = _says(factors.x) & _says(factors.delta)
        if not keep.all():
            factors = Factors(factors.x[keep], factors.delta[keep], factors.rows[keep])
        counts = torch.bincount(factors.rows, minlength=len(rows)).tolist()
        found[name] = TokenFactors(factors.x.to(model.edit_dtype), factors.delta.to(model.edit_dtype), counts)
    return found


def _says(values: Tensor) -> Tensor:
    """Return which tokens have a number that is not zero; `any` says the same in four times the time."""
    return (values.amax(dim=1) != 0) | (values.amin(dim=1) != 0)


class GradientConfig(TrainedConfig):
    """Sizes and first values of the hypernetwork; the defaults are MEND's."""

    rank: int = Field(default=1920, ge=1)
    """Rank of each layer; at most d_in + d_out is used."""
    layers: int = Field(default=2, ge=1)
    """Layers of the network (`n_hidden` + 1)."""
    normalise: bool = True
    """Whether x and delta are normalised by running statistics before the network."""
    edit_lr: float = 1e-4
    """First value of every learned step alpha. It is added: a negative one starts with a step of descent."""
    edit_lr_lr: float = Field(default=1e-4, ge=0)
    """Rate of Adam for alpha. In MEND's code the optimiser meant for alpha never sees its gradient, so that alpha
    really learns at `lr`; set both alike for the released behaviour."""
    joint: Literal["mean loss", "sum"] = "mean loss"
    """How an edit of several requests is made. `mean loss`: from one loss, the mean negative log-likelihood over the
    target tokens of all requests, with one backward pass, as in MEND's released code. `sum`: each request's edit is
    made from its own mean loss and the edits are summed, as MEND's paper describes it."""


C = TypeVar("C", bound=GradientConfig)


class GradientEditor(TrainedEditor[C]):
    """One gradient, transformed into one edit by a hypernetwork."""

    joins = True

    def make_network(self, shape: Shape, seed: int) -> nn.Module:
        """See `TrainedEditor.make_network`."""
        config = self.config
        return Hypernetwork(
            shape.sites,
            rank=config.rank,
            layers=config.layers,
            normalise=config.normalise,
            edit_lr=config.edit_lr,
            generator=torch.Generator().manual_seed(seed),
        )

    def cost(self, model: Sketch, requests: int = 1) -> Cost:
        """See `TrainedEditor.cost`; each token passes through the network of each edited map."""
        found = super().cost(model, requests)
        rank, layers = self.config.rank, self.config.layers
        widths = [site.d_in + site.d_out for site in found.sites]
        kept = [
            width for width in {(s.d_in, s.d_out): s.d_in + s.d_out for s in found.sites}.values() if 2 * rank > width
        ]
        return replace(
            found,
            token_flops=sum(2 * layers * 2 * min(rank, width) * width for width in widths),
            network_bytes=FLOAT * layers * sum(width**2 for width in kept),  # `LowRankResidual` keeps its product
            # what enters, its product with V, and that with U; and what the way back has at a time
            step_token_bytes=(3 * layers + 2) * found.token_bytes,
        )

    @property
    def hypernetwork(self) -> Hypernetwork:
        """The network; `build` has to come first."""
        assert isinstance(self.network, Hypernetwork)
        return self.network

    def groups(self) -> list[dict[str, object]]:
        """Return the network's parameters, and the steps with their own rate."""
        steps = self.hypernetwork.edit_lr
        others = [p for p in self.hypernetwork.parameters() if p is not steps]
        return [{"params": others}, {"params": [steps], "lr": self.config.edit_lr_lr}]

    def factors(
        self, model: LanguageModel, requests: Sequence[EditRequest], shares: Sequence[float] | None = None
    ) -> dict[str, TokenFactors]:
        """Return the factors of each request's gradient, where the network is; `shares` as in `gradient_factors`."""
        assert self.shape is not None
        rows = [self.encode(model, request) for request in requests]
        found = gradient_factors(model, rows, self.shape.sites, shares)
        place = next(self.hypernetwork.parameters()).device
        return {name: TokenFactors(f.x.to(place), f.delta.to(place), f.counts) for name, f in found.items()}

    def _shares(
        self, model: LanguageModel, requests: Sequence[EditRequest], groups: Sequence[int] | None
    ) -> list[float] | None:
        """Return the weight of each request's own mean loss in the loss that its edit is made from; None for 1."""
        if groups is None or self.config.joint == "sum":
            return None
        tokens = [len(self.encode(model, request).scored) for request in requests]
        shares: list[float] = []
        for size in groups:
            own = tokens[len(shares) : len(shares) + size]
            shares += [count / sum(own) for count in own]
        return shares

    def observe(
        self, model: LanguageModel, requests: Sequence[EditRequest], groups: Sequence[int] | None = None
    ) -> None:
        """Take the requests' tokens into the running statistics."""
        self._observe(self.factors(model, requests, self._shares(model, requests, groups)))

    def _observe(self, factors: Mapping[str, TokenFactors]) -> None:
        assert self.shape is not None
        for site in self.shape.sites:
            self.hypernetwork.observe(site, factors[site.name].x, factors[site.name].delta)

    def patches(
        self, model: LanguageModel, requests: Sequence[EditRequest], batches: Sequence[int] | None = None
    ) -> Edits:
        """See `TrainedEditor.patches`; while training, the statistics take each batch in before it is normalised."""
        return self._made(model, requests, batches, None, None)

    def joint_patches(
        self,
        model: LanguageModel,
        requests: Sequence[EditRequest],
        groups: Sequence[int],
        batches: Sequence[int] | None = None,
    ) -> Edits:
        """See `TrainedEditor.joint_patches`; each edit is made as `joint` has it."""
        return self._made(model, requests, batches, groups, self._shares(model, requests, groups))

    def edit_together(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Make one edit of all requests, as `joint` has it, some requests at a time; see `Editor.edit_together`."""
        self.check_together(requests)
        self._check(model)
        shares = self._shares(model, requests, [len(requests)])
        total, done = Edits.none(1), 0
        for first in range(0, len(requests), TOGETHER):
            for part in self._parts(model, requests[first : first + TOGETHER]):
                own = None if shares is None else shares[done : done + len(part)]
                with torch.no_grad():
                    total = merge(total, self._made(model, part, None, [len(part)], own))
                done += len(part)
        return replace(total, facts=(facts_of(total.patches[0]),))

    def _made(
        self,
        model: LanguageModel,
        requests: Sequence[EditRequest],
        batches: Sequence[int] | None,
        groups: Sequence[int] | None,
        shares: Sequence[float] | None,
    ) -> Edits:
        """Return the edits of groups of requests, each request's loss weighed by its share."""
        assert self.shape is not None
        factors = self.factors(model, requests, shares)
        learns = self.hypernetwork.training
        z: dict[Site, list[Tensor]] = {site: [] for site in self.shape.sites}
        first = 0
        for size in (learns and batches) or [len(requests)]:
            batch = {name: own.among(first, size) for name, own in factors.items()}
            if learns:
                self._observe(batch)
            for site, parts in z.items():
                parts.append(self.hypernetwork.normalised(site, batch[site.name].x, batch[site.name].delta))
            first += size
        counts = {site: _grouped(factors[site.name].counts, groups) for site in z}
        factors.clear()  # z stands for them
        made = self.hypernetwork.transform(z)
        edits: list[list[LowRank]] = [[] for _ in groups or requests]
        for site in self.shape.sites:
            place = model.site_device(site)
            for edit, x, delta in zip(edits, *(part.split(counts[site]) for part in made.pop(site.name)), strict=True):
                edit.append(LowRank(site.name, site.block, x.T.to(place), delta.to(place)))
        return Edits(tuple(tuple(edit) for edit in edits))


def _grouped(counts: Sequence[int], groups: Sequence[int] | None) -> list[int]:
    """Return the sums of counts over groups of neighbours."""
    if groups is None:
        return list(counts)
    ends = [0, *accumulate(groups)]
    return [sum(counts[first:stop]) for first, stop in pairwise(ends)]
