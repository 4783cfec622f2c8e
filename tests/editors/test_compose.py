"""Edits on top of edits, against a model whose weights were written to after each."""

from dataclasses import replace

import pytest
import torch

from instructedit.baselines.ftl import FTL, FTM
from instructedit.baselines.ke import KE
from instructedit.baselines.mend import MEND
from instructedit.editors import Codebook, Context, Dense, Edits, InputError, LanguageModel, LowRank, Slots, make
from instructedit.editors.changes import change_facts
from instructedit.editors.compose import compose
from instructedit.editors.engine.generation import answers
from instructedit.editors.instructedit import InstructEdit

from .cases import fact

REQUESTS = [fact(number).request for number in range(4)]
OPTIONS = {
    FTL: {"lr": 1e-2, "clamp": 0.05, "block": 1},
    FTM: {"lr": 1e-2, "clamp": 0.05, "block": 2},
    MEND: {"rank": 8, "edit_lr": -1e-2},
    KE: {"hidden": 8, "condition": 6, "max_scale": 50.0},
}


def editor_for(kind, model, **options):
    editor = make(kind, {**OPTIONS[kind], **options})
    if kind.trains:
        editor.build(model)
        editor.observe(model, [[request] for request in REQUESTS])
        editor.network.eval()
        # a model whose weights are written to has another fingerprint, which is what the check is for
        editor._check = lambda model: None
    return editor


def said(model, edits=None):
    rows = [model.encode(request.prompt, request.target) for request in REQUESTS]
    owners = None if edits is None else [0] * len(rows)
    return torch.cat([logits for _, logits in model.forward(rows, edits, owners)])


@pytest.mark.parametrize(
    ("kind", "family"), [(FTL, "gpt2"), (FTM, "llama"), (MEND, "gpt2"), (MEND, "llama"), (KE, "llama")]
)
def test_edits_on_top_of_edits_are_those_of_a_model_written_to(kind, family, make_language_model):
    model = make_language_model(family, torch.float64)
    editor = editor_for(kind, model)
    total, written = Edits.none(1), model
    for request in REQUESTS[:3]:
        total = editor.edit_next(model, request, total)
        written = LanguageModel(editor.edit(written, [request]).apply_to(written.model), model.tokenizer)
    assert len(total) == 1
    expected = said(written)
    assert (expected - said(model)).abs().max() > 1e-3, "the edits change something"
    # Llama norms in single precision
    torch.testing.assert_close(said(model, total), expected, rtol=1e-4, atol=2e-5)


def test_the_first_of_a_sequence_is_a_single_edit(make_language_model):
    model = make_language_model("gpt2", torch.float64)
    editor = editor_for(MEND, model)
    first = editor.edit_next(model, REQUESTS[0], Edits.none(1))
    torch.testing.assert_close(said(model, first), said(model, editor.edit(model, REQUESTS[:1])))


def test_generation_and_replay_see_the_edits_a_model_stands_under(make_language_model):
    model = make_language_model("gpt2", torch.float64)
    editor = editor_for(FTM, model)
    first = editor.edit(model, REQUESTS[:1])
    view = model.edited(first)
    written = LanguageModel(first.apply_to(model.model), model.tokenizer)
    second = editor.edit(written, REQUESTS[1:3])
    prompts = [model.encode_prompt(request.prompt) for request in REQUESTS]
    owners = [0, 1, None, 1]
    greedy = {"max_new_tokens": 6, "finished": lambda row, text: False}
    assert answers(view, prompts, second, owners, **greedy) == answers(written, prompts, second, owners, **greedy)
    rows = [model.encode(request.prompt, request.target) for request in REQUESTS]
    for ours, theirs in zip(
        view.replay(view.base_pass(rows, [second.cut]), second, owners),
        written.replay(written.base_pass(rows, [second.cut]), second, owners),
        strict=True,
    ):
        torch.testing.assert_close(ours[1], theirs[1])


def test_a_view_leaves_the_model_as_it_is(model):
    before = said(model)
    view = model.edited(editor_for(FTM, model).edit(model, REQUESTS[:1]))
    assert not torch.equal(said(view), before)
    assert torch.equal(said(model), before)


def test_sums_stay_bounded():
    generator = torch.Generator().manual_seed(0)
    parts = [
        LowRank("m", 0, torch.randn(8, 3, generator=generator), torch.randn(3, 12, generator=generator))
        for _ in range(6)
    ]
    total = Edits.none(1)
    kinds = []
    for part in parts:
        total = compose(total, Edits(((part,),)))
        (patch,) = total.patches[0]
        kinds.append(type(patch))
    assert kinds == [LowRank, Dense, Dense, Dense, Dense, Dense], "8 x 12 holds less than rank 6 of 8 + 12"
    torch.testing.assert_close(patch.delta(), sum(part.delta() for part in parts))


def test_slots_stand_side_by_side():
    generator = torch.Generator().manual_seed(0)

    def slots(count, gated):
        k, g = (torch.randn(4, count, generator=generator) for _ in range(2))
        return Slots("down", 0, "up", "silu", k, torch.randn(count, 4, generator=generator), g if gated else None)

    x, y = torch.randn(5, 4, generator=generator), torch.randn(5, 4, generator=generator)
    for gated in (False, True):
        first, second = slots(2, gated), slots(3, gated)
        (both,) = compose(Edits(((first,),)), Edits(((second,),))).patches[0]
        torch.testing.assert_close(both(x, y, ()), second(x, first(x, y, ()), ()))


def test_two_codebooks_are_no_sum():
    book = Edits(((Codebook("m", 0, torch.zeros(1, 2), torch.zeros(1, 3), torch.ones(1)),),))
    assert compose(Edits.none(1), book).patches == book.patches
    with pytest.raises(InputError, match="the editor has to implement `edit_next`"):
        compose(book, book)


def test_contexts_follow_one_another():
    one, two = (Edits(((),), contexts=(Context(text),)) for text in ("A.\n", "B.\n"))
    assert compose(one, two).contexts[0].text == "A.\nB.\n"
    assert compose(Edits.none(1), one).contexts == one.contexts


def test_edits_made_together_are_the_sum_of_single_ones(make_language_model):
    model = make_language_model("gpt2", torch.float64)
    editor = editor_for(MEND, model, joint="sum")
    together = editor.edit_together(model, [fact(number).request for number in range(10)])
    single = editor.edit(model, [fact(number).request for number in range(10)])
    by_site = {patch.site: patch.delta() for patch in together.patches[0]}
    for place, patch in enumerate(single.patches[0]):
        expected = sum(edit[place].delta() for edit in single.patches)
        torch.testing.assert_close(by_site[patch.site], expected)
    assert len(editor.edit_together(model, [])) == 1


def test_an_instruction_is_no_part_of_an_edit(model):
    """It belongs to the case that is scored, so edits under different instructions are made together."""
    editor = make(InstructEdit, {"rank": 8, "normalise": False})
    editor.build(model)
    told = [replace(request, instruction=f"Task: {name}") for request, name in zip(REQUESTS, "ABCD", strict=False)]
    single = editor.edit(model, told)
    assert not any(single.contexts)
    together = editor.edit_together(model, told)
    following = editor.edit_next(model, told[1], editor.edit_next(model, told[0], Edits.none(1)))
    assert together.contexts == following.contexts == (None,)
    bare = editor.edit_together(model, REQUESTS[: len(told)])
    assert not torch.allclose(together.patches[0][0].delta(), bare.patches[0][0].delta()), "the edit is made with it"


def test_edits_on_top_of_edits_hash_the_weights_once(make_language_model, monkeypatch):
    mend = make(MEND, {"rank": 8})
    first = make_language_model("gpt2")
    mend.build(first)
    mend.observe(first, [[request] for request in REQUESTS])
    hashed = []
    inner = LanguageModel.fingerprint
    monkeypatch.setattr(LanguageModel, "fingerprint", lambda self: hashed.append(1) or inner(self))
    model = make_language_model("gpt2")  # nobody has asked for its identity yet, as where an editor was only loaded
    edits = Edits.none(1)
    for request in REQUESTS:
        edits = mend.edit_next(model, request, edits)
    assert len(hashed) == 1


@pytest.mark.parametrize("count", [1, 4])
def test_the_norm_of_a_joint_edit_is_that_of_its_sum(model, count):
    mend = editor_for(MEND, model)
    together = mend.edit_together(model, REQUESTS[:count])
    squares = [patch.delta().square().sum() for patch in together.patches[0]]
    (facts,) = change_facts(model, together)
    assert facts["delta_norm"] == pytest.approx(float(sum(squares)) ** 0.5)
