"""KE, the knowledge editor (De Cao et al. 2021, arXiv 2104.08164), in the form that decoder models are edited with.

A bidirectional LSTM encodes the edit, and its final states give a condition h. For each edited matrix W [d_out, d_in]
a small network maps h to row and column vectors, which are rank-one gates on the gradient (equation 5):

    A = softmax(r_a) c_a^T,  B = softmax(r_b) c_b^T,  eta = sigmoid(s)
    dW = max_scale * eta * (A o grad_W L + B)

With grad_W L = sum_t delta_t x_t^T this is low rank: (r c^T) o (delta x^T) = (r o delta) (c o x)^T.

The released code takes the softmax over the first axis of the stored weight. GPT-2 stores W as [d_in, d_out], so there
it runs over c and not over r: the option `gates`. As in the released code, an edit carries one request.

The adaptation to decoders is that of MEND's comparison: the last three blocks, MEND's objective, and prompt and target
as the input of the LSTM. The original's input and its constraint with a Lagrange multiplier are options.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import pack_sequence

from instructedit.editors import (
    Choice,
    EditRequest,
    Edits,
    LanguageModel,
    LogUniform,
    LowRank,
    Range,
    Shape,
    TokenSequence,
    TrainedConfig,
    TrainedEditor,
    gradient_factors,
)
from instructedit.editors.hypernet.objective import Losses
from instructedit.editors.models.experts import weight_of


class KEConfig(TrainedConfig):
    """Sizes are from MEND's adaptation to decoders, margins from the original for question answering."""

    hidden: int = Field(default=512, ge=1)
    """Width of the LSTM's states and of the conditioners' hidden layer."""
    condition: int = Field(default=768, ge=1)
    """Width of h."""
    max_scale: float = Field(default=1.0, gt=0)
    """Factor of every update."""
    reads: Literal["prompt and target", "original"] = "prompt and target"
    """Input of the LSTM; `original`: `{old answer} >> {target} || {prompt}`, the old answer by teacher forcing."""
    gates: Literal["paper", "released"] = "paper"
    """Vectors of a gate under the softmax. `paper`: r, over d_out. `released`: those along the first axis of the stored
    weight, which is c, over d_in, for the Conv1D of GPT-2, and r for a Linear."""
    constraint: Literal["penalty", "margin"] = "penalty"
    """`penalty`: c_edit * L_e + c_loc * KL, as MEND. `margin`: L_e + multiplier * (KL - margin), the multiplier trained
    by gradient ascent, as in the original."""
    margin: float = Field(default=1e-3, gt=0)
    """Initial margin of the KL divergence, in nats."""
    margin_floor: float = Field(default=1e-5, gt=0)
    """Smallest margin."""
    multiplier_lr: float = Field(default=0.1, gt=0)
    """Learning rate of the multiplier."""


class Conditioner(nn.Module):
    """Maps h to the gates of one matrix: r_a, r_b [d_out], c_a, c_b [d_in] and eta."""

    def __init__(self, d_in: int, d_out: int, condition: int, hidden: int) -> None:
        super().__init__()
        self.sizes = [d_out, d_in, d_out, d_in, 1]
        self.inner = weight_norm(nn.Linear(condition, hidden))
        self.outer = weight_norm(nn.Linear(hidden, sum(self.sizes)))

    def forward(self, h: Tensor, over_inputs: bool = False) -> tuple[Tensor, ...]:
        """Return r_a, c_a, r_b, c_b, eta for h [edits, condition], each [edits, ...].

        The softmax is over r_a and r_b, or over c_a and c_b.
        """
        r_a, c_a, r_b, c_b, scale = _normed(self.outer, torch.tanh(_normed(self.inner, h))).split(self.sizes, dim=-1)
        if over_inputs:
            return r_a, c_a.softmax(-1), r_b, c_b.softmax(-1), torch.sigmoid(scale)
        return r_a.softmax(-1), c_a, r_b.softmax(-1), c_b, torch.sigmoid(scale)


def _normed(linear: Any, h: Tensor) -> Tensor:
    """Apply a linear layer with normalised weight g v / |v|; scaling h v is cheaper than scaling v."""
    length, direction = linear.parametrizations.weight.original0, linear.parametrizations.weight.original1
    scale = length / torch.linalg.vector_norm(direction, dim=1, keepdim=True)
    return cast(Tensor, nn.functional.linear(h, direction) * scale.T + linear.bias)


class KnowledgeEditor(nn.Module):
    """Embedding, LSTM and one conditioner for each edited matrix."""

    margin: Tensor

    def __init__(self, shape: Shape, config: KEConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.lstm = nn.LSTM(shape.width, config.hidden, bidirectional=True)
        self.project = nn.Linear(2 * config.hidden, config.condition)
        self.conditioners = nn.ModuleList(
            Conditioner(site.d_in, site.d_out, config.condition, config.hidden) for site in shape.sites
        )
        self.multiplier = nn.Parameter(torch.ones(()), requires_grad=config.constraint == "margin")
        self.register_buffer("margin", torch.tensor(config.margin, dtype=torch.float64))

    def forward(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Return h [edits, condition] of texts given as token ids; they are packed, not padded."""
        place = self.embedding.weight.device
        embedded = [self.embedding(torch.tensor(ids, device=place)) for ids in texts]
        _, (last, _) = self.lstm(pack_sequence(embedded, enforce_sorted=False))
        return torch.tanh(self.project(torch.cat([last[0], last[1]], dim=-1)))


class KE(TrainedEditor[KEConfig]):
    """The gradient of an edit, gated by an LSTM that encodes the edit."""

    name = "ke"
    title = "KE"
    source = "De Cao et al. 2021, arXiv 2104.08164"
    Config = KEConfig
    search: ClassVar[Mapping[str, Range]] = {
        **TrainedEditor.search,
        "training.lr": LogUniform(1e-4, 1e-2),
        "max_scale": Choice((1.0, 3.0, 10.0, 30.0, 100.0)),
    }

    @property
    def reader(self) -> KnowledgeEditor:
        """The network, after `build`, `fit` or `load`."""
        assert isinstance(self.network, KnowledgeEditor)
        return self.network

    def make_network(self, shape: Shape, seed: int) -> nn.Module:
        """See `NetworkEditor.make_network`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return KnowledgeEditor(shape, self.config)

    def build(self, model: LanguageModel, seed: int = 0) -> None:
        """Make a new network; its embedding is initialised from the base model."""
        super().build(model, seed)
        with torch.no_grad():
            self.reader.embedding.weight.copy_(model.embedding())

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the network's parameters, and the multiplier, which ascends."""
        multiplier = self.reader.multiplier
        others = [p for p in self.reader.parameters() if p is not multiplier]
        groups: list[dict[str, Any]] = [{"params": others, "lr": self.config.training.lr}]
        if self.config.constraint == "margin":
            groups.append({"params": [multiplier], "lr": self.config.multiplier_lr, "maximize": True})
        return groups

    def loss_weights(self) -> tuple[float, float]:
        """Return the weights of the losses; under the constraint they are 1 and the multiplier."""
        if self.config.constraint == "penalty":
            return super().loss_weights()
        return 1.0, max(0.0, float(self.reader.multiplier.detach()))

    def before_step(self, losses: Losses) -> None:
        """Set the gradient of the multiplier to KL - margin, and clamp the multiplier at zero."""
        if self.config.constraint == "margin":
            multiplier = self.reader.multiplier
            with torch.no_grad():
                multiplier.clamp_(min=0)
            multiplier.grad = (losses.locality / max(losses.cases, 1) - self.reader.margin).to(multiplier.dtype)

    def after_validation(self, means: dict[str, float]) -> None:
        """Shrink the margin once more than nine in ten edits succeed (section 3.3)."""
        if self.config.constraint == "margin" and means["exact"] > 0.9:
            self.reader.margin.mul_(0.8).clamp_(min=self.config.margin_floor)

    def patches(
        self, model: LanguageModel, groups: Sequence[Sequence[EditRequest]], batches: Sequence[int] | None = None
    ) -> Edits:
        """See `NetworkEditor.patches`."""
        assert self.shape is not None
        requests = [request for (request,) in groups]
        texts = [self.texts(model, request) for request in requests]
        factors = gradient_factors(model, texts, self.shape.sites)
        h = self.reader(self._texts(model, requests, [own.wanted[0] for own in texts]))
        edits: list[list[LowRank]] = [[] for _ in requests]
        for site, conditioner in zip(self.shape.sites, self.reader.conditioners, strict=True):
            place = model.site_device(site)
            over_inputs = self.config.gates == "released" and weight_of(model.model, site.name).inputs_first
            gates = zip(*conditioner(h, over_inputs), strict=True)
            for edit, (r_a, c_a, r_b, c_b, eta), own in zip(edits, gates, factors[site.name].split(), strict=True):
                x, delta = (part.to(h.device) for part in own)
                a = torch.cat([c_a * x, c_b[None]])
                b = self.config.max_scale * eta * torch.cat([r_a * delta, r_b[None]])
                edit.append(LowRank(site.name, site.block, a.T.to(place), b.to(place)))
        return Edits(tuple(tuple(edit) for edit in edits))

    def _texts(
        self, model: LanguageModel, requests: Sequence[EditRequest], rows: Sequence[TokenSequence]
    ) -> list[tuple[int, ...]]:
        """Return the input of the LSTM for each request; of several replies it gets the first."""
        if self.config.reads == "prompt and target":
            return [row.ids for row in rows]
        with torch.no_grad():
            old = {index: logits.argmax(-1).tolist() for index, logits in model.forward(rows)}
        texts = [
            f"{str(model.tokenizer.decode(old[number])).strip()} >> {request.target} || {request.prompt}"
            for number, request in enumerate(requests)
        ]
        return [model.in_chat(None).encode_prompt(text).ids for text in texts]  # no question to the model
