"""Weights whose rows have gaps behind them are the same weights."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from instructedit.editors import Edits, LanguageModel
from instructedit.editors.engine.weights import space_rows
from instructedit.editors.patches import LowRank


def wide(dtype=torch.float32):
    torch.manual_seed(0)
    config = GPT2Config(n_layer=2, n_embd=256, n_head=4, vocab_size=512, n_positions=64)
    return GPT2LMHeadModel(config).to(dtype)


@pytest.fixture
def spaced(tokenizer):
    return LanguageModel(wide(), tokenizer)


def test_rows_that_are_whole_pages_long_are_put_apart(spaced):
    plain = wide()
    for name, weight in spaced.model.named_parameters():
        assert torch.equal(weight, plain.get_parameter(name)), name
    mlp = spaced.model.transformer.h[1].mlp
    assert mlp.c_fc.weight.shape == (256, 1024) and mlp.c_fc.weight.stride() == (1040, 1)
    assert mlp.c_proj.weight.stride() == (256, 1)  # a row of 1 KB stays
    assert spaced.model.transformer.wte.weight.is_contiguous()


def test_a_model_computes_the_same(spaced):
    plain, ids = wide().eval(), torch.arange(40)[None] % 500
    with torch.no_grad():
        torch.testing.assert_close(spaced.model(ids).logits, plain(ids).logits, rtol=1e-5, atol=1e-6)
    x = torch.randn(5, 256, requires_grad=True)
    own, other = spaced.model.transformer.h[0].mlp.c_fc, plain.transformer.h[0].mlp.c_fc
    (one,), (two,) = (torch.autograd.grad(map_(x).square().sum(), [x]) for map_ in (own, other))
    torch.testing.assert_close(one, two)


def test_no_other_maps_types_and_widths():
    for module, row in (
        (nn.Linear(1024, 1024), 1024),
        (Conv1D(1024, 8), 1040),
        (Conv1D(1000, 8), 1000),
        (Conv1D(2048, 8).bfloat16(), 2048),
        (Conv1D(1024, 8).double(), 1024),
    ):
        space_rows(nn.Sequential(module))
        assert module.weight.stride() == (row, 1)


def test_weights_that_two_maps_share_stay_shared():
    one, two = Conv1D(1024, 8), Conv1D(1024, 8)
    two.weight = one.weight
    space_rows(nn.ModuleList([one, two]))
    assert two.weight is one.weight and one.weight.stride() == (1040, 1)


def test_a_fingerprint_does_not_see_where_weights_lie(spaced, tokenizer):
    twin = LanguageModel(wide(), tokenizer)
    for module in twin.structure.blocks.modules():
        if isinstance(module, Conv1D):
            module.weight.data = module.weight.data.contiguous()
    assert twin.fingerprint() == spaced.fingerprint()


def test_an_edit_is_written_into_a_copy_and_saved(spaced, tmp_path):
    site = spaced.structure.find(1, "up")[0]
    patch = LowRank(site.name, 1, torch.randn(site.d_in, 2), torch.randn(2, site.d_out))
    written = Edits(((patch,),)).apply_to(spaced.model)
    written.save_pretrained(tmp_path)
    found = AutoModelForCausalLM.from_pretrained(tmp_path)
    before = wide().get_submodule(site.name).weight
    torch.testing.assert_close(found.get_submodule(site.name).weight, before + patch.delta())
