"""The trial at load: each kind of model that breaks a way of computing is refused, or computed in a way that is right.

The references are plain calls of transformers on one row, with the edit in the weights of a copy.
"""

from dataclasses import asdict

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from instructedit.editors import CaseError, Edits, InputError, LanguageModel, ReplayStart
from instructedit.editors.engine.generation import answers

from ...conftest import GROUPED, WIDE, make_model, make_tokenizer
from .test_engine import PROMPTS, low_rank, reference, references, rows_and_owners
from .test_generation import greedy_by_hand

GEMMA = {
    **GROUPED,
    "head_dim": 8,
    "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "vocab_size_per_layer_input": 400,
    "hidden_size_per_layer_input": 8,
}
KINDS = {
    # looks up kinds of attention and further inputs by a block's index
    "gemma4_text": {**GEMMA, "num_kv_shared_layers": 0},
    # late blocks attend to keys and values of earlier ones
    "gemma4_text, shared keys": {**GEMMA, "num_kv_shared_layers": 2},
    # four streams of hidden states
    "gemma3n_text": {**GEMMA, "intermediate_size": [48] * 4, "num_kv_shared_layers": 2},
    # some blocks run twice
    "dory": {
        **GROUPED,
        "num_hidden_layers": 4,
        "head_dim": 16,
        "layer_types": ["full_attention", "sliding_attention"] * 2,
        "n_input_layers": 1,
        "n_recurrent_layers": 2,
        "n_output_layers": 1,
        "n_recurrent_loops": 2,
    },
    # layer_types that cannot be set; a state that packed rows would share
    "recurrent_gemma": {**WIDE, "lru_width": 32, "attention_window_size": 8},
    "falcon_h1": {**GROUPED, "mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8},
    # no cache
    "openai-gpt": {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 128},
    # no argument logits_to_keep
    "xlstm": {"hidden_size": 32, "num_hidden_layers": 4, "num_blocks": 4, "num_heads": 4, "use_cache": False},
}
"""Tiny configurations of models that break one way of computing or another, by model type."""
ONE_ROW = {"recurrent_gemma", "falcon_h1", "openai-gpt", "xlstm"}
WHOLE = {"gemma4_text, shared keys", "gemma3n_text", "dory"}
"""Kinds whose replays start from the embeddings."""


@pytest.fixture(autouse=True)
def _every_trial_is_made(trials):
    trials.clear()


def tiny(kind: str):
    torch.manual_seed(0)
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    options = {"vocab_size": 400, "initializer_range": 0.2, **special, **KINDS[kind]}
    hf = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind.split(",")[0], **options)).eval()
    for parameter in hf.parameters():  # some are zero to begin with
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.2)
    return hf


@pytest.fixture(scope="module", params=KINDS)
def odd(request, tokenizer):
    return request.param, LanguageModel(tiny(request.param), tokenizer)


def sites_of(model, block: int):
    return [site for part in ("up", "down") for site in model.structure.find(block, part)[:1]]


def test_odd_models_are_replayed_from_every_block_as_if_the_edit_were_in_their_weights(odd):
    kind, model = odd
    rows, owners = (both[::2] for both in rows_and_owners(model, 2))
    blocks = [block for block in range(4) if sites_of(model, block)]
    for block in blocks:
        edits = low_rank(sites_of(model, block), 2, scale=0.3)
        wanted = references(model, rows, edits, owners)
        plain = reference(model, rows[0], None, None)
        assert (wanted[0] - plain).abs().max() > 1e-3 * plain.abs().max(), "the edit must do something"
        for cut in {edits.cut, ReplayStart(block), ReplayStart(0)}:
            found = dict(model.replay(model.base_pass(rows, [cut]), edits, owners))
            assert all((found[i] - w).abs().max() < 1e-4 * w.abs().max() for i, w in enumerate(wanted)), (kind, cut)


def test_an_edit_of_no_size_changes_nothing_in_a_replay(odd):
    _, model = odd
    rows, owners = rows_and_owners(model, 1)
    plain = [reference(model, row, None, None) for row in rows]
    for block in (block for block in range(4) if sites_of(model, block)):
        edits = low_rank(sites_of(model, block), 1, scale=1e-12)
        found = dict(model.replay(model.base_pass(rows, [edits.cut]), edits, owners))
        assert all((found[i] - wanted).abs().max() < 1e-4 * wanted.abs().max() for i, wanted in enumerate(plain))


def test_odd_models_generate_under_an_edit_what_its_weights_generate(odd):
    _, model = odd
    edits = low_rank(sites_of(model, 2) or sites_of(model, 0), 1, scale=0.4)
    rows = [model.encode_prompt(prompt) for prompt, _ in PROMPTS]
    found = answers(model, rows, edits, [0] * len(rows), max_new_tokens=8, finished=lambda _row, _text: False)
    twin = edits.apply_to(model.model, 0)
    for row, text in zip(rows, found, strict=True):
        new = greedy_by_hand(twin, list(row.ids), 8, set(model.end_ids))
        assert text == model.tokenizer.decode(new, skip_special_tokens=True)


def test_gradients_at_what_is_run_twice_are_refused_and_not_wrong(tokenizer):
    model = LanguageModel(tiny("dory"), tokenizer)
    row = model.encode(*PROMPTS[0])
    with pytest.raises(CaseError, match="more than once"):
        model.capture([row], model.sites("down", [1]), lambda _, logits: logits.sum())
    assert model.capture([row], model.sites("down", [3]), lambda _, logits: logits.sum())


def test_what_falls_back_is_recorded_and_said(odd):
    kind, model = odd
    assert (model.trial.packing == "single") == (kind in ONE_ROW)
    assert model.trial.starts == (() if kind in WHOLE else (0, 1, 2, 3))
    assert len(model.trial.notes) == sum(
        (
            model.trial.packing != "rows",
            not model.trial.starts,
            model.trial.generation in ("alone", "recompute"),
        )
    )
    assert all(type(model.model).__name__ in note for note in model.trial.notes)


def test_a_common_model_uses_every_way_and_says_nothing(model):
    found = asdict(model.trial)
    assert found.pop("sites") == (("up", 4), ("down", 4), ("query key value", 4), ("output", 4))
    assert found == {
        "packing": "rows",
        "generation": "cache",
        "starts": (0, 1, 2, 3),
        "late": True,
        "notes": (),
    }


def test_the_trial_is_short(tokenizer):
    hf, passes = make_model("gpt2"), []
    hf.lm_head.register_forward_hook(lambda _module, given, _out: passes.append(given[0].shape[1]))
    state = torch.get_rng_state()
    LanguageModel(hf, tokenizer)
    assert len(passes) <= 30
    assert sum(passes) <= 600
    assert torch.equal(torch.get_rng_state(), state)


# Models with one defect each.


def swapped(module: nn.Module, forward) -> None:
    """Let a module compute something else, as a class of its own does."""
    module.__class__ = type(type(module).__name__, (type(module),), {"forward": forward})


def refused(hf, tokenizer, match: str) -> None:
    with pytest.raises(InputError, match=match) as error:
        LanguageModel(hf, tokenizer)
    assert "\n" not in str(error.value)
    assert type(hf).__name__ in str(error.value)


def test_a_model_in_which_later_tokens_reach_earlier_ones_is_refused(tokenizer):
    hf = make_model("gpt2")
    inner = type(hf.transformer).forward

    def forward(self, input_ids=None, **named):
        x = self.wte(input_ids)
        return inner(self, **named | {"inputs_embeds": x + x.mean(1, keepdim=True)})

    swapped(hf.transformer, forward)
    refused(hf, tokenizer, "later tokens change")


def test_a_model_that_takes_longer_texts_otherwise_is_refused(tokenizer):
    """Beyond 64 tokens, where the rows of a trial are shorter; Reformer sorts tokens into buckets from there on."""
    hf = make_model("gpt2")
    inner = type(hf.transformer).forward

    def forward(self, input_ids=None, **named):
        x = self.wte(input_ids)
        return inner(self, **named | {"inputs_embeds": -x if x.shape[1] > 64 else x})

    swapped(hf.transformer, forward)
    refused(hf, tokenizer, "later tokens change")


def test_weights_that_are_no_numbers_are_refused_by_name(tokenizer):
    hf = make_model("llama")
    hf.model.layers[2].mlp.up_proj.weight.data[3, 4] = float("nan")
    refused(hf, tokenizer, r"the weight model\.layers\.2\.mlp\.up_proj\.weight holds numbers that are not finite")


def test_logits_that_are_no_numbers_are_refused(tokenizer):
    hf = make_model("gpt2", torch.float16)
    hf.transformer.h[1].mlp.c_proj.weight.data.fill_(6e4)
    hf.transformer.h[1].mlp.c_fc.bias.data.fill_(100)
    refused(hf, tokenizer, "logits of the unedited model are not finite")


def test_a_tokenizer_larger_than_the_embedding_is_refused(tokenizer):
    hf = make_model("gpt2")
    hf.resize_token_embeddings(len(tokenizer) - 3)
    refused(hf, tokenizer, f"embedding has only {len(tokenizer) - 3} rows")


def test_added_tokens_without_an_embedding_are_no_reason_to_refuse(tokenizer):
    """Gemma 3 1B's tokenizer has one for images, behind the end of its embedding."""
    hf, more = make_model("gpt2"), make_tokenizer()
    hf.resize_token_embeddings(len(tokenizer))
    more.add_special_tokens({"additional_special_tokens": ["<image>"]})
    assert len(more) == len(tokenizer) + 1
    assert LanguageModel(hf, more).trial.packing == "rows"


@pytest.mark.parametrize("kind", ["bart", "whisper", "trocr"])
def test_decoders_of_encoder_decoders_are_refused_as_such(tokenizer, kind):
    from transformers import BartForCausalLM, TrOCRForCausalLM, WhisperForCausalLM

    classes = {"bart": BartForCausalLM, "whisper": WhisperForCausalLM, "trocr": TrOCRForCausalLM}
    shape = {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48}
    shape |= {} if kind == "trocr" else {"encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 48}
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "decoder_start_token_id": 0}
    hf = classes[kind](AutoConfig.for_model(kind, vocab_size=400, **special, **shape)).eval()
    refused(hf, tokenizer, "is the decoder of an encoder-decoder model")


def test_an_edit_that_does_not_reach_the_logits_is_refused(tokenizer):
    hf = make_model("gpt2")
    inner = type(hf.transformer.h[0].mlp).forward
    for block in hf.transformer.h:
        swapped(block.mlp, lambda self, x, *a, **k: torch.zeros_like(inner(self, x, *a, **k)))
    refused(hf, tokenizer, "does not reach the logits")


def test_blocks_that_are_not_run_on_text_are_refused(tokenizer):
    hf = make_model("gpt2")
    swapped(hf.transformer, lambda self, input_ids=None, **_: (self.ln_f(self.wte(input_ids)),))

    def forward(self, input_ids=None, **_):
        from transformers.modeling_outputs import CausalLMOutput

        return CausalLMOutput(logits=self.lm_head(self.transformer(input_ids)[0]))

    swapped(hf, forward)
    refused(hf, tokenizer, r"transformer\.h, is not run on text")


def test_a_plain_pass_that_fails_is_a_sentence_with_its_reason(tokenizer):
    hf = make_model("gpt2")

    def forward(self, x, *_, **__):
        raise RuntimeError("no kernel image\nis available")

    swapped(hf.transformer.h[0].mlp, forward)
    refused(hf, tokenizer, "a plain forward pass over 13 tokens of text fails: no kernel image")


def test_where_padding_is_seen_texts_are_generated_one_by_one(tokenizer):
    """Without position ids and mask, a token of padding is a token like any other."""
    hf = make_model("gpt2")
    inner = type(hf).forward
    names = inspect_cache(inner)

    def forward(self, input_ids=None, use_cache=None, past_key_values=None, cache=None, **_):
        given = {"past_key_values": past_key_values, "cache": cache}
        known = {name: value for name, value in given.items() if name in names}
        return inner(self, input_ids=input_ids, use_cache=use_cache, **known)

    swapped(hf, forward)
    model = LanguageModel(hf, tokenizer)
    assert (model.trial.packing, model.trial.generation) == ("single", "alone")
    rows = [model.encode_prompt(prompt) for prompt, _ in PROMPTS]
    found = answers(model, rows, Edits.none(1), [None] * 5, max_new_tokens=8, finished=lambda _row, _text: False)
    for row, text in zip(rows, found, strict=True):
        new = greedy_by_hand(make_model("gpt2").eval(), list(row.ids), 8, set(model.end_ids))
        assert text == tokenizer.decode(new, skip_special_tokens=True)


def inspect_cache(forward) -> set[str]:
    import inspect

    return set(inspect.signature(forward).parameters)
