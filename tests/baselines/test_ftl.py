"""FT-L and FT-M against plain fine-tuning of a copy of the model."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from instructedit.baselines.ftl import FTL, FTM, FTConfig, FTMConfig
from instructedit.editors import EditRequest

REQUESTS = [
    EditRequest("t/test/0", "t", "The name of the spouse of Ada Lovelace is", "Grace Hopper", "Ada Lovelace"),
    EditRequest("t/test/1", "t", "What is the place of birth of Alan Turing?", "King", "Alan Turing"),
]


def fine_tuned(model, requests, config: FTConfig, site_name: str) -> tuple[Tensor, int]:
    """The published loop, one model, weights really changed: Adam on W, then clamp to [W0 - eps, W0 + eps]."""
    twin = copy.deepcopy(model.model)
    weight = twin.get_submodule(site_name).weight
    weight.requires_grad_(True)
    first = weight.detach().clone()
    adam = torch.optim.Adam([weight], lr=config.lr)
    steps = 0
    for _ in range(config.steps):
        losses = []
        for request in requests:
            prompt = model.tokenizer(request.prompt)["input_ids"]
            target = model.tokenizer(" " + request.target)["input_ids"]
            if config.objective == "prompt_last":
                log_p = twin(input_ids=torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
                losses.append(-log_p[target].mean())
            else:
                logits = twin(input_ids=torch.tensor([prompt + target])).logits[0, len(prompt) - 1 : -1]
                losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(target)))
        loss = torch.stack(losses).mean()
        if loss.item() < config.stop_loss:
            break
        adam.zero_grad()
        loss.backward()
        adam.step()
        steps += 1
        with torch.no_grad():
            weight.clamp_(first - config.clamp, first + config.clamp)
    change = weight.detach() - first
    return (change if weight.shape[0] != 32 else change.T), steps


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("objective", ["prompt_last", "target"])
def test_equals_plain_fine_tuning(make_language_model, family, objective):
    model = make_language_model(family, torch.float64)
    config = FTConfig(objective=objective, block=1, lr=0.01, steps=12, clamp=0.05, stop_loss=0.5)
    edits = FTL(config).edit(model, REQUESTS)
    (site,) = model.sites("down", [1])
    for number, request in enumerate(REQUESTS):
        wanted, steps = fine_tuned(model, [request], config, site.name)
        found = edits.patches[number][0].d
        assert found.shape == wanted.shape
        # Llama's norms round to float32
        assert (found - wanted).abs().max() < (1e-6 if family == "llama" else 1e-8)
        assert edits.facts[number]["steps"] == steps
        assert wanted.abs().max() > 0.04, "the edit must move"


@pytest.mark.parametrize(("objective", "lr"), [("prompt_last", 0.01), ("target", 0.003), ("target", 0.2)])
def test_how_much_of_a_change_stands_at_its_bound_is_counted(model, objective, lr):
    """0.0103 is no number of float32, so that the bound is another than the option."""
    config = FTConfig(objective=objective, block=1, lr=lr, steps=9, clamp=0.0103)
    edits = FTL(config).edit(model, REQUESTS)
    for facts, (patch,) in zip(edits.facts, edits.patches, strict=True):
        entries = patch.d.numpy().astype(np.float64).ravel().tolist()
        assert facts["at_bound"] == sum(abs(d) > 0.0103 - 1e-8 for d in entries) / len(entries)
    assert (lr == 0.2) == (min(facts["at_bound"] for facts in edits.facts) > 0.9)
    free = FTL(config.model_copy(update={"clamp": False})).edit(model, REQUESTS)
    assert "at_bound" not in free.facts[0], "there is no bound"


def test_without_a_clamp_the_change_is_free(model):
    edits = FTL(FTConfig(lr=0.1, steps=10, clamp=False)).edit(model, REQUESTS)
    assert edits.patches[0][0].d.abs().max() > 0.1


def test_the_published_objective_misses_targets_of_several_tokens(model):
    """FT-L pushes every target token behind the prompt; FT-M learns the sequence (METHODS of the field, rome#41)."""
    request = REQUESTS[0]
    row = model.encode(request.prompt, request.target)
    assert len(row.labels) > 2
    options = {"block": 1, "lr": 0.05, "steps": 60, "clamp": 0.5}

    def predicted(edits):
        return next(model.forward([row], edits, [0]))[1].argmax(-1).tolist()

    assert predicted(FTM(FTMConfig(**options)).edit(model, [request])) == list(row.labels)
    assert predicted(FTL(FTConfig(**options)).edit(model, [request])) != list(row.labels)
