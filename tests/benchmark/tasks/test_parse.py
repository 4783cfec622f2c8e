"""Reading JSON, and every sentence it complains with."""

import json
from pathlib import Path

import pytest

from instructedit.benchmark.tasks.parse import Row, answers, read_rows, rows_digest
from instructedit.editors import InputError
from instructedit.editors.files.jsonfile import describe

FILE = Path("data/test.json")


def read(text: str, file: Path = FILE):
    return [row.fields for row in read_rows(text.encode(), file)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Paris", ("Paris",)),
        ("  Paris \n", ("Paris",)),
        (["Paris"], ("Paris",)),
        ([["France", "French Republic"]], ("France", "French Republic")),
        ([["Yale", "Yale University"], ["Harvard", "Yale"]], ("Yale", "Yale University", "Harvard")),
        (["a", ["b", ["c"]]], ("a", "b", "c")),
        ([["b", " a "], "a"], ("b", "a")),
        ([[]], ()),
        ([[], []], ()),
        ([], ()),
        ("", ()),
        ([["", " "]], ()),
        (None, ()),
    ],
)
def test_answers(value, expected):
    assert answers(value) == expected


@pytest.mark.parametrize(("value", "shown"), [(4, "4"), (["a", 4], "4"), ({"a": 1}, '{"a": 1}'), ([[True]], "true")])
def test_answers_of_another_kind(value, shown):
    with pytest.raises(InputError) as error:
        answers(value)
    assert str(error.value) == f"Found {shown}, expected an answer, a list of answers or a list of alias lists."


def test_array_and_lines_give_the_same_rows():
    rows = [{"a": "ü\n"}, {"b": [["]", ","]]}]
    lines = "\n\n".join(json.dumps(row) for row in rows) + "\r\n"
    assert read(json.dumps(rows, indent=4)) == read(lines, Path("x.jsonl")) == rows
    assert read("\ufeff" + json.dumps(rows)) == rows


def test_rows_are_numbered_from_zero():
    assert [row.index for row in read_rows(b'[{"a": 1}, {"a": 2}]', FILE)] == [0, 1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[{"a": 1},\n {"a": }]', "row 1 (line 2, column 8): broken JSON (Expecting value), expected an object."),
        (
            '[{"a": 1},\n {"a": 2}',
            "row 2 (line 2, column 10): broken JSON (Expecting ',' or ']' after a record), expected an object.",
        ),
        (
            '[{"a": 1} {"a": 2}]',
            "row 1 (line 1, column 11): broken JSON (Expecting ',' or ']' after a record), expected an object.",
        ),
        ('[{"a": 1},]', "row 1 (line 1, column 11): broken JSON (Expecting value), expected an object."),
        ("[", "row 0 (line 1, column 2): broken JSON (Expecting value), expected an object."),
    ],
)
def test_broken_json_names_the_row(text, sentence):
    with pytest.raises(InputError) as error:
        read(text)
    assert str(error.value) == f"{FILE}, {sentence}"


def test_broken_line_names_the_row_and_the_line():
    with pytest.raises(InputError) as error:
        read('{"a": 1}\n\n{"a" 2}\n', Path("x.jsonl"))
    assert (
        str(error.value)
        == "x.jsonl, row 1 (line 3, column 6): broken JSON (Expecting ':' delimiter), expected an object."
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('"a"', ': begins with "\\"a\\"", expected a JSON array of records.'),
        ("", ": is empty; a JSON array of records was expected."),
        ("[]", ": found no record, expected at least one."),
        ('[{"a": 1}, "b"]', ', row 1: found "b", expected a JSON object.'),
        ('[{"a": 1}] more', ": found text after the end of the JSON array, expected nothing."),
    ],
)
def test_not_a_list_of_objects(text, sentence):
    with pytest.raises(InputError) as error:
        read(text)
    assert str(error.value) == f"{FILE}{sentence}"


def test_not_utf8():
    with pytest.raises(InputError) as error:
        read_rows(b'[{"a": "\xff"}]', FILE)
    assert str(error.value) == f"{FILE}, column 9: found the byte 0xff; UTF-8 text was expected."


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
@pytest.mark.parametrize(
    ("row", "place"),
    [
        (r'{"a": "b", "c": [["\ud800"]]}', ", field 'c': found the lone surrogate \\ud800"),
        (r'{"a": {"\uDC00b": 1}}', ", field 'a': found the lone surrogate \\udc00"),
        (r'{"\ud83d": 1}', ": found the lone surrogate \\ud83d"),
        (r'["\ud83d"]', ": found the lone surrogate \\ud83d"),
    ],
)
def test_half_a_surrogate_pair(name, row, place):
    first = r'{"a": "\ud83d\ude00 \\ud800"}'
    text = f"[{first}, {row}]" if name == "x.json" else f"{first}\n{row}\n"
    with pytest.raises(InputError) as error:
        read(text, Path(name))
    line = " (line 2)" if name == "x.jsonl" else ""
    assert str(error.value) == f"{name}, row 1{line}{place}; valid Unicode text was expected."


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
@pytest.mark.parametrize("depth", [200, 100_000])
def test_nesting_without_end(name, depth):
    row = '{"a": ' + "[" * depth + "]" * depth + "}"
    with pytest.raises(InputError, match=rf"^{name}, row 1.*: found more than 100 levels of nesting"):
        read(f'[{{"a": 1}}, {row}]' if name == "x.json" else f'{{"a": 1}}\n{row}\n', Path(name))


@pytest.mark.parametrize(
    ("fields", "found"),
    [({}, "nothing"), ({"a": 3}, "3"), ({"a": None}, "null"), ({"a": " "}, '" "'), ({"a": ["b"]}, '["b"]')],
)
def test_required_text(fields, found):
    with pytest.raises(InputError) as error:
        Row(FILE, 7, fields).text("a")
    assert str(error.value) == f"{FILE}, row 7, field 'a': found {found}, expected a non-empty string."


@pytest.mark.parametrize(("fields", "found"), [({}, "nothing"), ({"a": "b"}, '"b"'), ({"a": ["b", 1]}, '["b", 1]')])
def test_required_texts(fields, found):
    with pytest.raises(InputError) as error:
        Row(FILE, 7, fields).texts("a")
    assert str(error.value) == f"{FILE}, row 7, field 'a': found {found}, expected a list of strings."


def test_long_values_are_cut():
    assert describe("x" * 100) == '"' + "x" * 56 + "..."


def test_rows_digest_sees_content_and_order_only():
    rows = [{"a": "ü", "b": 1}, {"c": []}]
    same = json.dumps([{"b": 1, "a": "ü"}, {"c": []}], indent=2, ensure_ascii=False)

    def digest(text):
        return rows_digest(read_rows(text.encode(), FILE))

    assert digest(json.dumps(rows)) == digest(same)
    assert digest(json.dumps(rows)) != digest(json.dumps(rows[::-1]))
