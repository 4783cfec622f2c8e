"""Replay, packing and many edits at once against one unpadded forward per prompt with dense edited weights."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from instructedit.editors import Codebook, Dense, Edits, LanguageModel, LowRank, ReplayStart, Slots
from instructedit.editors.models.structure import Structure
from instructedit.editors.models.tokens import TokenSequence

from ...conftest import FAMILIES, make_model

PROMPTS = [
    ("The name of the spouse of Ada Lovelace is", "Grace Hopper"),
    ("What is the place of birth of Alan Turing?", "London"),
    ("Grace Hopper's occupation is", "rear admiral"),
    ("The place of birth of Katherine Johnson is", "the United States"),
    ("The", "name"),
]


def rows_and_owners(model, edits: int):
    rows, owners = [], []
    for owner in range(edits):
        for prompt, answer in PROMPTS:
            rows.append(model.encode(prompt, answer))
            owners.append(owner)
    return rows, owners


def random_edits(model, kind: str, count: int, block: int) -> Edits:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=model.edit_dtype)

    patches = []
    for _ in range(count):
        edit = []
        for site in [*model.sites("up", [block])[:1], *model.sites("down", [block, -1])]:
            if kind == "dense":
                edit.append(Dense(site.name, site.block, 0.1 * draw(site.d_in, site.d_out)))
            else:
                edit.append(LowRank(site.name, site.block, 0.3 * draw(site.d_in, 2), 0.3 * draw(2, site.d_out)))
        patches.append(tuple(edit))
    return Edits(tuple(patches))


def low_rank(sites, count: int, scale: float) -> Edits:
    """Return random edits of rank 2 at some maps."""
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> torch.Tensor:
        return scale * torch.randn(*shape, generator=generator)

    return Edits(
        tuple(
            tuple(LowRank(site.name, site.block, draw(site.d_in, 2), draw(2, site.d_out)) for site in sites)
            for _ in range(count)
        )
    )


def reference(model, row: TokenSequence, edits: Edits | None, owner: int | None) -> torch.Tensor:
    """The slow path: one unpadded row through a model whose weights were really changed."""
    hf = model.model if edits is None or owner is None else edits.apply_to(model.model, owner)
    with torch.no_grad():
        return hf(input_ids=torch.tensor([row.ids])).logits[0, list(row.scored)]


def references(model, rows, edits: Edits, owners) -> list[torch.Tensor]:
    """The slow path of many rows; each edit is written to one copy."""
    copies = {owner: edits.apply_to(model.model, owner) for owner in set(owners)}
    with torch.no_grad():
        return [
            copies[owner](input_ids=torch.tensor([row.ids])).logits[0, list(row.scored)]
            for row, owner in zip(rows, owners, strict=True)
        ]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["dense", "low_rank"])
def test_replay_of_many_edits_equals_dense_weights_one_by_one(make_language_model, family, kind):
    model = make_language_model(family)
    rows, owners = rows_and_owners(model, 3)
    edits = random_edits(model, kind, 3, block=1)
    base = model.base_pass(rows, cuts=[edits.cut])
    replayed = dict(model.replay(base, edits, owners))
    forwarded = dict(model.forward(rows, edits, owners))
    for i, wanted in enumerate(references(model, rows, edits, owners)):
        assert (replayed[i] - wanted).abs().max() < 2e-4 * wanted.abs().max()
        assert torch.equal(replayed[i].argmax(-1), wanted.argmax(-1))
        assert (forwarded[i] - wanted).abs().max() < 2e-4 * wanted.abs().max()
        assert (wanted - reference(model, rows[i], None, None)).abs().max() > 1e-2, "the edit must do something"


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_rows_do_not_see_each_other(make_language_model, family):
    model = make_language_model(family)
    rows, _ = rows_and_owners(model, 1)
    for i, logits in model.forward(rows):
        wanted = reference(model, rows[i], None, None)
        assert (logits - wanted).abs().max() < 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("family", FAMILIES)
def test_cutting_at_any_block_gives_the_same_logits(make_language_model, family):
    model = make_language_model(family)
    rows, owners = rows_and_owners(model, 2)
    edits = random_edits(model, "low_rank", 2, block=3)
    before = model.fingerprint()
    wanted = dict(model.forward(rows, edits, owners))
    for cut in range(4):
        found = dict(model.replay(model.base_pass(rows, cuts=[ReplayStart(cut)]), edits, owners))
        assert all((found[i] - wanted[i]).abs().max() <= 1e-5 * wanted[i].abs().max() for i in wanted)
    assert model.fingerprint() == before


def test_replay_needs_a_cut_in_front_of_the_first_patch(model):
    rows, owners = rows_and_owners(model, 1)
    with pytest.raises(ValueError, match="none of which is at or before block 1"):
        list(
            model.replay(model.base_pass(rows, cuts=[ReplayStart(2)]), random_edits(model, "dense", 1, block=1), owners)
        )


def test_edits_without_patches_are_the_base_model(model):
    rows, owners = rows_and_owners(model, 2)
    base, run = model.base(rows, cuts=[])
    plain = dict(run)
    for i, logits in model.replay(base, Edits.none(2), owners):
        torch.testing.assert_close(logits, plain[i])


def test_scores_do_not_depend_on_packing(make_language_model):
    wide, narrow = make_language_model("llama"), make_language_model("llama", pack_tokens=20)
    rows, _ = rows_and_owners(wide, 2)
    one = dict(wide.forward(rows))
    for i, logits in narrow.forward(rows):
        assert (logits - one[i]).abs().max() < 1e-5 * one[i].abs().max()


def test_codebook_replaces_only_the_last_prompt_token_of_near_rows(model):
    rows, owners = rows_and_owners(model, 1)
    (site,) = model.sites("up", [1])
    key = model.inputs(model.base_pass(rows, [ReplayStart(1)]), site)[0][rows[0].prompt_end]
    value = torch.full((1, site.d_out), 3.0)
    edits = Edits(((Codebook(site.name, 1, key[None], value, torch.tensor([1e-3])),),))
    seen: list[torch.Tensor] = []
    handle = model.model.get_submodule(site.name).register_forward_hook(lambda _m, _x, out: seen.append(out.clone()))
    plain = dict(model.forward(rows))
    handle.remove()
    edited = dict(model.forward(rows, edits, owners))
    assert (edited[0] - plain[0]).abs().max() > 1e-3
    for i in range(1, len(rows)):
        torch.testing.assert_close(edited[i], plain[i])

    # An explicit loop: overwrite that one position by hand in an unpadded row.
    def by_hand(_m, _x, out):
        out = out.clone()
        out[0, rows[0].prompt_end] = 3.0
        return out

    handle = model.model.get_submodule(site.name).register_forward_hook(by_hand)
    wanted = reference(model, rows[0], None, None)
    handle.remove()
    assert (edited[0] - wanted).abs().max() < 1e-4


@pytest.mark.parametrize("family", ["gpt2", "opt", "llama"])
def test_slots_equal_extra_neurons_beside_the_network(make_language_model, family):
    model = make_language_model(family)
    rows, owners = rows_and_owners(model, 1)
    up, down = model.sites("up", [2])[0], model.sites("down", [2])[0]
    k, v = 0.3 * torch.randn(32, 5), 0.3 * torch.randn(5, 32)
    edits = Edits(((Slots(down.name, 2, up.name, "relu", k, v),),))
    kept: list[torch.Tensor] = []
    handles = [
        model.model.get_submodule(up.name).register_forward_hook(lambda _m, x, _y: kept.append(x[0])),
        model.model.get_submodule(down.name).register_forward_hook(lambda _m, _x, y: y + torch.relu(kept[-1] @ k) @ v),
    ]
    wanted = reference(model, rows[0], None, None)
    for handle in handles:
        handle.remove()
    found = dict(model.forward(rows, edits, owners))[0]
    assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("family", FAMILIES)
def test_captured_factors_rebuild_the_gradient(make_language_model, family):
    model = make_language_model(family, torch.float64)
    rows, _ = rows_and_owners(model, 1)
    sites = model.sites("up", [1, -1]) + model.sites("down", [1, -1])

    def loss(index: int, logits: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits, torch.tensor(rows[index].labels))

    factors = model.capture(rows, sites, loss)
    twin = make_model(family, torch.float64).eval()
    total = sum(
        torch.nn.functional.cross_entropy(
            twin(input_ids=torch.tensor([r.ids])).logits[0, list(r.scored)], torch.tensor(r.labels)
        )
        for r in rows
    )
    total.backward()
    for site in sites:
        weight = twin.get_submodule(site.name).weight
        wanted = weight.grad if weight.shape == (site.d_in, site.d_out) and family == "gpt2" else weight.grad.T
        found = torch.einsum("ti,to->io", factors[site.name].x, factors[site.name].delta)
        rounding = 1e-4 if family.startswith("gemma") else 1e-6  # Gemma's norms, and Gemma 2's softmax, are of float32
        assert (found - wanted).abs().max() < rounding * wanted.abs().max()
        assert factors[site.name].rows.tolist() == [index for index, row in enumerate(rows) for _ in row.ids[1:]]


@pytest.mark.parametrize("family", FAMILIES)
def test_structure_finds_the_mlp_of_every_family(family):
    structure = Structure(make_model(family))
    gated = family in {"llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2"}
    inner = 128 if family in {"gpt2", "gptj"} else 48
    assert len(structure) == 4
    for block in range(4):
        ups, downs = structure.find(block, "up"), structure.find(block, "down")
        assert [(s.d_in, s.d_out) for s in ups] == [(32, inner)] * (2 if gated else 1)
        assert [(s.d_in, s.d_out) for s in downs] == [(inner, 32)]
        assert all("attn" not in s.name and "attention" not in s.name for s in ups + downs)


def test_bfloat16_rows_agree_with_single_rows(make_language_model):
    model = make_language_model("llama", torch.bfloat16)
    assert model.pack_tokens > 1
    rows, owners = rows_and_owners(model, 2)
    edits = random_edits(model, "low_rank", 2, block=1)
    assert edits.patches[0][0].a.dtype == torch.float32
    found = dict(model.replay(model.base_pass(rows, cuts=[edits.cut]), edits, owners))
    for i, row in enumerate(rows):
        alone = dict(model.forward([row], edits, [owners[i]]))[0]
        assert (found[i] - alone).abs().max() < 0.05 * alone.abs().max()


@pytest.mark.parametrize("family", ["gpt2", "mistral", "gemma2"])
def test_an_edit_that_overflows_spoils_no_other_in_its_pass(make_language_model, family):
    """Rows of unlike length are filled up within attention, where a weight of zero does not stop an infinity."""
    model = make_language_model(family)
    rows, _ = rows_and_owners(model, 2)
    owners = [0] * len(PROMPTS) + [1] * len(PROMPTS)
    edits = random_edits(model, "low_rank", 2, block=1)
    wanted = dict(model.forward(rows, edits, owners))
    first, *others = edits.patches[0]
    edits = Edits(((LowRank(first.site, 1, first.a * 1e38, first.b * 10), *others), edits.patches[1]))
    factors = [tensor.requires_grad_() for patch in edits.patches[1] for tensor in patch.tensors().values()]
    found = dict(model.replay(model.base_pass(rows, [edits.cut]), edits, owners))
    for index, owner in enumerate(owners):
        if owner == 0:
            assert not found[index].isfinite().all()
        else:
            torch.testing.assert_close(found[index], wanted[index], rtol=1e-4, atol=1e-4)
    gradients = torch.autograd.grad(torch.cat(list(found.values())).square().sum(), factors)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_passes_are_no_longer_than_a_mask_of_the_models_own(tokenizer):
    """GPT-Neo's causal mask is a table of its context's length, which a pass of many rows would outgrow."""
    shape = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]}
    config = AutoConfig.for_model("gpt_neo", vocab_size=400, max_position_embeddings=24, window_size=4, **shape)
    model = LanguageModel(AutoModelForCausalLM.from_config(config), tokenizer)
    rows = [row for row in rows_and_owners(model, 2)[0] if len(row) <= 24]
    assert sum(map(len, rows)) > 2 * 24, "rows enough for a pass that is too long"
    for i, logits in model.forward(rows):
        torch.testing.assert_close(logits, reference(model, rows[i], None, None))
