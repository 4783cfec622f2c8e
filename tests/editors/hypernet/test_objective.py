"""The outer loss against an explicit computation, and its gradient against finite differences."""

import random
from dataclasses import replace

import pytest
import torch

from instructedit.baselines.mend import MEND
from instructedit.editors import Context, EditCase, EditRequest, Edits, GradientConfig, LowRank, ObjectiveConfig, Probe
from instructedit.editors.hypernet.objective import Losses, outer_loss, outer_rows
from instructedit.editors.texts import EPSILON

from ..cases import attitude, fact


def drawn(model, case, owner=0, context=None, seed=0, **options):
    config = ObjectiveConfig(**options)
    return outer_rows(model, case, case.request, owner, context, config, random.Random(seed))


def text(model, outer):
    return model.tokenizer.decode(outer.row.ids)


def test_the_edit_is_judged_on_a_rephrase_and_on_locality_answers(model):
    outers = drawn(model, fact(0))
    assert [o.kind for o in outers] == ["edit", "locality", "locality"]
    assert text(model, outers[0]) == "What is the name of the spouse of Ada Lovelace? William King"
    assert model.tokenizer.decode(outers[0].row.labels) == " William King"
    assert sorted(model.tokenizer.decode(o.row.labels) for o in outers[1:]) == [" London", " computer scientist"]
    tokens = sum(len(o.row.scored) for o in outers[1:])
    assert all(o.scale == 1 / tokens for o in outers[1:])


def test_no_portability_probe_is_trained_on(model):
    for seed in range(20):
        assert not any("country" in text(model, o) for o in drawn(model, fact(0), seed=seed))


def test_released_options_take_the_edit_prompt_and_shift_the_positions(model):
    published = drawn(model, fact(0))
    released = drawn(model, fact(0), edit_prompt="same", kl_positions="released")
    assert text(model, released[0]) == "The name of the spouse of Ada Lovelace is William King"
    for ours, theirs in zip(published[1:], released[1:], strict=True):
        assert theirs.row.scored == tuple(p + 1 for p in ours.row.scored)


def test_a_context_stands_in_front_for_its_roles_only(model):
    outers = drawn(model, fact(0), context=Context("Task: T\nInput: ", ("reliability", "generalization")))
    assert text(model, outers[0]).startswith("Task: T\nInput: What is the name")
    assert all(text(model, o).startswith("The") for o in outers[1:])


def test_the_unedited_model_is_asked_without_the_context(model):
    context = Context("Task: T\nInput: ", ("locality",))
    told = [o for o in drawn(model, fact(0), context=context) if o.kind == "locality"]
    assert [o.bare for o in told] == [o.row for o in drawn(model, fact(0)) if o.kind == "locality"]
    assert all(text(model, o) == "Task: T\nInput: " + model.tokenizer.decode(o.bare.ids) for o in told)
    # an edit that changes nothing: what is left is what the context does
    site = model.sites("down", (-1,))[0]
    patch = LowRank(site.name, site.block, torch.zeros(site.d_in, 1), torch.zeros(1, site.d_out))
    found = outer_loss(model, Edits(((patch,),)), told, 1.0, 1.0)
    expected = 0.0
    for outer in told:
        (_, old), (_, new) = (next(model.forward([row])) for row in (outer.bare, outer.row))
        kl = torch.nn.functional.kl_div(new.log_softmax(-1), old.log_softmax(-1), log_target=True, reduction="sum")
        expected += outer.scale * float(kl)
    assert found.locality == pytest.approx(expected, rel=1e-4)
    assert found.locality > 1e-4


def test_an_edit_by_a_descriptor_is_judged_by_replies_to_the_question(model):
    """SERAC's form: the edit is `Topic: ...`, and nobody asks the question for `Sentiment: ...`."""
    case = attitude(0)
    request = replace(case.request, prompt="Topic: Ada Lovelace", target="Sentiment: Positive")
    question, replies, opposed = case.request.prompt, ("admiral", "computer scientist"), ("King", "Vale")
    probes = (
        Probe("reliability", "edit", request.prompt, (request.target,)),
        Probe("reliability", "sentiment", question, replies, opposed=opposed),
        Probe("generalization", "sentiment", "Who is Ada Lovelace?", replies, derived=True, opposed=opposed),
    )
    for edit_prompt, asked in (("same", question), ("equivalent", "Who is Ada Lovelace?"), ("both", "Who is")):
        outers = drawn(model, EditCase(request, probes), edit_prompt=edit_prompt, replies=2)
        assert [o.kind for o in outers] == ["edit", "edit", "opposed", "opposed"]
        assert all(text(model, o).startswith(asked) for o in outers)
        assert {text(model, o).partition("? ")[2] for o in outers} == {*replies, *opposed}


def test_the_target_is_one_text_among_all_replies(model):
    """A reply that is the target as well is not taken twice, whatever the number of replies."""
    case = attitude(0)
    probes = tuple(
        replace(probe, answers=("rear admiral", *probe.answers)) if probe.opposed else probe for probe in case.probes
    )
    outers = drawn(model, replace(case, probes=probes), replies=9)
    told = [text(model, o).partition("? ")[2] for o in outers if o.kind == "edit"]
    assert sorted(told) == ["admiral", "computer scientist", "rear admiral"]


def test_attitudes_are_judged_by_replies_of_both_sentiments(model):
    outers = drawn(model, attitude(0), replies=2)
    assert [o.kind for o in outers] == ["edit"] * 3 + ["opposed"] * 2 + ["locality"]
    assert {model.tokenizer.decode(o.row.labels).strip() for o in outers if o.kind == "opposed"} == {"King", "Vale"}


def test_the_opposite_sentiment_can_be_left_alone(model):
    assert {o.kind for o in drawn(model, attitude(0), unlikelihood=False)} == {"edit", "locality"}


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_loss_is_the_equation(family, make_language_model):
    model = make_language_model(family, torch.float64)
    mend = MEND(GradientConfig(normalise=False, edit_lr=-0.3))
    mend.build(model)
    cases = [fact(0), attitude(1), fact(2)]
    edits = mend.edit(model, [case.request for case in cases])
    outers = [o for owner, case in enumerate(cases) for o in drawn(model, case, owner)]
    got = outer_loss(model, edits, outers, 0.5, 2.0)
    expected = Losses(cases=3, local=3)
    for number in range(3):
        edited = edits.apply_to(model.model, number)
        wanted, opposed, divergence, equal = [], [], [], []
        for outer in (o for o in outers if o.owner == number):
            ids = torch.tensor([outer.row.ids])
            new = edited(ids).logits[0].log_softmax(-1)
            old = model.model(ids).logits[0].log_softmax(-1)
            for p in outer.row.scored:
                if outer.kind == "locality":
                    divergence.append(float((old[p].exp() * (old[p] - new[p])).sum()))
                    equal.append(float(old[p].argmax() == new[p].argmax()))
                elif outer.kind == "edit":
                    wanted.append(-float(new[p, ids[0, p + 1]]))
                else:
                    opposed.append(-float(torch.log(1 - new[p, ids[0, p + 1]].exp() + EPSILON)))
        expected.edit += sum(wanted) / len(wanted) + (sum(opposed) / len(opposed) if opposed else 0)
        expected.locality += sum(divergence) / len(divergence)
        expected.agreement += sum(equal) / len(equal)
    assert got.edit == pytest.approx(expected.edit, rel=1e-6)
    assert got.locality == pytest.approx(expected.locality, rel=1e-4)
    assert got.agreement == pytest.approx(expected.agreement)
    assert got.mean(0.5, 2.0)["loss"] == pytest.approx((0.5 * expected.edit + 2 * expected.locality) / 3, rel=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_outer_gradient_is_that_of_finite_differences(family, make_language_model):
    """In double precision, for every kind of parameter of the hypernetwork."""
    model = make_language_model(family, torch.float64, pack_tokens=64)  # several bins
    for block in model.structure.blocks if family == "llama" else ():
        # Llama's own norm computes in single precision, whose rounding would drown the differences
        block.input_layernorm, block.post_attention_layernorm = (torch.nn.RMSNorm(32).double() for _ in range(2))
    if family == "llama":
        model.model.model.norm = torch.nn.RMSNorm(32).double()
    mend = MEND(GradientConfig(rank=4, edit_lr=-0.05))
    mend.build(model)
    cases = [fact(0), attitude(1)]
    requests: list[EditRequest] = [case.request for case in cases]
    mend.observe(model, [[request] for request in (*requests, fact(3).request)])
    groups = [[request] for request in requests]
    mend.hypernetwork.eval()
    with torch.no_grad():  # away from the identity, where the clamp has a kink
        for parameter in mend.hypernetwork.networks.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)).double())
    outers = [o for owner, case in enumerate(cases) for o in drawn(model, case, owner)]

    def total() -> float:
        with torch.no_grad():
            return outer_loss(model, mend.patches(model, groups), outers, 0.7, 1.3).mean(0.7, 1.3)["loss"] * 2

    mend.hypernetwork.zero_grad()
    outer_loss(model, mend.patches(model, groups), outers, 0.7, 1.3, scale=1.0)
    step = 1e-6
    for name, parameter in mend.hypernetwork.named_parameters():
        flat, gradient = parameter.data.view(-1), parameter.grad.view(-1)
        for place in {int(gradient.abs().argmax()), 0}:
            kept = float(flat[place])
            flat[place] = kept + step
            above = total()
            flat[place] = kept - step
            below = total()
            flat[place] = kept
            slope = (above - below) / (2 * step)
            assert float(gradient[place]) == pytest.approx(slope, rel=1e-4, abs=1e-7), name
