"""Reads a task's JSON file into rows; every error names file, row, field, value and what was expected."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instructedit.editors import InputError
from instructedit.editors.files.jsonfile import check, complaint, decode, decoder, describe
from instructedit.editors.writing_systems import Joint, blank

from .foreign_layouts import advice, describe_file

LONGEST_TEXT = 100_000
"""Maximum number of characters of a text; the longest of the published data has 500."""
MOST_ITEMS = 1000
"""Maximum number of items of a list and of probes of a record; the published data have up to 133."""
TABLES = (".csv", ".tsv", ".parquet")
"""Ends of names of tables, whose fields are columns."""


class Fields(dict[str, Any]):
    """A JSON object; of a repeated key the last value counts, and `repeated` is the number of such keys."""

    __slots__ = ("repeated",)

    def __init__(self, pairs: Iterable[tuple[str, Any]] = ()) -> None:
        pairs = list(pairs)
        super().__init__(pairs)
        self.repeated = len(pairs) - len(self)


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a file, with its position counted from 0 as in the case ids; of tables and JSON lines its line."""

    file: Path
    index: int
    fields: dict[str, Any]
    line: int | None = None

    @property
    def place(self) -> str:
        """File, position and line, as error sentences begin."""
        return _place(self.file, self.index, self.line)

    def error(self, field: str, expected: str) -> InputError:
        """Return the error for a field with its value and what was expected."""
        found, hint = "nothing", ""
        if field in self.fields:
            found = describe(self.fields[field])
        elif told := advice(self.fields, self.file):
            hint = f" The record {told}."
        kind = "column" if self.file.suffix.lower() in TABLES else "field"
        return InputError(f"{self.place}, {kind} '{field}': found {found}, expected {expected}.{hint}")

    def text(self, field: str) -> str:
        """Return a required text, stripped; `InputError` if the field is missing, is no string or holds no text."""
        value = self.fields.get(field)
        if not isinstance(value, str) or blank(value):
            raise self.error(field, "a non-empty string")
        return value.strip()

    def accepted(self, field: str) -> tuple[str, ...]:
        """Return the right answers of a required field: a text, or a list of texts with the edit's target first.

        Raises:
            InputError: If the field is missing, is anything else, or holds no text.
        """
        value = self.fields.get(field)
        if not isinstance(value, list):
            return (self.text(field),)
        found = answers(value) if all(isinstance(item, str) for item in value) else ()
        if not found:
            raise self.error(field, "a non-empty string or a list of such")
        return found

    def optional_answers(self, field: str) -> tuple[str, ...]:
        """Return the `answers` of an optional field; none if it is missing or malformed."""
        try:
            return answers(self.fields.get(field))
        except InputError:
            return ()

    def texts(self, field: str) -> list[str]:
        """Return a required list of strings unchanged; `InputError` if the field is missing or is anything else."""
        value = self.fields.get(field)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(field, "a list of strings")
        return value

    def joint(self) -> Joint | None:
        """Return the text between prompts and answers, if the record has one; `InputError` unless empty or a space."""
        joint: Joint | None = self.fields.get("joint")
        if joint not in (None, "", " "):
            raise self.error("joint", 'an empty string or " "')
        return joint


def answers(value: object) -> tuple[str, ...]:
    """Flatten accepted answers, which come as a string, a list, a list of alias lists, `[[]]` or null.

    The result are the unique non-empty answers, stripped, in the order of the data: the canonical one first, then all
    aliases. `InputError` if there is anything but strings and lists in it.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        return () if blank(value) else (value.strip(),)
    if isinstance(value, list):
        return tuple(dict.fromkeys(answer for item in value for answer in answers(item)))
    raise InputError(f"Found {describe(value)}, expected an answer, a list of answers or a list of alias lists.")


def read_rows(data: bytes, file: Path) -> list[Row]:
    """Parse a JSON array of objects, or JSON lines if the file is called `.jsonl`.

    Raises:
        InputError: If the content is not UTF-8, is broken (the error names row, line and column), is not a list of
            objects, is nested too deeply, or holds a lone surrogate, which no tokenizer accepts.
    """
    text = decode(data, str(file), "a JSON array of records")
    items = _lines(text, file) if file.suffix == ".jsonl" else ((None, item) for item in _elements(text, file))
    rows: list[Row] = []
    for index, (line, item) in enumerate(items):
        place = _place(file, index, line)
        check(item, place, longest=LONGEST_TEXT, most=MOST_ITEMS)
        if not isinstance(item, dict):
            raise InputError(f"{place}: found {describe(item)}, expected a JSON object.")
        rows.append(Row(file, index, item, line))
    if not rows:
        raise InputError(f"{file}: found no record, expected at least one.")
    return rows


def rows_digest(rows: list[Row]) -> str:
    """Return the sha256 of the rows' canonical JSON, which does not depend on the file's indentation and escapes."""
    canonical = json.dumps([row.fields for row in rows], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _place(file: Path, index: int, line: int | None) -> str:
    return f"{file}, row {index}" + (f" (line {line})" if line is not None else "")


def _lines(text: str, file: Path) -> Iterator[tuple[int, object]]:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    for index, (number, line) in enumerate(lines):
        try:
            yield number, _DECODER.decode(line)
        except (ValueError, RecursionError) as error:
            raise _broken(f"{file}, row {index}", error, number) from error


def _elements(text: str, file: Path) -> Iterator[object]:
    """Yield the elements of the top-level array one by one; `json.loads` could not say which row is broken."""
    at = _skip_space(text, 0)
    if text[at : at + 1] != "[":
        hint = f" The file {describe_file(file)}." if text[at : at + 1] == "{" else ""
        raise InputError(f"{file}: begins with {describe(text[at : at + 20])}, expected a JSON array of records.{hint}")
    at = _skip_space(text, at + 1)
    index = 0
    while text[at : at + 1] != "]":
        try:
            if index and text[at : at + 1] != ",":
                raise json.JSONDecodeError("Expecting ',' or ']' after a record", text, at)
            value, at = _DECODER.raw_decode(text, _skip_space(text, at + 1) if index else at)
        except (ValueError, RecursionError) as error:
            raise _broken(f"{file}, row {index}", error) from error
        yield value
        index += 1
        at = _skip_space(text, at)
    if _skip_space(text, at + 1) != len(text):
        raise InputError(f"{file}: found text after the end of the JSON array, expected nothing.")


_DECODER = decoder(Fields)
_SPACE = re.compile(r"[ \t\r\n]*")


def _skip_space(text: str, at: int) -> int:
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]  # it matches the empty text


def _broken(place: str, error: Exception, line: int | None = None) -> InputError:
    if isinstance(error, json.JSONDecodeError):
        place = f"{place} (line {line or error.lineno}, column {error.colno})"
        return InputError(f"{place}: broken JSON ({error.msg}), expected an object.")
    few = "an object of a few levels" if isinstance(error, RecursionError) else "an object"
    return InputError(f"{place}: {complaint(error)}, expected {few}.")
