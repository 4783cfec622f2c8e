"""Tiny models of every supported family, made in memory, and a small tokenizer; nothing is downloaded."""

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("INSTRUCTEDIT_WORKERS", "1")  # tests replace parts of the process that computes

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from instructedit.benchmark.results import integrity
from instructedit.editors import LanguageModel
from instructedit.editors.engine import trial

TEXT = [
    "The name of the spouse of Ada Lovelace is William King.",
    "The place of birth of Ada Lovelace is London.",
    "What is the place of birth of Alan Turing? Maida Vale, London.",
    "Grace Hopper's occupation is computer scientist and rear admiral.",
    "The name of the country of citizenship of Katherine Johnson is the United States of America.",
]

WIDE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4}
GROUPED = {**WIDE, "num_key_value_heads": 2}

FAMILIES: dict[str, dict[str, object]] = {
    "gpt2": {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 96},
    "llama": GROUPED,
    "qwen2": GROUPED,
    "qwen3": {**GROUPED, "head_dim": 16},  # wider than hidden_size / heads, as in the real ones
    "mistral": {**GROUPED, "sliding_window": 8},
    "gemma": {**GROUPED, "head_dim": 16},
    "gemma2": {**GROUPED, "head_dim": 16, "sliding_window": 8},
    "gpt_neox": WIDE,
    "gptj": {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 96, "rotary_dim": 4},
    "opt": {
        "hidden_size": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "word_embed_proj_dim": 32,
        "max_position_embeddings": 96,
        "dropout": 0.0,
    },
    "phi": WIDE,
}
"""Tiny configurations; sliding windows are shorter than the test rows so that a wrong mask shows."""


def make_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def make_model(family: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> PreTrainedModel:
    """Return a tiny random model; weights are large enough that every part of it matters."""
    torch.manual_seed(seed)
    options = {"vocab_size": 400, "initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    config = AutoConfig.for_model(family, **{**options, **FAMILIES[family]})
    return AutoModelForCausalLM.from_config(config, dtype=dtype)


def identity(model: LanguageModel) -> tuple[object, ...]:
    """Return what the trial of a model depends on: its code, hooks, settings and weights."""
    hf = model.model
    own_forward = [vars(own).get("forward") for own in hf.modules()]
    code = [(type(own), type(own).forward) for own in hf.modules()]
    code += [getattr(forward, "func", forward) for forward in own_forward]  # of a `partial`: `by_rows`
    hooks = [len(own._forward_hooks) + len(own._forward_pre_hooks) for own in hf.modules()]
    weights = sha256()
    for name, tensor in hf.state_dict().items():
        weights.update(name.encode() + str((tensor.device, tensor.dtype, tensor.shape)).encode())
        if not tensor.is_meta:  # those on disk have hooks, of which each model has its own
            weights.update(tensor.cpu().reshape(-1).contiguous().view(torch.uint8).numpy())
    return (*code, *hooks, hf.config.to_json_string(), model.engine.runner.limit, weights.hexdigest())


@pytest.fixture(scope="session", autouse=True)
def trials() -> Iterator[dict[object, object]]:
    """Let models that are alike be tried out once: what was found by what was tried. Cleared, it is found again."""
    found: dict[object, object] = {}

    def once(find):
        def known(reference, *tried):
            key = find, identity(reference.model)
            if key not in found:
                found[key] = find(reference, *tried)
            return found[key]

        return known

    with pytest.MonkeyPatch.context() as patch:
        for find in (trial.find_packing, trial.replays, trial.replays_late, trial.find_generation):
            patch.setattr(trial, find.__name__, once(find))
        yield found


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


@pytest.fixture(scope="session")
def make_language_model(tokenizer):
    def make(family: str = "gpt2", dtype: torch.dtype = torch.float32, **options) -> LanguageModel:
        return LanguageModel(make_model(family, dtype), tokenizer, **options)

    return make


@pytest.fixture
def model(make_language_model) -> LanguageModel:
    return make_language_model("gpt2")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real files that exists on the project's own machines only."""
    folder = Path(os.environ.get("INSTRUCTEDIT_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip("needs the project's folder of real data")
    return folder


@pytest.fixture(scope="module")
def tests_importable():
    """Lets processes that a test starts import `tests`; `pytest` does not put the checkout on the path."""
    with pytest.MonkeyPatch.context() as patch:
        root = str(Path(__file__).resolve().parents[1])
        patch.syspath_prepend(root)
        patch.setenv("PYTHONPATH", root, prepend=os.pathsep)
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--editor", action="append", help="run the editors' contract for this editor only (again for more)"
    )
    parser.addoption(
        "--executors", default="processes", help="executors that the conformance test covers, with commas between"
    )
    parser.addoption("--kills", type=int, default=36, help="processes that tests/kills ends at random")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `editor_name` for every registered editor, or for those asked for."""
    if "editor_name" in metafunc.fixturenames:
        from instructedit.editors import EDITORS

        metafunc.parametrize("editor_name", metafunc.config.getoption("--editor") or EDITORS.names())


@pytest.fixture(scope="module")
def made_up_runs() -> Iterator[None]:
    """Let runs be read whose digest is a name that a test has given them: no run could leave such a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(integrity, "check_identity", lambda *_, **__: None)
        yield
