"""A dense change that is stepped in slices against Adam on the whole."""

import pytest
import torch

from instructedit.editors import Dense, FreeMatrix, Site
from instructedit.editors.descent import variables as free

SITE, CPU = Site("map", 0, "down", 7, 3), torch.device("cpu")


@pytest.mark.parametrize("bound", [None, 0.02])
@pytest.mark.parametrize("numbers", [1, 6, 1 << 17], ids=["a row", "two rows", "whole"])
def test_equals_adam_and_a_clamp_on_the_whole(monkeypatch, numbers, bound):
    """Two pieces of a pass and a third of another own the edit; two steps of three are taken."""
    monkeypatch.setattr("instructedit.editors.descent.variables._SLICE", numbers)
    torch.manual_seed(0)
    whole = torch.zeros(7, 3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([whole], lr=0.01)
    ours = FreeMatrix(SITE, torch.float64, CPU, 0.01, bound)
    for step in range(3):
        xs = [torch.randn(n, 7, dtype=torch.float64) for n in (4, 2, 1)]
        ys = [torch.randn(n, 3, dtype=torch.float64) for n in (4, 2, 1)]
        ours.zero_grad()
        (patch,) = ours.patches()
        found = [patch(x, y, ()) for x, y in zip(xs, ys, strict=True)]
        wanted = [y + x @ whole for x, y in zip(xs, ys, strict=True)]
        for mine, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(mine, other)
        sum(y.square().sum() for y in found).backward()
        adam.zero_grad()
        sum(y.square().sum() for y in wanted).backward()
        if step == 1:
            continue  # what came back is forgotten
        ours.step()
        assert not ours._factors
        adam.step()
        with torch.no_grad():
            whole.clamp_(*((-bound, bound) if bound else (None, 1e9)))
    (made,) = ours.made()
    assert type(made) is Dense
    assert not made.d.requires_grad
    assert (made.site, made.block) == ("map", 0)
    torch.testing.assert_close(made.d, whole.detach(), rtol=1e-9, atol=1e-12)
    assert whole.abs().max() > 0.015, "the change must move"


def test_a_gradient_passes_through_to_what_stands_in_front():
    ours = FreeMatrix(SITE, torch.float64, CPU, 0.01)
    (patch,) = ours.patches()
    with torch.no_grad():
        patch.d.normal_()
    x = torch.randn(4, 7, dtype=torch.float64, requires_grad=True)
    y = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    gradients = torch.autograd.grad(patch(x, y, ()).square().sum(), [x, y])
    wanted = torch.autograd.grad((y + x @ patch.d.detach()).square().sum(), [x, y])
    for found, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(found, other)


def test_the_bytes_are_three_tensors():
    """What FT-L's cost says: D and two moments, whatever the steps."""
    ours = FreeMatrix(Site("map", 0, "down", 2048, 512), torch.float32, CPU, 0.01)
    kept = {d.untyped_storage().data_ptr(): d.untyped_storage().nbytes() for parts in ours._slices for d in parts[:3]}
    assert sum(kept.values()) == 3 * 4 * 2048 * 512
    assert len(ours._slices) == 2048 * 512 // free._SLICE
