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
from typing import ClassVar, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ..cases import EditRequest
from ..compose import merge
from ..cost import FLOAT, Cost
from ..editor import Published
from ..edits import Edits
from ..engine.capture import Factors
from ..engine.meta_model import Sketch
from ..engine.model import LanguageModel
from ..models.parts import ROUTED
from ..models.structure import Site
from ..models.tokens import Row
from ..patches import LowRank
from ..search import LogUniform, Range
from ..texts import EditRows, EditTexts, counted
from .hypernetwork import Hypernetwork
from .trained import TOGETHER, Shape, TrainedConfig, TrainedEditor


@dataclass(frozen=True, slots=True)
class TokenFactors:
    """Factors of the gradients of some requests at one map.

    Attributes:
        x: Inputs, [tokens, d_in], request by request.
        delta: Gradients of the output, [tokens, d_out].
        counts: Tokens of each request, those of all its texts.
    """

    x: Tensor
    delta: Tensor
    counts: Sequence[int]

    def __getitem__(self, request: int) -> tuple[Tensor, Tensor]:
        """Return x and delta of one request."""
        own = self.among(request, 1)
        return own.x, own.delta

    def among(self, first: int, count: int) -> "TokenFactors":
        """Return the factors of neighbouring requests."""
        own = slice(skipped := sum(self.counts[:first]), skipped + sum(self.counts[first : first + count]))
        return TokenFactors(self.x[own], self.delta[own], self.counts[first : first + count])


def gradient_factors(
    model: LanguageModel,
    texts: Sequence[EditTexts | Row],
    sites: Sequence[Site],
    pools: Sequence[tuple[int, int]] | None = None,
) -> dict[str, TokenFactors]:
    """Return the factors of the gradient of each request's loss over its texts; see `texts`.

    Tokens where x or delta is zero throughout say nothing and would distort the statistics; they are dropped.

    Args:
        model: The model.
        texts: The texts of each request; of a request with one text, the row itself.
        sites: The edited maps.
        pools: See `EditRows.of`.

    Returns:
        The factors by the maps' names.
    """
    flat = EditRows.of(texts, pools)

    def loss(index: int, logits: Tensor) -> Tensor:
        labels = torch.tensor(flat.rows[index].labels, device=logits.device)
        log_p = logits.to(model.edit_dtype).log_softmax(dim=-1)
        return flat.losses(index, log_p.gather(1, labels[:, None])).sum()

    found: dict[str, TokenFactors] = {}
    captured = model.capture(flat.rows, sites, loss)
    for name in list(captured):
        factors = captured.pop(name)
        keep = _says(factors.x) & _says(factors.delta)
        if not keep.all():
            factors = Factors(factors.x[keep], factors.delta[keep], factors.rows[keep])
        request_of = torch.tensor(flat.requests, device=factors.rows.device)[factors.rows]
        counts = torch.bincount(request_of, minlength=len(texts)).tolist()
        found[name] = TokenFactors(factors.x.to(model.edit_dtype), factors.delta.to(model.edit_dtype), counts)
    return found


def _says(values: Tensor) -> Tensor:
    """Return which tokens have a number that is not zero; `any` says the same in four times the time."""
    return (values.amax(dim=1) != 0) | (values.amin(dim=1) != 0)


class GradientConfig(TrainedConfig):
    """Sizes and first values of the hypernetwork; the defaults are MEND's."""

    published: ClassVar[Published | None] = Published("GPT2-XL", "gpt2", 48, 1600, ("edit_lr", "training.lr"))

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
    search: ClassVar[Mapping[str, Range]] = {
        **TrainedEditor.search,
        "edit_lr": LogUniform(1e-5, 1e-2, signed=True),
        "edit_lr_lr": LogUniform(1e-6, 1e-3),
    }

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
        self, model: LanguageModel, requests: Sequence[EditRequest], pools: Sequence[tuple[int, int]] | None = None
    ) -> dict[str, TokenFactors]:
        """Return the factors of each request's gradient, where the network is; `pools` as in `gradient_factors`."""
        assert self.shape is not None
        found = gradient_factors(model, self._texts(model, requests), self.shape.sites, pools)
        place = next(self.hypernetwork.parameters()).device
        return {name: TokenFactors(f.x.to(place), f.delta.to(place), f.counts) for name, f in found.items()}

    def _texts(self, model: LanguageModel, requests: Sequence[EditRequest]) -> list[EditTexts]:
        return [self.texts(model, request) for request in requests]

    def _pools(
        self, model: LanguageModel, requests: Sequence[EditRequest], groups: Sequence[int] | None
    ) -> list[tuple[int, int]] | None:
        """Return for each request the tokens that the loss its edit is made from is the mean over; None: its own."""
        if groups is None or self.config.joint == "sum":
            return None
        tokens = [found.tokens for found in self._texts(model, requests)]
        pools: list[tuple[int, int]] = []
        for size in groups:
            wanted, opposed = (sum(own) for own in zip(*tokens[len(pools) : len(pools) + size], strict=True))
            pools += [(wanted, opposed)] * size
        return pools

    def observe(
        self, model: LanguageModel, requests: Sequence[EditRequest], groups: Sequence[int] | None = None
    ) -> None:
        """Take the requests' tokens into the running statistics."""
        self._observe(self.factors(model, requests, self._pools(model, requests, groups)))

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
        return self._made(model, requests, batches, groups, self._pools(model, requests, groups))

    def edit_together(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Make one edit of all requests, as `joint` has it, some requests at a time; see `Editor.edit_together`."""
        self._check(model)
        pools = self._pools(model, requests, [len(requests)])
        total, done = Edits.none(1), 0
        for first in range(0, len(requests), TOGETHER):
            for part in self._parts(model, requests[first : first + TOGETHER]):
                own = None if pools is None else pools[done : done + len(part)]
                with torch.no_grad():
                    total = merge(total, self._made(model, part, None, [len(part)], own))
                done += len(part)
        return counted(total, self._texts(model, requests), [0] * len(requests))

    def _made(
        self,
        model: LanguageModel,
        requests: Sequence[EditRequest],
        batches: Sequence[int] | None,
        groups: Sequence[int] | None,
        pools: Sequence[tuple[int, int]] | None,
    ) -> Edits:
        """Return the edits of groups of requests, each request's loss a part of the mean over its pool."""
        assert self.shape is not None
        factors = self.factors(model, requests, pools)
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
                if len(x) or site.part not in ROUTED:  # most experts get no token of an edit
                    edit.append(LowRank(site.name, site.block, x.T.to(place), delta.to(place)))
        return Edits(tuple(tuple(edit) for edit in edits))


def _grouped(counts: Sequence[int], groups: Sequence[int] | None) -> list[int]:
    """Return the sums of counts over groups of neighbours."""
    if groups is None:
        return list(counts)
    ends = [0, *accumulate(groups)]
    return [sum(counts[first:stop]) for first, stop in pairwise(ends)]
