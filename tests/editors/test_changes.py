"""What edits do to weights, against the same edits written out as matrices in numpy and compared pair by pair."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from instructedit.baselines.calinet import CaliNet, CaliNetConfig
from instructedit.baselines.ftl import FTM, FTMConfig
from instructedit.baselines.grace import GRACE, GRACEConfig
from instructedit.baselines.incontext import InContext
from instructedit.baselines.ke import KE
from instructedit.baselines.mend import MEND
from instructedit.baselines.noedit import NoEdit
from instructedit.editors import Dense, EditRequest, Edits, LanguageModel, LowRank, Patch, make
from instructedit.editors.changes import change_facts

REQUESTS = [
    EditRequest("t/test/0", "t", "The name of the spouse of Ada Lovelace is", "Grace Hopper", "Ada Lovelace"),
    EditRequest("t/test/1", "t", "What is the place of birth of Alan Turing?", "King", "Alan Turing"),
    EditRequest("t/test/2", "t", "Grace Hopper's occupation is", "king of the United States", "Grace Hopper"),
]
DOWN, UP = "transformer.h.1.mlp.c_proj", "transformer.h.2.mlp.c_fc"
SHAPES = {DOWN: (128, 32), UP: (32, 128)}


@dataclass(frozen=True, slots=True)
class Outer(Patch):
    """A patch of an outside package that says what it does to the weight."""

    scale: Tensor
    kind: ClassVar[str] = "outer"

    def __call__(self, x, y, spans):
        return y + x * 0

    def delta(self) -> Tensor:
        return self.scale * torch.ones(SHAPES[self.site], dtype=torch.float64)


def vector(model: LanguageModel, edit, sites) -> np.ndarray:
    """An edit as the change of the weights themselves, one behind the other: edited model minus unedited model."""
    changes = []
    for site in sites:
        weight = model.model.get_submodule(site).weight
        change = np.zeros(tuple(weight.shape), dtype=np.float64)  # GPT-2 keeps weights as [d_in, d_out]
        for patch in (patch for patch in edit if patch.site == site):
            if isinstance(patch, LowRank):
                for k in range(patch.a.shape[1]):
                    change += np.outer(patch.a.detach().double().numpy()[:, k], patch.b.detach().double().numpy()[k])
            else:
                change += patch.delta().double().numpy()
        changes.append(change.ravel())
    return np.concatenate(changes)


def explicit(model: LanguageModel, edits: Edits) -> list[dict[str, float]]:
    sites = list(dict.fromkeys(patch.site for edit in edits.patches for patch in edit))
    vectors = [vector(model, edit, sites) for edit in edits.patches]
    found = []
    for i, (edit, own) in enumerate(zip(edits.patches, vectors, strict=True)):
        if not edit:
            found.append({})
            continue
        norm = float(np.sqrt((own**2).sum()))
        whole = 0.0
        for site in {patch.site for patch in edit}:
            whole += float((model.model.get_submodule(site).weight.double().numpy() ** 2).sum())
        facts = {"delta_norm": norm, "relative_norm": norm / whole**0.5}
        cosines = [
            float(own @ other) / norm / float(np.sqrt((other**2).sum()))
            for j, other in enumerate(vectors)
            if j != i and norm and edits.patches[j] and np.any(other)
        ]
        if cosines:
            facts["cosine"] = sum(cosines) / len(cosines)
        found.append(facts)
    return found


def alike(found, wanted, tolerance):
    assert [set(facts) for facts in found] == [set(facts) for facts in wanted]
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours == pytest.approx(theirs, abs=tolerance)


@pytest.fixture
def exact(make_language_model) -> LanguageModel:
    return make_language_model("gpt2", torch.float64)


def low(site, rank):
    d_in, d_out = SHAPES[site]
    return LowRank(site, 1, torch.randn(d_in, rank, dtype=torch.float64), torch.randn(rank, d_out, dtype=torch.float64))


def dense(site):
    return Dense(site, 1, torch.randn(*SHAPES[site], dtype=torch.float64))


def test_by_hand(exact):
    def edit(*entries):
        d = torch.zeros(SHAPES[DOWN], dtype=torch.float64)
        for place, value in enumerate(entries):
            d[place, 0] = value
        return (Dense(DOWN, 1, d),)

    found = change_facts(exact, Edits((edit(3, 4), edit(5, 0), edit(0, -2))))
    assert [facts["delta_norm"] for facts in found] == pytest.approx([5, 5, 2])
    # cosines: 0.6 of the first two, -0.8 of first and third, 0 of the others
    assert [facts["cosine"] for facts in found] == pytest.approx([-0.1, 0.3, -0.4])


@pytest.mark.parametrize("rank", [1, 3, 40, 70])
def test_every_kind_of_patch_alone_and_mixed(exact, rank):
    torch.manual_seed(rank)
    thin = Edits(tuple((low(DOWN, rank), low(UP, 2)) for _ in range(4)))
    full = Edits(tuple((dense(DOWN),) for _ in range(3)))
    mixed = Edits(
        (
            (low(DOWN, rank), dense(UP)),
            (),
            (low(DOWN, rank), low(DOWN, 2), dense(DOWN), dense(DOWN)),  # several changes of one map add up
            (Outer(UP, 2, torch.tensor(-0.5)), low(DOWN, rank)),
            (LowRank(DOWN, 1, torch.zeros(128, 1, dtype=torch.float64), torch.ones(1, 32, dtype=torch.float64)),),
            (low(UP, rank),),
        )
    )
    for edits in (thin, full, mixed):
        alike(change_facts(exact, edits), explicit(exact, edits), 1e-9)
    assert "cosine" not in change_facts(exact, mixed)[4], "an edit of nothing points nowhere"


def test_one_edit_has_no_cosine_and_neither_has_one_that_many_cases_share(exact):
    torch.manual_seed(0)
    one = Edits(((low(DOWN, 2),),))
    alike(change_facts(exact, one), explicit(exact, one), 1e-9)
    shared = change_facts(exact, one.select([0, 0, 0]), apart=False)
    assert shared == [change_facts(exact, one)[0]] * 3
    twice = change_facts(exact, one.select([0, 0, 0]))
    assert [facts["cosine"] for facts in twice] == pytest.approx([1, 1, 1]), "three edits that are the same"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("editor", [FTM(FTMConfig(block=1, lr=0.01, clamp=0.05, steps=3)), "mend", "ke"])
def test_every_editor_of_weights(make_language_model, editor, dtype):
    model = make_language_model("gpt2", dtype)
    if isinstance(editor, str):
        options = {"mend": {"rank": 8}, "ke": {"hidden": 8, "condition": 8}}
        editor = make({"mend": MEND, "ke": KE}[editor], options[editor])
        editor.build(model)
        editor.observe(model, [[request] for request in REQUESTS])
    edits = editor.edit(model, REQUESTS)
    alike(change_facts(model, edits), explicit(model, edits), 1e-9 if dtype == torch.float64 else 2e-5)
    joint = change_facts(model, editor.edit_together(model, REQUESTS)) if editor.name != "ke" else []
    assert all("cosine" not in facts and facts["delta_norm"] > 0 for facts in joint)


def test_what_is_no_change_of_a_weight_has_no_facts(model):
    editors = [NoEdit(), InContext(), CaliNet(CaliNetConfig(steps=2)), GRACE(GRACEConfig(block=2, steps=2))]
    for editor in editors:
        assert change_facts(model, editor.edit(model, REQUESTS)) == [{}, {}, {}]


def test_a_change_that_overflows_its_square_does_not_spoil_the_others(model):
    torch.manual_seed(0)
    edits = Edits(tuple((Dense(DOWN, 1, torch.randn(SHAPES[DOWN]) * scale),) for scale in (1.0, 2.0, 1e30)))
    found = change_facts(model, edits)
    assert found[0]["delta_norm"] == pytest.approx(float(edits.patches[0][0].d.norm()), rel=1e-6)
    assert all(np.isfinite(facts["cosine"]) for facts in found[:2])
