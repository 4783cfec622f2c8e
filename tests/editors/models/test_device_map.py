"""Models spread by accelerate: the engine's passes equal those of the model in one place."""

import pytest
import torch
from accelerate import dispatch_model

from instructedit.baselines.ftl import FTM, FTMConfig
from instructedit.baselines.grace import GRACE, GRACEConfig
from instructedit.baselines.ke import KE
from instructedit.baselines.mend import MEND
from instructedit.editors import LanguageModel, TrainingSet, make
from instructedit.editors.engine.generation import answers

from ...conftest import make_model
from ..cases import facts
from ..test_contract import REQUESTS

PARTS = {
    "gpt2": ["transformer.wte", "transformer.wpe", "transformer.h.0", "transformer.h.1", "lm_head", "transformer.ln_f"],
    "llama": ["model.embed_tokens", "model.layers.0", "model.layers.1", "lm_head", "model.norm", "model.rotary_emb"],
}


def spread(family: str, folder, tokenizer) -> LanguageModel:
    """Half of the blocks on the CPU, half on disk: their weights are there only while they compute."""
    model = make_model(family)
    stack = "transformer.h" if family == "gpt2" else "model.layers"
    places: dict[str, str] = dict.fromkeys(PARTS[family], "cpu")
    places |= {f"{stack}.{block}": "disk" for block in (2, 3)}
    if family == "gpt2":
        places["transformer.drop"] = "cpu"
    return LanguageModel(
        dispatch_model(model, places, main_device="cpu", offload_dir=folder, force_hooks=True), tokenizer
    )


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize(
    "editor",
    [
        FTM(FTMConfig(block=1, lr=0.02, clamp=0.1)),
        FTM(FTMConfig(block=3, lr=0.02, clamp=0.1)),
        GRACE(GRACEConfig(block=2, steps=5)),
    ],
)
def test_edits_and_answers_equal_those_of_the_model_in_one_place(
    make_language_model, tokenizer, tmp_path, family, editor
):
    whole, parted = make_language_model(family), spread(family, tmp_path, tokenizer)
    assert any(parameter.is_meta for parameter in parted.model.parameters()), "part of it must be on disk"
    ours, theirs = whole.model, parted.model
    assert type(ours) is type(theirs)
    found = [model.fingerprint() for model in (whole, parted)]
    assert found[0] == found[1]
    edits = [editor.edit(model, REQUESTS, seed=0) for model in (whole, parted)]
    for one, other in zip(edits[0].patches, edits[1].patches, strict=True):
        for name, tensor in one[0].tensors().items():
            assert (tensor - other[0].tensors()[name]).abs().max() < 1e-4
    rows = [whole.encode_prompt(request.prompt) for request in REQUESTS]
    said = [
        answers(model, rows, edit, range(len(rows)), max_new_tokens=6, finished=lambda _r, _t: False)
        for model, edit in zip((whole, parted), edits, strict=True)
    ]
    assert said[0] == said[1]
    base = [torch.cat([logits for _, logits in model.forward(rows)]) for model in (whole, parted)]
    torch.testing.assert_close(*base)
    assert parted.fingerprint() == found[0]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("kind", [MEND, KE])
def test_a_training_on_parts_is_one_of_the_same_model(make_language_model, tokenizer, tmp_path, family, kind):
    whole, parted = make_language_model(family), spread(family, tmp_path / "offload", tokenizer)
    options = {"rank": 8} if kind is MEND else {"hidden": 8, "condition": 6}
    training = {"steps": 3, "batch": 2, "accumulate": 1, "lr": 1e-3, "validate_every": 3}
    trained = []
    for name, model in (("whole", whole), ("parted", parted)):
        editor = make(kind, {**options, "training": training})
        editor.fit(model, TrainingSet(facts(4), facts(2), {"facts": 1.0}), tmp_path / name)
        trained.append(kind.load(tmp_path / name))
    for name, tensor in trained[0].state().items():
        torch.testing.assert_close(trained[1].state()[name], tensor, rtol=1e-4, atol=1e-5)
    trained[1].edit(whole, REQUESTS)  # of the same base model


def test_an_embedding_kept_on_disk_is_read_from_there(tokenizer, tmp_path):
    model = make_model("llama")
    weight = model.get_input_embeddings().weight.clone()
    places = {"model.embed_tokens": "disk", "model.layers": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu"}
    parted = LanguageModel(
        dispatch_model(model, {**places, "lm_head": "cpu"}, main_device="cpu", offload_dir=tmp_path, force_hooks=True),
        tokenizer,
    )
    assert parted.model.get_input_embeddings().weight.is_meta
    assert torch.equal(parted.embedding(), weight)
