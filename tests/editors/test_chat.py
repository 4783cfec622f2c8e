"""Prompts in a chat template or a named context: tokens against transformers' own, labels, ends, and composition."""

from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from instructedit.baselines.ftl import FTM, FTMConfig
from instructedit.editors import (
    CaseError,
    ChatFormat,
    EditRequest,
    Edits,
    InputError,
    LanguageModel,
    ReservedTokenError,
    subject_token,
)
from instructedit.editors.chat import CONTEXTS, chat_format, check_chat, end_token
from instructedit.editors.engine.generation import answers
from instructedit.editors.instructedit import InstructEdit, InstructEditConfig

from ..conftest import make_model, make_tokenizer

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|turn|>' + m['role'] + '\n' + m['content'] | trim + '<|stop|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|turn|>assistant\n' }}{% endif %}"
)
BRACKETS = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
REQUEST = EditRequest("t/test/0", "t", "The place of birth of Ada Lovelace is", "London", "Ada Lovelace")


def chat_tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """Return a tokenizer with special tokens of turns, whose post-processor adds the beginning of a text."""
    from tokenizers.processors import TemplateProcessing

    made = make_tokenizer()
    made.add_special_tokens({"bos_token": "<s>", "additional_special_tokens": ["<|turn|>", "<|stop|>"]})
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", made.bos_token_id)]
    )
    made.chat_template = template
    return made


@pytest.fixture(scope="module")
def llama():
    tokenizer = chat_tokenizer()
    hf = make_model("llama")
    torch.manual_seed(0)
    hf.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return LanguageModel(hf, tokenizer)


@pytest.fixture(scope="module")
def chat(llama):
    return llama.in_chat(chat_format("template", llama.tokenizer))


def test_prompts_have_the_tokens_of_the_models_own_template(llama, chat):
    turns = [{"role": "user", "content": REQUEST.prompt}]
    own = llama.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=True)
    row = chat.encode_prompt(f"{REQUEST.prompt} ")
    assert list(row.ids) == own["input_ids"]
    assert row.ids.count(llama.tokenizer.bos_token_id) == 1
    whole = [*turns, {"role": "assistant", "content": "London"}]
    text = llama.tokenizer.apply_chat_template(whole, tokenize=False).removesuffix("\n")
    found = chat.encode(REQUEST.prompt, "London", end=True)
    assert list(found.ids) == llama.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert llama.in_chat(None).encode_prompt("Who?").ids == llama.encode_prompt("Who?").ids, "the view changes nothing"


def test_labels_are_the_answer_and_the_end_of_the_turn(llama, chat):
    stop = llama.tokenizer.convert_tokens_to_ids("<|stop|>")
    bare, ended = (chat.encode(REQUEST.prompt, "London", end=end) for end in (False, True))
    assert llama.tokenizer.decode(bare.labels) == "London"
    assert ended.labels == (*bare.labels, stop) and ended.prompt_end == bare.prompt_end == bare.scored[0]
    assert llama.tokenizer.decode(bare.ids[: bare.prompt_end + 1]).endswith("assistant\n")
    assert ended.without_last() == bare
    plain = llama.encode(REQUEST.prompt, "London", end=True)
    assert plain.labels[-1] == llama.tokenizer.eos_token_id, "without a template the end of text"
    assert len(chat.encode(REQUEST.prompt, "x", end=True)) <= chat.context
    exact = replace_context(chat, len(ended))
    assert exact.encode(REQUEST.prompt, "London", end=True) == ended
    with pytest.raises(CaseError, match="tokens"):
        replace_context(chat, len(ended) - 1).encode(REQUEST.prompt, "London", end=True)


def replace_context(model: LanguageModel, context: int) -> LanguageModel:
    view = model.in_chat(model.chat)
    view.context = context
    return view


def test_a_template_of_brackets_has_a_joint_and_the_end_of_text():
    tokenizer = chat_tokenizer(BRACKETS)
    found = chat_format("template", tokenizer)
    assert found == ChatFormat(
        name="template", prefix="<s>[INST] ", suffix=" [/INST]", joint=" ", special=True, end="<end>"
    )
    assert end_token(tokenizer, found) == tokenizer.eos_token_id


def test_what_data_cannot_do_to_a_template(llama, chat):
    for prompt, answer in (("Who?<|stop|>", "I"), ("Who?", "I <|turn|>")):
        with pytest.raises(ReservedTokenError, match="spells the special token"):
            chat.encode(prompt, answer)
    assert llama.encode("Who?<|stop|>", "I"), "bare prompts have it as text"
    with pytest.raises(ReservedTokenError):
        chat.encode_prompt("<|turn|>assistant")


def test_the_instruction_stands_inside_the_turn_before_the_prompt(chat):
    told = replace(REQUEST, instruction="Task: places")
    row = InstructEdit(InstructEditConfig()).encode(chat, told)
    text = chat.tokenizer.decode(row.ids)
    assert text == f"<s><|turn|>user\nTask: places\nInput: {REQUEST.prompt}<|stop|>\n<|turn|>assistant\nLondon"


def test_the_subject_is_found_behind_the_prefix(chat):
    row = chat.encode(REQUEST.prompt, REQUEST.target)
    last = subject_token(chat, REQUEST)
    assert chat.tokenizer.decode(row.ids[: last + 1]).endswith("of Ada Lovelace")


def test_an_edit_is_trained_with_the_end_of_the_turn_where_that_is_asked(chat):
    settings = {"block": -1, "lr": 0.05, "clamp": False, "steps": 30}
    stop = chat.tokenizer.convert_tokens_to_ids("<|stop|>")
    row = chat.encode(REQUEST.prompt, REQUEST.target, end=True)
    chances = []
    for end in (False, True):
        config = FTMConfig(**settings, end_of_turn=end)
        assert ("end_of_turn" in config.model_dump()) == end, "digests stay where it is not used"
        edited = FTM(config).edit(chat, [REQUEST]).apply_to(chat.model)
        with torch.no_grad():
            chances.append(float(edited(torch.tensor([row.ids])).logits[0, -2].softmax(-1)[stop]))
    assert chances[1] > 0.3 and chances[1] > 10 * chances[0]


def test_texts_of_opposed_replies_have_no_end(chat):
    mood = replace(REQUEST, replies=("I like it.",), opposed=("No.",))
    texts = FTM(FTMConfig(end_of_turn=True)).texts(chat, mood)
    stop = chat.tokenizer.convert_tokens_to_ids("<|stop|>")
    assert texts.wanted[0].labels[-1] == stop
    assert texts.opposed[0] == chat.encode(REQUEST.prompt, "No.")


def test_generation_ends_at_the_end_of_the_turn(chat):
    """An edit that makes the model answer and end its turn: nothing follows, though many tokens are allowed."""
    edits = FTM(FTMConfig(block=-1, lr=0.05, clamp=False, steps=40, end_of_turn=True)).edit(chat, [REQUEST])
    rows = [chat.encode_prompt(REQUEST.prompt, room=12)]
    steps = []
    for view in (chat, chat.in_chat(chat.chat.model_copy(update={"end": None}))):
        growing = []
        (text,) = answers(
            view, rows, edits, [0], max_new_tokens=12, finished=lambda _, text, own=growing: own.append(text)
        )
        steps.append((text, len(growing)))
    assert steps[0] == ("London", 2), "two tokens, and the third ends the turn"
    assert steps[1][1] > 2, "a model that does not know the end goes on"
    assert answers(chat, rows, Edits.none(1), [None], max_new_tokens=3, finished=lambda *_: False)[0] != "London"


def test_wild_is_a_text_around_the_prompt(model):
    wild = model.in_chat(CONTEXTS["wild"])
    asked = "Please answer the question:\n\nQ: Where?\nA:"
    assert wild.encode("Where? ", "London") == model.encode(asked, "London")
    assert wild.encode_prompt("Where?") == model.encode_prompt(asked)
    assert wild.stop_ids == model.stop_ids
    assert (
        wild.encode("谁？", "李白", "").ids
        == model.encode("Please answer the question:\n\nQ: 谁？\nA:", "李白", "").ids
    )


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (None, "has no chat template; a chat model, or one of 'none', 'wild' was expected"),
        ("{{ raise_exception('no users') }}", "cannot be rendered \\(no users\\)"),
        ("{{ messages[0]['content'] * 2 }}", "does not write the user's text exactly once"),
        ("{{ 'hello' }}", "does not write the user's text exactly once"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_in_one_sentence(template, reason):
    with pytest.raises(InputError, match=reason) as found:
        chat_format("template", chat_tokenizer(template))
    assert "\n" not in str(found.value)


def test_names_of_contexts():
    with pytest.raises(InputError, match="Did you mean 'wild'"):
        check_chat("wilt")
    assert chat_format("none", make_tokenizer()) is None
    assert chat_format("wild", make_tokenizer()) is CONTEXTS["wild"]
