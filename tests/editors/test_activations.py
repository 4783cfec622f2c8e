"""The fast form of GELU against the one that transformers writes out."""

import pytest
import torch
from transformers.activations import ACT2FN, NewGELUActivation

from instructedit.editors import activations
from instructedit.editors.activations import TanhGELU, activation


def test_a_model_computes_its_activation_by_the_fast_form(model):
    act = model.model.transformer.h[0].mlp.act
    assert isinstance(act, TanhGELU)
    x = torch.linspace(-8, 8, 1001, dtype=torch.float64)
    assert (act(x) - NewGELUActivation()(x)).abs().max() < 1e-15


@pytest.mark.parametrize("name", ["gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate"])
@pytest.mark.parametrize("count", [1000, activations._PIECE // 2, 2 * activations._PIECE + 7])
def test_one_function_in_all_sizes(name, count):
    x = torch.linspace(-12, 12, count).repeat(2, 1)
    wanted = ACT2FN[name](x.double())
    assert (activation(name)(x) - wanted).abs().max() < 1e-6
    turned = x.T
    assert not turned.is_contiguous()
    assert (activation(name)(turned) - wanted.T).abs().max() < 1e-6


def test_what_is_not_finite_stays_with_its_own_number():
    x = torch.zeros(2 * activations._PIECE)
    x[:4] = torch.tensor([1e20, -1e20, float("inf"), float("nan")])
    y = TanhGELU()(x)
    torch.testing.assert_close(y[:4], NewGELUActivation()(x[:4]), equal_nan=True)
    assert (y[4:] == 0).all()


def test_gradients_are_those_of_the_function():
    x = torch.linspace(-6, 6, activations._PIECE).requires_grad_()
    again = x.detach().double().requires_grad_()
    (found,) = torch.autograd.grad(TanhGELU()(x).square().sum(), [x])
    (wanted,) = torch.autograd.grad(NewGELUActivation()(again).square().sum(), [again])
    assert (found - wanted).abs().max() < 1e-4


def test_other_activations_stay():
    assert type(activation("relu")) is type(ACT2FN["relu"])
    assert type(activation("gelu")) is type(ACT2FN["gelu"])
