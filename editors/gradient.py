"""Editors that turn the gradient of an edit's loss into the edit, token by token (MEND, InstructEdit).

The mechanism is MEND's (arXiv 2110.11309): one forward and backward pass over prompt and target gives x_t and delta_t
at every edited map; the hypernetwork makes x~_t and delta~_t of them; the edit is W + alpha * sum_t x~_t (outer)
delta~_t, a low-rank patch whose rank is the number of tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from .cases import EditRequest
from .cost import FLOAT, Cost
from .editor import Published
from .edits import Edits
from .hypernetwork import Hypernetwork
from .model import LanguageModel
from .patches import LowRank
from .rows import Row
from .sketch import Sketch
from .structure import Site
from .taps import Factors
from .trained import Shape, TrainedConfig, TrainedEditor


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


def gradient_factors(model: LanguageModel, rows: Sequence[Row], sites: Sequence[Site]) -> dict[str, TokenFactors]:
    """Return the factors of the gradient of each row's loss, the mean negative log-likelihood of its answer's tokens.

    Tokens where x or delta is zero throughout say nothing and would distort the statistics; they are dropped.

    Returns:
        The factors by the maps' names.
    """

    def loss(index: int, logits: Tensor) -> Tensor:
        labels = torch.tensor(rows[index].labels, device=logits.device)
        return nn.functional.cross_entropy(logits.to(model.edit_dtype), labels)

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


C = TypeVar("C", bound=GradientConfig)


class GradientEditor(TrainedEditor[C]):
    """One gradient, transformed into one edit by a hypernetwork."""

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

    def factors(self, model: LanguageModel, requests: Sequence[EditRequest]) -> dict[str, TokenFactors]:
        """Return the factors of each request's gradient, where the network is."""
        assert self.shape is not None
        found = gradient_factors(model, [self.encode(model, request) for request in requests], self.shape.sites)
        place = next(self.hypernetwork.parameters()).device
        return {name: TokenFactors(f.x.to(place), f.delta.to(place), f.counts) for name, f in found.items()}

    def observe(self, model: LanguageModel, requests: Sequence[EditRequest]) -> None:
        """Take the requests' tokens into the running statistics."""
        self._observe(self.factors(model, requests))

    def _observe(self, factors: Mapping[str, TokenFactors]) -> None:
        assert self.shape is not None
        for site in self.shape.sites:
            self.hypernetwork.observe(site, factors[site.name].x, factors[site.name].delta)

    def patches(
        self, model: LanguageModel, requests: Sequence[EditRequest], batches: Sequence[int] | None = None
    ) -> Edits:
        """See `TrainedEditor.patches`; while training, the statistics take each batch in before it is normalised."""
        assert self.shape is not None
        factors = self.factors(model, requests)
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
        counts = {site: factors[site.name].counts for site in z}
        factors.clear()  # z stands for them
        made = self.hypernetwork.transform(z)
        edits: list[list[LowRank]] = [[] for _ in requests]
        for site in self.shape.sites:
            place = model.site_device(site)
            for edit, x, delta in zip(edits, *(part.split(counts[site]) for part in made.pop(site.name)), strict=True):
                edit.append(LowRank(site.name, site.block, x.T.to(place), delta.to(place)))
        return Edits(tuple(tuple(edit) for edit in edits))
