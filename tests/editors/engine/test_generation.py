"""Many edited models generating in one batch against each alone, without padding and without a cache."""

import pytest
import torch

from instructedit.editors import Codebook, Edits, ReplayStart, seed_of
from instructedit.editors.engine.decoding import read_prompts
from instructedit.editors.engine.generation import answers, texts

from .test_engine import low_rank

PROMPTS = [
    "The name of the spouse of Ada Lovelace is",
    "What is the place of birth of Alan Turing?",
    "Grace Hopper's",
    "Ada",
]
FAMILIES = ["gpt2", "llama", "mistral", "gemma2", "gpt_neox", "gptj", "opt"]


def low_rank_edits(model, count: int) -> Edits:
    return low_rank([*model.sites("up", [1])[:1], *model.sites("down", [2])], count, scale=0.4)


def greedy_by_hand(hf, ids: list[int], steps: int, end: set[int]) -> list[int]:
    """The slow path: the whole text again for every token, one unpadded row."""
    new: list[int] = []
    for _ in range(steps):
        with torch.no_grad():
            token = int(hf(input_ids=torch.tensor([ids + new])).logits[0, -1].argmax())
        if token in end:
            break
        new.append(token)
    return new


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_of_edited_models_says_what_each_says_alone(make_language_model, family):
    model = make_language_model(family)
    edits = low_rank_edits(model, 2)
    rows = [model.encode_prompt(prompt) for _ in range(2) for prompt in PROMPTS]
    owners = [0] * len(PROMPTS) + [1] * len(PROMPTS)
    found = answers(model, rows, edits, owners, max_new_tokens=12, finished=lambda _row, _text: False, batch=3)
    for row, owner, text in zip(rows, owners, found, strict=True):
        new = greedy_by_hand(edits.apply_to(model.model, owner), list(row.ids), 12, set(model.end_ids))
        assert text == model.tokenizer.decode(new, skip_special_tokens=True)
    assert found[:4] != found[4:], "the two edits must differ"


@pytest.mark.parametrize("family", ["gpt2", "mistral", "gptj", "opt"])
def test_prompts_read_once_are_continued_as_if_read_anew(make_language_model, family):
    """Low-rank edits, none, and a codebook, which only the last token of a prompt can be under."""
    model = make_language_model(family)
    rows = [model.encode_prompt(prompt) for prompt in [*PROMPTS, PROMPTS[0]]]
    site = model.sites("up", [2])[0]
    keys = torch.stack([model.inputs(model.base_pass([row], [ReplayStart(2)]), site)[0][-1] for row in rows[:2]])
    values = 4 * torch.randn(2, site.d_out, generator=torch.Generator().manual_seed(2))
    book = Codebook(site.name, 2, keys, values, torch.tensor([0.01, 0.01]))
    options = {"max_new_tokens": 12, "finished": lambda row, text: row == 1 and len(text) > 5, "batch": 3}
    said = []
    kinds = low_rank_edits(model, 1), Edits.none(1), Edits(((book,),))
    prompts = read_prompts(model, rows, [edits.cut for edits in kinds if edits.cut])
    for edits in kinds:
        expected = answers(model, rows, edits, [0] * 5, **options)
        assert answers(model, rows, edits, [0] * 5, prompts=prompts, **options) == expected
        said.append(expected)
    assert len({tuple(texts) for texts in said}) == 3


def test_a_codebook_is_asked_at_the_last_prompt_token_with_and_without_a_cache(model):
    (site,) = model.sites("up", [1])
    rows = [model.encode_prompt(prompt) for prompt in PROMPTS]
    keys = torch.stack(
        [model.inputs(model.base_pass([row], [ReplayStart(site.block)]), site)[0][-1] for row in rows[:2]]
    )
    values = 4 * torch.randn(2, site.d_out, generator=torch.Generator().manual_seed(2))
    edits = Edits(((Codebook(site.name, 1, keys, values, torch.tensor([0.01, 0.01])),),))
    found = answers(model, rows, edits, [0] * 4, max_new_tokens=8, finished=lambda _row, _text: False)
    plain = answers(model, rows, Edits.none(1), [0] * 4, max_new_tokens=8, finished=lambda _row, _text: False)
    assert found[2:] == plain[2:]
    for line in range(2):
        prompt = len(rows[line])

        def by_hand(_m, _x, out, line=line, prompt=prompt):
            out = out.clone()
            out[0, prompt - 1] = values[line]
            return out

        handle = model.model.get_submodule(site.name).register_forward_hook(by_hand)
        new = greedy_by_hand(model.model, list(rows[line].ids), 8, set(model.end_ids))
        handle.remove()
        assert found[line] == model.tokenizer.decode(new, skip_special_tokens=True)
        assert found[line] != plain[line]


def test_each_row_stops_by_itself(model):
    rows = [model.encode_prompt(prompt) for prompt in PROMPTS]
    full = answers(model, rows, Edits.none(1), [None] * 4, max_new_tokens=10, finished=lambda _r, _t: False)
    cut = answers(
        model, rows, Edits.none(1), [None] * 4, max_new_tokens=10, finished=lambda r, t: r == 1 and len(t) > 2
    )
    assert cut[0] == full[0]
    assert cut[2:] == full[2:]
    assert full[1].startswith(cut[1])
    assert 2 < len(cut[1]) < len(full[1])


def test_a_sampled_text_depends_on_its_seed_and_not_on_its_partners(model):
    rows = [model.encode_prompt(prompt) for prompt in PROMPTS]
    seeds = [seed_of(0, "fluency", i) for i in range(4)]
    options = {"new_tokens": 15, "top_k": 5}
    together = texts(model, rows, Edits.none(1), [None] * 4, seeds=seeds, **options)
    alone = [
        texts(model, [r], Edits.none(1), [None], seeds=[s], **options)[0] for r, s in zip(rows, seeds, strict=True)
    ]
    assert together == alone
    assert texts(model, rows, Edits.none(1), [None] * 4, seeds=[s + 1 for s in seeds], **options) != together


def test_sampled_texts_have_the_asked_for_length(model, monkeypatch):
    from instructedit.editors.engine import generation

    row = model.encode_prompt(PROMPTS[0])
    out: list[list[int]] = []
    inner = generation.decode
    monkeypatch.setattr(generation, "decode", lambda *a, **k: out.extend(inner(*a, **k)) or out)
    texts(model, [row], Edits.none(1), [None], new_tokens=30, top_k=5, seeds=[1])
    assert len(out[0]) == 30
    assert not set(out[0]) & set(model.end_ids)


def test_gumbel_choice_samples_from_the_renormalised_top_k(model):
    """10,000 draws of one step against the probabilities of the three most likely tokens."""
    from instructedit.editors.engine.generation import gumbel_noise, gumbel_top_k

    logits = torch.log(torch.tensor([0.05, 0.5, 0.1, 0.3, 0.05]))
    count = 10_000
    chosen = gumbel_top_k(logits.expand(count, 5), gumbel_noise(list(range(count)), 3, 1)[:, 0])
    shares = torch.bincount(chosen, minlength=5) / count
    wanted = torch.tensor([0.0, 0.5, 0.1, 0.3, 0.0]) / 0.9
    assert shares[0] == 0
    assert shares[4] == 0
    assert (shares - wanted).abs().max() < 0.02


def test_a_models_own_sampling_settings_are_not_taken_over(tokenizer):
    from instructedit.editors import LanguageModel

    from ...conftest import make_model

    hf = make_model("gpt2")
    hf.generation_config.do_sample = True
    hf.generation_config.repetition_penalty = 5.0
    hf.generation_config.temperature = 9.0
    model = LanguageModel(hf, tokenizer)
    row = model.encode_prompt(PROMPTS[0])
    (text,) = answers(model, [row], Edits.none(1), [None], max_new_tokens=10, finished=lambda _r, _t: False)
    assert text == tokenizer.decode(greedy_by_hand(hf, list(row.ids), 10, set(model.end_ids)), skip_special_tokens=True)


def test_a_row_that_has_stopped_says_no_more_while_its_partners_go_on(make_language_model):
    """Without an end token transformers carries a finished row on."""
    model = make_language_model("gpt2")
    model.end_ids = ()
    rows = [model.encode_prompt(prompt) for prompt in PROMPTS[:2]]
    options = {"max_new_tokens": 12, "finished": lambda row, text: row == 0 and len(text) > 3}
    both = answers(model, rows, Edits.none(1), [None] * 2, **options)
    assert both[0] == answers(model, rows[:1], Edits.none(1), [None], **options)[0]
