"""Joint edits and their training, against plain autograd and loops that are written out."""

import random
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from instructedit.baselines.ke import KE
from instructedit.baselines.mend import MEND
from instructedit.editors import EditRequest, InputError, Probe, TrainingSet, make
from instructedit.editors.hypernet.gradient_editor import gradient_factors
from instructedit.editors.hypernet.objective import Losses, outer_loss, outer_rows
from instructedit.editors.hypernet.training_loop import Trainer, case_losses, step_losses
from instructedit.editors.seeds import seed_of
from instructedit.editors.texts import EPSILON, EditTexts

from ..cases import attitude, fact, facts
from .test_training_config import lines

REQUESTS = [fact(number).request for number in range(11)]
TRAINING = {"steps": 6, "batch": 1, "accumulate": 2, "lr": 1e-3, "warmup": 1, "validate_every": 3, "save_every": 2}
JOINTS = ("mean loss", "sum")


def built(model, kind=MEND, *, groups=None, training=None, **options):
    """An editor whose network is away from the identity, with statistics of a few requests."""
    given = {"rank": 8, "edit_lr": -0.05, "training": {**TRAINING, **(training or {})}, **options}
    editor = make(kind, given)
    editor.build(model)
    editor.observe(model, groups or [[request] for request in REQUESTS[:4]])
    with torch.no_grad():
        for parameter in editor.network.parameters():
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
            parameter.add_(0.05 * noise.to(parameter.dtype))
    return editor


def token_factors(model, site, loss_of):
    """x and delta of every token at a Conv1D, by the plain model and autograd: a list for each text."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def hook(_module, inputs, output):
        leaf = torch.zeros_like(output, requires_grad=True)
        seen.append((inputs[0].detach()[0], leaf))
        return output + leaf

    handle = model.model.get_submodule(site.name).register_forward_hook(hook)
    loss = loss_of()
    handle.remove()
    gradients = torch.autograd.grad(loss, [leaf for _, leaf in seen])
    return [(x, gradient[0]) for (x, _), gradient in zip(seen, gradients, strict=True)]


def token_losses(model, request):
    """Negative log-likelihoods of a request's target tokens, by the plain model."""
    row = model.encode(request.prompt, request.target)
    log_p = model.model(torch.tensor([row.ids])).logits[0].log_softmax(-1)
    return torch.stack([-log_p[p, row.ids[p + 1]] for p in row.scored])


def by_hand(model, editor, requests, joint):
    """The change of each weight, the hypernetwork applied token by token."""
    found = {}
    for number, site in enumerate(editor.shape.sites):
        if joint == "mean loss":
            groups = [requests]
        else:
            groups = [[request] for request in requests]
        total = torch.zeros(site.d_in, site.d_out, dtype=torch.float64)
        for group in groups:

            def loss(group=group):
                return torch.cat([token_losses(model, request) for request in group]).mean()

            for x, delta in (pair for text in token_factors(model, site, loss) for pair in zip(*text, strict=True)):
                if not x.any() or not delta.any():
                    continue
                new_x, new_delta = transformed(editor, site, x, delta)
                total += torch.outer(new_x, editor.hypernetwork.edit_lr[number] * new_delta)
        found[site.name] = total
    return found


def transformed(editor, site, x, delta):
    """MEND's network on one token, as its equations have it."""
    key = f"{site.d_in}x{site.d_out}"
    network, mode = editor.hypernetwork.networks[key], editor.hypernetwork.groups[key].index(site)
    parts = []
    for values, moments in ((x, network.x_moments), (delta, network.delta_moments)):
        deviation = (moments.squares / (moments.count - 1)).sqrt()
        parts.append((values - moments.mean) / (deviation + 1e-7))
    h = torch.cat(parts)
    for layer in network.layers:
        h = h + (layer.scale[mode] * (layer.u @ (layer.v @ h) + layer.bias) + layer.shift[mode]).clamp(min=0)
    return h.split([site.d_in, site.d_out])


@pytest.mark.parametrize("count", [1, 3, 11])
@pytest.mark.parametrize("joint", JOINTS)
def test_a_joint_edit_is_the_loop_over_plain_autograd(joint, count, make_language_model):
    """Three requests are one part, eleven are made in two."""
    model = make_language_model("gpt2", torch.float64)
    editor = built(model, joint=joint)
    edits = editor.edit_together(model, REQUESTS[:count])
    assert len(edits) == 1
    expected = by_hand(model, editor, REQUESTS[:count], joint)
    assert {patch.site for patch in edits.patches[0]} == expected.keys()
    for patch in edits.patches[0]:
        torch.testing.assert_close(patch.delta(), expected[patch.site], rtol=1e-6, atol=1e-10)


def test_the_two_ways_differ_for_several_requests_and_are_one_for_a_single_one(make_language_model):
    model = make_language_model("gpt2", torch.float64)
    mean, total = (built(model, joint=joint) for joint in JOINTS)
    one = [[patch.delta() for patch in e.edit_together(model, REQUESTS[:1]).patches[0]] for e in (mean, total)]
    alone = [patch.delta() for patch in mean.edit(model, REQUESTS[:1]).patches[0]]
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(*one, alone, strict=True))
    two = [[patch.delta() for patch in e.edit_together(model, REQUESTS[:2]).patches[0]] for e in (mean, total)]
    assert not any(torch.allclose(a, b) for a, b in zip(*two, strict=True))


def written_out(model, editor, cases, seeds, joint, together):
    """The mean over joint edits, and over their cases, of the outer loss on a model that the edit is added to."""
    objective, total = editor.config.objective, 0.0
    plain = {name: p.detach() for name, p in model.model.named_parameters()}
    for first in range(0, len(cases), together):
        group = range(first, min(first + together, len(cases)))
        change = by_hand(model, editor, [cases[i].request for i in group], joint)
        weights = {**plain, **{f"{n}.weight": plain[f"{n}.weight"] + change[n] for n in change}}
        for i in group:
            dice = random.Random(seed_of(seeds[i], "outer"))
            texts = outer_rows(model, cases[i], cases[i].request, 0, None, objective, dice)
            terms = {"edit": [], "opposed": [], "locality": []}
            for text in texts:
                ids = torch.tensor([text.row.ids])
                old = torch.func.functional_call(model.model, plain, (ids,)).logits[0].log_softmax(-1)
                new = torch.func.functional_call(model.model, weights, (ids,)).logits[0].log_softmax(-1)
                for p in text.row.scored:
                    own = new[p, ids[0, p + 1]]
                    match text.kind:
                        case "edit":
                            terms["edit"].append(-own)
                        case "opposed":
                            terms["opposed"].append(-torch.log(1 - own.exp() + EPSILON))
                        case "locality":
                            terms["locality"].append((old[p].exp() * (old[p] - new[p])).sum())
            means = {kind: torch.stack(found).mean() if found else 0.0 for kind, found in terms.items()}
            total = total + objective.c_edit * (means["edit"] + means["opposed"]) + objective.c_loc * means["locality"]
    return total / len(cases)


@pytest.mark.parametrize(("joint", "together"), [*((joint, 3) for joint in JOINTS), ("mean loss", 1)])
def test_the_gradient_of_a_step_is_that_of_the_written_out_objective(joint, together, make_language_model):
    """Two joint edits of three, or six of one, of facts and attitudes; the passes run in several parts."""
    model = make_language_model("gpt2", torch.float64, pack_tokens=64)
    training = {"together": together, "accumulate": 6 // together}
    editor = built(
        model,
        joint=joint,
        training=training,
        groups=[REQUESTS[:2], REQUESTS[2:4]],
        objective={"c_edit": 0.7, "c_loc": 1.3},
    )
    editor.network.eval()  # the statistics stay: their order is another test's
    cases = [fact(0), attitude(1), fact(2), fact(3), attitude(2), fact(5)]
    seeds = list(range(6))
    editor.network.zero_grad()
    sums = step_losses(editor, model, cases, TrainingSet((), (), {}), seeds)
    got = {name: p.grad.clone() for name, p in editor.network.named_parameters()}
    editor.network.zero_grad()
    loss = written_out(model, editor, cases, seeds, joint, together)
    loss.backward()
    assert sums.mean(0.7, 1.3)["loss"] == pytest.approx(float(loss.detach()), rel=1e-6)
    assert (sums.cases, sums.local) == (6, 6)
    for name, parameter in editor.network.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("joint", JOINTS)
def test_the_statistics_are_of_the_joint_loss(joint, make_language_model):
    """In warm-up and in a step, delta is a gradient of the loss that the joint edit is made from."""
    model = make_language_model("gpt2", torch.float64)
    editor = make(MEND, {"rank": 8, "joint": joint, "training": {**TRAINING, "together": 3}})
    site = None
    for way in ("warm-up", "step"):
        editor.build(model)
        site = editor.shape.sites[0]
        if way == "warm-up":
            editor.observe(model, [REQUESTS[:3]])
        else:
            editor.network.train()
            editor.patches(model, [REQUESTS[:3]], [1])
        groups = [REQUESTS[:3]] if joint == "mean loss" else [[request] for request in REQUESTS[:3]]
        deltas = []
        for other in (s for s in editor.shape.sites if (s.d_in, s.d_out) == (site.d_in, site.d_out)):
            for group in groups:
                loss = lambda group=group: torch.cat([token_losses(model, r) for r in group]).mean()  # noqa: E731
                deltas += [d for _, own in token_factors(model, other, loss) for d in own if d.any()]
        moments = editor.hypernetwork.networks[f"{site.d_in}x{site.d_out}"].delta_moments
        assert moments.count == len(deltas)
        torch.testing.assert_close(moments.mean, torch.stack(deltas).mean(0), rtol=1e-6, atol=1e-12)


def test_a_case_that_does_not_fit_is_left_out_of_its_joint_edit(make_language_model):
    model = make_language_model("gpt2", torch.float64)
    editor = built(model, training={"together": 2})
    editor.network.eval()
    cases = [*facts(5)]
    long = "a name " * 60
    cases[1] = replace(cases[1], request=replace(cases[1].request, target=long))
    seeds = list(range(5))
    training = TrainingSet((), (), {})
    whole = case_losses(editor, model, cases, training, seeds, 0.0)
    parts = Losses()
    for some in ([0], [2, 3], [4]):
        parts.add(case_losses(editor, model, [cases[i] for i in some], training, [seeds[i] for i in some], 0.0))
    assert (whole.cases, whole.local) == (parts.cases, parts.local) == (4, 4)
    assert (whole.edit, whole.locality, whole.exact, whole.agreement) == pytest.approx(
        (parts.edit, parts.locality, parts.exact, parts.agreement)
    )


def training_set():
    train = (*facts(7), *(attitude(n) for n in range(3)))
    return TrainingSet(train, (*(fact(n) for n in range(8, 13)), attitude(4)), {"facts": 2.0, "opinions": 1.0})


def test_validation_edits_in_as_many_as_training_and_counts_every_case(model, tmp_path):
    """Six cases by fours: a joint edit of four and a smaller one of two."""
    training = {"together": 4, "steps": 3, "validation_cases": 6, "keep": "last"}
    editor = make(MEND, {"rank": 8, "training": {**TRAINING, **training}})
    trainer = Trainer.__new__(Trainer)
    editor.fit(model, training_set(), tmp_path, seed=1)
    trainer.__init__(editor, model, training_set(), tmp_path, 1, None, lambda _: None)
    cases, sums = trainer.validation, Losses()
    assert len(cases) == 6
    for group in (cases[:4], cases[4:]):
        requests = [case.request for case in group]
        edits = editor.edit_together(model, requests)
        for case in group:
            dice = random.Random(seed_of(seed_of("validation", case.request.case_id), "outer"))
            outers = outer_rows(model, case, case.request, 0, None, editor.config.objective, dice)
            sums.add(outer_loss(model, edits, outers, 0.1, 1.0))
    assert lines(tmp_path)[-1]["validation"] == pytest.approx(sums.mean(0.1, 1.0), rel=1e-4)


@pytest.mark.parametrize("changed", [{"joint": "sum"}, {"training": {**TRAINING, "together": 2}}])
def test_a_training_of_another_joint_edit_is_another_training(changed, model, tmp_path):
    options = {"rank": 8, "training": {**TRAINING, "together": 3}}
    make(MEND, options).fit(model, training_set(), tmp_path, seed=5, steps=1)
    with pytest.raises(InputError, match="of another configuration"):
        make(MEND, {**options, **changed}).fit(model, training_set(), tmp_path, seed=5, steps=1)


def test_ke_makes_one_edit_at_a_time_in_training_and_test(model):
    with pytest.raises(InputError, match=r"'training\.together' of the editor 'ke': found 3, but the method makes"):
        make(KE, {"training": {"together": 3}})
    ke = make(KE, {"hidden": 8, "condition": 6})
    ke.build(model)
    sentence = "The editor 'ke' makes one edit at a time; it has no form for 2 requests together."
    with pytest.raises(InputError, match=sentence):
        ke.edit_together(model, REQUESTS[:2])


def first_step(model, folder, clip, monkeypatch):
    """The weights before and after one step of Adam, the step's own gradient, and what was written of it."""
    kept = {}
    editor = make(MEND, {"rank": 8, "edit_lr_lr": 1e-3, "training": {**TRAINING, "steps": 1, "clip": clip}})

    def losses(*given):
        kept["before"] = {name: p.detach().clone() for name, p in editor.network.named_parameters()}
        found = step_losses(*given)
        kept["gradient"] = {name: p.grad.clone() for name, p in editor.network.named_parameters()}
        return found

    monkeypatch.setattr("instructedit.editors.hypernet.training_loop.step_losses", losses)
    editor.fit(model, training_set(), folder, seed=5)
    return kept["before"], load_file(folder / "state.safetensors"), kept["gradient"], lines(folder)[0]


def test_a_gradient_longer_than_clip_is_scaled_down_to_it(make_language_model, tmp_path, monkeypatch):
    """Adam's first step is lr * g / (|g| + 1e-8): of a gradient clipped to 1e-8 it is no longer lr * sign(g)."""
    model = make_language_model("gpt2", torch.float64)
    for clip in (1e-8, 1e6):
        before, after, gradient, line = first_step(model, tmp_path / str(clip), clip, monkeypatch)
        norm = sum(float(g.square().sum()) for g in gradient.values()) ** 0.5
        assert line["gradient_norm"] == pytest.approx(norm, rel=1e-6), "the norm before clipping"
        scale = min(1.0, clip / (norm + 1e-6))
        for name, g in gradient.items():
            step = 1e-3 * scale * g / ((scale * g).abs() + 1e-8)
            torch.testing.assert_close(after[name], before[name] - step, rtol=1e-6, atol=1e-9)
    assert norm > 1e-3


@pytest.mark.parametrize("family", ["opt", "mistral"])
def test_statistics_are_of_tokens_that_take_part_in_the_gradient(family, make_language_model):
    """OPT's ReLU leaves the input of a map zero; beyond Mistral's window of 8 no gradient reaches a token."""
    model = make_language_model(family, torch.float64)
    request = EditRequest(
        "t/train/0", "t", "The name of the place of birth of Ada Lovelace of Maida Vale is", "King", "A"
    )
    if family == "opt":
        for layer in model.model.model.decoder.layers:  # few tokens pass the ReLU
            with torch.no_grad():
                layer.fc1.bias.sub_(2.5)
    (site,) = model.sites("down", [-2])
    row = model.encode(request.prompt, request.target)
    seen = {}
    module = model.model.get_submodule(site.name)
    module.weight.requires_grad_(True)
    handle = module.register_forward_hook(lambda _m, i, o: seen.update(x=i[0].detach(), y=o.retain_grad() or o))
    logits = model.model(torch.tensor([row.ids])).logits[0, list(row.scored)]
    torch.nn.functional.cross_entropy(logits, torch.tensor(row.labels)).backward()
    handle.remove()
    module.weight.requires_grad_(False)
    x, delta = seen["x"].reshape(-1, site.d_in), seen["y"].grad.reshape(-1, site.d_out)
    keep = x.any(1) & delta.any(1)
    found = gradient_factors(model, [EditTexts((row,))], [site])[site.name]
    behind = max(row.scored) + 1
    assert 0 < int(keep.sum()) < behind, "the rule drops a token here"
    torch.testing.assert_close(found.x, x[keep])
    torch.testing.assert_close(found.delta, delta[keep])


def test_texts_without_limit_are_all_taken(model):
    probes = [Probe("locality", "Other", f"The name of {n} is", ("London",)) for n in range(7)]
    case = replace(attitude(0), probes=(*attitude(0).probes[:2], *probes))
    config = make(MEND, {"objective": {"locality_rows": "all", "replies": "all"}}).config.objective
    found = outer_rows(model, case, case.request, 0, None, config, random.Random(0))
    kinds = [outer.kind for outer in found]
    assert (kinds.count("locality"), kinds.count("opposed"), kinds.count("edit")) == (7, 2, 3)
    with pytest.raises(InputError, match=r"Option 'objective\.locality_rows'"):
        make(MEND, {"objective": {"locality_rows": "none"}})
