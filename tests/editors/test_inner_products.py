"""Inner products of edits from their factors, against the same edits written out as dense matrices."""

import pytest
import torch

from instructedit.editors import Codebook, Dense, EditRequest, Edits, EditTexts, InputError, LowRank, gradient_factors
from instructedit.editors import changes as module
from instructedit.editors.changes import gram

SHAPES = {"a": (5, 3), "b": (4, 6)}


def explicit(edits: Edits) -> torch.Tensor:
    """Inner products of edits as vectors: every change of every map as a matrix, flattened, one behind the other."""
    vectors = []
    for edit in edits.patches:
        changes = {site: torch.zeros(shape, dtype=torch.float64) for site, shape in SHAPES.items()}
        for patch in edit:
            changes[patch.site] = changes[patch.site] + patch.delta()
        vectors.append(torch.cat([change.flatten() for change in changes.values()]))
    stacked = torch.stack(vectors)
    return stacked @ stacked.T


def low(site, rank):
    d_in, d_out = SHAPES[site]
    return LowRank(site, 0, torch.randn(d_in, rank, dtype=torch.float64), torch.randn(rank, d_out, dtype=torch.float64))


def dense(site):
    return Dense(site, 0, torch.randn(*SHAPES[site], dtype=torch.float64))


def test_by_hand():
    one = LowRank("a", 0, torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0, 0.0]]))  # [[3, 0], [6, 0]]
    other = LowRank("a", 0, torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0, 5.0]]))  # [[1, 5], [0, 0]]
    assert gram(Edits(((one,), (other,)))).tolist() == [[45.0, 3.0], [3.0, 26.0]]


@pytest.mark.parametrize("products", [1, 30, 1 << 26])
def test_is_that_of_the_edits_written_out(products, monkeypatch):
    monkeypatch.setattr(module, "PRODUCTS", products)
    torch.manual_seed(0)
    edits = Edits(
        (
            (low("a", 2), low("b", 1)),
            (low("b", 4),),
            (),
            (dense("a"), low("b", 3)),
            (low("a", 2), low("a", 1), dense("a"), dense("a")),  # several changes of one map add up
            (dense("b"),),
        )
    )
    found = gram(edits)
    assert found.dtype == torch.float64
    assert torch.allclose(found, explicit(edits), rtol=0, atol=1e-12)
    assert torch.equal(found, found.T)
    assert not found[2].any()


def test_gradients_of_a_model(make_language_model):
    model = make_language_model("gpt2", torch.float64)
    sites = [*model.sites("up", [-1]), *model.sites("down", [-2, -1])]
    requests = [
        EditRequest("t/test/0", "t", "Ada Lovelace is married to", "Grace Hopper", "Ada Lovelace"),
        EditRequest("t/test/1", "t", "Alan Turing was born in", "Vale", "Alan Turing"),
    ]
    rows = [model.encode(request.prompt, request.target) for request in requests]
    factors = gradient_factors(model, [EditTexts((row,)) for row in rows], sites)
    edits = Edits(
        tuple(
            tuple(
                LowRank(s.name, s.block, factors[s.name].split()[i][0].T, factors[s.name].split()[i][1]) for s in sites
            )
            for i in range(2)
        )
    )
    vectors = [torch.cat([patch.delta().flatten() for patch in edit]) for edit in edits.patches]
    expected = torch.stack([torch.stack([x @ y for y in vectors]) for x in vectors])
    assert torch.allclose(gram(edits), expected, rtol=1e-10)


def test_what_changes_no_weight_is_refused():
    codebook = Codebook("a", 0, torch.ones(1, 5), torch.ones(1, 3), torch.ones(1))
    with pytest.raises(InputError, match="codebook patch on a does not change a weight"):
        gram(Edits(((codebook,),)))
