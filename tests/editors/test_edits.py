"""Edits as files and as models."""

import json

import pytest
import torch
from safetensors.torch import save_file

from instructedit.editors import Codebook, Context, Dense, Edits, InputError, LowRank


def test_a_codebook_cannot_be_written_into_weights(model):
    (site,) = model.sites("up", [1])
    book = Codebook(site.name, 1, torch.zeros(1, 32), torch.zeros(1, 128), torch.ones(1))
    with pytest.raises(InputError, match="no update of a weight"):
        Edits(((book,),)).apply_to(model.model)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_written_model_keeps_the_edit_after_saving(make_language_model, family, tmp_path):
    from transformers import AutoModelForCausalLM

    model = make_language_model(family)
    (site,) = model.sites("down", [1])
    edits = Edits(((LowRank(site.name, 1, torch.randn(site.d_in, 1), torch.randn(1, site.d_out)),),))
    edits.apply_to(model.model).save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    row = model.encode("The name is", "Ada")
    wanted = next(model.forward([row], edits, [0]))[1]
    with torch.no_grad():
        found = again(input_ids=torch.tensor([row.ids])).logits[0, list(row.scored)]
    assert (found - wanted).abs().max() < 1e-4


def test_strange_files_are_refused(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="a file of edits"):
        Edits.load(tmp_path / "a.safetensors")
    metadata = {"format": "instructedit-edits-2", "edits": json.dumps([[{"kind": "dens"}]]), "facts": "[{}]"}
    save_file({"x": torch.zeros(1)}, tmp_path / "b.safetensors", metadata=metadata)
    with pytest.raises(InputError, match=r"unknown kind of patch 'dens'. Did you mean 'dense'"):
        Edits.load(tmp_path / "b.safetensors")


def test_edits_are_selected_and_joined():
    first, second = (Dense("m", block, torch.zeros(1, 1)) for block in (3, 1))
    edits = Edits(((first,), (second,)), ({"a": 1.0}, {"a": 2.0}))
    assert edits.first_block == 1
    assert edits.select([0]).first_block == 3
    assert Edits.join([edits.select([1]), Edits.none(1)]).facts == ({"a": 2.0}, {})
    assert Edits.none(2).first_block is None


def test_contexts_are_selected_joined_and_kept_in_files(tmp_path):
    fact = Context("New fact: it is so.\n", ("locality", "fluency"))
    edits = Edits(((), ()), contexts=(None, fact))
    assert edits.select([1, 0]).contexts == (fact, None)
    assert Edits.join([Edits.none(1), edits]).contexts == (None, None, fact)
    assert (fact.prompt_prefix("locality"), fact.prompt_prefix("portability")) == (fact.text, "")
    edits.save(tmp_path / "e.safetensors")
    assert Edits.load(tmp_path / "e.safetensors") == edits


def test_an_edit_with_a_context_cannot_be_written_into_weights(model):
    edits = Edits(((),), contexts=(Context("New fact: it is so.\n"),))
    with pytest.raises(InputError, match="adds a prefix to each prompt, which cannot be written into a model"):
        edits.apply_to(model.model)


def test_a_context_for_a_role_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"Unknown role 'localty' of a context. Did you mean 'locality'"):
        Context("x", ("localty",))
