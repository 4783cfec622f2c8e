"""Exported models are the edited ones, in plain transformers and in plain peft, and keep what their source has."""

import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import instructedit
from instructedit.editors import InputError
from instructedit.editors.engine.generation import answers
from instructedit.export import Exported

from .conftest import FACTS, FT

GRACE = {"block": 1, "part": "up", "radius": 50.0, "lr": 1.0, "steps": 30}
PROMPTS = ["Ada Lovelace was born in", "The name of the country of citizenship of Katherine Johnson is"]


def plain(folder, **options):
    return AutoModelForCausalLM.from_pretrained(folder, **options).eval()


def engine_logits(edited, row):
    """Return the engine's logits at a row's scored positions under the edit."""
    with torch.no_grad():
        return next(logits for _, logits in edited.model.forward([row], edited.edits, [0]))


def plain_logits(model, row, **options):
    with torch.no_grad():
        return model(input_ids=torch.tensor([row.ids]), **options).logits[0, list(row.scored)]


def rows_of(edited):
    return [edited.model.encode(own.prompt, own.target) for own in edited.requests]


def labels_of(row):
    """Return -100 before the answer, as in the fine-tuning of transformers."""
    return torch.tensor([[token if at > row.prompt_end else -100 for at, token in enumerate(row.ids)]])


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_whole_model_keeps_all_files_but_those_with_edited_weights(load, folders, family, tmp_path):
    source = folders(family)
    edited = load(family).edit(FACTS, **FT)
    found = edited.save_pretrained(tmp_path / "out")
    out = tmp_path / "out"
    names = {path.name for path in source.iterdir()} - {"pytorch_model.bin"}
    assert {path.name for path in out.iterdir()} == names, "a stale pickle of the unedited weights is left out"
    changed = {name for name in names if (source / name).read_bytes() != (out / name).read_bytes()}
    assert changed == set(found.written)
    assert len(changed) == 1 < sum(name.endswith(".safetensors") for name in names)
    (file,), (patch,) = changed, edited.edits.patches[0]
    before, after = load_file(source / file), load_file(out / file)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {f"{patch.site}.weight"}
    assert after[f"{patch.site}.weight"].dtype == torch.bfloat16
    again = plain(out)
    assert again.dtype == torch.bfloat16
    assert again.generation_config.do_sample and again.generation_config.temperature == 0.7
    assert AutoTokenizer.from_pretrained(out).chat_template == AutoTokenizer.from_pretrained(source).chat_template
    assert (found.facts, found.engine) == (2, 2)
    assert f"took effect on {found.took_effect} of 2" in str(found)


def test_a_whole_model_computes_what_the_engine_does(load, tmp_path):
    edited = load("gpt2", torch.float32).edit(FACTS, **FT)
    found = edited.save_pretrained(tmp_path / "out")
    assert (found.took_effect, found.differing) == (2, ())
    model = plain(tmp_path / "out")
    for row in rows_of(edited):
        torch.testing.assert_close(plain_logits(model, row), engine_logits(edited, row), rtol=1e-4, atol=1e-4)


def test_weights_under_names_without_the_prefix_are_found(load, folders, tmp_path):
    """As GPT-2's first files on the hub have them."""
    source = tmp_path / "bare"
    plain(folders("gpt2", torch.float32)).transformer.save_pretrained(source)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(folders("gpt2", torch.float32) / name, source / name)
    assert not any(name.startswith("transformer.") for name in load_file(source / "model.safetensors"))
    found = instructedit.load(source, device="cpu").edit(FACTS, **FT).save_pretrained(tmp_path / "out")
    assert found.took_effect == 2
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == load_file(source / "model.safetensors").keys()


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_an_adapter_is_the_edited_model_in_plain_peft(load, folders, drawn, family, tmp_path):
    peft = pytest.importorskip("peft")
    edited = load(family, torch.float32).edit(FACTS, drawn)
    found = edited.save_pretrained(tmp_path / "out", "peft")
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(found.written)
    assert found.differing == ()
    model = peft.PeftModel.from_pretrained(plain(folders(family, torch.float32)), tmp_path / "out").eval()
    for row in rows_of(edited):
        wanted = engine_logits(edited, row)
        torch.testing.assert_close(plain_logits(model, row), wanted, rtol=1e-4, atol=1e-4)
    merged = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out").merge_and_unload()
    torch.testing.assert_close(plain_logits(merged, row), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("kind", ["last", "prompt", "all", "slots", "low-rank"])
def test_edits_on_a_plain_model_are_the_engine(load, folders, drawn, neurons, family, kind, tmp_path):
    model = load(family, torch.float32)
    if kind in ("last", "prompt", "all"):
        edited = model.edit(FACTS[:1], "grace", replace=kind, **GRACE)
    else:
        edited = model.edit(FACTS, neurons if kind == "slots" else drawn)
    assert edited.save_pretrained(tmp_path / "out", "edits").differing == ()
    other = plain(folders(family, torch.float32))
    rows = rows_of(edited)
    before = [plain_logits(other, row) for row in rows]
    prompts = [edited.model.encode_prompt(prompt, 8) for prompt in PROMPTS]
    wanted = answers(edited.model, prompts, edited.edits, [0, 0], max_new_tokens=8, finished=lambda *_: False)
    tokenizer = AutoTokenizer.from_pretrained(folders(family), padding_side="left", pad_token="<end>")
    batch = tokenizer(PROMPTS, return_tensors="pt", padding=True)
    assert not batch["attention_mask"].all(), "of different lengths"
    with instructedit.load_edits(other, tmp_path / "out"):
        for row, unedited in zip(rows, before, strict=True):
            found = plain_logits(other, row, labels=labels_of(row))
            torch.testing.assert_close(found, engine_logits(edited, row), rtol=1e-4, atol=1e-4)
            assert not torch.allclose(found, unedited, atol=1e-3)
        for options in ({}, {"use_cache": False}):
            out = other.generate(**batch, do_sample=False, max_new_tokens=8, pad_token_id=0, **options)
            new = out[:, batch["input_ids"].shape[1] :]
            assert tokenizer.batch_decode(new, skip_special_tokens=True) == wanted
    for row, unedited in zip(rows, before, strict=True):
        assert torch.equal(plain_logits(other, row), unedited), "the model is as it was"
    assert "generate" not in vars(other)


def test_edits_stay_with_their_model_in_any_dtype(load, folders, tmp_path):
    load("gpt2").edit(FACTS, **FT).save_pretrained(tmp_path / "out", "edits")
    for dtype in (torch.bfloat16, torch.float32):
        with instructedit.load_edits(plain(folders("gpt2"), dtype=dtype), tmp_path / "out"):
            pass
    wrong = plain(folders("gpt2"))
    with torch.no_grad():
        wrong.lm_head.weight[0, 0] += 1
    for model in (wrong, plain(folders("llama"))):
        with (
            pytest.raises(InputError, match=r"the edit was made for .* but the given model is another one"),
            instructedit.load_edits(model, tmp_path / "out"),
        ):
            pass
    with (
        pytest.raises(InputError, match="a folder written as `edits` was expected"),
        instructedit.load_edits(wrong, tmp_path),
    ):
        pass


def test_a_form_that_cannot_hold_an_edit_names_those_that_can(load, drawn, tmp_path):
    model = load("gpt2")
    one = FACTS[:1]
    refused = {
        ("grace", "hf"): "'edits' can hold this edit",
        ("grace", "peft"): "'edits' can hold this edit",
        ("ft-m", "peft"): "changes whole matrices .*'hf' or 'edits' can hold this edit",
        ("in-context", "edits"): "put before each prompt; no form can hold this edit",
    }
    for (name, form), words in refused.items():
        options = {"grace": GRACE, "ft-m": FT}.get(name, {})
        if form == "peft":
            pytest.importorskip("peft")
        with pytest.raises(InputError, match=words):
            model.edit(one, name, **options).save_pretrained(tmp_path / "out", form)
    with pytest.raises(InputError, match=r"Unknown form 'pft'. Did you mean 'peft'"):
        model.edit(one, drawn).save_pretrained(tmp_path / "out", "pft")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="a new or an empty folder was expected"):
        model.edit(one, drawn).save_pretrained(tmp_path / "full")
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine"]


def test_what_rounding_changes_is_said(tmp_path):
    same = Exported(tmp_path, "edits", ("edits.safetensors",), 20, 19, 19, (), "float32")
    assert "took effect on 19 of 20, as in the engine\nwrote edits.safetensors" in str(same)
    other = Exported(tmp_path, "hf", ("model.safetensors",), 20, 18, 20, ("own/edit/3", "own/edit/7"), "bfloat16")
    assert "took effect on 18 of 20 in bfloat16; the engine's answers differ for 2 (it has 20 of 20)" in str(other)
