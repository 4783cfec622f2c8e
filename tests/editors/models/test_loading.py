"""A model is loaded as it is written, or one sentence says why not; shapes alone give the same verdict."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from instructedit.editors import InputError, LanguageModel, MetaModel
from instructedit.editors.models import loading
from instructedit.editors.models.devices import check_device

from ...cli.broken import good, keys, own_code, pickled
from ...conftest import make_model, make_tokenizer

ODD = [None, 0, -1, "many", ["a"], {}, 10**12]


def copied(folder: Path, family: str = "llama") -> Path:
    shutil.copytree(good(family), folder)
    return folder


def verdict(load):
    """Return the model, or what a user is told; whatever else is raised fails the test."""
    try:
        return load()
    except InputError as error:
        return str(error)


def logits(model: LanguageModel) -> torch.Tensor:
    row = model.encode_prompt("The name of")
    return model.model(torch.tensor([row.ids])).logits


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_an_odd_number_of_a_configuration_is_harmless_or_a_sentence_that_names_it(tmp_path, family):
    plain = json.loads((good(family) / "config.json").read_text())
    before = logits(LanguageModel.load(good(family), device="cpu"))
    names = [key for key, value in plain.items() if isinstance(value, int | float) and not isinstance(value, bool)]
    shutil.copytree(good(family), tmp_path / "model")
    tried = 0
    for name in names:
        for value in ODD:
            (tmp_path / "model" / "config.json").write_text(json.dumps({**plain, name: value}))
            alone = verdict(lambda: MetaModel.load(tmp_path / "model"))
            said = verdict(lambda: LanguageModel.load(tmp_path / "model", device="cpu"))
            assert isinstance(alone, str) == isinstance(said, str)
            if not isinstance(said, str):  # such a value must not matter
                assert torch.equal(logits(said), before), (name, value)
            else:
                assert said == alone
                assert name in said or "another shape" in said
                assert repr(value) in said or "another shape" in said or type(value).__name__ in said
            tried += 1
    assert tried >= 90


@pytest.mark.parametrize("file", ["pytorch_model.bin", "consolidated.00.pth"])
def test_what_is_said_of_a_pickle_makes_safetensors_of_it(tmp_path, monkeypatch, file):
    folder = copied(tmp_path / "model")
    pickled(file)(folder)
    said = verdict(lambda: LanguageModel.load(folder))
    monkeypatch.chdir(tmp_path)
    exec(re.search(r'python -c "(.*)"', said)[1])
    out = tmp_path / "OUT" if (tmp_path / "OUT").exists() else folder
    want = load_file(good() / "model.safetensors")
    found = load_file(out / "model.safetensors")
    assert found.keys() == want.keys()
    assert all(torch.equal(found[name], want[name]) for name in want)
    assert logits(LanguageModel.load(out, device="cpu")).isfinite().all()


def test_code_of_a_model_runs_only_if_it_may(tmp_path, monkeypatch):
    folder = copied(tmp_path / "model")
    mark = tmp_path / "it ran"
    own_code(rest=f"open({str(mark)!r}, 'w').close()")(folder)
    for load in (LanguageModel.load, MetaModel.load):
        with pytest.raises(InputError, match=r"modeling_own.py.*--trust-remote-code"):
            load(folder)
    assert not mark.exists()
    model = LanguageModel.load(folder, device="cpu", trust_remote_code=True)
    assert mark.exists()
    assert type(model.model).__name__ == "OwnForCausalLM"
    plain = LanguageModel.load(good(), device="cpu")
    assert torch.equal(logits(model), logits(plain))
    meta = MetaModel.load(folder, trust_remote_code=True)
    assert meta.structure.sites == model.structure.sites


def test_the_fingerprint_covers_code_of_the_models_own(tmp_path):
    """The same weights under other code compute something else."""
    found = []
    for number, rest in enumerate(("", "", "# changed")):
        folder = copied(tmp_path / f"model{number}")
        own_code(rest=rest)(folder)
        found.append(LanguageModel.load(folder, device="cpu", trust_remote_code=True).fingerprint())
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (ImportError("TimmWrapperModel requires the timm library. Run\n`pip install timm`."), "pip install timm"),
        (ModuleNotFoundError("No module named 'compressed_tensors'", name="compressed_tensors"), "compressed-tensors"),
        (ModuleNotFoundError("No module named 'google'", name="google.protobuf"), "pip install protobuf"),
        (ImportError("Loading an AWQ model requires gptqmodel"), "pip install gptqmodel"),
        (MemoryError("not enough memory: you tried to allocate 9 bytes"), "--dtype bfloat16"),
        (KeyError("lost"), "download it again"),
        (type("PanicException", (BaseException,), {})("index out of bounds"), "download it again"),
        (RecursionError("maximum recursion depth"), "download it again"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_whatever_a_library_raises_is_one_sentence_with_all_that_it_says(tmp_path, monkeypatch, error, advice):
    def raises(*_, **__):
        raise error

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", raises)
    for load in (LanguageModel.load, MetaModel.load):
        with pytest.raises(InputError) as caught:
            load(good())
        said = str(caught.value)
        assert "\n" not in said
        assert said.startswith(f"{good()}: the model cannot be loaded: ")
        for word in re.findall(r"\w+", str(error)):
            assert word in said
        assert advice in said


def test_a_stop_by_the_user_is_no_fault_of_the_model(monkeypatch):
    def raises(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", raises)
    with pytest.raises(KeyboardInterrupt):
        LanguageModel.load(good())


def test_weights_that_no_part_of_the_model_reads_are_told(tmp_path):
    folder = copied(tmp_path / "model")
    keys(num_hidden_layers=3)(folder)
    (note,) = MetaModel.load(folder).notes
    assert re.search(r"9 weights .* not read, the first is model.layers.3", note)
    assert MetaModel.load(good()).notes == ()


def test_several_files_of_weights_are_one_model(tmp_path):
    folder = copied(tmp_path / "model")
    found = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(found)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, own in parts.items():
        save_file({name: found[name] for name in own}, folder / file, metadata={"format": "pt"})
    places = {name: file for file, own in parts.items() for name in own}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    whole = LanguageModel.load(good(), device="cpu")
    assert LanguageModel.load(folder, device="cpu").fingerprint() == whole.fingerprint()
    assert MetaModel.load(folder).parameters == sum(p.numel() for p in whole.model.parameters())


def test_shapes_take_no_memory_and_are_those_of_the_weights(tmp_path):
    meta = MetaModel.load(good())
    real = LanguageModel.load(good(), device="cpu")
    assert all(parameter.is_meta for parameter in meta.model.parameters())
    want = {name: tuple(parameter.shape) for name, parameter in real.model.named_parameters()}
    assert {name: tuple(parameter.shape) for name, parameter in meta.model.named_parameters()} == want
    assert meta.lacks is None


def test_a_configuration_alone_has_shapes_and_cannot_be_loaded(tmp_path):
    make_model("gpt2").config.save_pretrained(tmp_path)
    meta = MetaModel.load(tmp_path)
    assert len(meta.structure) == 4
    assert "holds no weights" in meta.lacks
    with pytest.raises(InputError, match="holds no weights"):
        LanguageModel.load(tmp_path)


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory) -> Path:
    """A Llama of two blocks as GGUF, its weights plain numbers in float32 and its tokenizer of GPT-2's kind."""
    gguf = pytest.importorskip("gguf", reason="reading GGUF needs the package gguf")
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    tokenizer = json.loads(make_tokenizer().backend_tokenizer.to_str())
    tokens = [token for token, _ in sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])]
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in tokenizer["model"]["merges"]]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(96)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_rope_dimension_count(8)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(0)
    writer.add_bos_token_id(0)
    config = AutoConfig.for_model(
        "llama", vocab_size=len(tokens), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=96,
    )  # fmt: skip
    torch.manual_seed(0)
    names = {
        "embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
        "input_layernorm.weight": "attn_norm.weight", "post_attention_layernorm.weight": "ffn_norm.weight",
        "mlp.gate_proj.weight": "ffn_gate.weight", "mlp.up_proj.weight": "ffn_up.weight",
        "mlp.down_proj.weight": "ffn_down.weight", "self_attn.q_proj.weight": "attn_q.weight",
        "self_attn.k_proj.weight": "attn_k.weight", "self_attn.v_proj.weight": "attn_v.weight",
        "self_attn.o_proj.weight": "attn_output.weight",
    }  # fmt: skip
    for name, weight in AutoModelForCausalLM.from_config(config).state_dict().items():
        block = re.match(r"model\.layers\.(\d+)\.(.*)", name)
        own = f"blk.{block[1]}.{names[block[2]]}" if block else names[name.removeprefix("model.")]
        kind = gguf.GGMLQuantizationType.Q8_0 if own.endswith(("ffn_up.weight", "ffn_gate.weight")) else None
        numbers = weight.numpy()
        if kind is None:
            writer.add_tensor(own, numbers)
        else:
            writer.add_tensor(own, gguf.quants.quantize(numbers, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_is_read_and_its_weights_are_plain(gguf_file):
    """The maps of 8 bits differ from what they were made of by half a step; the others are the same numbers."""
    torch.manual_seed(0)
    model = LanguageModel.load(gguf_file, device="cpu")
    by_folder = LanguageModel.load(gguf_file.parent, device="cpu")
    assert model.fingerprint() == by_folder.fingerprint()
    assert {parameter.dtype for parameter in model.model.parameters()} == {torch.float32}
    assert not hasattr(model.model.config, "quantization_config")
    torch.manual_seed(0)
    made_of = AutoModelForCausalLM.from_config(model.model.config, dtype=torch.float32).state_dict()
    for name, weight in model.model.state_dict().items():
        step = made_of[name].abs().max() / 127 if "up_proj" in name or "gate_proj" in name else 0
        if "q_proj" in name or "k_proj" in name:
            continue  # GGUF keeps their rows in another order, which this file does not follow
        assert (weight - made_of[name]).abs().max() <= 0.57 * step, name  # half, and a scale of 16 bits
    meta = MetaModel.load(gguf_file)
    assert meta.structure.sites == model.structure.sites
    assert [(s.d_in, s.d_out) for s in model.sites("down", [0])] == [(64, 32)]
    assert logits(model).isfinite().all()


def test_a_gguf_without_its_package_is_a_sentence_with_the_line_for_pip(gguf_file, monkeypatch):
    from instructedit.editors.models import model_files as checkpoint

    monkeypatch.setattr(checkpoint, "find_spec", lambda name: None)
    for load in (LanguageModel.load, MetaModel.load):
        with pytest.raises(InputError, match=r"tiny\.gguf.*pip install gguf"):
            load(gguf_file)


def test_devices_are_looked_for_before_they_are_used(monkeypatch):
    check_device("cpu")
    check_device("cpu:0")
    check_device(None, "auto")
    check_device(None, {"": "cpu", "lm_head": "disk"})
    for place in ("cuda:9", "cuda:-1", "", "0", "meta"):
        with pytest.raises(InputError, match="--device: found"):
            check_device(place)
    with pytest.raises(InputError, match="device_map: found 'cuda:99'"):
        check_device(None, {"": 99})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_device("cuda")
    check_device("cuda:1")
    check_device(None, {"": 1})
    with pytest.raises(InputError, match="torch sees 2 CUDA cards; expected cpu or cuda:0 to cuda:1"):
        check_device("cuda:2")


def test_a_folder_that_may_not_be_read_is_a_sentence(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    folder = copied(tmp_path / "model")
    (folder / "config.json").chmod(0)
    with pytest.raises(InputError, match=r"config\.json.*cannot be read"):
        LanguageModel.load(folder)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("401 Client Error: cannot access gated repo", "hf auth login"),
        ("We couldn't connect to the hub", "name a folder"),
        ("404 Client Error: Repository Not Found", "name a folder"),
        ("something new", "name a folder"),
    ],
)
def test_a_hub_id_that_cannot_be_read_says_what_else_to_name(monkeypatch, said, advice):
    def raises(*_, **__):
        raise OSError(said)

    monkeypatch.setattr(AutoConfig, "from_pretrained", raises)
    monkeypatch.setattr(loading, "out_of_reach", lambda: None)
    with pytest.raises(InputError, match=f"there is no folder no-one/model, and as a hub id: {said}; .*{advice}"):
        LanguageModel.load("no-one/model")


def test_a_hub_model_that_is_on_this_machine_is_looked_at_like_a_folder(tmp_path, monkeypatch):
    """The cache's layout: a snapshot folder below the commit, and a reference that names it."""
    cache = tmp_path / "models--org--tiny"
    snapshot = cache / "snapshots" / ("a" * 40)
    shutil.copytree(good(), snapshot)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path), raising=False)
    meta = MetaModel.load("org/tiny")
    assert meta.notes == ()
    assert LanguageModel.load("org/tiny", device="cpu").fingerprint() == LanguageModel.load(good()).fingerprint()
    keys(intermediate_size=40)(snapshot)
    for load in (MetaModel.load, LanguageModel.load):
        with pytest.raises(InputError, match="org/tiny"):
            load("org/tiny")
    keys(intermediate_size=48)(snapshot)
    (snapshot / "model.safetensors").unlink()
    (note,) = MetaModel.load("org/tiny").notes
    assert "weights are not on this machine" in note
