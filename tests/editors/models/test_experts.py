"""Mixtures of experts: patches and gradients reach exactly the experts that a token goes to.

The reference is a copy of the plain model with the change written into the 3-D parameters by hand, or autograd on it.
"""

import copy
import re

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM

from instructedit.baselines.ftl import FTM, FTMConfig
from instructedit.editors import Dense, Edits, LanguageModel, LowRank, Structure, UnservedError
from instructedit.editors.engine.generation import answers
from instructedit.editors.models.experts import weight_of

from ..cases import fact

SMALL = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 400,
    "num_key_value_heads": 2, "initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
MIXTURES: dict[str, dict[str, object]] = {
    "mixtral": {"num_local_experts": 4},
    "deepseek_v3": {
        "n_routed_experts": 8, "moe_intermediate_size": 24, "first_k_dense_replace": 1, "n_group": 2, "topk_group": 1,
        "num_experts_per_tok": 2, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
        "v_head_dim": 8, "num_key_value_heads": 4,
    },
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8},  # [experts, d_in, d_out], with biases
    "llama4_text": {"num_local_experts": 4, "intermediate_size_mlp": 40, "head_dim": 8},  # all experts in one product
    "jetmoe": {"num_local_experts": 4, "num_experts_per_tok": 2, "kv_channels": 8},  # two modules of stacks
}  # fmt: skip
TEXTS = [
    ("The name of the spouse of Ada Lovelace is", "William King."),
    ("The name of the spouse of Ada Lovelace is", "London"),
    ("Grace Hopper's occupation is", "computer scientist"),
    ("What is the place of birth of Alan Turing?", "Maida Vale, London."),
]


@pytest.fixture(params=MIXTURES)
def mixture(request, tokenizer) -> LanguageModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(request.param, **{**SMALL, **MIXTURES[request.param]})
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.dim() == 3:
            torch.nn.init.normal_(parameter, std=0.2)
    return LanguageModel(model, tokenizer)


def stack_of(model: torch.nn.Module, site: str) -> tuple[torch.nn.Parameter, int]:
    path, name, number = site.rsplit(".", 2)
    return getattr(model.get_submodule(path), name), int(number)


def changed(plain: torch.nn.Module, patches) -> torch.nn.Module:
    """Return a copy with the changes in its weights, turned by what fits a matrix that is not square."""
    twin = copy.deepcopy(plain)
    with torch.no_grad():
        for patch in patches:
            stack, number = stack_of(twin, patch.site)
            delta = patch.delta()
            stack[number] += delta if delta.shape == stack[number].shape else delta.T
    return twin


def said(plain: torch.nn.Module, row) -> torch.Tensor:
    with torch.no_grad():
        return plain(input_ids=torch.tensor([row.ids])).logits[0, list(row.scored)]


def own_forwards(model):
    """Return by name the modules' forward methods that are not their class's."""
    return {name: vars(module)["forward"] for name, module in model.named_modules() if "forward" in vars(module)}


@pytest.mark.parametrize("part", ["expert up", "expert down"])
def test_edits_of_experts_are_those_of_a_copy_with_the_edit_in_its_weights(mixture, part):
    sites, draw = mixture.sites(part, [1]), torch.Generator().manual_seed(1)
    plain, rows, owners = mixture.model, [mixture.encode(*text) for text in TEXTS], [0, 1, 2, None]

    def drawn(site, number):
        if number % 2:
            return Dense(site.name, 1, 0.3 * torch.randn(site.d_in, site.d_out, generator=draw))
        a, b = torch.randn(site.d_in, 2, generator=draw), torch.randn(2, site.d_out, generator=draw)
        return LowRank(site.name, 1, 0.3 * a, b)

    edits = Edits(tuple(tuple(drawn(site, number) for number, site in enumerate(sites)) for _ in range(3)))
    before, modules = mixture.fingerprint(), own_forwards(plain)
    base = mixture.base_pass(rows, [edits.cut])
    found = {"forward": dict(mixture.forward(rows, edits, owners)), "replay": dict(mixture.replay(base, edits, owners))}
    for index, owner in enumerate(owners):
        twin = plain if owner is None else changed(plain, edits.patches[owner])
        wanted = said(twin, rows[index])
        if owner is not None:
            assert (wanted - said(plain, rows[index])).abs().max() > 0.1 * wanted.abs().max(), "the edit shows"
            torch.testing.assert_close(said(edits.apply_to(plain, owner), rows[index]), wanted, rtol=1e-5, atol=1e-5)
        for logits in found.values():
            torch.testing.assert_close(logits[index], wanted, rtol=1e-4, atol=2e-5)
    assert mixture.fingerprint() == before, "the weights are as they were"
    assert own_forwards(plain) == modules, "and so are the modules"


def test_gradients_at_experts_are_those_of_autograd(mixture):
    sites = [*mixture.sites("expert up", [-2]), *mixture.sites("expert down", [-1])]
    rows = [mixture.encode(*text) for text in TEXTS]
    labels = [torch.tensor(row.labels) for row in rows]
    found = mixture.capture(rows, sites, lambda index, logits: cross_entropy(logits, labels[index]))
    twin, some = copy.deepcopy(mixture.model).requires_grad_(True), 0
    for number, row in enumerate(rows):
        twin.zero_grad()
        cross_entropy(twin(input_ids=torch.tensor([row.ids])).logits[0, list(row.scored)], labels[number]).backward()
        for site in sites:
            own = found[site.name].rows == number
            product = found[site.name].x[own].T @ found[site.name].delta[own]
            stack, expert = stack_of(twin, site.name)
            wanted = stack.grad[expert]
            some += int(wanted.abs().max() > 1e-4)
            wanted = wanted if product.shape == wanted.shape else wanted.T
            torch.testing.assert_close(product, wanted, rtol=1e-3, atol=1e-5)
    assert some > len(rows) * len(sites) / 4, "experts are reached"


def test_an_expert_without_tokens_has_no_gradients(mixture):
    sites, row = mixture.sites("expert up", [-1]), mixture.encode("Ada", "is")
    found = mixture.capture([row], sites, lambda _, logits: cross_entropy(logits, torch.tensor(row.labels)))
    for site in sites:
        x, delta = found[site.name].x, found[site.name].delta
        assert (x.shape, delta.shape) == ((len(x), site.d_in), (len(x), site.d_out))


def test_texts_under_edits_of_experts_are_those_of_copies(mixture):
    draw = torch.Generator().manual_seed(2)
    sites = mixture.sites("expert down", [-1])
    edits = Edits(
        tuple(
            tuple(
                LowRank(s.name, 2, torch.randn(s.d_in, 1, generator=draw), torch.randn(1, s.d_out, generator=draw))
                for s in sites
            )
            for _ in range(2)
        )
    )
    prompts = [mixture.encode_prompt(prompt) for prompt, _ in TEXTS[1:]]
    owners = [0, 1, None]
    found = answers(mixture, prompts, edits, owners, max_new_tokens=5, finished=lambda *_: False)
    for row, owner, text in zip(prompts, owners, found, strict=True):
        twin = mixture.model if owner is None else changed(mixture.model, edits.patches[owner])
        ids = list(row.ids)
        for _ in range(5):
            with torch.no_grad():
                ids.append(int(twin(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
            if ids[-1] in mixture.end_ids:
                break
        assert text == mixture.tokenizer.decode(ids[len(row) :], skip_special_tokens=True)


def test_fine_tuning_changes_the_experts_that_the_text_goes_to_and_no_other(mixture):
    editor = FTM(FTMConfig(block=1, part="expert down", steps=3, lr=0.01, clamp=False))
    request = fact(0).request
    edits, row = editor.edit(mixture, [request]), mixture.encode(request.prompt, request.target)
    twin = copy.deepcopy(mixture.model).requires_grad_(True)
    twin(input_ids=torch.tensor([row.ids])).logits[0, list(row.scored)].log_softmax(-1).sum().backward()
    reached = set()
    for site in mixture.sites("expert down", [1]):
        stack, number = stack_of(twin, site.name)
        if stack.grad[number].abs().max() > 0:
            reached.add(site.name)
    assert {patch.site for patch in edits.patches[0]} == reached
    losses = [
        cross_entropy(said(plain, row), torch.tensor(row.labels))
        for plain in (mixture.model, changed(mixture.model, edits.patches[0]))
    ]
    assert losses[1] < losses[0]


def test_the_dense_blocks_of_a_mixture_and_its_shared_experts_have_parts_of_their_own():
    config = AutoConfig.for_model("deepseek_v3", **{**SMALL, **MIXTURES["deepseek_v3"]})
    structure = Structure(AutoModelForCausalLM.from_config(config))
    assert [site.name for site in structure.find(0, "down")] == ["model.layers.0.mlp.down_proj"]
    assert [site.name for site in structure.find(1, "shared down")] == ["model.layers.1.mlp.shared_experts.down_proj"]
    assert len(structure.find(2, "expert up")) == 8
    there = "shared up, shared down, expert up, expert down, query, key value, output"
    sentence = f"Block 1 of DeepseekV3ForCausalLM has no 'down'; it has: {there}."
    with pytest.raises(UnservedError, match=re.escape(sentence)):
        structure.find(1, "down")


def test_no_weight_is_copied(mixture):
    site = mixture.sites("expert down", [1])[2]
    stack, number = stack_of(mixture.model, site.name)
    assert weight_of(mixture.model, site.name).value.data_ptr() == stack[number].data_ptr()


def test_experts_that_are_modules_are_routed_too(tokenizer, monkeypatch):
    """As models with code of their own keep them: a list of MLPs beside a gate."""
    from transformers.models.qwen2 import modeling_qwen2

    class Mixture(torch.nn.Module):
        def __init__(self, config) -> None:
            super().__init__()
            self.gate = torch.nn.Linear(config.hidden_size, 3, bias=False)
            self.experts = torch.nn.ModuleList(plain(config) for _ in range(3))

        def forward(self, x):
            flat = x.reshape(-1, x.shape[-1])
            weights, chosen = self.gate(flat).softmax(-1).topk(2, dim=-1)
            out = torch.zeros_like(flat)
            for number, expert in enumerate(self.experts):
                token, place = torch.where(chosen == number)
                if len(token):
                    out = out.index_add(0, token, expert(flat[token]) * weights[token, place, None])
            return out.view(x.shape)

    plain = modeling_qwen2.Qwen2MLP
    monkeypatch.setattr(modeling_qwen2, "Qwen2MLP", Mixture)
    torch.manual_seed(0)
    model = LanguageModel(AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen2", **SMALL)), tokenizer)
    sites, rows, owners = model.sites("expert up", [1]), [model.encode(*text) for text in TEXTS], [0, 1, 0, None]
    assert [site.name for site in sites[:2]] == [f"model.layers.1.mlp.experts.0.{n}_proj" for n in ("gate", "up")]
    draw = torch.Generator().manual_seed(1)
    edits = Edits(
        tuple(tuple(Dense(s.name, 1, torch.randn(s.d_in, s.d_out, generator=draw) / 5) for s in sites) for _ in "ab")
    )
    found = dict(model.forward(rows, edits, owners))
    for index, owner in enumerate(owners):
        twin = model.model if owner is None else edits.apply_to(model.model, owner)
        torch.testing.assert_close(found[index], said(twin, rows[index]), rtol=1e-4, atol=2e-5)
    labels = [torch.tensor(row.labels) for row in rows]
    factors = model.capture(rows, sites, lambda index, logits: cross_entropy(logits, labels[index]))
    twin = copy.deepcopy(model.model).requires_grad_(True)
    for row, own in zip(rows, labels, strict=True):
        cross_entropy(twin(input_ids=torch.tensor([row.ids])).logits[0, list(row.scored)], own).backward()
    for site in sites:
        wanted = twin.get_submodule(site.name).weight.grad.T
        torch.testing.assert_close(factors[site.name].x.T @ factors[site.name].delta, wanted, rtol=1e-3, atol=1e-5)
