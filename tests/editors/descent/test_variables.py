"""Variables of an edit against plain torch, and what an outside author builds on them."""

from functools import partial

import pytest
import torch

from instructedit.editors import Dense, Descent, EditRequest, TokenShift, Variables, minimise, subject_token
from instructedit.editors.descent.variables import JointOptimiser


@pytest.mark.parametrize("bound", [None, 0.02])
def test_a_step_is_the_optimisers_and_a_clamp(bound):
    torch.manual_seed(0)
    plain = torch.zeros(7, 3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([plain], lr=0.01)
    ours = Variables(
        [torch.zeros(7, 3, dtype=torch.float64)],
        lambda own: (Dense("layer", 0, own[0]),),
        partial(torch.optim.Adam, lr=0.01),
        bound,
    )
    optimiser = JointOptimiser([ours])
    for step in range(4):
        x, y = torch.randn(4, 7, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
        (patch,) = ours.patches()
        optimiser.zero_grad()
        adam.zero_grad()
        if step == 2:  # no token reaches the layer: Adam moves on by its moments
            plain.grad = torch.zeros_like(plain)
        else:
            patch(x, y, ()).square().sum().backward()
            (y + x @ plain).square().sum().backward()
        optimiser.step([ours])
        adam.step()
        with torch.no_grad():
            plain.clamp_(*((-bound, bound) if bound else (None, 1e9)))
    (made,) = ours.finished()
    assert type(made) is Dense
    assert not made.d.requires_grad
    torch.testing.assert_close(made.d, plain.detach(), rtol=1e-9, atol=1e-12)
    assert plain.abs().max() > 0.015, "the change must move"


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_shift_at_the_subjects_last_token_is_optimised_under_a_loss_of_ones_own(make_language_model, family):
    """ROME's v: a hook that adds the vector at the token, SGD, and a weight decay as a second term of the loss."""
    model = make_language_model(family, torch.float64)
    requests = [
        EditRequest("t/test/0", "t", "The name of the spouse of Ada Lovelace is", "Grace Hopper", "Ada Lovelace"),
        EditRequest("t/test/1", "t", "Alan Turing is the name of", "King", "Alan Turing"),
    ]
    rows = [model.encode(request.prompt, request.target) for request in requests]
    tokens = [subject_token(model, request) for request in requests]
    for request, row, token in zip(requests, rows, tokens, strict=True):
        assert model.tokenizer.decode(row.ids[: token + 1]).strip().endswith(request.subject)
    (site,) = model.sites("down", [1])
    shift = torch.zeros(site.d_out, dtype=torch.float64)
    variables = Variables(
        [shift],
        lambda own: (TokenShift(site.name, site.block, own[0], tuple(tokens)),),
        partial(torch.optim.SGD, lr=0.1),
    )

    def loss(index, logits):
        labels = torch.tensor(rows[index].labels)
        return torch.nn.functional.cross_entropy(logits, labels) + 0.5 * variables.tensors[0].square().sum()

    edits = minimise(model, rows, [0, 0], [variables], Descent(steps=5), loss)
    by_hand = torch.zeros(site.d_out, dtype=torch.float64, requires_grad=True)
    for _ in range(5):
        total = 0.5 * by_hand.square().sum()
        for row, token in zip(rows, tokens, strict=True):

            def add(_m, _a, y, token=token, vector=by_hand):
                return y + vector * (torch.arange(y.shape[-2]) == token)[:, None]

            handle = model.model.get_submodule(site.name).register_forward_hook(add)
            logits = model.model(torch.tensor([row.ids])).logits[0, list(row.scored)]
            handle.remove()
            total = total + torch.nn.functional.cross_entropy(logits, torch.tensor(row.labels)) / 2
        (gradient,) = torch.autograd.grad(total, [by_hand])
        by_hand = (by_hand - 0.1 * gradient).detach().requires_grad_()
    assert by_hand.abs().max() > 1e-3
    tolerance = 1e-6 if family == "llama" else 1e-9  # Llama's norms round to float32
    assert (edits.patches[0][0].shift - by_hand).abs().max() < tolerance


def test_an_edit_that_has_stopped_is_not_moved_by_momentum():
    both = [
        Variables([torch.tensor([1.0], dtype=torch.float64)], lambda _: (), partial(torch.optim.Adam, lr=0.1))
        for _ in range(2)
    ]
    both[1].optimiser = both[0].optimiser
    optimiser = JointOptimiser(both)
    for own in both:
        own.tensors[0].grad = torch.ones_like(own.tensors[0])
    optimiser.step(both)
    stopped = both[0].tensors[0].detach().clone()
    both[0].tensors[0].grad = torch.zeros_like(both[0].tensors[0])
    both[1].tensors[0].grad = torch.ones_like(both[1].tensors[0])
    optimiser.step([both[1]])
    assert torch.equal(both[0].tensors[0], stopped)
    assert not torch.equal(both[1].tensors[0], stopped)
