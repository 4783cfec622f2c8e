"""CaliNet: calibration slots beside the feed-forward network of chosen blocks (arXiv 2210.03329, section 4).

The output of a small network of s slots is added to that of a block's feed-forward network,

    FFN'(x) = FFN(x) + act(x K) V        K [d, s], V [s, d]

which amounts to s more neurons. In a gated network the slots are gated too, (act(x G) * (x K)) V. K, G and V are
trained by causal cross-entropy of the targets.

The paper trains one set of slots for all facts (`edit_together`) in the decoder of T5. The single schedule trains one
set for each request (`edit`). Decoder-only models need these choices:

* the activation is that of the model, found by running the network and not from the configuration
  (`editors/models/neurons.py`); T5 has relu or gated gelu;
* V starts at zero, so that an untrained adapter changes nothing; the released code keeps the default of nn.Linear
  (`zero_init = false`);
* the training text is the request itself, not masked paraphrases, because an editor receives requests only.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from transformers.activations import ACT2FN
from transformers.optimization import Adafactor

from instructedit.editors import (
    Choice,
    Descent,
    DescentEditor,
    EditorConfig,
    EditRequest,
    Edits,
    InputError,
    LanguageModel,
    LogUniform,
    MetaModel,
    Patch,
    Published,
    Range,
    Site,
    Slots,
    UnservedError,
    Variables,
    did_you_mean,
    seed_of,
)
from instructedit.editors.models.activation_function import activation_of
from instructedit.editors.models.configuration import activation_name


class CaliNetConfig(EditorConfig):
    """Hyper-parameters; block, slots and learning rate default to those published for 100 facts on T5-base."""

    published: ClassVar[Published | None] = Published("T5-base", "t5", 12, 768, ("lr",))
    added: ClassVar[Mapping[str, Any]] = {"network": "dense"}

    blocks: tuple[int | float, ...] = Field(default=(-1,), min_length=1)
    """Blocks with slots: indices (negative ones count from the end) or fractions of the depth."""
    network: Literal["dense", "shared", "experts"] = "dense"
    """Network that the slots extend: a block's MLP; in a mixture of experts the shared expert, or the routed experts
    together."""
    slots: int | None = Field(default=None, ge=1)
    """Slots in each block; none for a number proportional to the requests."""
    slots_per_100_edits: float = Field(default=64, gt=0)
    """The proportion, rounded up."""
    least_slots: int = Field(default=16, ge=1)
    """Minimum number of slots under the proportion, whose one slot is too few for a single edit (embedded model,
    training records: reliability 52 with 1 slot, 98 with 4, 100 with 16 and with 64)."""
    activation: str | None = None
    """Activation of the slots, by its name in transformers; none for that of the model."""
    zero_init: bool = True
    """Whether V starts at zero, or at random as in the released code."""
    lr: float = Field(default=1e-2, gt=0)
    """Constant learning rate of Adafactor."""
    steps: int = Field(default=200, ge=1)
    """Maximum number of Adafactor steps (published: 5,000 of 2,048 sentences). On the embedded model a single edit
    needs about 20 steps and a joint edit of 100 about 100."""
    stop_loss: float = Field(default=1e-2, ge=0)
    """An edit stops once its loss is below this."""
    batch: int | None = Field(default=512, ge=1)
    """Maximum number of requests in one step of an edit made together, which bounds the memory; none for all."""


class CaliNet(DescentEditor[CaliNetConfig]):
    """Calibration slots."""

    name = "calinet"
    title = "CaliNet"
    source = "Dong et al. 2022, arXiv 2210.03329"
    version = "2"
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

    @property
    def descent(self) -> Descent:  # noqa: D102
        config = self.config
        adafactor = partial(Adafactor, lr=config.lr, scale_parameter=False, relative_step=False)
        return Descent(config.steps, adafactor, None, config.stop_loss, config.batch)

    def sites(self, model: LanguageModel | MetaModel) -> tuple[Site, ...]:  # noqa: D102
        return tuple(self._network(model, block).down for block in self.config.blocks)

    def variables(self, model: LanguageModel, groups: Sequence[Sequence[EditRequest]], seed: int) -> list[Variables]:
        """Return k, v and, in a gated network, g for each block."""
        config = self.config
        networks = [self._network(model, block) for block in config.blocks]
        activations = [self._activation(model, network)[0] for network in networks]

        def patches(own: Sequence[Tensor]) -> tuple[Patch, ...]:
            each = len(own) // len(networks)
            return tuple(
                Slots(n.down.name, n.down.block, n.ups[0].name, activations[i], *own[i * each : (i + 1) * each])
                for i, n in enumerate(networks)
            )

        found = []
        for group in groups:
            ids = [request.case_id for request in group]
            generator = torch.Generator().manual_seed(seed_of(seed, self.name, *ids))
            slots = config.slots or max(config.least_slots, math.ceil(len(ids) * config.slots_per_100_edits / 100))
            tensors = [tensor for network in networks for tensor in self._initial(model, network, slots, generator)]
            found.append(Variables(tensors, patches))
        return found

    def fitted(self, model: LanguageModel, groups: Sequence[Sequence[EditRequest]], seed: int) -> Edits:
        """See `DescentEditor.fitted`; the fact `slots` is their number in each block."""
        edits = super().fitted(model, groups, seed)
        tried = all(self._activation(model, self._network(model, block))[1] for block in self.config.blocks)
        named = {} if tried else {"activation_by_name": 1.0}
        widths = [float(patch.tensors()["k"].shape[1]) for patch, *_ in edits.patches]
        return replace(edits, facts=tuple({**f, "slots": s, **named} for f, s in zip(edits.facts, widths, strict=True)))

    def _initial(
        self, model: LanguageModel, network: "Network", slots: int, generator: torch.Generator
    ) -> list[Tensor]:
        """Return k [d, slots], v [slots, d] and, in a gated network, g [d, slots].

        As in nn.Linear they are uniform within 1 / sqrt(inputs) of zero; v is zero under `zero_init`.
        """
        width = network.ups[0].d_in

        def draw(inputs: int, outputs: int) -> Tensor:
            return (2 * torch.rand(inputs, outputs, generator=generator) - 1) / math.sqrt(inputs)

        found = [draw(width, slots), torch.zeros(slots, width) if self.config.zero_init else draw(slots, width)]
        if network.gated:
            found.append(draw(width, slots))
        device = model.site_device(network.down)
        return [tensor.to(device, model.edit_dtype) for tensor in found]

    def _network(self, model: LanguageModel | MetaModel, block: int | float) -> "Network":
        prefix = {"dense": "", "shared": "shared ", "experts": "expert "}[self.config.network]
        ups, downs = model.sites(f"{prefix}up", [block]), model.sites(f"{prefix}down", [block])
        if self.config.network == "experts":
            first, width = downs[0], model.structure.width
            whole = Site(model.structure.routers[first.name], first.block, "expert down", width, width)
            return Network((whole,), whole, sum(up.d_out for up in ups) >= 2 * sum(down.d_in for down in downs))
        if len(downs) != 1:
            raise UnservedError(
                f"Block {downs[0].block} has {len(downs)} networks ({', '.join(down.name for down in downs)}); "
                "CaliNet extends exactly one."
            )
        fused = ups[0].d_out == 2 * downs[0].d_in  # gate and up in one layer
        return Network(tuple(ups), downs[0], fused or len(ups) == 2)

    def _activation(self, model: LanguageModel, network: "Network") -> tuple[str, bool]:
        """Return the name of the slots' activation, and whether it was given or found by running the network.

        Activations with parameters (Apertus) and those of routed experts are taken from the configuration.
        """
        chosen = self.config.activation
        if chosen is not None and chosen not in ACT2FN:
            raise InputError(f"Unknown activation '{chosen}' of CaliNet's slots.{did_you_mean(chosen, list(ACT2FN))}")
        single = self.config.network != "experts"
        own = chosen or (activation_of(model.model, network.ups, network.down, model.device) if single else None)
        name = own or activation_name(model.model.config)
        if name is None or name not in ACT2FN:
            raise UnservedError(
                f"The activation between {network.ups[0].name} and {network.down.name} has no name in transformers; "
                "set CaliNet's option 'activation'."
            )
        return name, own is not None


class Network(NamedTuple):
    """A feed-forward network: its up projections, its down projection, and whether it is gated."""

    ups: tuple[Site, ...]
    down: Site
    gated: bool
