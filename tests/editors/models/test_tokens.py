"""Answers are located by their characters, whatever the tokenizer merges."""

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from instructedit.editors import CaseError, InputError
from instructedit.editors.models.tokens import encode, encode_prompt, join, require_offsets

CASES = [
    ("The place of birth of Ada Lovelace is", "London"),
    ("The place of birth of Ada Lovelace is ", "London"),
    ("What is it?", "Saint-Étienne"),
    ("The flag is", "🇸🇾"),
    ("The name is", "ʻArnūs, Ḥusayn"),
    ("Says:\n", "two\nlines"),
    ("x", "y"),
]


@pytest.mark.parametrize(("prompt", "answer"), CASES)
def test_labels_decode_to_the_answer(tokenizer, prompt, answer):
    row = encode(tokenizer, prompt, answer, 96)
    text, border = join(prompt, answer)
    assert tokenizer.decode(row.labels) == text[border:]
    assert tokenizer.decode(row.ids) == text
    assert row.prompt_end == row.scored[0]
    assert row.scored == tuple(range(row.prompt_end, len(row) - 1))


def test_one_space_stands_between_prompt_and_answer():
    assert join("is", "here") == ("is here", 2)
    assert join("is ", "here") == ("is here", 2)
    assert join("is\n", "here") == ("is\nhere", 3)
    assert join("is", " here") == ("is here", 2)


def test_a_token_across_the_border_is_part_of_the_answer():
    """A tokenizer that merges over white space: the straddling token is predicted as a whole."""
    words = {"<end>": 0, "is L": 1, "ondon": 2, "It ": 3}
    merging = Tokenizer(models.WordLevel(words, unk_token="<end>"))
    merging.pre_tokenizer = pre_tokenizers.Split(Regex("is L|ondon|It "), "isolated")
    row = encode(PreTrainedTokenizerFast(tokenizer_object=merging, eos_token="<end>"), "It is", "London", 96)
    assert row.ids == (3, 1, 2)
    assert row.labels == (1, 2)


def test_special_tokens_are_never_labels(tokenizer):
    from ...conftest import make_tokenizer

    wrapped = make_tokenizer()
    end = wrapped.eos_token_id
    wrapped.backend_tokenizer.post_processor = TemplateProcessing(
        single="<end> $A <end>", special_tokens=[("<end>", end)]
    )
    row = encode(wrapped, "The name is", "Ada", 96)
    assert row.ids[0] == end
    assert end not in row.labels
    assert row.ids[-1] != end
    assert wrapped.decode(row.labels) == " Ada"
    assert encode_prompt(wrapped, "The name is", 96).ids[-1] != end


def test_prompts_are_cut_at_trailing_white_space(tokenizer):
    assert encode_prompt(tokenizer, "The name is ", 96) == encode_prompt(tokenizer, "The name is", 96)


@pytest.mark.parametrize("answer", ["", "  ", "\n"])
def test_an_empty_answer_is_refused(tokenizer, answer):
    with pytest.raises(CaseError, match="is empty"):
        encode(tokenizer, "The name is", answer, 96)


def test_texts_longer_than_the_context_are_refused(tokenizer):
    with pytest.raises(CaseError, match="tokens, but the model's context is 8"):
        encode(tokenizer, "The name of the spouse of Ada Lovelace is", "Grace", 8)
    with pytest.raises(CaseError, match="room for 90 more"):
        encode_prompt(tokenizer, "The name of the spouse of Ada Lovelace is", 96, room=90)


def test_an_answer_needs_a_token_before_it(tokenizer):
    with pytest.raises(CaseError, match="no token before it"):
        encode(tokenizer, "", "Ada", 96)


def test_a_slow_tokenizer_is_refused():
    class Slow:
        is_fast = False

    with pytest.raises(InputError, match="fast tokenizer"):
        require_offsets(Slow())


@pytest.mark.parametrize(
    ("prompt", "answer"), [("The place of birth of Ada is", "London"), ("What?", "東京"), ("x", "🇸🇾 Łódź")]
)
def test_a_llama_like_tokenizer_puts_no_start_token_into_the_labels(prompt, answer):
    """Metaspace pieces, byte fallback and a start token: what glued a start token to other harnesses' targets."""
    pieces = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    pieces.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    pieces.train_from_iterator(["The place of birth of Ada is London", "x Łódź"] * 9, trainer)
    pieces.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    llama = PreTrainedTokenizerFast(tokenizer_object=pieces, bos_token="<s>", eos_token="</s>")
    row = encode(llama, prompt, answer, 96)
    front = llama(prompt)["input_ids"]
    assert row.ids[0] == 1
    assert 1 not in row.labels
    assert list(row.ids[: row.prompt_end + 1]) == front
    assert list(row.ids) == front + list(row.labels)
