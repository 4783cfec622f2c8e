"""Patches against explicit loops over tokens and slots."""

import math

import pytest
import torch

from instructedit.editors import Edits, Slots, patches


def silu(value: float) -> float:
    return value / (1 + math.exp(-value))


@pytest.mark.parametrize("gated", [False, True])
def test_slots_equal_a_loop_over_tokens_and_slots(gated):
    torch.manual_seed(0)
    x, y = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    k, v, g = (torch.randn(*shape, dtype=torch.float64) for shape in ((4, 2), (2, 5), (4, 2)))
    found = Slots("down", 0, "up", "silu", k, v, g if gated else None)(x, y, [])
    for token in range(3):
        for out in range(5):
            wanted = float(y[token, out])
            for slot in range(2):
                key = sum(float(x[token, i] * k[i, slot]) for i in range(4))
                gate = sum(float(x[token, i] * g[i, slot]) for i in range(4))
                wanted += (silu(gate) * key if gated else silu(key)) * float(v[slot, out])
            assert float(found[token, out]) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("gated", [False, True])
def test_slots_are_saved_with_their_gate_if_they_have_one(gated, tmp_path):
    patch = Slots("down", 1, "up", "relu", torch.ones(2, 3), torch.zeros(3, 2), torch.eye(2, 3) if gated else None)
    assert sorted(patch.tensors()) == (["g", "k", "v"] if gated else ["k", "v"])
    Edits(((patch,),)).save(tmp_path / "e.safetensors")
    ((again,),) = Edits.load(tmp_path / "e.safetensors").patches
    assert again.options() == patch.options()
    assert again.options() == {"site": "down", "block": 1, "source_site": "up", "activation": "relu"}
    assert again.tensors().keys() == patch.tensors().keys()
    assert all(torch.equal(again.tensors()[name], patch.tensors()[name]) for name in patch.tensors())
    assert (again.g is None) == (not gated)


def test_distances_in_groups_are_those_at_once(monkeypatch):
    torch.manual_seed(0)
    queries, keys = torch.randn(7, 4), torch.randn(5, 4)
    expected = torch.tensor([[float(((q - k) ** 2).sum()) ** 0.5 for k in keys] for q in queries])
    whole = patches.distances(queries, keys)
    torch.testing.assert_close(whole, expected)
    monkeypatch.setattr(patches, "DIFFERENCES", 50)  # two queries at a time
    assert torch.equal(patches.distances(queries, keys), whole)
    assert patches.distances(queries[:0], keys).shape == (0, 5)
