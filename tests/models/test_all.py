"""A dozen architectures in every run; all of them in `tox -e models`, which also writes docs/models.md."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from . import zoo
from .check import check
from .page import page, read

ROOT = Path(__file__).resolve().parents[2]
EDITED = 115
"""Fewest decoder-only architectures that are edited and equal to plain transformers."""
RIGHT = {
    "bloom": "its rows do not share a pass, its configuration names no activation",
    "falcon": "rows share a pass by a mask",
    "mixtral": "routed experts in 3-D parameters",
    "gpt_oss": "experts that are stored transposed, with biases",
    "deepseek_v3": "latent attention, a dense block among mixtures with a shared expert",
    "gemma3": "a text part within a multimodal model",
    "gemma4_text": "layers share keys and values, widths of heads differ",
    "bamba": "attention among state-space layers",
    "mamba": "no attention and no MLP",
    "openai-gpt": "no cache",
    "dory": "blocks that are run several times",
}
PATCHES = "ft-m", "calinet", "grace", "mend"
"""An editor for each kind of patch; the others make the same kinds."""
REFUSED = {
    "bart": "the decoder of an encoder-decoder",
    "cpmant": "a later token changes earlier logits",
}


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", RIGHT)
def test_edits_equal_a_copy_with_the_edit_in_its_weights(name):
    result = check(name, PATCHES)
    faults = {part: said for part, said in result.parts.items() if not said.startswith(("right", "refused"))}
    assert (result.verdict in ("right", "in part"), faults) == (True, {}), result.note
    checks = {"causal", "packed", "replay", "texts"}  # gradients are refused where a block is run several times
    assert {part for part in checks if result.parts[part] != "right"} == set()


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_wrong_is_refused_with_a_sentence(name):
    result = check(name)
    assert result.verdict == "refused", result.line()
    assert result.note.endswith(".") and type(zoo.build(name)).__name__ in result.note


def test_every_kind_of_layer_that_a_family_mixes_is_in_its_tiny_model():
    for name, field in (
        ("gemma3_text", "layer_types"),
        ("jamba", "layers_block_type"),
        ("bailing_hybrid", "layer_types"),
    ):
        default = getattr(zoo.CONFIG_MAPPING[name](), field)
        assert set(getattr(zoo.config(name), field)) == set(default)


def test_the_page_names_every_architecture():
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    if f"transformers {transformers.__version__} " not in text:
        pytest.skip("the page is for another version of transformers")
    assert [name for name in zoo.names() if f"\n| {name} | " not in text] == []


@pytest.mark.skipif(not os.environ.get("INSTRUCTEDIT_MODELS"), reason="every architecture: tox -e models")
def test_no_architecture_is_wrong_in_silence(tmp_path):
    file = tmp_path / "models.json"
    subprocess.run([sys.executable, "-m", "tests.models.campaign", "--json", str(file)], cwd=ROOT, check=True)
    results = read(file)
    (ROOT / "docs" / "models.md").write_text(page(results), encoding="utf-8")
    assert [found.line() for found in results if found.verdict in ("wrong", "traceback")] == []
    edited = [found.name for found in results if found.verdict in ("right", "in part")]
    assert len([name for name in edited if zoo.kind(name) == zoo.DECODER_ONLY]) >= EDITED
