"""CaliNet: calibration slots beside the feed-forward network of chosen blocks (arXiv 2210.03329, section 4).

The model stays as it is; a small network of s slots runs beside a block's own and its output is added,

    FFN'(x) = FFN(x) + act(x K) V        K [d, s], V [s, d]

which is s more neurons in the network. In a gated network the slots are gated too, (act(x G) * (x K)) V. K, G and V are
trained by causal cross-entropy of the targets, the mean over requests of the mean over their tokens.

The paper calibrates the decoder of T5 and all facts together: `edit_together` is its form. `edit`, a set of slots for
each request, is what the single schedule asks for. Where decoder-only models ask for a choice of their own:

* the activation is the model's own, so that slots are neurons like the others (the paper's T5 has relu or gated gelu);
  it is found by trying the network out, not from the configuration (`editors/models/neurons.py`);
* V starts at zero, so that an untrained adapter is no change; the released code leaves it at the default of nn.Linear,
  which `zero_init = false` gives;
* the training text is the request itself, not the paper's masked paraphrases: an editor sees requests only.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from transformers.activations import ACT2FN
from transformers.optimization import Adafactor

from instructedit.editors import (
    Choice,
    Cost,
    Descent,
    Editor,
    EditorConfig,
    EditRequest,
    Edits,
    FreeTensors,
    InputError,
    LanguageModel,
    LogUniform,
    Patch,
    Published,
    Range,
    Site,
    Sketch,
    Slots,
    UnservedError,
    did_you_mean,
    minimise,
    seed_of,
)
from instructedit.editors.cost import FLOAT, descent
from instructedit.editors.models.configuration import activation_name
from instructedit.editors.models.neurons import neuron
from instructedit.editors.texts import EditRows, counted

ADAFACTOR = 3
"""Tensors for each trained one: value, gradient and update; the second moment is kept by rows and columns."""
USED = 20, 100
"""Steps after which one request, or a joint edit, is done on the embedded model."""


class CaliNetConfig(EditorConfig):
    """Hyper-parameters; the defaults' block, slots and rate are those published for 100 facts on T5-base."""

    published: ClassVar[Published | None] = Published("T5-base", "t5", 12, 768, ("lr",))
    added: ClassVar[Mapping[str, Any]] = {"network": "dense"}

    blocks: tuple[int | float, ...] = Field(default=(-1,), min_length=1)
    """Blocks that get slots: indices (negative ones count from the end) or shares of the depth."""
    network: Literal["dense", "shared", "experts"] = "dense"
    """The network that slots stand beside: a block's MLP; in a mixture of experts the expert that all tokens share, or
    the routed experts together."""
    slots: int | None = Field(default=None, ge=1)
    """Slots in each block; none for a number in proportion to the requests."""
    slots_per_100_edits: float = Field(default=64, gt=0)
    """The proportion, rounded up."""
    least_slots: int = Field(default=16, ge=1)
    """Fewest slots that the proportion gives.

    The proportion is for a whole set: its one slot does not carry a single edit (embedded model, training records: a
    reliability of 52 with 1 slot, 98 with 4, 100 with 16 and with 64).
    """
    activation: str | None = None
    """Activation of the slots, by its name in transformers; none for the model's own."""
    zero_init: bool = True
    """Whether V starts at zero, or at random as in the released code."""
    lr: float = Field(default=1e-2, gt=0)
    """Constant rate of Adafactor."""
    steps: int = Field(default=200, ge=1)
    """Most steps of Adafactor (published: 5,000 of 2,048 sentences).

    On the embedded model a single edit is done after about 20 steps and a joint edit of 100 after about 100.
    """
    stop_loss: float = Field(default=1e-2, ge=0)
    """An edit whose loss is below this takes no further step."""
    batch: int | None = Field(default=512, ge=1)
    """Most requests of one step of an edit made together; none for all of them. It bounds the memory."""


class CaliNet(Editor[CaliNetConfig]):
    """Calibration slots."""

    name = "calinet"
    title = "CaliNet"
    source = "Dong et al. 2022, arXiv 2210.03329"
    Config = CaliNetConfig
    schedule_notes: ClassVar[dict[str, str]] = {
        "single": "a set of slots for each edit; the published CaliNet trains one set for all facts of a run, which is "
        "the schedule 'batch'"
    }
    search: ClassVar[Mapping[str, Range]] = {
        # fractions of the depth, so that pairs name two blocks of any model with two or more
        "blocks": Choice(((0.0,), (0.25,), (0.5,), (0.75,), (-1,), (0.0, 0.5), (0.25, 0.75))),
        "slots": LogUniform(4, 128, whole=True),
        "lr": LogUniform(1e-3, 1e-1),
        "steps": LogUniform(20, 500, whole=True),
    }

    def cost(self, model: Sketch, requests: int = 1) -> Cost:
        """See `Editor.cost`; the steps are those an edit took on the embedded model, if as many are allowed."""
        networks = [self._network(model, block) for block in self.config.blocks]
        tensor = FLOAT * self._slots(requests) * sum((3 if n.gated else 2) * n.up.d_in for n in networks)
        steps = min(self.config.steps, USED[requests > 1])
        together = min(self.config.batch or requests, requests)
        passes, head_passes = descent(model.share(min(n.down.block for n in networks)), steps * together / requests)
        return Cost(
            sites=tuple(n.down for n in networks),
            patch_bytes=tensor,
            edit_bytes=ADAFACTOR * tensor,
            passes=passes,
            head_passes=head_passes,
            together=together,
            remembered=requests,
            moved_bytes=10.0 * steps * tensor,
        )

    def _slots(self, requests: int) -> int:
        """Return the slots in each block of an edit of some requests."""
        config = self.config
        return config.slots or max(config.least_slots, math.ceil(requests * config.slots_per_100_edits / 100))

    def edit(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Train slots of its own for each request, all requests side by side."""
        return self._train(model, requests, list(range(len(requests))), seed)

    def sites(self, model: LanguageModel | Sketch) -> Sequence[Site]:
        """See `Editor.sites`."""
        return [self._network(model, block).down for block in self.config.blocks]

    def edit_together(self, model: LanguageModel, requests: Sequence[EditRequest], seed: int = 0) -> Edits:
        """Train one set of slots for all requests."""
        return self._train(model, requests, [0] * len(requests), seed)

    def _train(self, model: LanguageModel, requests: Sequence[EditRequest], owners: Sequence[int], seed: int) -> Edits:
        config = self.config
        networks = [self._network(model, block) for block in config.blocks]
        activations = [self._activation(model, network) for network in networks]
        texts = [self.texts(model, request) for request in requests]
        flat = EditRows.of(texts)
        tensors: list[list[Tensor]] = []
        for edit in range(max(owners, default=-1) + 1):
            ids = [request.case_id for request, owner in zip(requests, owners, strict=True) if owner == edit]
            generator = torch.Generator().manual_seed(seed_of(seed, self.name, *ids))
            slots = self._slots(len(ids))
            tensors.append([tensor for network in networks for tensor in self._first(model, network, slots, generator)])

        def patches(own: Sequence[Tensor]) -> tuple[Patch, ...]:
            each = len(own) // len(networks)  # k, v and, in a gated network, g
            return tuple(
                Slots(n.down.name, n.down.block, n.up.name, activations[i][0], *own[i * each : (i + 1) * each])
                for i, n in enumerate(networks)
            )

        def optimiser(own: list[Tensor]) -> Adafactor:
            return Adafactor(own, lr=config.lr, scale_parameter=False, relative_step=False)

        edits = minimise(
            model,
            flat.rows,
            [row.labels for row in flat.rows],
            [owners[request] for request in flat.requests],
            [FreeTensors(own, patches, optimiser) for own in tensors],
            Descent(config.steps, config.stop_loss, config.batch),
            seed=seed,
            texts=flat,
        )
        edits = counted(edits, texts, owners)
        widths = [float(own[0].shape[1]) for own in tensors]
        named = {} if all(tried for _, tried in activations) else {"activation_by_name": 1.0}
        return replace(edits, facts=tuple({**f, "slots": s, **named} for f, s in zip(edits.facts, widths, strict=True)))

    def _first(self, model: LanguageModel, network: "Network", slots: int, generator: torch.Generator) -> list[Tensor]:
        """Return k [d, slots], v [slots, d] and, in a gated network, g [d, slots], ready to be trained.

        They start as nn.Linear does, uniform within 1 / sqrt(inputs) of zero; v at zero if so asked for.
        """
        width = network.up.d_in

        def draw(inputs: int, outputs: int) -> Tensor:
            return (2 * torch.rand(inputs, outputs, generator=generator) - 1) / math.sqrt(inputs)

        first = [draw(width, slots), torch.zeros(slots, width) if self.config.zero_init else draw(slots, width)]
        if network.gated:
            first.append(draw(width, slots))
        device = model.site_device(network.down)
        return [tensor.to(device, model.edit_dtype).requires_grad_() for tensor in first]

    def _network(self, model: LanguageModel | Sketch, block: int | float) -> "Network":
        prefix = {"dense": "", "shared": "shared ", "experts": "expert "}[self.config.network]
        ups, downs = model.sites(f"{prefix}up", [block]), model.sites(f"{prefix}down", [block])
        if self.config.network == "experts":
            first, width = downs[0], model.structure.width
            whole = Site(model.structure.routers[first.name], first.block, "expert down", width, width)
            return Network((whole,), whole, sum(up.d_out for up in ups) >= 2 * sum(down.d_in for down in downs))
        if len(downs) != 1:
            raise UnservedError(
                f"Block {downs[0].block} has {len(downs)} networks ({', '.join(down.name for down in downs)}); "
                "CaliNet's slots stand beside one."
            )
        fused = ups[0].d_out == 2 * downs[0].d_in  # gate and up in one map
        return Network(tuple(ups), downs[0], fused or len(ups) == 2)

    def _activation(self, model: LanguageModel, network: "Network") -> tuple[str, bool]:
        """Return the name of the slots' activation, the one asked for or the network's own, and whether it was tried.

        Of a function that has numbers of its own, as Apertus', and of routed experts the configuration's name is taken.
        """
        asked = self.config.activation
        if asked is not None and asked not in ACT2FN:
            raise InputError(f"Unknown activation '{asked}' of CaliNet's slots.{did_you_mean(asked, list(ACT2FN))}")
        single = self.config.network != "experts"  # single experts are not tried; the configuration's name is taken
        own = asked or (neuron(model.model, network.ups, network.down, model.device) if single else None)
        name = own or activation_name(model.model.config)
        if name is None or name not in ACT2FN:
            raise UnservedError(
                f"Between {network.ups[0].name} and {network.down.name} is no activation that transformers has a name "
                "for; give CaliNet's option 'activation'."
            )
        return name, own is not None


class Network(NamedTuple):
    """A feed-forward network: its up maps, its down map, and whether it is gated."""

    ups: tuple[Site, ...]
    down: Site
    gated: bool

    @property
    def up(self) -> Site:
        """The first up, whose input is the network's."""
        return self.ups[0]
