"""The fast form of GELU against the one that transformers writes out."""

from contextlib import nullcontext

import pytest
import torch
from transformers.activations import ACT2FN, NewGELUActivation

from instructedit.editors import activations
from instructedit.editors.activations import TanhGELU, activation, differentiated_once


def test_a_model_computes_its_activation_by_the_fast_form(model):
    act = model.model.transformer.h[0].mlp.act
    assert isinstance(act, TanhGELU)
    x = torch.linspace(-8, 8, 1001, dtype=torch.float64)
    assert (act(x) - NewGELUActivation()(x)).abs().max() < 1e-15


@pytest.mark.parametrize("name", ["gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate"])
@pytest.mark.parametrize("count", [1000, activations.PIECE // 2, 2 * activations.PIECE + 7])
def test_one_function_in_all_sizes(name, count):
    x = torch.linspace(-12, 12, count).repeat(2, 1)
    wanted = ACT2FN[name](x.double())
    assert (activation(name)(x) - wanted).abs().max() < 1e-6
    turned = x.T
    assert not turned.is_contiguous()
    assert (activation(name)(turned) - wanted.T).abs().max() < 1e-6


def test_what_is_not_finite_stays_with_its_own_number():
    x = torch.zeros(2 * activations.PIECE)
    x[:4] = torch.tensor([1e20, -1e20, float("inf"), float("nan")])
    y = TanhGELU()(x)
    torch.testing.assert_close(y[:4], NewGELUActivation()(x[:4]), equal_nan=True)
    assert (y[4:] == 0).all()


@pytest.mark.parametrize("count", [1000, activations.PIECE // 2, 2 * activations.PIECE + 7])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("way", [nullcontext, differentiated_once])
def test_values_and_gradients_are_those_of_the_function(count, turned, way):
    x = torch.linspace(-12, 12, count).repeat(2, 1)
    x = (x.T if turned else x).requires_grad_()
    again = x.detach().double().requires_grad_()
    with way():
        found, wanted = TanhGELU()(x), NewGELUActivation()(again)
    assert (found - wanted).abs().max() < 1e-6
    (slope,), (right,) = torch.autograd.grad(found.sum(), [x]), torch.autograd.grad(wanted.sum(), [again])
    assert (slope - right).abs().max() < 4e-6


def test_slopes_where_the_function_is_flat_or_straight():
    x = torch.zeros(activations.PIECE)
    x[:6] = torch.tensor([1e4, -1e4, 40.0, -40.0, 1e18, -1e18])
    with differentiated_once():
        y = TanhGELU()(x.requires_grad_())
    (slope,) = torch.autograd.grad(y.sum(), [x])
    assert slope[:6].tolist() == [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    assert (slope[6:] == 0.5).all()


def test_second_derivatives_are_had_or_refused():
    x = torch.linspace(-3, 3, activations.PIECE).requires_grad_()

    def second(way):
        with way():
            y = TanhGELU()(x)
        (slope,) = torch.autograd.grad(y.square().sum(), [x], create_graph=True)
        return torch.autograd.grad(slope.sum(), [x])[0]

    again = x.detach().double().requires_grad_()
    (slope,) = torch.autograd.grad(NewGELUActivation()(again).square().sum(), [again], create_graph=True)
    (wanted,) = torch.autograd.grad(slope.sum(), [again])
    assert (second(nullcontext) - wanted).abs().max() < 1e-4
    with pytest.raises(RuntimeError, match="to not have been used in the graph"):
        second(differentiated_once)


def test_other_activations_stay():
    assert type(activation("relu")) is type(ACT2FN["relu"])
    assert type(activation("gelu")) is type(ACT2FN["gelu"])
