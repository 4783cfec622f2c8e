"""Reading JSON so that every complaint names the file, the row, the field, what stands there and what was expected."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from instructedit.editors import InputError
from instructedit.editors.scripts import blank

_DEEPEST = 100
"""Most levels of a record; the data have about five."""


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a file.

    Attributes:
        file: The file it was read from.
        index: Position in the file, counted from 0 as in the case ids.
        fields: The record.
    """

    file: Path
    index: int
    fields: Mapping[str, object]

    def error(self, field: str, expected: str) -> InputError:
        """Return the error that says what stands in a field and what was expected instead."""
        found = describe(self.fields[field]) if field in self.fields else "nothing"
        return InputError(f"{self.file}, row {self.index}, field '{field}': found {found}, expected {expected}.")

    def text(self, field: str) -> str:
        """Return a required text, stripped of white space.

        Raises:
            InputError: If the field is missing, is no string or holds no text.
        """
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
        if isinstance(value, list) and all(isinstance(item, str) for item in value) and (found := answers(value)):
            return found
        if isinstance(value, list):
            raise self.error(field, "a non-empty string or a list of such")
        return (self.text(field),)

    def texts(self, field: str) -> list[str]:
        """Return a required list of strings as it stands.

        Raises:
            InputError: If the field is missing or is anything else.
        """
        value = self.fields.get(field)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(field, "a list of strings")
        return value


def describe(value: object) -> str:
    """Return a value as an error sentence shows it: its JSON, cut to 60 characters."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def answers(value: object) -> tuple[str, ...]:
    """Flatten accepted answers, which come as a string, a list, a list of alias lists, `[[]]` or null.

    Returns:
        The unique non-empty answers, stripped, in the order of the data: the canonical one first, then all aliases.

    Raises:
        InputError: If there is anything but strings and lists in it.
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

    Args:
        data: The file's content.
        file: Where it was read from, for error sentences.

    Raises:
        InputError: If the content is no UTF-8, is broken (the sentence names row, line and column), is no list of
            objects, is nested beyond all reason, or holds half a surrogate pair, which no tokenizer takes.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}, byte {error.start}: {error.reason}, expected UTF-8 text.") from error
    items = _lines(text, file) if file.suffix == ".jsonl" else _elements(text, file)
    rows: list[Row] = []
    for index, item in enumerate(items):
        _check(item, f"{file}, row {index}")
        if not isinstance(item, dict):
            raise InputError(f"{file}, row {index}: found {describe(item)}, expected a JSON object.")
        rows.append(Row(file, index, item))
    if not rows:
        raise InputError(f"{file}: found no record, expected at least one.")
    return rows


def rows_digest(rows: list[Row]) -> str:
    """Return the sha256 over the rows' canonical JSON, which indentation and escapes of the file do not change."""
    canonical = json.dumps([row.fields for row in rows], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _check(value: object, place: str, depth: int = 0) -> None:
    """Refuse what JSON can say but no reader can use: text that is no Unicode, and nesting without end."""
    if depth > _DEEPEST:
        raise _too_deep(place)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(value[error.start]):04x}"
            raise InputError(f"{place}: found the lone surrogate {half}, valid Unicode text was expected.") from error
    elif isinstance(value, list):
        for item in value:
            _check(item, place, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check(key, place, depth + 1)
            _check(item, place if depth else f"{place}, field '{key}'", depth + 1)


def _lines(text: str, file: Path) -> Iterator[object]:
    """Yield the value of each line that is not blank."""
    index = 0
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise _broken(file, index, number, error.colno, error.msg) from error
            except RecursionError as error:
                raise _too_deep(f"{file}, row {index}") from error
            index += 1


def _elements(text: str, file: Path) -> Iterator[object]:
    """Yield the elements of the top-level array one by one: `json.loads` on all could not say which row is broken."""
    decoder = json.JSONDecoder()
    at = _skip_space(text, 0)
    if text[at : at + 1] != "[":
        raise InputError(f"{file}: begins with {describe(text[at : at + 20])}, expected a JSON array of records.")
    at = _skip_space(text, at + 1)
    index = 0
    while text[at : at + 1] != "]":
        try:
            if index:
                if text[at : at + 1] != ",":
                    raise json.JSONDecodeError("Expecting ',' or ']' after a record", text, at)
                at = _skip_space(text, at + 1)
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise _broken(file, index, error.lineno, error.colno, error.msg) from error
        except RecursionError as error:
            raise _too_deep(f"{file}, row {index}") from error
        yield value
        index += 1
        at = _skip_space(text, at)
    if _skip_space(text, at + 1) != len(text):
        raise InputError(f"{file}: found text after the end of the JSON array, expected nothing.")


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _broken(file: Path, index: int, line: int, column: int, message: str) -> InputError:
    return InputError(
        f"{file}, row {index} (line {line}, column {column}): broken JSON ({message}), expected an object."
    )


def _too_deep(place: str) -> InputError:
    return InputError(f"{place}: found more than {_DEEPEST} levels of nesting, expected an object of a few levels.")
