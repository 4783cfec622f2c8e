"""Reading text that somebody hands in, or that a broken disk left: each fault is one sentence, none a traceback.

`read_text` and `decode` give the text, `parse_json` and `parse_lines` the values. They refuse what JSON, or Python's
reader of it, lets through and nothing here can use: NaN and Infinity, numbers without end, half a surrogate pair, NUL
bytes, and nesting that exceeds the stack.
"""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Never

from ..errors import InputError

DEEPEST = 100
"""Most levels of nesting; what is read here has about five."""
MOST_DIGITS = 100
"""Most digits of a number; Python itself refuses to read more than 4,300."""
MOST_BYTES = 2**31
"""Most bytes of a file that is read whole; the largest published data file has a tenth of it."""

Pairs = Callable[[list[tuple[str, Any]]], Any]
"""What makes an object of a JSON object's pairs; keys may come twice."""

_MARKS = {b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


class BrokenError(InputError):
    """A file is there, but what it holds is not what was expected."""


def read_text(path: Path, expected: str, most: int = MOST_BYTES) -> str:
    """Return the text of a file, without a byte order mark.

    Args:
        path: The file.
        expected: What it should be, with its article, for error sentences.
        most: Most bytes it may have.

    Raises:
        BrokenError: If it is empty, too large, or not plain UTF-8 text.
        InputError: If it cannot be read.
    """
    return decode(read_bytes(path, expected, most), str(path), expected)


def read_bytes(path: Path, expected: str, most: int = MOST_BYTES) -> bytes:
    """Return the content of a file; see `read_text`."""
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder; {expected} was expected.")
        if (size := path.stat().st_size) > most:
            raise BrokenError(f"{path}: has {size:,} bytes; {expected} of at most {most:,} was expected.")
        return path.read_bytes()
    except OSError as error:
        name = str(path) if len(str(path)) < 1000 else describe(str(path))
        raise InputError(f"{name}: cannot be read ({error.strerror}); {expected} was expected.") from error
    except ValueError as error:  # a path with a NUL byte
        raise InputError(f"{str(path)!r}: is no path ({error}); {expected} was expected.") from error


def decode(content: bytes, place: str, expected: str) -> str:
    """Return UTF-8 bytes as text, without a byte order mark; see `read_text`.

    Raises:
        BrokenError: If they are none, or not plain UTF-8 text.
    """
    if not content.strip():
        raise BrokenError(f"{place}: is empty; {expected} was expected.")
    for mark, name in _MARKS.items():
        if content.startswith(mark):
            raise BrokenError(f"{place}: is {name} text; {expected} in UTF-8 was expected.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BrokenError(f"{place}, byte {error.start}: {error.reason}, expected UTF-8 text.") from error
    if (at := text.find("\0")) >= 0:
        line = text.count("\n", 0, at) + 1
        raise BrokenError(f"{place}, line {line}: found a NUL character; {expected} was expected.")
    return text


def parse_json(text: str | bytes, place: str, expected: str = "a JSON document", *, unique: bool = False) -> Any:
    """Return the value that a JSON text holds.

    Args:
        text: The text, or its UTF-8 bytes.
        place: Where it was read from, for error sentences.
        expected: What it should be, with its article, for error sentences.
        unique: Whether an object that has a key twice is refused; else the last value counts.

    Raises:
        BrokenError: If it is no JSON, or holds what nothing here can use.
    """
    text = decode(text, place, expected) if isinstance(text, bytes) else text
    try:
        value = decoder(_once if unique else None).decode(text)
        if "\\u" in text:  # the only way to half a surrogate pair
            check(value, place)
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise BrokenError(f"{place}: {complaint(error)}; {expected} was expected.") from error
    return value


def read_json(path: Path, expected: str = "a JSON document", *, unique: bool = False) -> Any:
    """Return the value that a JSON file holds; see `read_text` and `parse_json`."""
    return parse_json(read_text(path, expected), str(path), expected, unique=unique)


def parse_lines(text: str, place: str, expected: str = "a JSON document") -> Iterator[Any]:
    """Yield the value of each line that is not blank; see `parse_json`."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield parse_json(line, f"{place}, line {number}", expected)


def decoder(pairs: Pairs | None = None) -> json.JSONDecoder:
    """Return a decoder that raises `ValueError` or `RecursionError` on whatever cannot be used; see `complaint`."""
    return json.JSONDecoder(object_pairs_hook=pairs, parse_int=_whole, parse_float=_number, parse_constant=_no_constant)


def complaint(error: Exception) -> str:
    """Return in words what a decoder complains of."""
    if isinstance(error, RecursionError):
        return f"found more than {DEEPEST} levels of nesting"
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON ({error})"
    return f"found {error}"


def check(value: object, place: str, depth: int = 0, *, longest: int | None = None, most: int | None = None) -> None:
    """Refuse text that is no Unicode, nesting that is too deep, and what exceeds a limit; top-level keys are named.

    Args:
        value: What was read.
        place: Where it was read from, for error sentences.
        depth: Levels around it.
        longest: Most characters of a text.
        most: Most items of a list or an object.

    Raises:
        BrokenError: With the place.
    """
    if depth > DEEPEST:
        raise BrokenError(f"{place}: found more than {DEEPEST} levels of nesting, expected an object of a few levels.")
    if isinstance(value, str):
        if longest is not None and len(value) > longest:
            raise BrokenError(f"{place}: found a text of {len(value):,} characters, expected at most {longest:,}.")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(value[error.start]):04x}"
            raise BrokenError(f"{place}: found the lone surrogate {half}, valid Unicode text was expected.") from error
        return
    if not isinstance(value, list | dict):
        return
    if most is not None and len(value) > most:
        raise BrokenError(f"{place}: found {len(value):,} items, expected at most {most:,}.")
    if isinstance(value, list):
        for item in value:
            check(item, place, depth + 1, longest=longest, most=most)
    else:
        for key, item in dict.items(value):
            check(key, place, depth + 1, longest=longest, most=most)
            inner = place if depth else f"{place}, field '{describe(key)[1:-1]}'"
            check(item, inner, depth + 1, longest=longest, most=most)


def describe(value: object, most: int = 60) -> str:
    """Return a value as an error sentence shows it: its JSON, cut to 60 characters."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 3 * MOST_DIGITS:
        return f"a whole number of about {math.ceil(value.bit_length() * math.log10(2)):,} digits"
    try:
        # half a surrogate pair cannot be printed, so what is not ASCII is escaped where it holds one
        text = json.dumps(value, ensure_ascii=False, default=str)
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, default=str)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {describe(next(key for key in keys if keys.count(key) > 1))} twice in one object")
    return found


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number of {len(text):,} digits (at most {MOST_DIGITS} can be read)")
    return int(text)


def _number(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"the number {text[:20]}, which is too large")
    return value


def _no_constant(text: str) -> Never:
    raise ValueError(f"{text}, which is no number in JSON")
