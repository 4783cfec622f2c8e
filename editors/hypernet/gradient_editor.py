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
from typing import ClassVar, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ..cases import EditRequest
from ..compose import compose
from ..editor import Published
from ..edits import Edits
from ..engine.model import LanguageModel
from ..models.parts import ROUTED
from ..models.structure import Site
from ..patches import LowRank
from ..search import LogUniform, Range
from ..texts import EditRows, EditTexts, counted
from .hypernetwork import Hypernetwork
from .network_editor import TOGETHER, Shape, TrainedConfig
from .training_loop import TrainedEditor


@dataclass(frozen=True, slots=True)
class TokenFactors:
    """Factors of the gradients of some requests at one layer.

    Attributes:
        x: Inputs, [tokens, d_in], request by request.
        delta: Gradients of the output, [tokens, d_out].
        counts: Number of tokens of each request.
    """

    x: Tensor
    delta: Tensor
    counts: list[int]

    def split(self, sizes: Sequence[int] | None = None) -> list[tuple[Tensor, Tensor]]:
        """Return x and delta of each request, or of groups of neighbouring requests of some sizes."""
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


class GradientConfig(TrainedConfig):
    """Sizes and initial values of the hypernetwork; the defaults are MEND's."""

    published: ClassVar[Published | None] = Published("GPT2-XL", "gpt2", 48, 1600, ("edit_lr", "training.lr"))

    rank: int = Field(default=1920, ge=1)
    """Rank of each layer; at most d_in + d_out is used."""
    layers: int = Field(default=2, ge=1)
    """Number of layers of the network (`n_hidden` + 1)."""
    normalise: bool = True
    """Whether x and delta are normalised by running statistics before the network."""
    edit_lr: float = 1e-4
    """Initial value of every learned step alpha. It is added: a negative value starts with a step of descent."""
    edit_lr_lr: float = Field(default=1e-4, ge=0)
    """Learning rate of Adam for alpha. In MEND's code the optimiser meant for alpha never receives its gradient, so
    alpha is trained at `lr`; set both to the same value for the released behaviour."""
    joint: Literal["mean loss", "sum"] = "mean loss"
    """How an edit of several requests is made. `mean loss`: from one loss, the mean negative log-likelihood over the
    target tokens of all requests, with one backward pass, as in MEND's released code. `sum`: each request's edit is
    made from its own mean loss and the edits are summed, as MEND's paper describes it."""


C = TypeVar("C", bound=GradientConfig)


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
        config = self.config
        return Hypernetwork(
            shape.sites,
            rank=config.rank,
            layers=config.layers,
            normalise=config.normalise,
            edit_lr=config.edit_lr,
            generator=torch.Generator().manual_seed(seed),
        )

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
        self, model: LanguageModel, requests: Sequence[EditRequest], pools: Sequence[tuple[int, int]] | None = None
    ) -> dict[str, TokenFactors]:
        """Return the factors of each request's gradient, on the network's device; see `gradient_factors`."""
        texts = [self.texts(model, request) for request in requests]
        found = gradient_factors(model, texts, self.hypernetwork.sites, pools)
        device = self.hypernetwork.edit_lr.device
        return {name: TokenFactors(f.x.to(device), f.delta.to(device), f.counts) for name, f in found.items()}

    def pools(
        self, model: LanguageModel, requests: Sequence[EditRequest], groups: Sequence[int] | None
    ) -> list[tuple[int, int]] | None:
        """Return for each request the wanted and opposed tokens in the loss of its edit; None for its own."""
        if groups is None or self.config.joint == "sum":
            return None
        tokens = [self.texts(model, request).tokens for request in requests]
        pools: list[tuple[int, int]] = []
        for size in groups:
            wanted, opposed = (sum(own) for own in zip(*tokens[len(pools) : len(pools) + size], strict=True))
            pools += [(wanted, opposed)] * size
        return pools

    def observe(
        self, model: LanguageModel, requests: Sequence[EditRequest], groups: Sequence[int] | None = None
    ) -> None:
        """Update the running statistics with the requests' tokens."""
        factors = self.factors(model, requests, self.pools(model, requests, groups))
        for site in self.hypernetwork.sites:
            self.hypernetwork.of(site).observe(factors[site.name].x, factors[site.name].delta)

    def patches(
        self,
        model: LanguageModel,
        requests: Sequence[EditRequest],
        groups: Sequence[int] | None = None,
        batches: Sequence[int] | None = None,
        pools: Sequence[tuple[int, int]] | None = None,
    ) -> Edits:
        """See `NetworkEditor.patches`; in training the statistics take in each batch before it is normalised.

        For `pools` see `EditRows.of`; by default they are those of the groups.
        """
        network = self.hypernetwork
        factors = self.factors(model, requests, self.pools(model, requests, groups) if pools is None else pools)
        sizes = [len(requests)] if batches is None or not network.training else batches
        z: dict[str, list[Tensor]] = {site.name: [] for site in network.sites}
        parts = {site.name: factors[site.name].split(sizes) for site in network.sites}
        for batch in range(len(sizes)):
            if network.training:
                for site in network.sites:
                    network.of(site).observe(*parts[site.name][batch])
            for site in network.sites:
                z[site.name].append(network.of(site).normalised(*parts[site.name][batch]))
        counts = {name: grouped(own.counts, groups or [1] * len(requests)) for name, own in factors.items()}
        factors.clear()  # bounds the memory
        parts.clear()
        made = network({site.name: torch.cat(z.pop(site.name)) for site in network.sites})
        edits: list[list[LowRank]] = [[] for _ in groups or requests]
        for site in network.sites:
            device = model.site_device(site)
            split = (part.split(counts[site.name]) for part in made.pop(site.name))
            for edit, x, delta in zip(edits, *split, strict=True):
                if len(x) or site.part not in ROUTED:  # most experts receive no token of an edit
                    edit.append(LowRank(site.name, site.block, x.T.to(device), delta.to(device)))
        return Edits(tuple(tuple(edit) for edit in edits))

    def edit_together(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Make one edit of all requests, some requests at a time; see `GradientConfig.joint`."""
        self._check(model)
        pools = self.pools(model, requests, [len(requests)])
        total, done = Edits.none(1), 0
        for first in range(0, len(requests), TOGETHER):
            for part in self._parts(model, requests[first : first + TOGETHER]):
                own = None if pools is None else pools[done : done + len(part)]
                with torch.no_grad():
                    total = compose(total, self.patches(model, part, [len(part)], pools=own))
                done += len(part)
        return counted(total, [self.texts(model, request) for request in requests], [0] * len(requests))


def grouped(counts: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """Return the sums of counts over groups of neighbours of some sizes."""
    ends = [0, *accumulate(sizes)]
    return [sum(counts[first:stop]) for first, stop in pairwise(ends)]
