"""Editors that transform the gradient of an edit's loss into the edit, token by token (MEND, InstructEdit).

The mechanism is that of MEND (arXiv 2110.11309). One forward and backward pass over prompt and target gives x_t and
delta_t at every edited layer, the hypernetwork maps them to x~_t and delta~_t, and the edit is W + alpha * sum_t x~_t
(outer) delta~_t: a low-rank patch whose rank is the number of tokens.

A joint edit of several requests sums over the tokens of all of them. Its gradient is that of one loss (`mean loss`: the
mean over the target tokens of all requests) or of each request's own mean loss (`sum`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from ..cases import EditRequest
from ..compose import compose
from ..edits import Edits
from ..engine.model import LanguageModel
from ..models.parts import ROUTED
from ..models.structure import Site
from ..patches import LowRank
from ..search import LogUniform, Range
from ..texts import EditRows, EditTexts, counted
from .hypernetwork import GradientConfig, Hypernetwork
from .network_editor import TOGETHER, Shape
from .training_loop import TrainedEditor


@dataclass(frozen=True, slots=True)
class TokenFactors:
    """Factors of the gradients of some edits at one layer.

    Attributes:
        x: Inputs, [tokens, d_in], edit by edit.
        delta: Gradients of the output, [tokens, d_out].
        counts: Number of tokens of each edit.
    """

    x: Tensor
    delta: Tensor
    counts: list[int]

    def split(self, sizes: Sequence[int] | None = None) -> list[tuple[Tensor, Tensor]]:
        """Return x and delta of each edit, or of batches of neighbouring edits of some sizes."""
        counts = self.counts if sizes is None else grouped(self.counts, sizes)
        return list(zip(self.x.split(counts), self.delta.split(counts), strict=True))


def gradient_factors(
    model: LanguageModel,
    texts: Sequence[EditTexts],
    sites: Sequence[Site],
    pools: Sequence[tuple[int, int]] | None = None,
) -> dict[str, TokenFactors]:
    """Return the factors of the gradient of each request's loss over its texts; see `texts`.

    Tokens whose x or delta is zero are dropped: they contribute nothing and would distort the statistics. For `pools`
    see `EditRows.of`.
    """
    flat = EditRows.of(texts, pools)
    found: dict[str, TokenFactors] = {}

    def loss(row: int, logits: Tensor) -> Tensor:
        return flat.loss(row, logits.to(model.edit_dtype).log_softmax(-1))

    captured = model.capture(flat.rows, sites, loss)
    for name in list(captured):
        factors = captured.pop(name)
        keep = _nonzero(factors.x) & _nonzero(factors.delta)
        x, delta = factors.x[keep].to(model.edit_dtype), factors.delta[keep].to(model.edit_dtype)
        request_of = torch.tensor(flat.requests, device=factors.rows.device)[factors.rows[keep]]
        found[name] = TokenFactors(x, delta, torch.bincount(request_of, minlength=len(texts)).tolist())
    return found


def _nonzero(values: Tensor) -> Tensor:
    """Return which tokens have a nonzero number; `any` takes four times as long."""
    return (values.amax(dim=1) != 0) | (values.amin(dim=1) != 0)


C = TypeVar("C", bound=GradientConfig)

Tokens = tuple[int, int]
"""Numbers of scored tokens in a loss: of wanted and of opposed texts."""


class GradientEditor(TrainedEditor[C]):
    """One gradient, transformed into one edit by a hypernetwork."""

    joins = True
    search: ClassVar[Mapping[str, Range]] = {
        **TrainedEditor.search,
        "edit_lr": LogUniform(1e-5, 1e-2, signed=True),
        "edit_lr_lr": LogUniform(1e-6, 1e-3),
    }

    def make_network(self, shape: Shape, seed: int) -> nn.Module:
        """See `NetworkEditor.make_network`."""
        return Hypernetwork(shape.sites, self.config, torch.Generator().manual_seed(seed))

    @property
    def hypernetwork(self) -> Hypernetwork:
        """The network, after `build`, `fit` or `load`."""
        assert isinstance(self.network, Hypernetwork)
        return self.network

    def parameter_groups(self) -> list[dict[str, object]]:
        """Return the network's parameters and the steps alpha, each with their learning rate."""
        alpha = self.hypernetwork.edit_lr
        others = [p for p in self.hypernetwork.parameters() if p is not alpha]
        return [{"params": others, "lr": self.config.training.lr}, {"params": [alpha], "lr": self.config.edit_lr_lr}]

    def factors(
        self, model: LanguageModel, groups: Sequence[Sequence[EditRequest]], tokens: Tokens | None = None
    ) -> dict[str, TokenFactors]:
        """Return the factors of the gradient of each group's loss at each layer, on the network's device.

        `tokens` are those of the loss (see `GradientConfig.joint`) where the groups are parts of one edit.
        """
        texts = [[self.texts(model, request) for request in group] for group in groups]
        pools = (
            [tokens or scored_tokens(own) for own in texts for _ in own] if self.config.joint == "mean loss" else None
        )
        found = gradient_factors(model, [text for own in texts for text in own], self.hypernetwork.sites, pools)
        device, sizes = self.hypernetwork.edit_lr.device, [len(group) for group in groups]
        return {
            name: TokenFactors(own.x.to(device), own.delta.to(device), grouped(own.counts, sizes))
            for name, own in found.items()
        }

    def observe(self, model: LanguageModel, groups: Sequence[Sequence[EditRequest]]) -> None:
        """Update the running statistics with the requests' tokens."""
        factors = self.factors(model, groups)
        for site in self.hypernetwork.sites:
            self.hypernetwork.of(site).observe(factors[site.name].x, factors[site.name].delta)

    def patches(
        self,
        model: LanguageModel,
        groups: Sequence[Sequence[EditRequest]],
        batches: Sequence[int] | None = None,
        tokens: Tokens | None = None,
    ) -> Edits:
        """See `NetworkEditor.patches`, and `factors` for `tokens`."""
        network = self.hypernetwork
        factors = self.factors(model, groups, tokens)
        counts = {name: own.counts for name, own in factors.items()}
        z = self._normalised(factors, batches or [len(groups)])
        factors.clear()  # bounds the memory
        made = network(z)
        edits: list[list[LowRank]] = [[] for _ in groups]
        for site in network.sites:
            device = model.site_device(site)
            split = (part.split(counts[site.name]) for part in made.pop(site.name))
            for edit, x, delta in zip(edits, *split, strict=True):
                if len(x) or site.part not in ROUTED:  # most experts receive no token of an edit
                    edit.append(LowRank(site.name, site.block, x.T.to(device), delta.to(device)))
        return Edits(tuple(tuple(edit) for edit in edits))

    def _normalised(self, factors: Mapping[str, TokenFactors], batches: Sequence[int]) -> dict[str, Tensor]:
        """Return z of all tokens by layer; in training the statistics take in each batch before it is normalised."""
        network = self.hypernetwork
        z: dict[str, list[Tensor]] = {site.name: [] for site in network.sites}
        for batch in zip(*(factors[site.name].split(batches) for site in network.sites), strict=True):
            if network.training:
                for site, own in zip(network.sites, batch, strict=True):
                    network.of(site).observe(*own)
            for site, own in zip(network.sites, batch, strict=True):
                z[site.name].append(network.of(site).normalised(*own))
        return {site.name: torch.cat(z.pop(site.name)) for site in network.sites}  # bounds the memory

    def edit_together(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Make one edit of all requests, some requests at a time; see `GradientConfig.joint`."""
        self._check(model)
        texts = [self.texts(model, request) for request in requests]
        total = Edits.none(1)
        for first in range(0, len(requests), TOGETHER):
            for part in self._parts(model, requests[first : first + TOGETHER]):
                with torch.no_grad():
                    total = compose(total, self.patches(model, [part], tokens=scored_tokens(texts)))
        return counted(total, texts, [0] * len(requests))


def scored_tokens(texts: Sequence[EditTexts]) -> Tokens:
    """Return the numbers of scored tokens of wanted and of opposed texts."""
    return sum(own.tokens[0] for own in texts), sum(own.tokens[1] for own in texts)


def grouped(counts: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """Return the sums of counts over groups of neighbours of some sizes."""
    ends = [0, *accumulate(sizes)]
    return [sum(counts[first:stop]) for first, stop in pairwise(ends)]
