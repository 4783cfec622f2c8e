"""MEND's network: from the factors of a gradient to the factors of an edit (arXiv 2110.11309, sections 3.1 and 3.2).

At an edited layer the gradient of the edit's loss is G = sum_t x_t (outer) delta_t, with the layer's input x_t [d_in]
and the gradient of its output delta_t [d_out] at every token t. The network g works on one token at a time:

    z_t = [(x_t - mu_x) / sd_x ; (delta_t - mu_delta) / sd_delta]
    [x~_t ; delta~_t] = g(z_t)
    W' = W + alpha * sum_t x~_t (outer) delta~_t

Layers of one shape share g. Each has its own scale and shift in every layer of g, and its own learned step alpha.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from ..editor import Published
from ..models.structure import Site
from .network_editor import TrainedConfig

EPSILON = 1e-7


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


class Moments(nn.Module):
    """Running mean and standard deviation of each dimension (Welford), merged batch by batch (Chan et al. 1983).

    In double precision, because the sum of squares of a hundred thousand tokens exceeds single precision.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(width, dtype=torch.float64))

    @torch.no_grad()
    def update(self, values: Tensor) -> None:
        """Add values [tokens, width]; tokens with numbers that are not finite are ignored."""
        values = values[values.isfinite().all(dim=1)].double()
        if not len(values):
            return
        mean = values.mean(dim=0)
        squares = (values - mean).square().sum(dim=0)
        total = self.count + len(values)
        gap = mean - self.mean
        self.squares += squares + gap.square() * (self.count * len(values) / total)
        self.mean += gap * (len(values) / total)
        self.count.copy_(total)

    def normalised(self, values: Tensor) -> Tensor:
        """Return (values - mean) / (standard deviation + 1e-7) of values [tokens, width]."""
        assert self.count >= 2, "statistics of fewer than two tokens"
        deviation = (self.squares / (self.count - 1)).sqrt()
        return (values - self.mean.to(values.dtype)) / (deviation + EPSILON).to(values.dtype)


class LowRankResidual(nn.Module):
    """h + max(0, s_m * (U V h + b) + t_m): the identity at the start, because U, b and t are zero.

    Each of the modes, the edited layers, has its own scale s_m and shift t_m. V is drawn from N(0, 1).
    """

    def __init__(self, width: int, rank: int, modes: int, generator: torch.Generator | None) -> None:
        super().__init__()
        rank = min(rank, width)
        self.u = nn.Parameter(torch.zeros(width, rank))
        self.v = nn.Parameter(_normal(rank, width, generator))
        self.bias = nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.ones(modes, width))
        self.shift = nn.Parameter(torch.zeros(modes, width))
        self._product: Tensor | None = None
        self.register_load_state_dict_post_hook(lambda module, _: module._forget_product())  # type: ignore[no-untyped-call]

    def forward(self, h: Tensor, counts: Sequence[int]) -> Tensor:
        """Map h [tokens, width], the tokens of each mode in turn; `counts` has their numbers."""
        inner = (self._low_rank(h) + self.bias).split(list(counts))
        # the gradient of clamp at exactly zero is one, without which the layer could not leave the identity
        moved = [(s * part + t).clamp(min=0) for part, s, t in zip(inner, self.scale, self.shift, strict=True)]
        return h + torch.cat(moved)

    def train(self, mode: bool = True) -> Self:
        """See `nn.Module.train`."""
        self._forget_product()
        return super().train(mode)

    def _low_rank(self, h: Tensor) -> Tensor:
        """Return U V h. At inference U V is kept where it is smaller than U and V."""
        rank, width = self.v.shape
        if self.training or torch.is_grad_enabled() or 2 * rank <= width:
            return h @ self.v.T @ self.u.T
        if self._product is None or (self._product.device, self._product.dtype) != (h.device, h.dtype):
            self._product = self.v.T @ self.u.T
        return h @ self._product

    def _forget_product(self) -> None:
        self._product = None


class FactorNetwork(nn.Module):
    """The network g of `modes` edited layers of one shape."""

    def __init__(
        self, d_in: int, d_out: int, modes: int, config: GradientConfig, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        self.normalise = config.normalise
        self.x_moments = Moments(d_in)
        self.delta_moments = Moments(d_out)
        self.layers = nn.ModuleList(
            LowRankResidual(d_in + d_out, config.rank, modes, generator) for _ in range(config.layers)
        )

    def observe(self, x: Tensor, delta: Tensor) -> None:
        """Update the statistics with tokens x [tokens, d_in] and delta [tokens, d_out]."""
        self.x_moments.update(x)
        self.delta_moments.update(delta)

    def normalised(self, x: Tensor, delta: Tensor) -> Tensor:
        """Return z, [tokens, d_in + d_out], under the current statistics."""
        if self.normalise:
            x, delta = self.x_moments.normalised(x), self.delta_moments.normalised(delta)
        return torch.cat([x, delta], dim=-1)

    def forward(self, z: Tensor, counts: Sequence[int]) -> Tensor:
        """Return [x~ ; delta~], [tokens, d_in + d_out]; `counts` has the tokens of each edited layer."""
        for layer in self.layers:
            z = layer(z, counts)
        return z


class Hypernetwork(nn.Module):
    """One `FactorNetwork` for each shape among the edited layers, and a learned step alpha for each layer.

    The generator draws the weights.
    """

    def __init__(self, sites: Sequence[Site], config: GradientConfig, generator: torch.Generator | None) -> None:
        super().__init__()
        self.sites = list(sites)
        self.groups: dict[str, list[Site]] = {}
        for site in sites:
            self.groups.setdefault(_shape(site), []).append(site)
        self.networks = nn.ModuleDict()
        for key, own in self.groups.items():
            self.networks[key] = FactorNetwork(own[0].d_in, own[0].d_out, len(own), config, generator)
        self.edit_lr = nn.Parameter(torch.full((len(sites),), config.edit_lr))

    def of(self, site: Site) -> FactorNetwork:
        """Return the network of a layer's shape."""
        network = self.networks[_shape(site)]
        assert isinstance(network, FactorNetwork)
        return network

    def forward(self, z: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the edit of each layer as factors: x~ [tokens, d_in] and alpha * delta~ [tokens, d_out].

        Layers of one shape pass through their network together, so that its gradient is accumulated once. The factors,
        by the layer's name, are removed, which bounds the memory.
        """
        alphas = {site.name: alpha for site, alpha in zip(self.sites, self.edit_lr, strict=True)}
        found: dict[str, tuple[Tensor, Tensor]] = {}
        for key, sites in self.groups.items():
            parts = [z.pop(site.name) for site in sites]
            counts = [len(part) for part in parts]
            for site, part in zip(sites, self.networks[key](torch.cat(parts), counts).split(counts), strict=True):
                x, delta = part.split([site.d_in, site.d_out], dim=-1)
                found[site.name] = x, alphas[site.name] * delta
        return found


def _shape(site: Site) -> str:
    return f"{site.d_in}x{site.d_out}"


def _normal(rows: int, columns: int, generator: torch.Generator | None) -> Tensor:
    if torch.get_default_device().type == "meta":  # only counted, and the generator is one of the CPU
        return torch.empty(rows, columns)
    return torch.randn(rows, columns, generator=generator)
