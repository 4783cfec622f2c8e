"""Calibration slots against a copy of the model whose feed-forward network really has more neurons."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers.optimization import Adafactor

from instructedit.baselines.calinet import CaliNet, CaliNetConfig
from instructedit.editors import EditRequest, InputError, seed_of

from ..conftest import FAMILIES

REQUESTS = [
    EditRequest("t/test/0", "t", "The name of the spouse of Ada Lovelace is", "Grace Hopper", "Ada Lovelace"),
    EditRequest("t/test/1", "t", "What is the place of birth of Alan Turing?", "King", "Alan Turing"),
    EditRequest("t/test/2", "t", "Grace Hopper's occupation is", "spouse", "Grace Hopper"),
]


class Widened:
    """A copy of a GPT-2 or Llama whose network in one block has s more neurons, with weights k, v and g."""

    def __init__(self, model, family: str, block: int, slots: int) -> None:
        self.family, self.twin = family, copy.deepcopy(model.model)
        if family == "gpt2":
            self.root = f"transformer.h.{block}.mlp"
            self.twin.get_submodule(f"{self.root}.c_fc").nf += slots
        else:
            self.root = f"model.layers.{block}.mlp"

    def weights(self, k: Tensor, v: Tensor, g: Tensor | None = None) -> dict[str, Tensor]:
        """Weights of the wider network."""
        mlp = self.twin.get_submodule(self.root)
        if self.family == "gpt2":
            assert g is None
            return {
                f"{self.root}.c_fc.weight": torch.cat([mlp.c_fc.weight, k], dim=1),
                f"{self.root}.c_fc.bias": torch.cat([mlp.c_fc.bias, torch.zeros(k.shape[1]).to(k)]),
                f"{self.root}.c_proj.weight": torch.cat([mlp.c_proj.weight, v]),
            }
        return {
            f"{self.root}.up_proj.weight": torch.cat([mlp.up_proj.weight, k.T]),
            f"{self.root}.gate_proj.weight": torch.cat([mlp.gate_proj.weight, g.T]),
            f"{self.root}.down_proj.weight": torch.cat([mlp.down_proj.weight, v.T], dim=1),
        }

    def logits(self, ids: list[int], *free: Tensor) -> Tensor:
        """Logits [tokens, vocabulary] of one unpadded text."""
        return functional_call(self.twin, self.weights(*free), kwargs={"input_ids": torch.tensor([ids])}).logits[0]


def first(family: str, slots: int, seed: int, ids: list[str]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed_of(seed, "calinet", *ids))
    k = (2 * torch.rand(32, slots, generator=generator) - 1) / math.sqrt(32)
    free = [k, torch.zeros(slots, 32)]
    if family == "llama":
        free.append((2 * torch.rand(32, slots, generator=generator) - 1) / math.sqrt(32))
    return [tensor.double().requires_grad_() for tensor in free]


def trained(model, family: str, requests, config: CaliNetConfig, seed: int) -> tuple[list[Tensor], int]:
    """One loop over one model, text by text."""
    wide = Widened(model, family, 3, config.slots)
    free = first(family, config.slots, seed, [request.case_id for request in requests])
    optimiser = Adafactor(free, lr=config.lr, scale_parameter=False, relative_step=False)
    for step in range(config.steps):
        total = torch.zeros((), dtype=torch.float64)
        for request in requests:
            prompt = model.tokenizer(request.prompt)["input_ids"]
            target = model.tokenizer(" " + request.target)["input_ids"]
            logits = wide.logits(prompt + target, *free)[len(prompt) - 1 : -1]
            total = total + nn.functional.cross_entropy(logits, torch.tensor(target)) / len(requests)
        if total.item() < config.stop_loss:
            return free, step
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    return free, config.steps


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_equals_training_more_neurons(make_language_model, family, together):
    model = make_language_model(family, torch.float64)
    config = CaliNetConfig(slots=3, lr=0.05, steps=15, stop_loss=1.0)
    editor = CaliNet(config)
    edits = (editor.edit_together if together else editor.edit)(model, REQUESTS, seed=5)
    groups = [REQUESTS] if together else [[request] for request in REQUESTS]
    assert len(edits) == len(groups)
    for number, requests in enumerate(groups):
        wanted, steps = trained(model, family, requests, config, 5)
        (patch,) = edits.patches[number]
        for name, tensor in zip("kvg", wanted, strict=False):
            assert (patch.tensors()[name] - tensor).abs().max() < 1e-7
        assert wanted[1].abs().max() > 0.05, "the edit must move"
        assert edits.facts[number]["steps"] == steps > 0
        row = model.encode("The place of birth of Ada Lovelace is", "London")
        (found,) = (logits for _, logits in model.forward([row], edits.select([number]), [0]))
        logits = Widened(model, family, 3, 3).logits(list(row.ids), *wanted)[list(row.scored)]
        assert (found - logits).abs().max() < 1e-6 * logits.abs().max()


@pytest.mark.parametrize("family", FAMILIES)
def test_slots_are_neurons_of_the_models_own_kind(make_language_model, family):
    model = make_language_model(family)
    (patch,) = CaliNet(CaliNetConfig(steps=2)).edit(model, REQUESTS[:1]).patches[0]
    gated = family in {"llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2"}
    assert (patch.g is not None) == gated
    names = {"gpt2": "gelu_new", "gptj": "gelu_new", "phi": "gelu_new", "gpt_neox": "gelu", "opt": "relu"}
    gelu = {"gemma": "gelu_pytorch_tanh", "gemma2": "gelu_pytorch_tanh"}
    assert patch.activation == {**names, **gelu}.get(family, "silu")


def test_an_untrained_adapter_changes_nothing_unless_asked_for(model):
    rows = [model.encode(request.prompt, request.target) for request in REQUESTS]
    plain = dict(model.forward(rows))

    def change(zero: bool) -> tuple[float, Tensor, Tensor]:
        # A loss this large stops every edit before its first step.
        edits = CaliNet(CaliNetConfig(zero_init=zero, stop_loss=1e6)).edit(model, REQUESTS)
        found = dict(model.forward(rows, edits, [0, 1, 2]))
        (patch,) = edits.patches[0]
        return max(float((found[i] - plain[i]).abs().max()) for i in plain), patch.k, patch.v

    same, k, v = change(zero=True)
    assert same == 0
    assert not v.any()
    assert 0.9 / math.sqrt(32) < k.abs().max() <= 1 / math.sqrt(32), "the default of nn.Linear(32, slots)"
    moved, _, v = change(zero=False)
    assert moved > 1e-3
    assert 0.9 / math.sqrt(16) < v.abs().max() <= 1 / math.sqrt(16), "the default of nn.Linear(16, 32)"


def test_slots_are_in_proportion_to_the_requests(model):
    many = [EditRequest(f"t/test/{n}", "t", "The name of Ada is", "King", "Ada") for n in range(30)]

    def slots(requests, **options) -> list[float]:
        edits = CaliNet(CaliNetConfig(steps=1, **options)).edit_together(model, requests)
        return [edits.facts[0]["slots"], *(float(patch.v.shape[0]) for patch in edits.patches[0])]

    assert slots(many) == [20, 20]  # 19.2 rounded up
    assert slots(many[:2]) == [16, 16]
    assert slots(many[:2], least_slots=1) == [2, 2]
    assert slots(many, slots=5, blocks=(1, -1)) == [5, 5, 5]


class Odd(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(3 * x)


def test_an_activation_without_a_name_is_that_of_the_configuration_or_asked_for(model, monkeypatch):
    for block in model.model.transformer.h:
        block.mlp.act = Odd()
    edits = CaliNet(CaliNetConfig(steps=1)).edit(model, REQUESTS[:1])
    assert (edits.patches[0][0].activation, edits.facts[0]["activation_by_name"]) == ("gelu_new", 1)
    monkeypatch.setattr("instructedit.baselines.calinet.activation_name", lambda _: None)
    with pytest.raises(InputError, match="has no name in transformers; set CaliNet's option 'activation'"):
        CaliNet().edit(model, REQUESTS)


@pytest.mark.parametrize(
    ("act", "name"),
    [
        (torch.nn.ReLU(), "relu"),
        (torch.nn.GELU(), "gelu"),
        (torch.nn.GELU(approximate="tanh"), "gelu_new"),
        (torch.nn.SiLU(), "silu"),
        (torch.nn.Tanh(), "tanh"),
    ],
)
def test_the_activation_is_what_the_modules_compute(model, act, name):
    """GPT-2's configuration says gelu_new, whatever its modules do."""
    for block in model.model.transformer.h:
        block.mlp.act = act
    (patch,) = CaliNet(CaliNetConfig(steps=1)).edit(model, REQUESTS[:1]).patches[0]
    assert patch.activation == name


def test_the_slots_activation_may_be_chosen(model):
    (patch,) = CaliNet(CaliNetConfig(activation="relu", steps=1)).edit(model, REQUESTS[:1]).patches[0]
    assert patch.activation == "relu"
    with pytest.raises(InputError, match=r"Unknown activation 'rleu'.* Did you mean 'relu'"):
        CaliNet(CaliNetConfig(activation="rleu")).edit(model, REQUESTS)
