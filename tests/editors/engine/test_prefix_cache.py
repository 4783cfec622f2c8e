"""Replays that are told what lies in front of the first patched map, against replays that run the whole block."""

import pytest
import torch
from torch import nn

from instructedit.editors import Cut, Edits, LanguageModel
from instructedit.editors.engine.prefix_cache import Front

from ...conftest import FAMILIES, make_model
from .test_engine import low_rank, reference, rows_and_owners


def patches_of(model, block: int, parts: tuple[str, ...], count: int = 2) -> Edits:
    return low_rank([site for part in parts for site in model.sites(part, [block])[:1]], count, scale=0.3)


def run_modules(model, run) -> set[str]:
    """Return the names of the modules whose own code runs."""
    seen: set[str] = set()
    names = {id(module): name for name, module in model.model.named_modules()}
    with pytest.MonkeyPatch.context() as patch:
        for kind in {type(module) for module in model.model.modules()}:

            def forward(self, *given, inner=kind.forward, **named):
                seen.add(names.get(id(self), ""))  # a view has none
                return inner(self, *given, **named)

            patch.setattr(kind, "forward", forward)
        run()
    return seen


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("parts", [("up",), ("down",), ("up", "down")])
@pytest.mark.parametrize("block", [1, 3])
def test_what_lies_in_front_is_told_and_changes_nothing(make_language_model, family, parts, block):
    model = make_language_model(family)
    rows, owners = rows_and_owners(model, 2)
    edits = patches_of(model, block, parts)
    base = model.base_pass(rows, [edits.cut])
    told = dict(model.replay(base, edits, owners))
    for i, row in enumerate(rows):
        wanted = reference(model, row, edits, owners[i])
        assert (told[i] - wanted).abs().max() < 2e-4 * wanted.abs().max()
    front = model.structure.front(edits.cut)
    maps = [site.name for site in model.structure.sites[block]]
    assert set(front) & set(maps) == {name for name in maps if ("up" not in parts) or name != maps[-1]} & set(front)
    assert len(set(front) - set(maps)) == 1, "the attention"


def test_where_nothing_is_known_of_the_maps_the_block_runs(make_language_model):
    model = make_language_model("gpt2")
    rows, owners = rows_and_owners(model, 2)
    edits = patches_of(model, 1, ("up",))
    wanted = dict(model.forward(rows, edits, owners))
    for cut in (Cut(1), Cut(0), Cut(1, frozenset({"transformer.h.1.attn.c_attn"}))):
        found = {}
        base = model.base_pass(rows, [cut])
        ran = run_modules(model, lambda base=base, found=found: found.update(model.replay(base, edits, owners)))
        assert "transformer.h.1.attn" in ran
        assert all((found[i] - wanted[i]).abs().max() < 1e-5 * wanted[i].abs().max() for i in wanted)


def test_several_editors_of_one_block_share_what_is_kept(make_language_model):
    model = make_language_model("llama")
    rows, owners = rows_and_owners(model, 2)
    ups, downs, later = (patches_of(model, 1, ("up",)), patches_of(model, 1, ("down",)), patches_of(model, 2, ("up",)))
    base = model.base_pass(rows, [ups.cut, downs.cut, later.cut])
    assert base.kept.hidden.keys() == base.kept.fronts.keys() == {1, 2}
    for edits in (ups, downs, later):
        wanted = dict(model.forward(rows, edits, owners))
        found = {}
        ran = run_modules(model, lambda found=found, edits=edits: found.update(model.replay(base, edits, owners)))
        assert not ran & set(model.structure.front(edits.cut))
        assert all((found[i] - wanted[i]).abs().max() < 1e-5 * wanted[i].abs().max() for i in wanted)


def test_hidden_states_behind_a_block_are_kept_for_late_edits_alone(make_language_model):
    model = make_language_model("llama")
    rows, _ = rows_and_owners(model, 2)
    other, late = patches_of(model, 2, ("down",)).cut, patches_of(model, 0, ("up",)).cut._replace(late=True)
    assert model.base_pass(rows, [other], late=0).kept.hidden.keys() == {2}
    assert model.base_pass(rows, [other, late], late=0).kept.hidden.keys() == {0, 1, 2}
    assert model.base_pass(rows, [other, late], late=1).kept.hidden.keys() == {0, 2}, "keys are known from block 1 on"
    assert model.base_pass(rows, [other, late]).kept.hidden.keys() == {0, 2}


def test_a_standing_edit_is_not_applied_twice(make_language_model):
    model = make_language_model("gpt2")
    rows, owners = rows_and_owners(model, 2)
    for parts in (("up",), ("down",)):
        view, edits = model.edited(patches_of(model, 1, ("up", "down"), 1)), patches_of(model, 1, parts)
        wanted = dict(view.forward(rows, edits, owners))
        found = dict(view.replay(view.base_pass(rows, [edits.cut]), edits, owners))
        assert all((found[i] - wanted[i]).abs().max() < 1e-5 * wanted[i].abs().max() for i in wanted)


def writes_to_what_entered(self, hidden_states, *_, **__):
    hidden_states += self.attn(self.ln_1(hidden_states))[0]
    return hidden_states + self.mlp(self.ln_2(hidden_states))


def writes_to_its_attention(self, hidden_states, *_, **__):
    found = self.attn(self.ln_1(hidden_states))[0]
    found += self.mlp(self.ln_2(hidden_states))
    return hidden_states + found


def has_a_part_that_says_one_number(self, hidden_states, *_, **__):
    one = self.part(hidden_states)
    hidden_states = hidden_states + self.attn(self.ln_1(hidden_states))[0]
    return hidden_states + one * self.mlp(self.ln_2(hidden_states))


class OneNumber(nn.Linear):
    def forward(self, x):
        return (0 * super().forward(x)).mean() + 1


@pytest.mark.parametrize("habit", [writes_to_what_entered, writes_to_its_attention, has_a_part_that_says_one_number])
@pytest.mark.parametrize("part", ["up", "down"])
@pytest.mark.parametrize("learns", [False, True])
def test_odd_habits_of_a_block_change_nothing(tokenizer, habit, part, learns):
    """A second replay finds all that is kept as the first did, though base passes may end within the block."""
    hf = make_model("gpt2")
    packed = isinstance(hf.transformer.h[0](torch.zeros(1, 2, 32)), tuple)  # as in older versions of transformers

    def forward(self, *given, **named):
        found = habit(self, *given, **named)
        return (found,) if packed else found

    kind = type("Odd", (type(hf.transformer.h[0]),), {"forward": forward})
    for block in hf.transformer.h:
        block.__class__, block.part = kind, OneNumber(32, 1)
    model = LanguageModel(hf, tokenizer)
    rows, owners = rows_and_owners(model, 2)
    edits = patches_of(model, 1, (part,))
    wanted = dict(model.forward(rows, edits, owners))
    for _ in range(2):
        base = model.base_pass(rows, [edits.cut])
        for _ in range(2):
            with torch.set_grad_enabled(learns):
                found = dict(model.replay(base, edits, owners))
            assert all((found[i] - wanted[i]).abs().max() < 1e-5 * wanted[i].abs().max() for i in wanted)


def test_a_base_pass_ends_at_the_last_map_of_a_block_that_it_knows(model):
    rows, _ = rows_and_owners(model, 2)
    edits = patches_of(model, 1, ("up",))
    ran = [run_modules(model, lambda: model.base_pass(rows, [edits.cut])) for _ in range(2)]
    assert "transformer.h.1.mlp.c_proj" in ran[0]
    assert "transformer.h.1.mlp.c_fc" in ran[1]
    assert not {"transformer.h.1.mlp.c_proj", "transformer.h.2", "lm_head"} & ran[1]


def test_a_block_whose_forward_was_replaced_runs_whole(make_language_model):
    model = make_language_model("gpt2")
    rows, owners = rows_and_owners(model, 2)
    edits = patches_of(model, 1, ("up",))
    mlp = model.structure.blocks[1].mlp
    mlp.forward = lambda x, inner=mlp.forward: 2 * inner(x)
    wanted = dict(model.forward(rows, edits, owners))
    found = dict(model.replay(model.base_pass(rows, [edits.cut]), edits, owners))
    assert all((found[i] - wanted[i]).abs().max() < 1e-5 * wanted[i].abs().max() for i in wanted)


class Block(nn.Module):
    """A block of an attention and a two-layer network, in some order and with some habits."""

    def __init__(self, habit: str) -> None:
        super().__init__()
        self.attention, self.up, self.down = nn.Linear(4, 4), nn.Linear(4, 8), nn.Linear(8, 4)
        self.habit = habit

    def forward(self, hidden):
        if self.habit == "behind":
            return self.attention(self.down(self.up(hidden)))
        found = self.attention(hidden)
        inner = self.up(hidden)
        if self.habit == "writes":
            inner += 1
        if self.habit == "twice":
            found = found + self.attention(hidden)
        return found + self.down(inner)


@pytest.mark.parametrize(("habit", "known"), [("", True), ("behind", False), ("writes", False), ("twice", False)])
def test_what_cannot_be_told_is_not(habit, known):
    block = Block(habit)
    front = Front(block, "b.", ["b.attention", "b.up"], {"b.up"})
    hidden = torch.randn(1, 5, 4)
    with torch.no_grad():
        wanted = front.listening(5, halt=False)(hidden)
        assert torch.equal(wanted, block(hidden))
        front.close(range(10, 15))
        twin = front.told(["b.attention", "b.up"], [12, 11])
        assert (twin is not None) == known
        assert front.told(["b.attention", "b.up"], [12, 9]) is None, "nobody heard of token 9"
        if twin is not None:
            assert torch.allclose(twin(hidden[:, [2, 1]]), wanted[:, [2, 1]])
            assert block.up.forward(hidden).shape == (1, 5, 8), "the block itself stays as it is"
