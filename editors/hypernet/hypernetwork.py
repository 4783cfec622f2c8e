"""MEND's network: from the factors of a gradient to the factors of an edit (arXiv 2110.11309, sections 3.1 and 3.2).

At an edited map the gradient of the edit's loss is G = sum_t x_t (outer) delta_t, with the map's input x_t [d_in] and
the gradient of its output delta_t [d_out] at every token t. The network g works on one token at a time:

    z_t = [(x_t - mu_x) / sd_x ; (delta_t - mu_delta) / sd_delta]
    [x~_t ; delta~_t] = g(z_t)
    W' = W + alpha * sum_t x~_t (outer) delta~_t

Maps of one shape share g; each has a scale and a shift of its own in every layer and a learned step alpha.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..models.structure import Site
from .residual import LowRankResidual, Modes

EPSILON = 1e-7


class Moments(nn.Module):
    """Running mean and standard deviation of each dimension (Welford), joined batch by batch (Chan et al. 1983).

    Kept in double precision: after a hundred thousand tokens the sum of squares has outgrown single precision.
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
        """Take in values [tokens, width]; a token with a number that is not finite would spoil them for good."""
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

    def normalise_(self, values: Tensor) -> None:
        """Make (values - mean) / (standard deviation + 1e-7) of values [tokens, width], in place."""
        assert self.count >= 2, "statistics of fewer than two tokens"
        deviation = (self.squares / (self.count - 1)).sqrt()
        values.sub_(self.mean.to(values.dtype)).div_((deviation + EPSILON).to(values.dtype))


class FactorNetwork(nn.Module):
    """The network g of all maps of one shape.

    Args:
        d_in: Width of x.
        d_out: Width of delta.
        modes: Maps of this shape.
        rank: Rank of each layer.
        layers: Number of layers.
        normalise: Whether z is normalised; without it a new network gives back x and delta as they are.
        generator: Draws the weights.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        modes: int,
        *,
        rank: int,
        layers: int,
        normalise: bool,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.d_in = d_in
        self.normalise = normalise
        self.x_moments = Moments(d_in)
        self.delta_moments = Moments(d_out)
        self.layers = nn.ModuleList(LowRankResidual(d_in + d_out, rank, modes, generator) for _ in range(layers))

    def observe(self, x: Tensor, delta: Tensor) -> None:
        """Take tokens into the statistics, x [tokens, d_in] and delta [tokens, d_out]."""
        self.x_moments.update(x)
        self.delta_moments.update(delta)

    def normalised(self, x: Tensor, delta: Tensor) -> Tensor:
        """Return z, [tokens, d_in + d_out], by the statistics of the moment."""
        z = torch.cat([x, delta], dim=-1)
        if not self.normalise:
            return z
        self.x_moments.normalise_(z[:, : self.d_in])
        self.delta_moments.normalise_(z[:, self.d_in :])
        return z

    def forward(self, z: Tensor, modes: Modes) -> Tensor:
        """Return x~ and delta~ behind one another, [tokens, d_in + d_out]."""
        for layer in self.layers:
            z = layer(z, modes)
        return z


class Hypernetwork(nn.Module):
    """One `FactorNetwork` for each shape among the edited maps, and a learned step alpha for each map.

    Args:
        sites: The edited maps.
        rank: Rank of each layer; at most the width d_in + d_out is used.
        layers: Layers of each network.
        normalise: Whether factors are normalised by running statistics.
        edit_lr: First value of every alpha.
        generator: Draws the weights.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        *,
        rank: int,
        layers: int,
        normalise: bool,
        edit_lr: float,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        shapes: dict[tuple[int, int], int] = {}
        self.place: dict[str, tuple[str, int]] = {}
        for site in sites:
            mode = shapes.get((site.d_in, site.d_out), 0)
            shapes[site.d_in, site.d_out] = mode + 1
            self.place[site.name] = (f"{site.d_in}x{site.d_out}", mode)
        self.networks = nn.ModuleDict(
            {
                f"{d_in}x{d_out}": FactorNetwork(
                    d_in, d_out, modes, rank=rank, layers=layers, normalise=normalise, generator=generator
                )
                for (d_in, d_out), modes in shapes.items()
            }
        )
        self.edit_lr = nn.Parameter(torch.full((len(sites),), edit_lr))
        self.order = {site.name: number for number, site in enumerate(sites)}

    def observe(self, site: Site, x: Tensor, delta: Tensor) -> None:
        """Take tokens of one map into its shape's statistics."""
        self._network(site).observe(x, delta)

    def normalised(self, site: Site, x: Tensor, delta: Tensor) -> Tensor:
        """Return z of tokens of one map, [tokens, d_in + d_out], by the statistics of the moment."""
        return self._network(site).normalised(x, delta)

    def transform(self, z: dict[Site, list[Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the edit of each map as factors: x~ [tokens, d_in] and alpha * delta~ [tokens, d_out].

        While gradients are taken, maps of one shape pass through their network together: its gradient is then as large
        as the network once, and not once for each map. Otherwise one after another, in less memory.

        Args:
            z: Normalised factors of each map, in parts; they are taken out, so that they do not stand there twice.
        """
        found: dict[str, tuple[Tensor, Tensor]] = {}
        for key, network in self.networks.items():
            sites = [site for site in z if self.place[site.name][0] == key]
            if not sites:
                continue
            for some in [sites] if torch.is_grad_enabled() else [[site] for site in sites]:
                modes = [(self.place[site.name][1], sum(map(len, z[site]))) for site in some]
                parts = [part for site in some for part in z.pop(site)]
                out = network(parts[0] if len(parts) == 1 else torch.cat(parts), modes)
                for site, part in zip(some, out.split([tokens for _, tokens in modes]), strict=True):
                    x, delta = part.split([site.d_in, site.d_out], dim=-1)
                    found[site.name] = x, self.edit_lr[self.order[site.name]] * delta
        return found

    def forward(self, site: Site, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the edit of one map; see `transform`."""
        return self.transform({site: [self.normalised(site, x, delta)]})[site.name]

    def _network(self, site: Site) -> FactorNetwork:
        network = self.networks[self.place[site.name][0]]
        assert isinstance(network, FactorNetwork)
        return network
