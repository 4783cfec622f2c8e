"""Which tokens a pass computes, worked out by hand, and that leaving the others out changes nothing."""

from dataclasses import replace

import pytest
import torch

from instructedit.editors import Codebook, Edits, LowRank, ReplayStart
from instructedit.editors.engine.packed_batch import KEYS_PER_TOKEN, batches
from instructedit.editors.models.tokens import TokenSequence

from ...conftest import FAMILIES
from .test_engine import random_edits, reference, references


def row(ids: str, scored: tuple[int, ...], prompt_end: int) -> TokenSequence:
    return TokenSequence(tuple(map(ord, ids)), scored, prompt_end)


def test_prefixes_are_shared_and_ends_left_out():
    rows = [row("abcXY", (2, 3), 2), row("abcZW", (2, 3), 2), row("abdX", (2,), 2)]
    (batch,) = batches(rows, [0, 0, 0], 100)
    assert "".join(map(chr, batch.ids)) == "abcXZd", "the last token of a row predicts nothing that is read"
    assert batch.positions == [0, 1, 2, 3, 3, 2]
    assert batch.paths == [[0, 1, 2, 3], [0, 1, 2, 4], [0, 1, 5]]
    assert batch.scored == [[2, 3], [2, 4], [5]]
    assert batch.read == [2, 3, 4, 5]
    assert batch.prompt_ends == [2, None, 5], "the first row has the prompt that the second shares"


def test_rows_of_two_edits_share_nothing():
    rows = [row("abX", (1,), 1)] * 2
    (batch,) = batches(rows, [0, 1], 100)
    assert batch.paths == [[0, 1], [2, 3]]
    segments = batch.segments([0, 1])
    assert [(s.edit, s.start, s.stop, s.spans[0].prompt_end) for s in segments] == [(0, 0, 2, 1), (1, 2, 4, 1)]


def test_a_prompt_that_ends_is_not_one_that_goes_on():
    rows = [row("abX", (1,), 1), row("abcX", (2,), 2)]
    (batch,) = batches(rows, [0, 0], 100)
    assert "".join(map(chr, batch.ids)) == "abbc", "a codebook is asked at the first b and not at the second"


def test_where_the_prompt_decides_its_tokens_only_whole_prompts_are_shared():
    rows = [row("abX", (1,), 1), row("acX", (1,), 1), row("abY", (1,), 1)]
    (batch,) = batches(rows, [0] * 3, 100, whole_prompts=True)
    assert "".join(map(chr, batch.ids)) == "abac"
    assert batch.paths == [[0, 1], [2, 3], [0, 1]]


def test_cached_tokens_precede_a_batchs_own():
    rows = [row("abcXYZ", (2, 3, 4), 2), row("abcW", (2,), 2)]
    (base,) = batches(rows, [0, 0], 100)
    (batch,) = batches(rows, [0, 0], 100, paths=base.paths, starts=[2, 2], cached=len(base))
    assert "".join(map(chr, batch.ids)) == "cXY"
    assert batch.sources == [2, 3, 4]
    assert batch.paths == [[0, 1, 5, 6, 7], [0, 1, 5]]


def test_a_pass_holds_as_many_tokens_as_it_may():
    rows = [row("abX", (1,), 1), row("cdX", (1,), 1), row("abY", (1,), 1), row("efghX", (3,), 3)]
    assert [batch.rows for batch in batches(rows, [0] * 4, 4)] == [[0, 1, 2], [3]]
    assert [batch.rows for batch in batches(rows, [0] * 4, 1)] == [[0], [1], [2], [3]], "a longer row has its own"


TEXTS = [
    ("The name of the spouse of Ada Lovelace is", "Grace Hopper"),
    ("The name of the spouse of Ada Lovelace is", "Alan Turing"),
    ("The name of the spouse of Ada", "Lovelace is Grace"),
    ("The name", "of the spouse"),
    ("Ada", "Lovelace"),
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("block", [1, 3])
def test_shared_prefixes_give_what_each_row_gives_alone(make_language_model, family, block):
    model = make_language_model(family)
    rows = [model.encode(*text) for text in TEXTS] * 2
    owners = [0] * 5 + [1] * 5
    edits = random_edits(model, "low_rank", 2, block)
    base, run = model.base(rows, [edits.cut])
    plain = dict(run)
    found = dict(model.replay(base, edits, owners))
    edited = references(model, rows, edits, owners)
    for i, own in enumerate(rows):
        for logits, wanted in ((plain[i], reference(model, own, None, None)), (found[i], edited[i])):
            assert (logits - wanted).abs().max() < 2e-4 * wanted.abs().max()


def codebook(model, rows, block: int, part: str, replace: str) -> Edits:
    site = model.sites(part, [block])[0]
    base = model.base_pass(rows, [ReplayStart(block)])
    keys = [x[row.prompt_end] for x, row in zip(model.inputs(base, site), rows, strict=True)]
    values = 3 * torch.randn(2, site.d_out, generator=torch.Generator().manual_seed(4))
    book = Codebook(site.name, block, torch.stack([keys[0], keys[2]]), values, torch.tensor([1e-3, 1e-3]), replace)
    return Edits(((book,),))


PLACES = [(1, "up"), (2, "down"), (3, "up")]
OF_FAMILIES = [(family, *PLACES[number % 3]) for number, family in enumerate(FAMILIES)]


@pytest.mark.parametrize(("family", "block", "part"), [*OF_FAMILIES, ("gpt2", *PLACES[1]), ("gpt2", *PLACES[2])])
@pytest.mark.parametrize("replace", ["last", "prompt"])
def test_codebooks_on_shared_and_known_tokens_give_what_each_row_gives_alone(
    make_language_model, family, block, part, replace
):
    """Row by row, unpadded, with the values put in by hand; late edits run from the end of the prompt only."""
    model = make_language_model(family)
    rows = [model.encode(*text) for text in TEXTS]
    edits = codebook(model, rows, block, part, replace)
    assert edits.late == (replace == "last")
    (book,) = edits.patches[0]
    base = model.base_pass(rows, [edits.cut])
    found = dict(model.replay(base, edits, [0] * len(rows)))
    whole = dict(model.forward(rows, edits, [0] * len(rows)))
    entries = {0: 0, 1: 0, 2: 1}
    assert len(rows) > len(entries)
    reached = model.reached(base, edits, [0] * len(rows))
    assert set(entries) <= set(reached)
    some = {**dict(model.forward(rows)), **dict(model.replay(base, edits, [0] * len(rows), reached))}
    for i, own in enumerate(rows):
        entry = entries.get(i)

        def put(_m, _x, out, own=own, entry=entry):
            if entry is None:
                return out
            out = out.clone()
            places = slice(own.prompt_end, own.prompt_end + 1) if replace == "last" else slice(0, own.prompt_end)
            out.reshape(-1, out.shape[-1])[places] = book.values[entry]
            return out

        handle = model.model.get_submodule(book.site).register_forward_hook(put)
        wanted = reference(model, own, None, None)
        handle.remove()
        assert (found[i] - wanted).abs().max() < 2e-4 * wanted.abs().max()
        assert (whole[i] - wanted).abs().max() < 2e-4 * wanted.abs().max()
        assert (some[i] - wanted).abs().max() < 2e-4 * wanted.abs().max()


def test_which_rows_edits_reach(model):
    """Codebooks reach rows near a key only; other edits reach all rows, and so do codebooks without cached keys."""
    rows = [model.encode(*text) for text in TEXTS] * 2
    every, owners = list(range(10)), [0] * 5 + [1] * 5
    book = codebook(model, rows, 1, "up", "last")
    other = random_edits(model, "low_rank", 2, 2)
    base = model.base_pass(rows, [book.cut, other.cut])
    assert model.reached(base, other, owners) == every
    both = Edits((book.patches[0], other.patches[0]))
    assert model.reached(base, both, owners) == every
    on_top = Edits(((*book.patches[0], *other.patches[0]),) * 2)
    assert model.reached(base, on_top, owners) == every
    some = Edits((book.patches[0], ()))
    assert model.reached(base, some, owners) == [0, 1, 2], "an edit of nothing reaches nothing"
    assert model.reached(base, Edits.join([book, book]), [None, *owners[1:]]) == [1, 2, 5, 6, 7]
    assert model.reached(model.base_pass(rows, [ReplayStart(1)]), book, [0] * 10) == every, "no keys are known"
    assert model.reached(model.base_pass([], [book.cut]), book, []) == []
    wide = replace(book.patches[0][0], radii=torch.tensor([1e-3, 1e3]))
    assert model.reached(base, Edits(((wide,), ())), owners) == every[:5]


def test_an_active_edit_moves_the_queries_of_a_codebook(model):
    rows = [model.encode(*text) for text in TEXTS]
    book = codebook(model, rows, 2, "up", "last")
    view = model.edited(random_edits(model, "low_rank", 1, 1))
    assert view.reached(view.base_pass(rows, [book.cut]), book, [0] * 5) == []
    moved = codebook(view, rows, 2, "up", "last")
    assert view.reached(view.base_pass(rows, [moved.cut]), moved, [0] * 5) == [0, 1, 2]


@pytest.mark.parametrize("name", ["attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc"])
def test_any_map_of_the_last_block_may_be_patched(model, name):
    """Layers before attention run on all tokens there, layers after it only on those that are read."""
    rows = [model.encode(*text) for text in TEXTS]
    site = f"transformer.h.3.{name}"
    with torch.no_grad():
        width = model.model.get_submodule(site)(torch.zeros(1, 1, 32)).shape[-1]
    generator = torch.Generator().manual_seed(3)
    a, b = torch.randn(32, 2, generator=generator), torch.randn(2, width, generator=generator)
    edits = Edits(((LowRank(site, 3, 0.3 * a, 0.3 * b),),))
    found = dict(model.replay(model.base_pass(rows, [edits.cut]), edits, [0] * len(rows)))

    def add(_m, x, out):
        return out + x[0] @ (0.3 * a) @ (0.3 * b)

    handle = model.model.get_submodule(site).register_forward_hook(add)
    for i, own in enumerate(rows):
        wanted = reference(model, own, None, None)
        assert (found[i] - wanted).abs().max() < 2e-4 * wanted.abs().max()
    handle.remove()


def test_no_rows_are_no_passes(model):
    edits = random_edits(model, "low_rank", 1, 1)
    base = model.base_pass([], [edits.cut])
    assert list(model.replay(base, edits, [])) == []
    assert model.inputs(base, model.sites("up", [1])[0]) == []


def test_the_keys_of_rows_with_a_long_common_prefix_are_bounded():
    rows = [row("a" * 50 + chr(200 + n) + "X", (50,), 50) for n in range(30)]
    passes = list(batches(rows, [0] * 30, 100))
    assert max(sum(map(len, batch.paths)) for batch in passes) <= KEYS_PER_TOKEN * 100
    assert [index for batch in passes for index in batch.rows] == list(range(30))


def test_a_late_edit_runs_whole_rows_where_an_active_codebook_queries_the_end_of_the_prompt(model):
    """The late edit moves the query of the active codebook, and with it the tokens before the end."""
    rows = [model.encode(*text) for text in TEXTS]
    active, late = codebook(model, rows, 2, "up", "prompt"), codebook(model, rows, 1, "up", "last")
    view = model.edited(active)
    found = dict(view.replay(view.base_pass(rows, [late.cut]), late, [0] * len(rows)))
    wanted = dict(view.forward(rows, late, [0] * len(rows)))
    assert all((found[i] - wanted[i]).abs().max() < 1e-4 * wanted[i].abs().max() for i in wanted)


def test_rows_of_a_model_that_attends_twice_in_a_layer_do_not_see_each_other(make_language_model, monkeypatch):
    from transformers.models.llama.modeling_llama import LlamaAttention

    inner = LlamaAttention.forward

    def twice(self, *arguments, **keywords):
        inner(self, *arguments, **keywords)
        return inner(self, *arguments, **keywords)

    monkeypatch.setattr(LlamaAttention, "forward", twice)
    model = make_language_model("llama")
    rows = [model.encode(*text) for text in TEXTS]
    for i, logits in model.forward(rows):
        wanted = reference(model, rows[i], None, None)
        assert (logits - wanted).abs().max() < 1e-4 * wanted.abs().max()
