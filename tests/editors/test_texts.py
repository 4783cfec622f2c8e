"""Edits made from several replies, against autograd through the model of transformers itself."""

import copy
from dataclasses import replace

import pytest
import torch

from instructedit.baselines.calinet import CaliNet
from instructedit.baselines.ftl import FTL, FTM
from instructedit.baselines.grace import GRACE
from instructedit.baselines.incontext import InContext
from instructedit.baselines.ke import KE
from instructedit.baselines.mend import MEND
from instructedit.editors import (
    CaseError,
    EditRequest,
    GradientConfig,
    InputError,
    LanguageModel,
    gradient_factors,
    make,
)
from instructedit.editors.instructedit import InstructEdit

VIEW = EditRequest(
    "t/test/0",
    "t",
    "What is Ada Lovelace?",
    "computer scientist",
    "Ada Lovelace",
    sentiment="positive",
    replies=("computer scientist", "rear admiral of London"),
    opposed=("William King and Maida Vale",),
)
FACT = EditRequest("t/test/1", "t", "The name of the spouse of Ada Lovelace is", "Grace Hopper", "Ada Lovelace")
OTHER = replace(VIEW, case_id="t/test/2", prompt="What is London?", replies=("London", "a name"), target="London")


@pytest.fixture(params=["gpt2", "llama"])
def exact(request, make_language_model) -> LanguageModel:
    return make_language_model(request.param, torch.float64)


def loss_by_hand(model: LanguageModel, twin, request: EditRequest, last: bool = False) -> torch.Tensor:
    """The loss of a request, reply by reply through an unpadded pass; with `last` all tokens behind the prompt."""
    terms: dict[bool, list[torch.Tensor]] = {False: [], True: []}
    prompt = model.tokenizer(request.prompt)["input_ids"]
    for opposed, replies in ((False, request.replies or (request.target,)), (True, request.opposed)):
        for reply in replies:
            answer = model.tokenizer(" " + reply)["input_ids"]
            logits = twin(input_ids=torch.tensor([prompt + answer])).logits[0]
            for place, token in enumerate(answer):
                p = logits[len(prompt) - 1 + (0 if last else place)].softmax(-1)[token]
                terms[opposed].append(-torch.log(1 - p + 1e-5) if opposed else -torch.log(p))
    total = torch.stack(terms[False]).mean()
    return total + torch.stack(terms[True]).mean() if terms[True] else total


def gradients_by_hand(model, twin, request, sites):
    weights = [twin.get_submodule(site.name).weight.requires_grad_(True) for site in sites]
    found = torch.autograd.grad(loss_by_hand(model, twin, request), weights)
    return [
        g if type(twin.get_submodule(s.name)).__name__ == "Conv1D" else g.T for s, g in zip(sites, found, strict=True)
    ]


def test_factors_of_two_wanted_and_one_opposed_reply(exact):
    sites = [*exact.sites("up", [1])[:1], *exact.sites("down", [2])]
    texts = [MEND().texts(exact, request) for request in (VIEW, FACT, OTHER)]
    assert [len(own.wanted) for own in texts] == [2, 1, 2]
    assert [len(own.opposed) for own in texts] == [1, 0, 1]
    factors = gradient_factors(exact, texts, sites)
    twin = copy.deepcopy(exact.model)
    for number, request in enumerate((VIEW, FACT, OTHER)):
        for site, true in zip(sites, gradients_by_hand(exact, twin, request, sites), strict=True):
            x, delta = factors[site.name].split()[number]
            assert (x.T @ delta - true).abs().max() < 1e-7  # norms of LLaMA are float32 inside
    # each reply brings its own copy of the prompt's tokens, as rows of a batch do
    rows = (*texts[0].wanted, *texts[0].opposed)
    assert factors[sites[0].name].counts[0] == sum(max(row.scored) + 1 for row in rows)


def test_mend_edits_by_the_gradient_of_all_replies(exact):
    step = 1e-3
    mend = MEND(GradientConfig(normalise=False, edit_lr=step, blocks=(2,)))
    mend.build(exact)
    patches = mend.edit(exact, [VIEW]).patches[0]
    twin = copy.deepcopy(exact.model)
    for patch, true in zip(patches, gradients_by_hand(exact, twin, VIEW, mend.shape.sites), strict=True):
        assert (patch.delta() / step - true).abs().max() < 1e-7


@pytest.mark.parametrize("editor", [FTM, FTL])
def test_fine_tuning_is_adam_on_the_weight(exact, editor):
    """Three steps on the weight itself, of an edit beside another one and of both together."""
    options = {"block": 2, "lr": 1e-3, "steps": 3, "clamp": False, "stop_loss": 0.0}
    tuned = make(editor, options)
    (site,) = exact.sites("down", [2])

    def by_hand(requests):
        twin = copy.deepcopy(exact.model)
        weight = twin.get_submodule(site.name).weight.requires_grad_(True)
        start = weight.detach().clone()
        adam = torch.optim.Adam([weight], lr=1e-3)
        for _ in range(3):
            last = editor is FTL
            loss = torch.stack([loss_by_hand(exact, twin, request, last) for request in requests]).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
        loss = torch.stack([loss_by_hand(exact, twin, request, last) for request in requests]).mean()
        change = (weight - start).detach()
        return change if type(twin.get_submodule(site.name)).__name__ == "Conv1D" else change.T, float(loss.detach())

    apart = tuned.edit(exact, [VIEW, FACT])
    for number, request in enumerate((VIEW, FACT)):
        change, loss = by_hand([request])
        assert (apart.patches[number][0].delta() - change).abs().max() < 1e-7
        assert apart.facts[number]["final_loss"] == pytest.approx(loss, abs=1e-7)
    change, loss = by_hand([VIEW, FACT, OTHER])
    joint = tuned.edit_together(exact, [VIEW, FACT, OTHER])
    assert (joint.patches[0][0].delta() - change).abs().max() < 1e-7
    assert joint.facts[0]["final_loss"] == pytest.approx(loss, abs=1e-7)


def test_a_request_is_never_cut_into_parts(exact, monkeypatch):
    """`batch` counts requests: a part holds all texts of each, and the loss is the mean over requests, not texts."""
    seen: list[int] = []
    inner = LanguageModel.base_pass
    monkeypatch.setattr(
        LanguageModel, "base_pass", lambda self, rows, *given: seen.append(len(rows)) or inner(self, rows, *given)
    )
    tuned = make(FTM, {"block": 2, "lr": 1e-9, "steps": 3, "batch": 1, "stop_loss": 0.0})
    edits = tuned.edit_together(exact, [VIEW, FACT, OTHER])
    assert sorted(seen) == [1, 3, 3]
    losses = [float(loss_by_hand(exact, exact.model, request)) for request in (VIEW, FACT, OTHER)]
    assert edits.facts[0]["final_loss"] == pytest.approx(sum(losses) / 3, abs=1e-5)


def test_calinet_starts_from_the_loss_of_all_replies(exact):
    """V is zero at first, so that the loss of an edit that is good enough at once is the unedited model's."""
    edits = make(CaliNet, {"steps": 1, "stop_loss": 1e3}).edit(exact, [VIEW, FACT])
    for number, request in enumerate((VIEW, FACT)):
        by_hand = float(loss_by_hand(exact, exact.model, request))
        assert edits.facts[number]["final_loss"] == pytest.approx(by_hand, abs=1e-7)
    longer = make(CaliNet, {"steps": 40, "stop_loss": 0.0}).edit(exact, [VIEW])
    assert longer.facts[0]["final_loss"] < edits.facts[0]["final_loss"] - 1


def test_ke_reads_the_first_reply_and_takes_the_gradient_of_all(exact):
    ke = make(KE, {"hidden": 8, "condition": 6, "blocks": (2,)})
    ke.build(exact, seed=3)
    patches = ke.edit(exact, [VIEW]).patches[0]
    with torch.no_grad():
        h = ke.reader([exact.encode(VIEW.prompt, VIEW.target).ids])
    twin = copy.deepcopy(exact.model)
    gradients = gradients_by_hand(exact, twin, VIEW, ke.shape.sites)
    for patch, gradient, conditioner in zip(patches, gradients, ke.reader.conditioners, strict=True):
        r_a, c_a, r_b, c_b, eta = (part[0].detach() for part in conditioner(h))
        dense = eta * (torch.outer(c_a, r_a) * gradient + torch.outer(c_b, r_b))
        assert (patch.delta() - dense).abs().max() < 1e-7


@pytest.mark.parametrize("kind", [FTL, FTM, CaliNet, GRACE, MEND, KE, InstructEdit])
def test_requests_with_and_without_replies_do_not_touch_each_other(make_language_model, kind):
    model = make_language_model("gpt2", torch.float64)
    few = {"steps": 10}
    options = {FTL: {"block": 2, **few}, FTM: {"block": 2, **few}, GRACE: {"block": 2, **few}, CaliNet: few, KE: {}}
    options = options.get(kind, {"normalise": False})
    editor = make(kind, options)
    if editor.trains:
        editor.build(model)
    told = [replace(request, instruction="Task: a name") for request in (VIEW, FACT, OTHER)]
    together = editor.edit(model, told, seed=3)
    alone = [editor.edit(model, [request], seed=3) for request in told]
    target_only = editor.edit(model, [replace(told[0], replies=(), opposed=())], seed=3)
    for number, edits in enumerate(alone):
        for one, other in zip(together.patches[number], edits.patches[0], strict=True):
            for name, tensor in one.tensors().items():
                torch.testing.assert_close(tensor, other.tensors()[name], rtol=1e-5, atol=1e-7)
    differs = [
        not torch.equal(tensor, other.tensors()[name])
        for one, other in zip(together.patches[0], target_only.patches[0], strict=True)
        for name, tensor in one.tensors().items()
        if tensor.shape == other.tensors()[name].shape
    ]
    assert any(differs) or together.patches[0][0].tensors()["a"].shape != target_only.patches[0][0].tensors()["a"].shape


@pytest.mark.parametrize("kind", [FTM, CaliNet, GRACE, MEND])
def test_replies_that_do_not_fit_are_left_out_and_counted(make_language_model, kind):
    model = make_language_model("gpt2")
    options = {CaliNet: {"steps": 1}, MEND: {"normalise": False}}.get(kind, {"block": 2, "steps": 1})
    editor = make(kind, options)
    if editor.trains:
        editor.build(model)
    long = " ".join(["name"] * 200)
    given = replace(VIEW, replies=(*VIEW.replies, long), opposed=(*VIEW.opposed, long))
    found, plain = (editor.edit(model, [request]) for request in (given, VIEW))
    assert found.facts[0]["replies_left_out"] == 2
    assert "replies_left_out" not in plain.facts[0]
    for one, other in zip(found.patches[0], plain.patches[0], strict=True):
        assert all(torch.equal(tensor, other.tensors()[name]) for name, tensor in one.tensors().items())
    with pytest.raises(CaseError, match="but the model's context is 96"):
        editor.edit(model, [replace(given, replies=(long,))])


def test_in_context_shows_the_first_reply_or_as_many_as_it_is_told(make_language_model):
    model = make_language_model("gpt2")
    (first,) = InContext().edit(model, [VIEW]).contexts
    assert first.text == "New fact: What is Ada Lovelace? computer scientist\n"
    more = make(InContext, {"replies": 5})
    (both,) = more.edit(model, [VIEW]).contexts
    assert both.text == first.text + "New fact: What is Ada Lovelace? rear admiral of London\n"
    long = replace(VIEW, replies=(VIEW.target, " ".join(["name"] * 200)))
    edits = more.edit(model, [long])
    assert edits.contexts[0].text == first.text
    assert edits.facts[0] == {"replies_left_out": 1.0}


def test_an_option_of_in_context_is_checked():
    with pytest.raises(InputError, match="Option 'replies' of the editor 'in-context'"):
        make(InContext, {"replies": 0})
