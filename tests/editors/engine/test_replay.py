"""Replays of blocks with unusual code, under an active edit, and how far base passes run."""

import pytest
import torch
from torch import nn

from instructedit.editors import Edits, LanguageModel
from instructedit.editors.models.structure import ReplayStart

from ...conftest import make_model
from .test_engine import low_rank, rows_and_owners


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


def test_an_active_edit_is_not_applied_twice(make_language_model):
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


def test_a_base_pass_stops_at_the_last_block_that_replays_start_from(model):
    rows, _ = rows_and_owners(model, 2)
    edits = patches_of(model, 1, ("up",))
    ran = run_modules(model, lambda: model.base_pass(rows, [edits.cut]))
    assert "transformer.h.0.mlp" in ran
    assert not {name for name in ran if name.startswith(("transformer.h.1", "transformer.h.2"))}


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_known_hidden_states_are_not_computed_again_and_are_the_same_bits(make_language_model, family):
    model = make_language_model(family)
    rows, _ = rows_and_owners(model, 4)
    groups, unread = [([3, 1], True), ([0, 2], False)], [([3, 1], False), ([0, 2], False)]
    known: dict = {}

    def base(starts, groups, late=False, known=known):
        """Return a base pass, its logits, and the blocks that ran."""
        found: list = []

        def fill():
            own, run = model.base(rows, [ReplayStart(start, late) for start in starts], groups=groups, known=known)
            found.extend((own, dict(run)))

        ran = run_modules(model, fill)
        names = [f"{model.structure.blocks_name}.{block}.mlp" for block in range(len(model.structure))]
        return *found, [name for name in names if name in ran]

    base([2], groups)
    cases = [([2], False, unread, []), ([2, 3], False, unread, [2]), ([1, 3], False, unread, [0])]
    for starts, late, some, blocks in (*cases, ([2], True, groups, [2, 3])):
        wanted, expected, _ = base(starts, some, late, known=None)
        found, own, ran = base(starts, some, late)
        assert ran == [f"{model.structure.blocks_name}.{block}.mlp" for block in blocks]
        assert found.paths == wanted.paths
        assert all(torch.equal(found.hidden[start], wanted.hidden[start]) for start in starts)
        pairs = ((keys, found.keys[module]) for module, keys in wanted.keys.items())
        assert all(torch.equal(x, y) for pair in pairs for x, y in zip(*pair, strict=True))
        assert own.keys() == expected.keys()
        assert all(torch.equal(own[index], expected[index]) for index in expected)
    assert {block for _, block in known} == {1, 2, 3}


def test_a_block_whose_forward_was_replaced_runs_whole(make_language_model):
    model = make_language_model("gpt2")
    rows, owners = rows_and_owners(model, 2)
    edits = patches_of(model, 1, ("up",))
    mlp = model.structure.blocks[1].mlp
    mlp.forward = lambda x, inner=mlp.forward: 2 * inner(x)
    wanted = dict(model.forward(rows, edits, owners))
    found = dict(model.replay(model.base_pass(rows, [edits.cut]), edits, owners))
    assert all((found[i] - wanted[i]).abs().max() < 1e-5 * wanted[i].abs().max() for i in wanted)
