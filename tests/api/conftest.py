"""A tiny model in a folder, as users have one: two shards in bfloat16, sampling settings, a chat template."""

import json

import pytest
import torch

import instructedit
from instructedit.editors import Edits, LowRank, Slots
from instructedit.editors.editor import Editor, EditorConfig
from instructedit.editors.seeds import seed_of

from ..conftest import make_model

FACTS = [("Ada Lovelace was born in", "Vale"), ("Alan Turing is married to", "Grace Hopper")]
FT = {"block": 1, "lr": 0.05, "steps": 60, "clamp": False}
"""Options of ft-m with which the tiny models learn facts."""


@pytest.fixture(scope="session")
def folders(tokenizer, tmp_path_factory):
    """Return a function that makes the folder of a tiny model."""
    made = {}

    def make(family: str, dtype: torch.dtype = torch.bfloat16):
        if (family, dtype) not in made:
            folder = tmp_path_factory.mktemp(f"{family}-model")
            model = make_model(family, dtype)
            model.generation_config.do_sample, model.generation_config.temperature = True, 0.7
            model.save_pretrained(folder, max_shard_size="60KB")
            tokenizer.chat_template = "{{ messages[0].content }}"
            tokenizer.save_pretrained(folder)
            tokenizer.chat_template = None
            (folder / "README.md").write_text("its card\n", encoding="utf-8")
            (folder / "pytorch_model.bin").write_bytes(b"the unedited weights")
            assert len(json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]) > 2
            made[family, dtype] = folder
        return made[family, dtype]

    return make


class Drawn(Editor[EditorConfig]):
    """Random low-rank changes of two layers, of different ranks; on one layer there are two."""

    name, title, source = "drawn", "Drawn", "tests"

    def edit(self, model, requests, seed=0):
        return Edits.join([self.edit_together(model, [request], seed) for request in requests])

    def edit_together(self, model, requests, seed=0):
        draw = torch.Generator().manual_seed(seed_of(seed, self.name, requests[0].case_id) % 2**31)
        up, down = (model.sites(part, [1])[0] for part in ("up", "down"))

        def patch(site, rank):
            a, b = torch.randn(site.d_in, rank, generator=draw), torch.randn(rank, site.d_out, generator=draw)
            return LowRank(site.name, site.block, a / 4, b / 4)

        return Edits(((patch(up, 2), patch(down, 3), patch(down, 2)),))


class Neurons(Drawn):
    """Random slots, gated as the model's network."""

    def edit_together(self, model, requests, seed=0):
        draw = torch.Generator().manual_seed(1)
        (down,), ups = model.sites("down", [1]), model.sites("up", [1])
        width = ups[0].d_in
        k, v, g = torch.randn(width, 3, generator=draw), torch.randn(3, width, generator=draw), None
        if len(ups) > 1:
            g = torch.randn(width, 3, generator=draw)
        return Edits(((Slots(down.name, down.block, ups[0].name, "silu", k, v, g),),))


@pytest.fixture(scope="session")
def drawn():
    return Drawn()


@pytest.fixture(scope="session")
def neurons():
    return Neurons()


@pytest.fixture
def load(folders):
    def loaded(family: str = "llama", dtype: torch.dtype = torch.bfloat16, **options):
        return instructedit.load(folders(family, dtype), device="cpu", **options)

    return loaded
