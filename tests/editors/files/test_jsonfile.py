"""Files of text that nothing can be read from: each is one sentence that names the place."""

import pytest

from instructedit.editors import InputError
from instructedit.editors.files.jsonfile import BrokenError, describe, parse_json, read_text

BROKEN = {
    "empty": (b"", "is empty"),
    "blank": (b" \n", "is empty"),
    "cut off": (b'{"a": [1, 2', "not valid JSON (Expecting ',' delimiter: line 1 column 12"),
    "utf-16": ('{"a": 1}'.encode("utf-16"), "is UTF-16 text"),
    "latin-1": ('{"ä": 1}'.encode("latin-1"), "column 3: found the byte 0xe4; UTF-8 text was expected"),
    "nul": (b'{"a": 1}\n\0', "line 2: found a NUL character"),
    "nan": (b'{"a": NaN}', "found NaN, which is no number in JSON"),
    "infinity": (b'{"a": -Infinity}', "found -Infinity, which is no number in JSON"),
    "overflow": (b'{"a": 1e999}', "found the number 1e999, which is too large"),
    "digits": (b'{"a": ' + b"9" * 7000 + b"}", "found a number of 7,000 digits"),
    "nesting": (b'{"a": ' + b"[" * 100_000, "found more than 100 levels of nesting"),
    "objects in objects": (b'{"a": ' * 100_000, "found more than 100 levels of nesting"),
    "surrogate": (rb'{"a": {"b": "\ud800"}}', "field 'a': found the lone surrogate \\ud800"),
    "twice": (b'{"a": {"b": 1, "b": 2}}', 'found the key "b" twice in one object'),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_are_one_sentence(tmp_path, kind):
    content, sentence = BROKEN[kind]
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        parse_json(read_text(path, "a list of things"), str(path), "a list of things", unique=True)
    text = str(error.value)
    assert text.startswith(str(path)) and sentence in text and "expected" in text and "\n" not in text
    assert len(text) < 300


def test_what_cannot_be_opened(tmp_path):
    for path, sentence in ((tmp_path, "is a folder"), (tmp_path / "none", "No such file"), ("a\0b", "is no path")):
        with pytest.raises(InputError, match=sentence):
            read_text(type(tmp_path)(path), "a JSON document")


def test_a_byte_order_mark_and_a_repeated_key_are_read(tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1, "a": 2}')
    assert parse_json(path.read_bytes(), str(path)) == {"a": 2}


def test_a_fault_can_be_named_without_place_and_expectation():
    with pytest.raises(
        BrokenError, match=r"^x\.json: found NaN, which is no number in JSON; a list was expected\.$"
    ) as error:
        parse_json("[NaN]", "x.json", "a list")
    assert error.value.fault == "found NaN, which is no number in JSON"


def test_values_that_json_cannot_print_are_described():
    deep = []
    for _ in range(10_000):
        deep = [deep]
    assert describe(10**7000) == "a whole number of about 7,001 digits"
    assert describe("\ud800") == '"\\ud800"'
    assert describe(deep) == "a list that cannot be shown"
    assert describe("ü" * 100) == '"' + "ü" * 56 + "..."
