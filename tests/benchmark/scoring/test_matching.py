"""Where an answer stops and when two are the same."""

from time import process_time

import pytest

from instructedit.benchmark.scoring.matching import finished, first_answer, generation_agreement, matches, normalise


@pytest.mark.parametrize(
    ("text", "extra", "expected"),
    [
        (" Paris", 0, "Paris"),
        ("Paris\nLondon", 0, "Paris"),
        ("Paris\r\nLondon", 0, "Paris"),
        ("Paris. It lies on the Seine.", 0, "Paris"),
        ("Paris! Yes", 0, "Paris"),
        ("Paris?! Yes", 0, "Paris"),
        ("Paris.", 0, "Paris."),  # the end of the text stops it, not the mark
        ("3.5 million. More", 0, "3.5 million"),
        ("Yahoo! Inc. It was", 0, "Yahoo"),
        ("Yahoo! Inc. It was", 1, "Yahoo! Inc"),
        ("Yahoo! Inc. It was", 5, "Yahoo! Inc. It was"),
        ("St. Louis. He was born", 0, "St. Louis"),
        ("Dr. Who. Then", 0, "Dr. Who"),
        ("東京。首都です", 0, "東京"),
        ("\nParis", 0, ""),
        ("", 0, ""),
        ("!!! are a band", 0, "!!!"),
    ],
)
def test_first_answer(text: str, extra: int, expected: str) -> None:
    assert first_answer(text, extra) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Beatles!", "beatles"),
        ("a an the", ""),
        ("Theodore and Andrea", "theodore and andrea"),  # articles are whole words
        ("U.S.", "us"),
        ("Jean-Luc", "jean-luc"),
        ("ＡＢＣ\u00a01", "abc 1"),  # NFKC: full width and no-break space
        ("Straße", "strasse"),
        ("«Москва»", "москва"),
        ("東京。", "東京"),
        ("C++", "c++"),
        ("👍", "👍"),
        ("?!", ""),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("text", "aliases", "expected"),
    [
        ("St. Louis. He was born", ["St. Louis"], True),
        ("St. Petersburg", ["St"], False),
        ("Paris. It is", ["Rome", "paris"], True),
        ("the Paris", ["Paris"], True),
        ("Paris, France", ["Paris"], False),
        ("Parish", ["Paris"], False),
        ("Not Paris", ["Paris"], False),
        ("J. R. R. Tolkien. He wrote", ["J. R. R. Tolkien"], True),
        ("George W. Bush. He", ["George W. Bush"], True),
        ("Martin Luther King Jr. He", ["Martin Luther King Jr."], True),
        ("Elizabeth I. She reigned", ["Elizabeth I"], True),
        ("U.S. It is", ["U.S."], True),
        ("U.S. Senate. It is", ["U.S. Senate"], True),
        ("Washington D.C. He", ["Washington D.C."], True),
        ("Москва. Это", ["москва"], True),
        ("東京。首都です", ["東京"], True),
        ("👍", ["👍"], True),
        ("👎", ["👍"], False),
        ("!!! They are", ["!!!"], True),
        ("Paris", ["!!!"], False),
        ("???", ["!!!"], False),
        ("", ["!!!"], False),
        ("The", ["A"], False),
        ("The", ["The"], True),
        ("", [""], False),
        ("\nParis", ["Paris"], False),
        ("anything", [], False),
    ],
)
def test_matches(text: str, aliases: list[str], expected: bool) -> None:
    assert matches(text, aliases) is expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("Paris. It is", "paris", True),
        ("Paris", "Rome", False),
        ("Paris. It is", "Paris. She was", True),  # only the first answer counts
        ("J. R. R. Tolkien. He", "J. R. R. Tolkien. They", True),
        ("J. R. R. Tolkien", "J. K. Rowling", False),
        ("George W. Bush", "George W. Smith", False),
        ("U.S. Senate", "U.S. Army", False),
        ("St. Louis", "St. Petersburg", False),
        ("", "", True),
        ("", "Paris", False),
        ("?", "!", False),
        ("...", "...", True),
    ],
)
def test_generation_agreement(before: str, after: str, expected: bool) -> None:
    assert generation_agreement(before, after) is expected


@pytest.mark.parametrize(
    ("text", "aliases", "expected"),
    [
        ("Paris", ["Paris"], False),
        ("Paris.", ["Paris"], False),  # "Paris.5" may follow
        ("Paris. ", ["Paris"], True),
        ("Paris\n", ["Paris"], True),
        ("\n", ["Paris"], True),
        ("St. ", ["St. Louis"], False),
        ("J. ", ["Paris"], False),
        ("Yahoo! ", ["Yahoo! Inc"], False),
        ("Yahoo! Inc. ", ["Yahoo! Inc"], True),
    ],
)
def test_finished(text: str, aliases: list[str], expected: bool) -> None:
    assert finished(text, aliases) is expected


@pytest.mark.parametrize(
    ("whole", "alias"),
    [
        ("Paris. ", "Paris"),
        ("Rome\n", "Paris"),
        ("St. Louis. ", "St. Louis"),
        ("Yahoo! Inc. ", "Yahoo! Inc"),
        ("J. R. R. Tolkien. ", "J. R. R. Tolkien"),
        ("U.S. Senate. ", "Paris"),
        ("東京。", "東京"),
    ],
)
@pytest.mark.parametrize("tail", ["He was", "Paris. ", "\nParis"])
def test_what_follows_a_finished_text_changes_no_score(whole: str, alias: str, tail: str) -> None:
    assert finished(whole, [alias])
    assert matches(whole, [alias]) == matches(whole + tail, [alias])
    assert generation_agreement(whole, whole + tail)


def test_long_texts_take_linear_time():
    """A word of 100,000 letters and as many initials: seconds and minutes where all in front of a stop is read."""
    begun = process_time()
    assert first_answer("a" * 10**5 + "-" * 10 + ". b") == "a" * 10**5 + "-" * 10
    assert not generation_agreement("A. " * 10**5, "b")
    assert process_time() - begun < 5


@pytest.mark.parametrize(
    ("text", "answer"), [("xSt. b", "xSt"), ("abcdefghSt. b", "abcdefghSt"), ("St. Ives. b", "St. Ives")]
)
def test_the_end_of_a_longer_word_is_no_title(text, answer):
    assert first_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("5", "-5"),
        ("35", "3.5"),
        ("314", "3.14"),
        ("10", "1.0"),
        ("5", ".5"),
        ("12", "1/2"),
        ("12", "½"),
        ("12", "1-2"),
        ("1945", "19-45"),
        ("1230", "12:30"),
        ("1234", "1.234"),
        ("102", "10²"),
        ("50", "50%"),
        ("50", "50°"),
        ("C", "C#"),
        ("C", "C++"),
        ("A+", "A-"),
        ("AB", "AB-"),
        ("+5", "-5"),
        ("$5", "-$5"),
        ("35公斤", "3.5公斤"),
        ("温度5度", "温度-5度"),
    ],
)
def test_answers_that_differ_in_a_mark_of_theirs_are_different(text, other):
    assert not matches(text, [other]) and not matches(other, [text])
    assert not generation_agreement(text, other)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("-5", "−5"),
        ("(-5)", "–5."),
        ("1,234", "1234"),
        ("1,234,567.5", "1234567.5"),
        ("½", "1/2"),
        ("10²", "10^2"),
        ("50 %", "50%"),
        ("5 °C", "5°C"),
        ("1945–46", "1945-46"),
        ("O’Brien", "O'Brien"),
        ("U.S.", "US"),
        ("J.R.R. Tolkien", "JRR Tolkien"),
        ("'Paris',", "Paris"),
        ("the «Louvre»", "Louvre"),
        ("Paris, France", "Paris France"),
        ("Paris\u200b", "Paris"),
        ("\u200fالنور\u200f", "النور"),
        ("नई दिल्ली।", "नई दिल्ली"),
        ("《红楼梦》", "红楼梦"),
        ("阿尔伯特·爱因斯坦", "阿尔伯特爱因斯坦"),
        ("東京 都", "東京都"),
        ("กรุงเทพ มหานคร", "กรุงเทพมหานคร"),
        ("东京（Tokyo）", "东京Tokyo"),
    ],
)
def test_answers_that_differ_in_writing_alone_are_equal(text, other):
    assert normalise(text) == normalise(other)


@pytest.mark.parametrize(
    "text", ["-5", "3.5", "a+", "c#", "50%", "us", "1/2", "12:30", "红楼梦", "jean-luc", "o'brien", "-$5", ".5", "10^2"]
)
def test_the_normal_form_is_its_own(text):
    assert normalise(text) == normalise(normalise(text)) == text


@pytest.mark.parametrize("stop", ["।", "؟", "۔", "។", "။", "｡", "。"])
def test_other_scripts_end_sentences_with_marks_of_their_own(stop):
    assert first_answer(f" दिल्ली{stop} वह") == "दिल्ली"
    assert finished(f"दिल्ली{stop}", ["दिल्ली"])


def test_invisible_answers_match_nothing():
    assert not matches("", ["\u200b"]) and not matches("\u200b", ["\u200b", "\x00"])
