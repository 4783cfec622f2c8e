"""What stands between prompt and answer, and which texts show nothing."""

from itertools import product

import pytest
from tokenizers.processors import TemplateProcessing

from instructedit.editors import CaseError, EditCase, EditRequest, Probe
from instructedit.editors.cases import joint_rule
from instructedit.editors.models.tokens import encode, encode_prompt, tokens_begin_with
from instructedit.editors.writing_systems import JOINT_RULE, blank, join, joint_of, unspaced

from ..conftest import make_tokenizer


@pytest.mark.parametrize(
    ("prompt", "answer", "joint"),
    [
        ("法国的首都是", "巴黎", ""),
        ("日本の首都は", "東京", ""),
        ("アルタは", "ミナト", ""),
        ("เมืองหลวงของไทยคือ", "กรุงเทพ", ""),
        ("ນະຄອນຫຼວງຂອງລາວແມ່ນ", "ວຽງຈັນ", ""),
        ("រាជធានីកម្ពុជាគឺ", "ភ្នំពេញ", ""),
        ("မြန်မာနိုင်ငံ၏မြို့တော်မှာ", "နေပြည်တော်", ""),
        ("བོད་ཀྱི་རྒྱལ་ས་ནི་", "ལྷ་ས", ""),
        ("法国的首都是：", "Paris", ""),
        ("他出生于", "1945年", ""),
        ("भारत की राजधानी है", "दिल्ली", " "),
        ("عاصمة فرنسا هي", "باريس", " "),
        ("한국의 수도는", "서울", " "),
        ("Die Hauptstadt ist", "München", " "),
        ("Столица", "Москва", " "),
        ('He said: "', "Yes", ""),
        ("He said: “", "Yes", ""),
        ("Er heißt „", "Faust", ""),
        ("Er heißt „Faust“", "und", " "),
        ("Er heißt »", "Faust", ""),
        ("Er heißt »Faust«", "und", " "),
        ('The film "Alien"', "is old", " "),
        ("the band's", "name", " "),
        ("It has (", "two", ""),
        ("It has (two)", "parts", " "),
        ("King", ", Jr.", ""),
        ("It has (two", ")", ""),
        ("Says:\n", "yes", ""),
        ("Says:\t", "yes", ""),
        ("says", " yes", ""),
        ("The name is", "’Abd", " "),  # no mark closes before a letter
        ("It weighs", ".5 kg", " "),
        ("The flag is", "🇸🇾", " "),
        # where only one side is written without spaces, the prompt's own custom holds
        ("The Chinese name of Beijing is", "北京", " "),
        ("The English name of 東京 is", "Tokyo", " "),
        ("The English name of 東京", "Tokyo", " "),
        ("Python的作者是", "Guido", ""),
        ("Task: facts\nInput: Python的作者是", "Guido", ""),
        ("在 Python 中的作者是", "Guido", " "),
        ("A:", "北京", " "),
        ("问：哪里？A:", "北京", ""),
    ],
)
def test_the_text_decides_what_stands_between(prompt, answer, joint):
    assert joint_of(prompt, answer) == joint
    assert join(prompt, answer)[0] == prompt + joint + answer


def test_data_decide_where_they_say_so():
    assert join("首都是", "红城", " ") == ("首都是 红城", 3)
    assert join("is", "here", "") == ("ishere", 2)
    assert join("is ", "here", "") == ("is here", 2)  # the prompt's own white space stands
    assert join("is\n", "here", " ") == ("is\nhere", 3)


TEXTS = [
    "法国的首都是",
    "红城",
    "เมืองหลวง",
    "عاصمة",
    "राजधानी है",
    "Paris",
    "is",
    'said "',
    "(",
    ", Jr.",
    "🇸🇾",
    "e\u0301",
    "<end>",
]


@pytest.mark.parametrize("joint", [None, "", " "])
def test_joining_and_tokenising_loses_nothing(tokenizer, joint):
    """The text is prompt, joint and answer; its tokens give it back; the scored ones are the answer's."""
    for prompt, answer in product(TEXTS, repeat=2):
        text, border = join(prompt, answer, joint)
        assert text[:border] == prompt.rstrip(" ")
        assert text[border:].lstrip(" ") == answer
        row = encode(tokenizer, prompt, answer, 200, joint)
        assert tokenizer.decode(row.ids) == text
        assert tokenizer.decode(row.ids[: row.scored[0] + 1]) in (
            text[:border],
            *([] if not row.spanning else [tokenizer.decode(row.ids[: row.scored[0] + 1])]),
        )
        if not row.spanning:
            assert tokenizer.decode(row.labels) == text[border:]
            assert row.ids[: row.scored[0] + 1] == encode_prompt(tokenizer, prompt, 200).ids
            assert tokens_begin_with(tokenizer, prompt, text[border:], row)


@pytest.mark.parametrize(
    "text", ["", " ", "\n\t", "\u200b", "\ufeff", "\u200b \u2060", "\x00\x07", "\u3000", "\u00ad", "\u3164", "\ufe0f"]
)
def test_texts_that_show_nothing_are_empty(tokenizer, text):
    assert blank(text)
    with pytest.raises(CaseError, match="is empty"):
        encode(tokenizer, "The name is", text, 96)
    with pytest.raises(CaseError, match="is empty"):
        encode_prompt(tokenizer, text, 96)


@pytest.mark.parametrize("text", ["a", "-", "。", "👍", "❤\ufe0f", "\u0301", "0", "\u200ba"])
def test_texts_that_show_something_are_not(text):
    assert not blank(text)


def test_korean_and_the_currencies_of_thailand_are_written_with_spaces():
    assert not any(map(unspaced, ("한국", "฿", "é", "क", "ع", "2", " ")))


def test_a_special_token_in_the_data_is_text():
    tokenizer = make_tokenizer()
    end = tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<end> $A <end>", special_tokens=[("<end>", end)]
    )
    row = encode(tokenizer, "The name<end> is", "Ada<end>", 96)
    assert row.ids[0] == end and end not in row.ids[1:]
    assert tokenizer.decode(row.labels) == " Ada<end>"
    prompt = encode_prompt(tokenizer, "The name is<end>", 96)
    assert tokenizer.decode(prompt.ids[1:]) == "The name is<end>" and end not in prompt.ids[1:]
    assert tokenizer("<end>", add_special_tokens=False)["input_ids"] == [end]  # the caller's tokenizer is as it was


def test_a_token_across_the_border_is_noticed(tokenizer):
    assert not encode(tokenizer, "The name is", "Ada", 96).spanning
    assert encode(tokenizer, "The name of the spo", "use", 96, "").spanning  # "spouse" is one token of it


def case(prompt, target, joint=None):
    request = EditRequest("t/test/0", "t", prompt, target, "s", joint=joint)
    return EditCase(request, (Probe("reliability", "edit", prompt, (target,), joint=joint),))


def test_runs_whose_texts_are_joined_by_spaces_need_no_rule():
    english = case("The capital is", "Paris")
    assert joint_rule([english]) is None
    assert joint_rule([english, case("首都是", "红城")]) == JOINT_RULE
    assert joint_rule([case("首都是", "红城", " ")]) is None
    assert joint_rule([case("The capital is", "Paris", "")]) == JOINT_RULE
    assert "joint" not in english.content()["request"] and "joint" not in english.content()["probes"][0]
    assert case("is", "it", "").content()["probes"][0]["joint"] == ""
