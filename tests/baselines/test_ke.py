"""KE's low-rank patches against the dense formula of the paper, and its constraint."""

import pytest
import torch

from instructedit.baselines.ke import KE, KEConfig
from instructedit.editors import TrainingSet, make
from instructedit.editors.hypernet.objective import Losses

from ..editors.cases import fact, facts

REQUESTS = [fact(0).request, fact(1).request, fact(5).request]


def built(model, **options) -> KE:
    ke = make(KE, {"hidden": 8, "condition": 6, **options})
    ke.build(model, seed=3)
    with torch.no_grad():  # gates far from even, so that a wrong one shows
        for parameter in ke.reader.parameters():
            parameter.mul_(3)
    ke.reader.eval()
    return ke


@pytest.mark.parametrize("gates", ["paper", "released"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_low_rank_form_is_the_dense_formula(family, gates, make_language_model):
    """As released, the softmax runs along the first axis of the stored weight: d_in for GPT-2's Conv1D."""
    model = make_language_model(family, torch.float64)
    ke = built(model, max_scale=0.7, gates=gates)
    edits = ke.edit(model, REQUESTS)
    for number, request in enumerate(REQUESTS):
        row = model.encode(request.prompt, request.target)
        with torch.no_grad():
            h = ke.reader([row.ids])
        weights = [model.model.get_submodule(site.name).weight.requires_grad_(True) for site in ke.shape.sites]
        logits = model.model(torch.tensor([row.ids])).logits[0, list(row.scored)]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(row.labels))
        gradients = torch.autograd.grad(loss, weights)
        for weight, gradient, conditioner, patch in zip(
            weights, gradients, ke.reader.conditioners, edits.patches[number], strict=True
        ):
            weight.requires_grad_(False)
            true = gradient.T if family == "gpt2" else gradient  # [d_out, d_in]
            with torch.no_grad():
                inner = torch.tanh(conditioner.inner(h))
                out = conditioner.outer(inner)[0]
            d_out, d_in = true.shape
            r_a, c_a, r_b, c_b, scale = out.split([d_out, d_in, d_out, d_in, 1])
            if gates == "released" and weight.shape == (d_in, d_out) and family == "gpt2":
                # rows and columns of the release are those of the stored weight
                a = torch.outer(torch.softmax(c_a, 0), r_a).T
                b = torch.outer(torch.softmax(c_b, 0), r_b).T
            else:
                a = torch.outer(torch.softmax(r_a, 0), c_a)
                b = torch.outer(torch.softmax(r_b, 0), c_b)
            dense = 0.7 * torch.sigmoid(scale) * (a * true + b)
            torch.testing.assert_close(patch.delta().T, dense, rtol=1e-5, atol=1e-9)


def test_embedding_starts_as_the_base_models_and_is_a_copy(model):
    ke = make(KE)
    ke.build(model)
    embedding = model.model.get_input_embeddings().weight
    assert torch.equal(ke.reader.embedding.weight, embedding)
    assert ke.reader.embedding.weight.data_ptr() != embedding.data_ptr()
    assert ke.reader.embedding.weight.requires_grad
    assert not embedding.requires_grad


def test_original_reading_names_the_old_answer(model):
    ke = built(model, reads="original")
    rows = [model.encode(request.prompt, request.target) for request in REQUESTS]
    texts = ke._texts(model, REQUESTS, rows)
    for request, row, ids in zip(REQUESTS, rows, texts, strict=True):
        logits = model.model(torch.tensor([row.ids])).logits[0]
        old = model.tokenizer.decode([int(logits[p].argmax()) for p in row.scored]).strip()
        assert model.tokenizer.decode(ids) == f"{old} >> {request.target} || {request.prompt}"


def test_multiplier_climbs_while_the_divergence_is_above_the_margin_and_stays_positive(model):
    ke = built(model, constraint="margin", margin=0.5)
    multiplier = ke.reader.multiplier
    with torch.no_grad():
        multiplier.fill_(1.0)
    optimiser = torch.optim.SGD(ke.parameter_groups(), lr=0.1)
    ke.before_step(Losses(cases=2, locality=2 * 0.9))
    optimiser.step()
    assert multiplier.item() == pytest.approx(1.0 + 0.1 * (0.9 - 0.5))
    assert ke.loss_weights() == (1.0, pytest.approx(multiplier.item()))
    with torch.no_grad():
        multiplier.fill_(-3.0)
    assert ke.loss_weights()[1] == 0.0
    ke.before_step(Losses(cases=1, locality=0.5))
    assert multiplier.item() == 0.0


def test_margin_shrinks_once_nine_in_ten_edits_succeed(model):
    ke = built(model, constraint="margin", margin=1e-3, margin_floor=7e-4)
    with torch.no_grad():
        ke.reader.margin.fill_(1e-3)
    ke.after_validation({"exact": 0.9})
    assert float(ke.reader.margin) == pytest.approx(1e-3)
    ke.after_validation({"exact": 0.95})
    assert float(ke.reader.margin) == pytest.approx(8e-4)
    ke.after_validation({"exact": 0.95})
    assert float(ke.reader.margin) == pytest.approx(7e-4)


def test_penalty_is_the_default_and_has_no_multiplier(model):
    assert KEConfig().constraint == "penalty"
    ke = built(model)
    assert len(ke.parameter_groups()) == 1
    assert ke.loss_weights() == (0.1, 1.0)


def test_training_under_the_constraint_moves_the_multiplier(model, tmp_path):
    ke = make(
        KE,
        {
            "hidden": 8,
            "condition": 6,
            "constraint": "margin",
            "training": {"steps": 3, "batch": 2, "accumulate": 1, "lr": 1e-3, "validate_every": 2},
        },
    )
    ke.fit(model, TrainingSet(facts(4), facts(2), {"facts": 1.0}), tmp_path)
    assert float(ke.reader.multiplier) != 1.0
