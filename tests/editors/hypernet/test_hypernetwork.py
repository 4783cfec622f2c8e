"""The hypernetwork core against numpy, autograd and finite differences."""

import copy

import numpy as np
import pytest
import torch

from instructedit.baselines.mend import MEND
from instructedit.editors import EditRequest, GradientConfig, LanguageModel
from instructedit.editors.hypernet import network_editor
from instructedit.editors.hypernet.hypernetwork import FactorNetwork, Hypernetwork, LowRankResidual, Moments
from instructedit.editors.instructedit import InstructEdit

REQUESTS = [
    EditRequest("t/train/0", "t", "The name of the spouse of Ada Lovelace is", "Grace Hopper", "Ada Lovelace"),
    EditRequest("t/train/1", "t", "What is the place of birth of Alan Turing?", "King of Maida", "Alan Turing"),
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_running_statistics_are_those_of_all_tokens():
    rng = np.random.default_rng(0)
    parts = [rng.normal(3.0, 0.01, size=(n, 5)) * [1, 10, 1e-3, 1e3, 1] for n in (1, 7, 0, 300, 2)]
    moments = Moments(5)
    for part in parts:
        moments.update(torch.tensor(part))
    tokens = np.concatenate(parts)
    assert moments.count == len(tokens)
    np.testing.assert_allclose(moments.mean.numpy(), tokens.mean(axis=0), rtol=1e-12)
    got = moments.normalised(torch.tensor(tokens))
    wanted = (tokens - tokens.mean(axis=0)) / (tokens.std(axis=0, ddof=1) + 1e-7)
    np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-9)


def test_statistics_of_float32_tokens_keep_double_precision():
    values = torch.randn(1000, 3) + 1e4
    moments = Moments(3)
    for chunk in values.split(10):
        moments.update(chunk)
    expected = values.double().std(dim=0)
    torch.testing.assert_close((moments.squares / (moments.count - 1)).sqrt(), expected, rtol=1e-9, atol=0)


def test_a_token_that_is_not_finite_does_not_spoil_the_statistics():
    moments = Moments(2)
    moments.update(torch.tensor([[1.0, 2.0], [float("inf"), 0.0], [3.0, 4.0], [0.0, float("nan")]]))
    assert moments.count == 2
    assert moments.mean.tolist() == [2.0, 3.0]


def test_residual_layer_is_the_equation():
    layer = LowRankResidual(6, 4, modes=2, generator=generator()).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator(1), dtype=torch.float64))
    h = torch.randn(3, 6, dtype=torch.float64)
    for mode in (0, 1):
        expected = torch.stack(
            [
                torch.stack(
                    [
                        h[t, i]
                        + max(
                            torch.zeros((), dtype=torch.float64),
                            layer.scale[mode, i]
                            * (sum(layer.u[i, r] * (layer.v[r] @ h[t]) for r in range(4)) + layer.bias[i])
                            + layer.shift[mode, i],
                        )
                        for i in range(6)
                    ]
                )
                for t in range(3)
            ]
        )
        torch.testing.assert_close(layer(h, [3 * (mode == 0), 3 * (mode == 1)]), expected)


def test_a_new_layer_is_the_identity_and_can_leave_it():
    layer = LowRankResidual(6, 4, modes=1, generator=generator())
    h = torch.randn(3, 6)
    assert torch.equal(layer(h, [3]), h)
    layer(h, [3]).sum().backward()
    assert layer.u.grad.abs().sum() > 0, "the gradient at exactly zero is one"


def test_maps_of_one_shape_share_a_network_and_have_a_scale_and_a_step_each(make_language_model):
    model = make_language_model("llama")
    mend = MEND(GradientConfig(blocks=(1, 2)))
    mend.build(model)
    network = mend.hypernetwork
    assert sorted(network.networks) == ["32x48", "48x32"]
    assert network.networks["32x48"].layers[0].scale.shape == (4, 80)  # gate and up of two blocks
    assert network.networks["48x32"].layers[0].scale.shape == (2, 80)
    assert network.edit_lr.shape == (6,)


@pytest.mark.parametrize(("d", "d_ff", "ups", "published"), [(1600, 6400, 3, 123.1e6), (4096, 11008, 6, 232.6e6)])
def test_published_parameter_counts(d, d_ff, ups, published):
    with torch.device("meta"):
        networks = [FactorNetwork(*shape, GradientConfig(), None) for shape in ((d, d_ff, ups), (d_ff, d, 3))]
    count = sum(p.numel() for network in networks for p in network.parameters())
    assert abs(count - published) < 0.05e6


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_pseudo_gradient_of_an_identity_network_is_the_true_gradient(family, make_language_model):
    model = make_language_model(family)
    step = 1e-3
    mend = MEND(GradientConfig(normalise=False, edit_lr=step))
    mend.build(model)
    edits = mend.edit(model, REQUESTS)
    weights = {site.name: model.model.get_submodule(site.name).weight for site in mend.shape.sites}
    for number, request in enumerate(REQUESTS):
        row = model.encode(request.prompt, request.target)
        for weight in weights.values():
            weight.requires_grad_(True)
        logits = model.model(torch.tensor([row.ids])).logits[0, list(row.scored)]
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(row.labels))
        gradients = torch.autograd.grad(loss, list(weights.values()))
        for weight in weights.values():
            weight.requires_grad_(False)
        for patch, gradient in zip(edits.patches[number], gradients, strict=True):
            true = gradient if family == "gpt2" else gradient.T
            assert (patch.delta() / step - true).abs().max() / true.abs().max() < 1e-5


def test_statistics_move_in_training_only(make_language_model):
    model = make_language_model("gpt2")
    mend = MEND()
    mend.build(model)
    groups = [[request] for request in REQUESTS]
    mend.observe(model, groups)
    moments = mend.hypernetwork.networks["32x128"].x_moments
    mend.hypernetwork.train()
    before = float(moments.count)
    mend.patches(model, groups)
    assert moments.count == 2 * before
    mend.hypernetwork.eval()
    mend.edit(model, REQUESTS)
    assert moments.count == 2 * before


def test_an_instruction_stands_in_front_of_the_edit_and_changes_it(make_language_model):
    model = make_language_model("gpt2")
    editor = InstructEdit()
    told = EditRequest("t/train/0", "t", "Ada Lovelace is", "King", "Ada", instruction="Task: T\nDescription: D")
    row = editor.encode(model, told)
    assert model.tokenizer.decode(row.ids) == "Task: T\nDescription: D\nInput: Ada Lovelace is King"
    assert model.tokenizer.decode(row.labels) == " King"
    bare = EditRequest("t/train/0", "t", "Ada Lovelace is", "King", "Ada")
    assert editor.encode(model, bare) == MEND().encode(model, bare)


def test_network_draws_depend_on_the_seed_alone(make_language_model):
    model = make_language_model("gpt2")
    networks = []
    for seed in (0, 0, 1):
        mend = MEND()
        torch.rand(3)  # the global stream has no part in it
        mend.build(model, seed)
        networks.append(mend.hypernetwork.state_dict())
    same = [torch.equal(networks[0][name], networks[1][name]) for name in networks[0]]
    assert all(same)
    assert not all(torch.equal(networks[0][name], networks[2][name]) for name in networks[0])


def test_hypernetwork_is_a_function_of_one_token(make_language_model):
    sites = make_language_model("gpt2").sites("up", [0])
    network = Hypernetwork(sites, GradientConfig(rank=8, normalise=False, edit_lr=0.5), generator())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator(2)))
    x, delta = torch.randn(5, 32), torch.randn(5, 128)
    name = sites[0].name
    together = network({name: network.of(sites[0]).normalised(x, delta)})[name]
    for t in range(5):
        alone = network({name: network.of(sites[0]).normalised(x[t : t + 1], delta[t : t + 1])})[name]
        for ours, theirs in zip(together, alone, strict=True):
            torch.testing.assert_close(ours[t : t + 1], theirs)


@pytest.mark.parametrize("room", [1, 40, 1 << 20])
def test_edits_made_in_parts_and_by_instruction_are_those_made_alone(make_language_model, monkeypatch, room):
    model = make_language_model("gpt2", torch.float64)
    monkeypatch.setattr(LanguageModel, "pack_tokens", property(lambda _: 1))
    monkeypatch.setattr(network_editor, "FACTOR_BYTES", room * 4 * (32 + 128))  # at most `room` tokens
    requests = [
        EditRequest(f"t/train/{number}", "t", f"The name of {number} is", "King", str(number), instruction=instruction)
        for number, instruction in enumerate(("Task: B", "Task: A", None, "Task: B", "Task: A"))
    ]
    editor = InstructEdit()
    editor.build(model)
    editor.observe(model, [[request] for request in requests])
    asked = []
    patches = editor.patches
    monkeypatch.setattr(
        editor, "patches", lambda model, own: asked.append([request for (request,) in own]) or patches(model, own)
    )
    edits = editor.edit(model, requests)
    order = [requests[index] for index in (2, 1, 4, 0, 3)]
    assert [request for part in asked for request in part] == order
    sizes = [sum(len(editor.encode(model, request)) for request in part) for part in asked]
    assert len(asked) == min(5, -(-sum(sizes) // room))
    for request, made in zip(requests, edits.patches, strict=True):
        (alone,) = patches(model, [[request]]).patches
        for ours, own in zip(made, alone, strict=True):
            torch.testing.assert_close(ours.delta(), own.delta(), rtol=1e-9, atol=1e-12)


def test_no_requests_make_no_edits(make_language_model):
    model = make_language_model("gpt2")
    for editor in (MEND(), InstructEdit()):
        editor.build(model)
        assert len(editor.edit(model, [])) == 0


@pytest.mark.parametrize("rank", [2, 8])
def test_inference_follows_every_change_of_the_weights(rank):
    """U V is kept at inference where it is the smaller product; it must not outlive the weights."""
    torch.manual_seed(rank)
    layer = LowRankResidual(10, rank, 1, None).double()
    h = torch.randn(5, 10, dtype=torch.float64)

    def check():
        expected = h + (layer.scale[0] * (h @ layer.v.T @ layer.u.T + layer.bias) + layer.shift[0]).clamp(min=0)
        layer.eval()
        with torch.no_grad():
            for _ in range(2):
                torch.testing.assert_close(layer(h, [5]), expected.detach())

    check()
    layer.train()
    with torch.no_grad():
        layer.u.normal_()
    check()
    layer.load_state_dict({name: 2 * value for name, value in layer.state_dict().items()})
    check()
    layer = copy.deepcopy(layer)
    layer.load_state_dict({name: value / 3 for name, value in layer.state_dict().items()})
    check()
