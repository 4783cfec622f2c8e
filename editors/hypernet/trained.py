"""Editors that are trained before they edit: what they share besides the loop of `trainer.py`.

A trained editor has a network that belongs to one base model. From requests it makes patches through which gradients
flow back to the network.
"""

import math
import random
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ..cases import EditCase, EditRequest
from ..cost import FLOAT, Cost
from ..editor import EDITOR, Editor, EditorConfig
from ..edits import Edits
from ..engine.meta_model import Sketch
from ..engine.model import LanguageModel
from ..errors import CaseError, DamagedError, InputError
from ..files.state import fill
from ..models.parts import Part
from ..models.structure import Site
from ..patches import Patch
from ..search import Choice, LogUniform, Range
from ..seeds import seed_of
from ..texts import counted
from .objective import Losses, ObjectiveConfig, Outer, outer_loss, outer_rows
from .trainer import Trainer, identity
from .training import TrainingConfig, TrainingSet


class TrainedConfig(EditorConfig):
    """What every trained editor can be told."""

    blocks: tuple[int | float, ...] = Field(default=(-3, -2, -1), min_length=1)
    """Edited blocks: indices (negative ones count from the end) or shares of the depth."""
    parts: tuple[Part, ...] = Field(default=("up", "down"), min_length=1)
    """Edited maps of each block: `up` and `down` of its MLP (a gated one has two ups), those of a mixture of experts,
    or attention's; see docs/architecture.md."""
    objective: ObjectiveConfig = ObjectiveConfig()
    training: TrainingConfig = TrainingConfig()


@dataclass(frozen=True, slots=True)
class Shape:
    """What a network's sizes follow from.

    Attributes:
        base: Fingerprint of the base model.
        sites: The edited maps.
        vocabulary: Rows of the base model's input embedding.
        width: Columns of it.
    """

    base: str
    sites: tuple[Site, ...]
    vocabulary: int
    width: int

    @classmethod
    def of(cls, model: LanguageModel | Sketch, config: TrainedConfig) -> "Shape":
        """Resolve the edited maps of a model.

        Raises:
            InputError: If the model has no such block, or a map is named twice; it would be edited twice.
        """
        sites = tuple(site for part in config.parts for site in model.sites(part, config.blocks))
        names = [site.name for site in sites]
        if twice := [name for name in names if names.count(name) > 1]:
            raise InputError(
                f"Options 'blocks' and 'parts' name {twice[0]} twice ({config.blocks} of {len(model.structure)} "
                f"blocks, {config.parts}); each map once was expected."
            )
        embedding: Any = model.model.get_input_embeddings()
        vocabulary, width = embedding.weight.shape
        return cls(model.identity, tuple(sorted(sites, key=lambda s: (s.block, s.name))), vocabulary, width)


COPIES = 4
"""Times that an edit's factors stand in memory while the network makes it: x and delta, normalised, and on their way
through the network. On GPT-2 M twenty edits of InstructEdit took 3.8 times their factors beside model and network; of
editors whose texts are shorter the pass takes as much."""
TOGETHER = 8
"""Edits in one pass while many are summed up; their factors are then dropped."""
ROOM = 8 << 20
"""Most bytes of the factors at one map of edits that are made at once, if that is two full passes at least. What stands
between gradients and patches then lies in memory that was used before. Of all 32 edits of InstructEdit on GPT-2 M at
once, a quarter of the time went by while the system found new memory."""

C = TypeVar("C", bound=TrainedConfig)


class TrainedEditor(Editor[C]):
    """An editor with a network that is trained on edits of one base model.

    Attributes:
        joins: Whether one edit can carry several requests, in training too, by `joint_patches`.
        network: The network; None until `build`, `fit` or `load`.
        shape: What it was built for.
        origin: What it was trained on and how, as `trainer.identity` writes it; None until it is.
    """

    trains: ClassVar[bool] = True
    joins: ClassVar[bool] = False
    # The number of steps and the sizes of the network are left out: they are what a training costs, not how good it is.
    search: ClassVar[Mapping[str, Range]] = {
        "training.lr": LogUniform(1e-6, 1e-3),
        "objective.c_edit": LogUniform(0.1, 3.0),
        "objective.edit_prompt": Choice(("equivalent", "same", "both")),
    }

    def __init__(self, config: C | None = None) -> None:
        super().__init__(config)
        if (asked := self.config.training.together) > 1 and not self.joins:
            raise InputError(
                f"Option 'training.together' of the editor '{self.name}': found {asked}, but the method makes an edit "
                "of one request at a time; 1 was expected."
            )
        self.network: nn.Module | None = None
        self.shape: Shape | None = None
        self.origin: str | None = None

    @abstractmethod
    def make_network(self, shape: Shape, seed: int) -> nn.Module:
        """Return a new network, drawn from a seed."""

    @abstractmethod
    def patches(
        self, model: LanguageModel, requests: Sequence[EditRequest], batches: Sequence[int] | None = None
    ) -> Edits:
        """Return one edit for each request, through which gradients reach the network.

        Args:
            model: The base model.
            requests: The requests.
            batches: Sizes of the batches that running statistics take in one after another, while training; None for
                one batch.

        Raises:
            CaseError: If a request does not fit the model's context.
        """

    def joint_patches(
        self,
        model: LanguageModel,
        requests: Sequence[EditRequest],
        groups: Sequence[int],
        batches: Sequence[int] | None = None,
    ) -> Edits:
        """Return one edit for each group of requests, through which gradients reach the network.

        Called of methods that join only.

        Args:
            model: The base model.
            requests: The requests.
            groups: Numbers of neighbouring requests that one edit carries.
            batches: As in `patches`, in requests.

        Raises:
            CaseError: If a request does not fit the model's context.
        """
        raise NotImplementedError(f"{self.name} makes no joint edits")

    def observe(
        self, model: LanguageModel, requests: Sequence[EditRequest], groups: Sequence[int] | None = None
    ) -> None:
        """Take requests into running statistics before the first step; nothing where a method has none.

        Args:
            model: The base model.
            requests: The requests.
            groups: Numbers of neighbouring requests that one joint edit carries; None for one edit each.
        """

    def sites(self, model: LanguageModel | Sketch) -> Sequence[Site]:
        """See `Editor.sites`."""
        return Shape.of(model, self.config).sites

    def parameters(self, model: Sketch) -> int:
        """Return the number of trainable parameters of the network for a model, counted on the meta device."""
        with torch.device("meta"):
            network = self.make_network(Shape.of(model, self.config), 0)
        return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)

    def groups(self) -> list[dict[str, Any]]:
        """Return the optimiser's parameter groups."""
        assert self.network is not None
        return [{"params": list(self.network.parameters())}]

    def weights(self) -> tuple[float, float]:
        """Return the weights of edit and locality loss."""
        return self.config.objective.c_edit, self.config.objective.c_loc

    def settle(self, losses: Losses) -> None:
        """Do what a method does before each step of the optimiser."""

    def validated(self, means: dict[str, float]) -> None:
        """Do what a method does after each validation."""

    def build(self, model: LanguageModel, seed: int = 0) -> None:
        """Make a new network for a model."""
        self.shape = Shape.of(model, self.config)
        self.network = self.make_network(self.shape, seed)
        self.network.eval()  # an edit must not move the statistics; the training loop switches this itself
        self._place(model)

    def _place(self, model: LanguageModel) -> None:
        assert self.network is not None
        self.network.to(model.device)
        for parameter in self.network.parameters():  # statistics keep their double precision
            parameter.data = parameter.data.to(model.edit_dtype)

    def cost(self, model: Sketch, requests: int = 1) -> Cost:
        """See `Editor.cost`; the network is counted on the meta device, and one gradient is taken."""
        shape = Shape.of(model, self.config)
        with torch.device("meta"):
            network = self.make_network(shape, 0)
        parameters = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
        factors = FLOAT * sum(site.d_in + site.d_out for site in shape.sites)  # a token's x and delta at every map
        captured = 1 + model.share(min(site.block for site in shape.sites))
        return Cost(
            sites=shape.sites,
            parameters=parameters,
            token_bytes=factors,
            edit_token_bytes=factors,
            network_token_bytes=COPIES * factors,
            step_token_bytes=2 * COPIES * factors,
            passes=captured,
            head_passes=2,
            together=min(TOGETHER, requests),
            remembered=min(TOGETHER, requests),
            room=_room(shape.sites),
        )

    def fit(
        self,
        model: LanguageModel,
        training: TrainingSet,
        folder: Path,
        *,
        seed: int = 0,
        steps: int | None = None,
        track: str | None = None,
        report: Callable[[str], None] = lambda _: None,
        progress: bool = False,
    ) -> None:
        """Train the network and leave the editor ready, and saved in a folder.

        Started again with the same arguments, a training that was stopped goes on; a finished one is read. What is
        damaged of either is made again, and said.

        Args:
            model: The frozen base model.
            training: Cases to learn from and to validate on.
            folder: Where state, metrics and the finished editor are kept.
            seed: Seed of the network and of all that is drawn.
            steps: Most steps, instead of the configuration's.
            track: `wandb` or `trackio` to send the metrics there besides.
            report: Takes sentences for the user.
            progress: Whether to show a progress bar.

        Raises:
            InputError: If there is nothing to learn from, or the folder holds another training.
        """
        if (found := self._finished(folder, report)) is not None:
            if found.config != self.config:
                raise InputError(f"{folder}: holds a '{self.name}' of another configuration; choose another folder.")
            self.network, self.shape, self.origin = found.network, found.shape, found.origin
            self._check(model)
            if self.origin != identity(self, model, training, seed, steps):
                raise InputError(
                    f"{folder}: holds a '{self.name}' of another training (cases, seed or steps); "
                    "choose another folder."
                )
            return
        if model.model.dtype == torch.float16:
            raise InputError(
                f"The editor '{self.name}' cannot be trained in float16, in which small gradients become zero; dtype "
                "'bfloat16' or 'float32' was expected."
            )
        self.build(model, seed)
        Trainer(self, model, training, folder, seed, steps, report).run(track, progress)

    def _finished(self, folder: Path, report: Callable[[str], None]) -> Self | None:
        """Return the finished editor of a folder; None where there is none, or it is damaged and is trained again."""
        if not self.saved(folder):
            return None
        try:
            return type(self).load(folder)
        except DamagedError as error:
            report(f"note: {error} It is trained again.")
            (folder / EDITOR).unlink()
            return None

    def losses(
        self,
        model: LanguageModel,
        cases: Sequence[EditCase],
        training: TrainingSet,
        seeds: Sequence[int],
        share: float,
        batch: int | None = None,
    ) -> Losses:
        """Return the outer loss of some training cases and, if `share` is not zero, add its gradient.

        Each `training.together` neighbouring cases share one edit; the last of these may have fewer.

        Running statistics take the edits in by batches of `batch`, all together if it is None.

        A case whose texts of this step do not fit the model's context is left out of it, and of its joint edit.
        """
        requests: list[EditRequest] = []
        outers: list[Outer] = []
        joint = self.config.training.together
        edited: Counter[int] = Counter()  # requests by edit
        for number, (case, seed) in enumerate(zip(cases, seeds, strict=True)):
            request = training.request(case, seed)
            dice = random.Random(seed_of(seed, "outer"))
            try:  # a long instruction or rephrase may not fit where others did
                self.texts(model, request)
                found = outer_rows(
                    model, case, request, len(requests), self.context(request), self.config.objective, dice
                )
            except CaseError:
                continue
            requests.append(request)
            outers += found
            edited[number // joint] += 1
        if not requests:
            return Losses()
        taken: Counter[int] = Counter()  # requests by batch
        for edit, count in edited.items():
            taken[edit // (batch or len(cases))] += count
        sizes, groups = list(taken.values()), None if joint == 1 else list(edited.values())
        with torch.set_grad_enabled(share != 0):
            if groups is None:
                edits = self.patches(model, requests, sizes)
            else:
                edits = self.joint_patches(model, requests, groups, sizes)
        return outer_loss(model, edits, outers, *self.weights(), share=share, groups=groups)

    @property
    def at_once(self) -> int:
        """Cases of a training step that run at once: whole batches, as many as are about eight cases."""
        training = self.config.training
        own = training.batch * training.together
        return own * min(training.accumulate, max(1, TOGETHER // own))

    def step_losses(
        self, model: LanguageModel, cases: Sequence[EditCase], training: TrainingSet, seeds: Sequence[int]
    ) -> Losses:
        """Add the gradient of the mean outer loss of a step's cases, and return the sums of its terms.

        The network stays as it is within a step, so its batches run together, some at a time; only its statistics take
        them in one after another (`patches`).
        """
        sums, batch = Losses(), self.config.training.batch
        for first in range(0, len(cases), self.at_once):
            part = slice(first, first + self.at_once)
            sums.add(self.losses(model, cases[part], training, seeds[part], 1 / len(cases), batch))
        return sums

    def edit(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Make one edit for each request with the trained network.

        Raises:
            InputError: If the editor is not trained, or was trained for another model.
        """
        self._check(model)
        # those under one instruction next to each other, where passes read it once
        order = sorted(range(len(requests)), key=lambda index: (self.instructed and requests[index].instruction) or "")
        made: list[tuple[Patch, ...]] = []
        with torch.no_grad():
            for part in self._parts(model, [requests[index] for index in order]):
                made += self.patches(model, part).patches
        patches = tuple(own for _, own in sorted(zip(order, made, strict=True), key=itemgetter(0)))
        edits = Edits(patches, contexts=tuple(self.own_context(request) for request in requests))
        if not any(request.replies for request in requests):
            return edits  # a fact has one text, and is refused if it does not fit
        return counted(edits, [self.texts(model, request) for request in requests])

    def _parts(self, model: LanguageModel, requests: Sequence[EditRequest]) -> Iterator[Sequence[EditRequest]]:
        """Yield the requests in parts that are made at once, of about as many tokens each."""
        assert self.shape is not None
        room = max(_room(self.shape.sites), 2 * model.pack_tokens)
        ends = [*accumulate(len(self.texts(model, request)) for request in requests)]
        parts = math.ceil(ends[-1] / room) if ends else 0
        for _, own in groupby(zip(ends, requests, strict=True), key=lambda pair: (pair[0] - 1) * parts // ends[-1]):
            yield [request for _, request in own]

    def edit_next(self, model: LanguageModel, request: EditRequest, before: Edits, seed: int = 0) -> Edits:
        """See `Editor.edit_next`."""
        self._check(model)  # here and not on the view that the next edit is made on: each view would hash all weights
        return super().edit_next(model, request, before, seed)

    def _check(self, model: LanguageModel) -> None:
        if self.network is None or self.shape is None:
            raise InputError(f"The editor '{self.name}' has to be trained first; choose a setting that trains.")
        if self.shape.base != model.identity:
            raise InputError(
                f"This '{self.name}' was trained for the base model {self.shape.base[:12]}, but the model at hand is "
                f"{model.identity[:12]}; train it for this one."
            )
        if next(self.network.parameters()).device != model.device:
            self._place(model)

    def state(self) -> dict[str, Tensor]:
        """Return the network's weights and statistics."""
        return {} if self.network is None else dict(self.network.state_dict())

    def about(self) -> dict[str, Any]:
        """Return the shape the network was built for, and what it was trained on."""
        return {} if self.shape is None else {"shape": asdict(self.shape), "origin": self.origin}

    def load_state(self, state: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Build the network for the saved shape and fill it.

        Raises:
            InputError: If the weights do not fit the shape and the configuration.
        """
        if "shape" not in about and not state:
            return
        sites = tuple(Site(**site) for site in about["shape"]["sites"])
        self.shape = Shape(**{**about["shape"], "sites": sites})
        self.origin = about.get("origin")
        self.network = self.make_network(self.shape, 0)
        fill(self.network, state)
        self.network.eval()


def _room(sites: Sequence[Site]) -> int:
    """Return the tokens whose factors at the widest map take `ROOM` bytes."""
    return ROOM // (FLOAT * max(site.d_in + site.d_out for site in sites))
