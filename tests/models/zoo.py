"""Tiny random models of every architecture that `AutoModelForCausalLM` of the installed transformers serves.

A configuration has the defaults of its class, except that sizes are replaced by small ones, by their names (`SIZES`);
lists with one entry for each layer are cut so that each kind of layer remains; other values of single families are in
`SPECIAL`. Windows, chunks and top-k selections are shorter than the texts of the check, so that a wrong mask shows.
"""

import functools
import os
import re
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
)

VOCABULARY = 400
WIDTH = 32
LAYERS = 4
SEED = 0
SPREAD = 0.2
"""Standard deviation of matrices: large enough that every part of a model matters."""

DEPTHS = r"num_hidden_layers|n_layers?|num_layers|decoder_layers|num_decoder_layers|num_blocks"
SIZES: Mapping[str, int] = {
    # names are full matches; the first that matches decides
    r"(unpadded_|decoder_)?vocab_size(_per_layer_input)?": VOCABULARY,
    r"type_vocab_size|task_type_vocab_size": 2,
    r"audio_vocab_size|codebook_size|(pronunciation|shape)_vocab_size": 64,
    r"(bos|eos|pad|eod|sep|cls|decoder_start|forced_bos|forced_eos)_token_id": 0,
    DEPTHS: LAYERS,
    r"(num_)?encoder_layers": LAYERS,
    r"depth|conf_num_hidden_layers|num_layers_per_stack|num_global_layers": 2,
    r"hidden_size(_global)?|d_model|n_embd|embed_dim|emb_dim|embedding_size|embedding_dim|word_embed_proj_dim": WIDTH,
    r"(input|output)_embedding_size|backbone_hidden_size|out_hidden_size|lru_width|attention_hidden_size": WIDTH,
    r"projector_(in|out)put_dim|vision_output_dim|adapter_out_dim|input_size|output_channels": WIDTH,
    r"(moe|expert)_?(intermediate|ffn_hidden)_size": 24,
    r"(moe_)?shared_(experts?_)?intermediate_size": 40,
    r"hidden_size_per_layer_input|ple_embed_dim": 8,
    r".*intermediate_size(_mlp)?|(decoder_|encoder_)?ffn_dim|d_inner|dff|d_ff|dim_ff|mlp_dim": 48,
    r"n_inner|ffn_hidden_size|feed_forward_size": 48,
    r"(num_)?(decoder_|encoder_|swa_|conf_num_)?(attention_)?heads|n_heads?|num_(decoder|encoder)_attention_heads": 4,
    r"(num|swa_num|conf_num)_attention_heads": 4,
    r"(swa_)?(num_key_value_heads|num_kv_heads|kv_n_heads)|linear_num_key_heads|num_query_groups": 2,
    r"index_n_heads": 16,  # few would tie at zero, and a tie is broken by the length of the text
    r"linear_num_value_heads|linear_num_heads": 4,
    r"(qk_rope|qk_nope|v|linear|linear_key|linear_value|attention|swa|mamba)_head_dim|attention_head_size": 8,
    r"head_dim|d_head|dim_head|kv_channels|d_kv|qk_head_dim|index_head_dim": 16,
    r"rotary_dim": 4,
    r".*_lora_rank|.*_rank|hc_lowrank": 16,
    r"(num|n|moe_num)_(local_|routed_)?experts|zero_expert_num": 4,
    r"num_experts_per_tok(en)?|moe_top_?k|moe_k": 2,
    r"n_group|num_expert_group": 2,
    r"topk_group": 1,
    r"(n|num|moe_num)_shared_experts": 1,
    r"first_k_dense_replace|num_dense_layers|moe_layer_start_index|expert_layer_offset|attn_layer_offset": 1,
    r"moe_layer_end_index": LAYERS - 1,
    r"attn_layer_period|expert_layer_period|.*_every_n_layers|sliding_window_pattern|no_rope_layer_interval": 2,
    r"num_kv_shared_layers": 2,
    r"max_position_embeddings|n_positions|n_ctx|max_seq_len|seq_length|context_length|model_max_length": 128,
    r"max_(source|target)_positions|original_max_position_embeddings|num_position_embeddings": 128,
    r"(attention_)?sliding_window(_size)?|window_size|attention_window_size|local_attention": 8,
    r"attention_chunk_size|(mamba_)?chunk_size|block_size|index_block_size|rel_extent|.*_attn_chunk_length": 8,
    r"local_attention_window_len|index_topk|conf_attention_chunk_size": 8,
    r"index_topk_blocks": 2,
    r"(mamba_d_|ssm_)?state(_size)?|laurel_rank|d_rel": 8,
    r"mamba_n_heads|mamba_num_heads": 8,
    r"mamba_d_head|mamba_headdim": 8,
    r"mamba_d_ssm": 2 * WIDTH,
    r"mamba_dt_rank|time_step_rank|adapter_rank|o_groups|loop_gate_rank": 4,
    r"mamba_n_groups|n_groups|mamba_ngroups": 2,
    r"image_size": 28,
    r"patch_size": 14,
    r"crop_size": 28,
    r"image_seq_length|mm_tokens_per_image|vision_soft_tokens_per_image|audio_soft_tokens_per_image": 4,
}

TOKENS = r"(?!bos|eos|pad|eod|sep|cls|decoder_start|forced).*_token_(id|index)"
"""Fields that name a token of another kind (image, audio): they get the last numbers, which no text has."""

GEMMA4 = {"head_dim": 8, "global_head_dim": 16, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 2}
GEMMA4_ASSISTANT = {
    "text_config": {
        "model_type": "gemma4_text",
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCABULARY,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "sliding_window": 8,
        **GEMMA4,
        "num_kv_shared_layers": LAYERS,
        "hidden_size_per_layer_input": 0,
        "vocab_size_per_layer_input": 0,
    }
}
DOTS3 = {
    **{f"swa_{name}": 4 for name in ("num_attention_heads", "num_key_value_heads")},
    **{f"swa_{name}": 16 for name in ("q_lora_rank", "kv_lora_rank", "head_dim")},
    **{f"swa_{name}": 8 for name in ("qk_nope_head_dim", "v_head_dim")},
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "layer_types": ["indexed_attention", "sliding_attention"] * 2,
    "sliding_window": 8,
}
QWEN4 = {
    "eos_token_id": 0,
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 8,
    "indexer_compress_ratio": 4,
    "ple_layer_ids": [1],
    "ple_embed_dim": 32,
    "heads_per_ngram": 2,
    "ngram_vocab_size_base": 50,
    "make_ngram_vocab_size_divisible_by": 8,
    "split_ngram_parts": 1,
}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}


def _nested(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}.{key}": value for key, value in values.items()}


SPECIAL: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3]},
    "blt": {"encoder_hash_byte_group_vocab": 500, "encoder_hash_byte_group_size": [3, 4]},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {"full_attention": ROPE, "sliding_attention": ROPE},
    },
    "dbrx": {
        "attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v4": {
        "layer_types": [
            "sliding_attention",
            "compressed_sparse_attention",
            "heavily_compressed_attention",
            "sliding_attention",
        ],
        "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 8},
    },
    "deepseek_v2": {"num_experts_per_tok": 2, "first_k_dense_replace": 1},
    # longer than a sequence, shorter than a packed pass: which of two equal tokens it keeps is not defined
    "doge": {"keep_window_size": 24},
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "first_k_dense_replace": 1},
    "dots3_note": {
        **_nested("text_config", DOTS3),
        **_nested("vision_config", {"adapter_in_dim": WIDTH, "mlp_layer_types": ["dense", "sparse"] * 2}),
        "audio_config.adapter_input_size": WIDTH,
    },
    "dots3_note_text": DOTS3,
    "gemma4": _nested("text_config", GEMMA4),
    "gemma4_assistant": GEMMA4_ASSISTANT,
    "gemma4_text": GEMMA4,
    "gemma4_unified": _nested("text_config", {"head_dim": 8, "global_head_dim": 16}),
    "gemma4_unified_text": {"head_dim": 8, "global_head_dim": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], LAYERS // 2]]},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"] * 2},
    "helium": {"head_dim": 8},
    "hunyuan_v1_dense": {"head_dim": 8, "num_key_value_heads": 2},
    "hunyuan_v1_moe": {"head_dim": 8, "num_key_value_heads": 2},
    "hy_v4": {"indexer_types": ["full", "shared"] * 2},
    "laguna": {
        "layer_types": ["full_attention", "sliding_attention"] * 2,
        "num_attention_heads_per_layer": [4, 4, 4, 4],
    },
    "mellum": {"layer_types": ["full_attention", "sliding_attention"] * 2},
    "minimax_m3_vl_text": {"layer_types": ["full_attention", "minimax_m3_sparse"] * 2},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2, "full_attn_idxs": [1, 3]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "ministral": {"head_dim": 8},
    "mllama": {"text_config.cross_attention_layers": [1]},
    "nemotron": {"num_key_value_heads": 2},
    "qwen4_exp": _nested("text_config", QWEN4),
    "qwen4_exp_text": QWEN4,
    "reformer": {"axial_pos_shape": [8, 16], "axial_pos_embds_dim": [16, 16], "hash_seed": 0},
    "xlnet": {"d_head": 8},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"attention_hidden_size": 2 * WIDTH, "attention_head_dim": 16},
}
"""Fields of some families, by model type; an entry of a nested configuration is `name.field`."""


def names() -> list[str]:
    """Return the model types that `AutoModelForCausalLM` serves."""
    return list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


DECODER_ONLY = "decoder-only"
HALF = "decoder of an encoder-decoder"
ENCODER = "encoder run as a decoder"
KINDS = {
    **dict.fromkeys(("moss_transcribe_diarize", "reformer"), DECODER_ONLY),
    **dict.fromkeys(("musicgen", "musicgen_melody", "trocr"), HALF),
    "bert-generation": ENCODER,
}
"""Exceptions: the kinds of the others follow from the tasks that transformers registers them for."""


def kind(name: str) -> str:
    """Return the kind of a model type: decoder-only, or part of another model that can be run like one."""
    if name in KINDS:
        return KINDS[name]
    if name in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES or name in MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES:
        return HALF
    return ENCODER if name in MODEL_FOR_MASKED_LM_MAPPING_NAMES else DECODER_ONLY


def config(name: str) -> PretrainedConfig:
    """Return the tiny configuration of a model type."""
    return CONFIG_MAPPING[name](**_values(CONFIG_MAPPING[name], SPECIAL.get(name, {})))


def build(name: str, seed: int = SEED) -> PreTrainedModel:
    """Return a tiny random model in float32; the same one for the same seed."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config(name), dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            _spread(parameter, generator)
    return model.eval()


def _spread(parameter: Tensor, generator: torch.Generator) -> None:
    """Make a parameter matter: matrices are brought to one spread, what is zero or one everywhere becomes uneven."""
    noise = torch.randn(parameter.shape, generator=generator)
    if parameter.dim() < 2:
        parameter.add_(0.1 * noise)
    elif not bool(parameter.isfinite().all()) or float(parameter.std()) < SPREAD / 2:
        parameter.copy_(SPREAD * noise)


def _values(kind: type[PretrainedConfig], special: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a small configuration of a class."""
    own = {key: value for key, value in special.items() if "." not in key}
    default = _default(kind, tuple(sorted((k, repr(v)) for k, v in own.items())))
    layers = max((v for k, v in vars(default).items() if re.fullmatch(DEPTHS, k) and isinstance(v, int)), default=0)
    found: dict[str, Any] = {}
    token = VOCABULARY
    for field in sorted(getattr(kind, "__dataclass_fields__", {}) or vars(default)):
        try:
            value = getattr(default, field, None)
        except Exception:  # differs between layers, and has no one value
            continue
        if field.startswith("_") or field in PretrainedConfig.__dataclass_fields__:
            if re.fullmatch(r"(bos|eos|pad|sep|decoder_start)_token_id", field) and value is not None:
                found[field] = 0
            continue
        if isinstance(value, PretrainedConfig):
            inner = {k.removeprefix(f"{field}."): v for k, v in special.items() if k.startswith(f"{field}.")}
            found[field] = {**_values(type(value), inner), "model_type": value.model_type}
        elif isinstance(value, bool) or value is None:
            continue
        elif field in ("initializer_range", "init_std", "initializer_factor"):
            found[field] = SPREAD if field != "initializer_factor" else value
        elif isinstance(value, int) and re.fullmatch(TOKENS, field):
            token -= 1
            found[field] = token
        elif isinstance(value, int) and (size := _size(field)) is not None:
            exact = size in (0, VOCABULARY) or re.fullmatch(DEPTHS, field)
            found[field] = size if exact else min(size, value) if value >= 0 else value
        elif isinstance(value, list) and all(type(entry) is int for entry in value) and _size(field):
            found[field] = [_size(field)] * LAYERS
        elif isinstance(value, list | tuple) and layers and len(value) == layers:
            kinds = list(dict.fromkeys(value))[:LAYERS]
            found[field] = [kinds[i % len(kinds)] for i in range(LAYERS)]
    if "qk_rope_head_dim" in found and "head_dim" in found:  # the width that the rotation is made for
        found["head_dim"] = found["qk_rope_head_dim"]
    for keys, heads in (("num_key_value_heads", "num_attention_heads"), ("num_kv_heads", "num_attention_heads")):
        if keys in found and vars(default).get(keys) == vars(default).get(heads):  # not grouped
            found[keys] = found.get(heads, found[keys])
    if "is_decoder" in vars(default):
        found["is_decoder"] = True
    return {**found, **own}


@functools.cache
def _default(kind: type[PretrainedConfig], own: tuple[tuple[str, str], ...]) -> PretrainedConfig:
    try:
        return kind()
    except Exception:  # its own defaults do not fit together
        return kind(**{key: eval(value) for key, value in own})


def _size(field: str) -> int | None:
    return next((size for pattern, size in SIZES.items() if re.fullmatch(pattern, field)), None)
