"""Editors with a network that is trained on edits of one base model: their contract, and how they edit.

From requests such an editor makes patches through which gradients reach its network. `training_loop.py` trains it.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from operator import itemgetter
from typing import Any, ClassVar, TypeVar

import torch
from pydantic import Field
from torch import nn

from ..cases import EditRequest
from ..editor import Editor, EditorConfig
from ..edits import Edits
from ..engine.model import LanguageModel
from ..errors import InputError
from ..models.meta_device import MetaModel
from ..models.parts import Part
from ..models.structure import Site
from ..patches import Patch
from ..search import Choice, LogUniform, Range
from ..texts import counted
from .objective import Losses, ObjectiveConfig
from .training_config import TrainingConfig

TOGETHER = 8
"""Cases of a training step, or requests of a joint edit, in one pass."""
FACTOR_BYTES = 8 << 20
"""Maximum size in float32 of the factors at the widest layer of edits made at once, if that is two full passes or more.
It lets the allocator reuse memory: with all 32 edits of InstructEdit on GPT-2 medium at once, a quarter of the time was
spent on new memory."""


class TrainedConfig(EditorConfig):
    """Options of every trained editor."""

    blocks: tuple[int | float, ...] = Field(default=(-3, -2, -1), min_length=1)
    """Edited blocks: indices (negative ones count from the end) or fractions of the depth."""
    parts: tuple[Part, ...] = Field(default=("up", "down"), min_length=1)
    """Edited layers of each block: `up` and `down` of its MLP (a gated one has two ups), those of a mixture of experts,
    or of attention; see docs/architecture.md."""
    objective: ObjectiveConfig = ObjectiveConfig()
    training: TrainingConfig = TrainingConfig()


@dataclass(frozen=True, slots=True)
class Shape:
    """What a network is built for: the base model's fingerprint, the edited layers, and its embedding's shape."""

    base: str
    sites: tuple[Site, ...]
    vocabulary: int
    width: int


C = TypeVar("C", bound=TrainedConfig)


class NetworkEditor(Editor[C]):
    """An editor with a trained network. A subclass implements `make_network` and `patches`.

    `joins` tells whether one edit can carry several requests, in training too. There is no network before `build`,
    `fit` or `load`.
    """

    trains: ClassVar[bool] = True
    joins: ClassVar[bool] = False
    # The number of steps and the sizes of the network are left out: they set the cost of a training.
    search: ClassVar[Mapping[str, Range]] = {
        "training.lr": LogUniform(1e-6, 1e-3),
        "objective.c_edit": LogUniform(0.1, 3.0),
        "objective.edit_prompt": Choice(("equivalent", "same", "both")),
    }

    def __init__(self, config: C | None = None) -> None:
        super().__init__(config)
        if (together := self.config.training.together) > 1 and not self.joins:
            raise InputError(
                f"Option 'training.together' of the editor '{self.name}': found {together}, but the method makes an "
                "edit of one request at a time; 1 was expected."
            )
        self.network: nn.Module | None = None
        self.shape: Shape | None = None

    @abstractmethod
    def make_network(self, shape: Shape, seed: int) -> nn.Module:
        """Return a new network, initialised from a seed; on the meta device its parameters are only counted."""

    @abstractmethod
    def patches(
        self, model: LanguageModel, groups: Sequence[Sequence[EditRequest]], batches: Sequence[int] | None = None
    ) -> Edits:
        """Return one edit for each group of requests, through which gradients reach the network.

        Groups have one request each unless the method `joins`. `batches` are the numbers of neighbouring edits that
        running statistics take in at a time, in training; None for all.

        Raises:
            CaseError: If a request does not fit the model's context.
        """

    def observe(self, model: LanguageModel, groups: Sequence[Sequence[EditRequest]]) -> None:
        """Update running statistics before the first step; nothing where a method has none. See `patches`."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the parameter groups of Adam with their learning rates."""
        assert self.network is not None
        return [{"params": list(self.network.parameters()), "lr": self.config.training.lr}]

    def loss_weights(self) -> tuple[float, float]:
        """Return the weights of edit and locality loss."""
        return self.config.objective.c_edit, self.config.objective.c_loc

    def before_step(self, losses: Losses) -> None:
        """Hook before each optimiser step, with the losses of the step."""

    def after_validation(self, means: dict[str, float]) -> None:
        """Hook after each validation, with its mean losses."""

    def sites(self, model: LanguageModel | MetaModel) -> tuple[Site, ...]:
        """Return the edited layers of a model, in order.

        Raises:
            InputError: If the model has no such block, or a layer is named twice.
        """
        sites = [site for part in self.config.parts for site in model.sites(part, self.config.blocks)]
        names = [site.name for site in sites]
        if twice := [name for name in names if names.count(name) > 1]:
            raise InputError(
                f"Options 'blocks' and 'parts' name {twice[0]} twice ({self.config.blocks} of {len(model.structure)} "
                f"blocks, {self.config.parts}); each layer once was expected."
            )
        return tuple(sorted(sites, key=lambda site: (site.block, site.name)))

    def shape_for(self, model: LanguageModel | MetaModel) -> Shape:
        """Return what the network's sizes follow from."""
        embedding: Any = model.model.get_input_embeddings()
        return Shape(model.identity, self.sites(model), *embedding.weight.shape)

    def parameters(self, model: LanguageModel | MetaModel) -> int:
        """Return the number of trainable parameters for a model; nothing is allocated."""
        with torch.device("meta"):
            network = self.make_network(self.shape_for(model), 0)
        return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)

    def build(self, model: LanguageModel, seed: int = 0) -> None:
        """Make a new network for a model."""
        self.shape = self.shape_for(model)
        self.network = self.make_network(self.shape, seed)
        self.network.eval()  # an edit must not update the statistics; the training loop switches this
        self._place(model)

    def _place(self, model: LanguageModel) -> None:
        assert self.network is not None
        self.network.to(model.device)
        for parameter in self.network.parameters():  # statistics stay in double precision
            parameter.data = parameter.data.to(model.edit_dtype)

    def edit(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Make one edit for each request with the trained network.

        Raises:
            InputError: If the editor is not trained, or was trained for another model.
        """
        self._check(model)
        # requests with the same instruction together, so that passes compute its tokens once
        order = sorted(range(len(requests)), key=lambda index: (self.instructed and requests[index].instruction) or "")
        made: list[tuple[Patch, ...]] = []
        with torch.no_grad():
            for part in self._parts(model, [requests[index] for index in order]):
                made += self.patches(model, [[request] for request in part]).patches
        patches = tuple(own for _, own in sorted(zip(order, made, strict=True), key=itemgetter(0)))
        edits = Edits(patches, contexts=tuple(self.own_context(request) for request in requests))
        return counted(edits, [self.texts(model, request) for request in requests])

    def _parts(self, model: LanguageModel, requests: Sequence[EditRequest]) -> Iterator[list[EditRequest]]:
        """Yield the requests in parts of about equally many tokens, which are edited at once."""
        widest = max(site.d_in + site.d_out for site in self.sites(model))
        room = max(FACTOR_BYTES // (4 * widest), 2 * model.pack_tokens)
        ends = [*accumulate(len(self.texts(model, request)) for request in requests)]
        parts = math.ceil(ends[-1] / room) if ends else 0
        for _, own in groupby(zip(ends, requests, strict=True), key=lambda pair: (pair[0] - 1) * parts // ends[-1]):
            yield [request for _, request in own]

    def edit_next(self, model: LanguageModel, request: EditRequest, before: Edits, seed: int = 0) -> Edits:
        """See `Editor.edit_next`."""
        self._check(model)  # not on the edited view, which would hash all weights again
        return super().edit_next(model, request, before, seed)

    def _check(self, model: LanguageModel) -> None:
        if self.network is None or self.shape is None:
            raise InputError(f"The editor '{self.name}' has to be trained first; choose a setting that trains.")
        if self.shape.base != model.identity:
            raise InputError(
                f"This '{self.name}' was trained for the base model {self.shape.base[:12]}, but the current model is "
                f"{model.identity[:12]}; train it for this one."
            )
        if next(self.network.parameters()).device != model.device:
            self._place(model)
