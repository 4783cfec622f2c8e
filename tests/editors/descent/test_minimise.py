"""Many edits optimised side by side: each stops by itself, and a joint edit is cut into parts that bound a step."""

import copy
import math
from functools import partial

import pytest
import torch

from instructedit.editors import (
    Dense,
    Descent,
    EditRequest,
    EditRows,
    EditTexts,
    LanguageModel,
    TokenShift,
    Variables,
    minimise,
    subject_token,
)

PROMPTS = ["The name of Ada is", "The place of birth is", "Grace Hopper's occupation is", "Alan is"]


def dense(model: LanguageModel, first: float = 0.0) -> Variables:
    """A dense change of the last block's output map, whose numbers start alike."""
    (site,) = model.sites("down", [-1])
    d = torch.full((site.d_in, site.d_out), first, dtype=model.edit_dtype)
    return Variables([d], lambda own: (Dense(site.name, site.block, own[0]),))


def descend(
    model: LanguageModel,
    owners: list[int],
    kind=torch.optim.SGD,
    lr: float = 0.1,
    seed: int = 0,
    seen: list[int] | None = None,
    **descent,
):
    """Edit prompts; `seen` receives the row of each loss."""
    rows = [model.encode(prompt, "King") for prompt in PROMPTS[: len(owners)]]
    texts = EditRows.of([EditTexts((row,)) for row in rows])

    def loss(row: int, log_p: torch.Tensor) -> torch.Tensor:
        if seen is not None:
            seen.append(row)
        return texts.loss(row, log_p)

    return minimise(
        model,
        rows,
        owners,
        [dense(model) for _ in range(max(owners, default=-1) + 1)],
        Descent(optimiser=partial(kind, lr=lr), **descent),
        loss,
        seed=seed,
    )


def by_hand(model: LanguageModel, rounds: list[list[int]]) -> torch.Tensor:
    """Steps of gradient descent on the weight itself, each on the mean loss of some prompts."""
    (site,) = model.sites("down", [-1])
    twin = copy.deepcopy(model.model)
    weight = twin.get_submodule(site.name).weight.requires_grad_(True)
    before = weight.detach().clone()
    for chosen in rounds:
        rows = [model.encode(PROMPTS[i], "King") for i in chosen]
        losses = [
            torch.nn.functional.cross_entropy(
                twin(input_ids=torch.tensor([row.ids])).logits[0, list(row.scored)], torch.tensor(row.labels)
            )
            for row in rows
        ]
        (gradient,) = torch.autograd.grad(torch.stack(losses).mean(), [weight])
        with torch.no_grad():
            weight -= 0.1 * gradient
    return weight.detach() - before


@pytest.fixture
def exact(make_language_model) -> LanguageModel:
    return make_language_model("gpt2", torch.float64)


def test_a_joint_edit_goes_round_its_parts_in_an_order_of_the_seed(exact):
    seen: list[int] = []
    edits = descend(exact, [0, 0, 0, 0], steps=3, batch=3, seen=seen)
    first, second, third = seen[:3], seen[3:4], seen[4:7]
    assert sorted(first + second) == [0, 1, 2, 3]
    assert seen == [*first, *second, *first, *first, *second], "each part once more after the last step"
    assert (edits.patches[0][0].d - by_hand(exact, [first, second, third])).abs().max() < 1e-9
    orders = set()
    for seed in range(8):
        seen.clear()
        descend(exact, [0, 0, 0, 0], steps=2, batch=3, seed=seed, seen=seen)
        orders.add(seen[3])
    assert len(orders) > 1


def test_a_joint_edit_stops_by_the_mean_over_a_whole_round(exact):
    full = descend(exact, [0, 0, 0, 0], lr=1e-9, steps=1).facts[0]["final_loss"]
    parts = descend(exact, [0, 0, 0, 0], lr=1e-9, steps=9, batch=3).facts[0]
    wanted = {"steps": 9.0, "final_loss": pytest.approx(full, rel=1e-6), "converged": 0.0}
    assert parts == wanted, "parts weigh as many as they hold"
    stopped = descend(exact, [0, 0, 0, 0], lr=1e-9, steps=9, batch=3, stop_loss=full + 1e-3).facts[0]
    assert stopped["steps"] == 1, "the second part was looked at before the edit stopped"


def test_independent_edits_are_never_cut(exact):
    whole = descend(exact, [0, 1, 2, 3], steps=4)
    small = descend(exact, [0, 1, 2, 3], steps=4, batch=1)
    for ours, theirs in zip(whole.patches, small.patches, strict=True):
        assert torch.equal(ours[0].d, theirs[0].d)
    assert (whole.patches[2][0].d - by_hand(exact, [[2]] * 4)).abs().max() < 1e-9


def test_each_edit_stops_by_itself(exact):
    (slow, fast) = descend(exact, [0, 1], steps=60).facts
    bound = (slow["final_loss"] + fast["final_loss"]) / 2
    assert (slow["converged"], fast["converged"]) == (0, 0), "no loss is below zero"
    facts = descend(exact, [0, 1], steps=60, stop_loss=bound).facts
    steps = sorted(f["steps"] for f in facts)
    assert steps[0] < steps[1] == 60
    assert min(f["final_loss"] for f in facts) < bound
    assert [f["converged"] for f in facts] == [float(f["final_loss"] < bound) for f in facts]
    assert {f["converged"] for f in facts} == {0.0, 1.0}


def loss_of(model: LanguageModel, edits, number: int, prompts: list[str]) -> float:
    """The loss of an edit that is written into a copy of the model, one unpadded pass a prompt."""
    twin = edits.apply_to(model.model, number)
    losses = []
    for prompt in prompts:
        row = model.encode(prompt, "King")
        with torch.no_grad():
            logits = twin(input_ids=torch.tensor([row.ids])).logits[0, list(row.scored)]
        losses.append(float(torch.nn.functional.cross_entropy(logits, torch.tensor(row.labels))))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("stop_loss", [0.0, 3.0])
def test_the_final_loss_is_that_of_the_edit_that_is_returned(exact, stop_loss):
    apart = descend(exact, [0, 1, 2, 3], steps=5, stop_loss=stop_loss)
    before = [loss_of(exact, descend(exact, [0, 1, 2, 3], steps=4), number, [PROMPTS[number]]) for number in range(4)]
    for number, facts in enumerate(apart.facts):
        assert facts["final_loss"] == pytest.approx(loss_of(exact, apart, number, [PROMPTS[number]]), abs=1e-9)
        if facts["steps"] == 5:
            assert abs(facts["final_loss"] - before[number]) > 1e-4, "not the loss that the last step was taken on"
    joint = descend(exact, [0, 0, 0, 0], steps=5, batch=3, stop_loss=stop_loss)
    assert joint.facts[0]["final_loss"] == pytest.approx(loss_of(exact, joint, 0, PROMPTS), abs=1e-9)


def test_an_edit_that_stopped_is_not_run_again(exact):
    """Its numbers are those of an edit by itself, and the others' too."""
    bound = max(f["final_loss"] for f in descend(exact, [0, 1, 2, 3], steps=3).facts)
    together = descend(exact, [0, 1, 2, 3], steps=30, stop_loss=bound)
    seen: list[int] = []
    again = descend(exact, [0, 1, 2, 3], steps=30, stop_loss=bound, seen=seen)
    steps = [int(f["steps"]) for f in again.facts]
    assert len(set(steps)) > 1, "they stop at different times"
    assert seen == [row for step in range(max(steps) + 1) for row, own in enumerate(steps) if step <= own]
    for number, (patch,) in enumerate(together.patches):
        assert torch.equal(patch.d, again.patches[number][0].d)
        assert (patch.d - by_hand(exact, [[number]] * steps[number])).abs().max() < 1e-9


def test_an_edit_whose_loss_is_no_number_stops_and_leaves_the_others_alone(exact):
    """One of two edits starts from what is no number."""
    rows = [exact.encode(prompt, "King") for prompt in PROMPTS[:2]]
    loss = EditRows.of([EditTexts((row,)) for row in rows]).loss
    edits = minimise(
        exact, rows, [0, 1], [dense(exact, math.nan), dense(exact)], Descent(4, partial(torch.optim.SGD, lr=0.1)), loss
    )
    assert [f["steps"] for f in edits.facts] == [0, 4]
    assert math.isnan(edits.facts[0]["final_loss"])
    assert (edits.patches[1][0].d - by_hand(exact, [[1]] * 4)).abs().max() < 1e-9


def test_nothing_to_edit_is_no_edit(exact):
    assert len(descend(exact, [], steps=1)) == 0


def test_an_edit_that_has_stopped_is_not_moved_by_momentum(exact):
    bound = max(f["final_loss"] for f in descend(exact, [0, 1], torch.optim.Adam, 1e-3, steps=3).facts)
    together = descend(exact, [0, 1], torch.optim.Adam, 1e-3, steps=20, stop_loss=bound)
    steps = [int(facts["steps"]) for facts in together.facts]
    assert steps[0] != steps[1]
    alone = descend(exact, [0, 1], torch.optim.Adam, 1e-3, steps=min(steps))
    first = steps.index(min(steps))
    assert torch.equal(together.patches[first][0].d, alone.patches[first][0].d)


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
    variables = Variables([shift], lambda own: (TokenShift(site.name, site.block, own[0], tuple(tokens)),))

    def loss(index, logits):
        labels = torch.tensor(rows[index].labels)
        return torch.nn.functional.cross_entropy(logits, labels) + 0.5 * variables.tensors[0].square().sum()

    edits = minimise(model, rows, [0, 0], [variables], Descent(5, partial(torch.optim.SGD, lr=0.1)), loss)
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
