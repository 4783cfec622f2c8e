"""A model without weights has the shapes of the one with them."""

import pytest
from transformers import GPT2Config, LlamaConfig

from instructedit.editors import InputError, LanguageModel, MetaModel

from ...conftest import FAMILIES, make_model


@pytest.mark.parametrize("family", FAMILIES)
def test_it_has_the_shapes_of_the_real_model(family, tokenizer):
    real = LanguageModel(make_model(family), tokenizer)
    meta = MetaModel.of(real.model.config, tokenizer)
    assert meta.structure.sites == real.structure.sites
    assert meta.parameters == sum(p.numel() for p in real.model.parameters())
    assert meta.vocabulary == 400
    assert meta.context == real.context
    assert all(p.is_meta for p in meta.model.parameters())


def test_it_is_read_from_a_configuration_alone(tmp_path):
    make_model("gpt2").config.save_pretrained(tmp_path)
    found = MetaModel.load(tmp_path)
    assert found.tokenizer is None
    assert "holds no weights" in found.lacks
    assert (found.width, found.context) == (32, 96)


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        MetaModel.load(str(tmp_path / "absent"))
    (tmp_path / "config.json").write_text('{"model_type": "t5", "is_encoder_decoder": true}')
    with pytest.raises(InputError, match="encoder-decoder"):
        MetaModel.load(tmp_path)


def test_the_published_models_have_their_published_sizes():
    large = MetaModel.of(GPT2Config(n_embd=1600, n_layer=48, n_head=25))
    assert large.parameters == 1_557_611_200
    llama = MetaModel.of(LlamaConfig(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, vocab_size=32000))
    assert llama.parameters == 6_738_415_616
