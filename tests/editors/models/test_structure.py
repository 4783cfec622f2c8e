"""Models that cannot be edited are refused with one sentence."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, GPT2Config, GPT2Model

from instructedit.editors import InputError, LanguageModel, Structure, UnservedError
from instructedit.editors.models.configuration import context_length

from ...conftest import make_model
from ..engine.test_engine import reference, rows_and_owners


def test_an_encoder_decoder_model_is_refused():
    config = AutoConfig.for_model("t5", d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=2, vocab_size=50)
    with pytest.raises(InputError, match="encoder-decoder model; instructedit edits decoder-only"):
        Structure(AutoModelForSeq2SeqLM.from_config(config))


def test_a_model_without_a_head_is_refused():
    with pytest.raises(InputError, match="no language-model head"):
        Structure(GPT2Model(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50)))


def test_a_model_without_blocks_is_refused():
    model = make_model("gpt2")
    model.transformer.h = model.transformer.h[0]
    with pytest.raises(InputError, match="no list of blocks"):
        Structure(model)


def test_blocks_have_the_parts_they_have():
    """Hybrids: a block without an MLP does not make the model refused."""
    config = AutoConfig.for_model(
        "jamba", hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4, vocab_size=50,
        num_key_value_heads=2, num_experts=2, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2,
        expert_layer_offset=1, mamba_dt_rank=4, use_mamba_kernels=False, pad_token_id=0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    structure = Structure(AutoModelForCausalLM.from_config(config))
    parts = [{site.part for site in own} for own in structure.sites]
    mlp, experts = {"up", "down"}, {"expert up", "expert down"}
    assert parts == [mlp | {"input", "output"}, experts | {"query", "key", "value", "output"}] * 2
    with pytest.raises(
        UnservedError, match="Block 1 of JambaForCausalLM has no 'up'; it has: expert up, expert down, query"
    ):
        structure.find(1, "up")
    with pytest.raises(InputError, match="Unknown part 'upp'"):
        structure.find(0, "upp")


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "opt"])
def test_projections_of_attention_are_parts(family):
    structure = Structure(make_model(family))
    fused = family in {"gpt2", "gpt_neox"}
    for part in ("query key value",) if fused else ("query", "key", "value"):
        (site,) = structure.find(1, part)
        assert site.d_in == 32
        assert site.d_out == (96 if fused else 16 if family == "llama" and part != "query" else 32)
    (output,) = structure.find(1, "output")
    assert (output.d_in, output.d_out) == (32, 32)


def test_the_text_part_of_a_model_of_several_modalities_is_edited(tokenizer):
    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 6, "num_attention_heads": 4, "image_size": 28,
        "patch_size": 14,
    }  # fmt: skip
    text = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 400,
        "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8, "max_position_embeddings": 77,
    }  # fmt: skip
    config = AutoConfig.for_model("gemma3", text_config=text, vision_config=vision)
    model = LanguageModel(AutoModelForCausalLM.from_config(config), tokenizer)
    assert (model.structure.blocks_name, len(model.structure)) == ("model.language_model.layers", 4)
    assert (model.context, model.structure.width) == (77, 32)


@pytest.mark.parametrize(
    ("kind", "options", "context"),
    [
        ("gpt2", {"n_positions": 70}, 70),
        ("mpt", {"max_seq_len": 60}, 60),
        ("bloom", {}, 1_000_000),
        ("xlnet", {}, 1_000_000),
        ("llama", {"max_position_embeddings": 50}, 50),
        ("rwkv", {"context_length": 40}, 40),
    ],
)
def test_the_context_is_read_under_every_name(kind, options, context):
    assert context_length(AutoConfig.for_model(kind, **options)) == context


def test_maps_whose_weight_is_anothers_too_are_left_out():
    """A patch of one would leave the other as it was, as no copy with the edit in its weights does."""
    model = make_model("llama")
    model.model.layers[2].mlp.down_proj.weight = model.model.layers[1].mlp.down_proj.weight
    found = [[site.name for site in own if site.part == "down"] for own in Structure(model).sites]
    assert found == [["model.layers.0.mlp.down_proj"], [], [], ["model.layers.3.mlp.down_proj"]]


@pytest.mark.parametrize(("asked", "found"), [(0, 0), (3, 3), (-1, 3), (-4, 0), (0.0, 0), (0.73, 2), (0.99, 3)])
def test_blocks_are_named_by_index_from_the_end_or_by_share(asked, found):
    assert Structure(make_model("gpt2")).block(asked) == found


@pytest.mark.parametrize("asked", [4, -5, 1.0, -0.5, float("nan"), True])
def test_a_block_that_is_not_there_is_refused(asked):
    with pytest.raises(InputError, match="the model has 4 blocks"):
        Structure(make_model("gpt2")).block(asked)


def test_a_fused_gate_is_one_up():
    config = AutoConfig.for_model(
        "phi3", hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=50,
        pad_token_id=0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    structure = Structure(AutoModelForCausalLM.from_config(config))
    assert [(s.d_in, s.d_out) for s in structure.find(1, "up")] == [(32, 96)]


def test_load_refuses_what_is_no_model(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        LanguageModel.load(tmp_path / "absent")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be loaded"):
        LanguageModel.load(tmp_path)
    with pytest.raises(InputError, match="Unknown dtype 'int4'"):
        LanguageModel.load(tmp_path, dtype="int4")


def test_load_reads_a_saved_model_and_its_type(tmp_path, tokenizer):
    make_model("llama").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    first = LanguageModel.load(tmp_path, device="cpu")
    assert first.fingerprint() == LanguageModel(make_model("llama"), tokenizer).fingerprint()
    half = LanguageModel.load(tmp_path, dtype="bfloat16", device="cpu")
    assert half.fingerprint() != first.fingerprint()
    assert first.revision is None
    assert first.tokenizer_fingerprint() == half.tokenizer_fingerprint()


def test_load_refuses_pickled_weights(tmp_path, tokenizer):
    model = make_model("gpt2")
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="cannot be loaded"):
        LanguageModel.load(tmp_path)


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path, tokenizer):
    """transformers would fill the gap with random numbers, other ones each time."""
    from safetensors.torch import load_file, save_file

    make_model("llama").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.mlp.down_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        InputError, match=r"lacks 1 weights of the model, the first is model.layers.1.mlp.down_proj.weight"
    ):
        LanguageModel.load(tmp_path)


@pytest.mark.parametrize("broken", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_broken_file_of_a_model_is_a_sentence(tmp_path, tokenizer, broken):
    make_model("gpt2").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / broken).write_text("{}")
    with pytest.raises(InputError, match="cannot be loaded"):
        LanguageModel.load(tmp_path)


def test_the_fingerprint_covers_the_configuration(tokenizer):
    """The same weights with other head counts compute something else."""
    one, other = make_model("llama"), make_model("llama")
    other.config.rms_norm_eps = 0.1
    assert LanguageModel(one, tokenizer).fingerprint() != LanguageModel(other, tokenizer).fingerprint()


def test_devices_that_are_not_there_are_refused(tmp_path, tokenizer):
    make_model("gpt2").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="--device: found 'foo', but it is not there; expected cpu"):
        LanguageModel.load(tmp_path, device="foo")
    with pytest.raises(InputError, match="exclude each other"):
        LanguageModel.load(tmp_path, device="cpu", device_map="auto")


def test_rows_of_a_model_that_makes_its_mask_without_positions_do_not_see_each_other(tokenizer):
    """The first GPT takes position ids but makes its mask without them."""
    config = AutoConfig.for_model("openai-gpt", n_embd=32, n_layer=3, n_head=4, n_positions=96, vocab_size=400)
    model = LanguageModel(AutoModelForCausalLM.from_config(config), tokenizer)
    rows, _ = rows_and_owners(model, 2)
    for i, logits in model.forward(rows):
        torch.testing.assert_close(logits, reference(model, rows[i], None, None), rtol=1e-4, atol=1e-5)
