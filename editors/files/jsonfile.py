"""Text and JSON from users or damaged disks: each fault is one sentence, never a traceback.

Refused are also values that Python's reader accepts and nothing here can use: NaN and Infinity, numbers that overflow,
lone surrogates, NUL bytes, and nesting beyond the stack.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

from ..errors import InputError

DEEPEST = 100
"""Maximum number of levels of nesting; the files read here have about five."""
MOST_DIGITS = 100
"""Maximum number of digits of a number; Python itself refuses more than 4,300."""
MOST_BYTES = 2**31
"""Maximum size of a file in bytes; the largest published data file has a tenth of it."""

Pairs = Callable[[list[tuple[str, Any]]], Any]
"""Makes an object from the pairs of a JSON object, whose keys may be repeated."""

_MARKS = {b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


class BrokenError(InputError):
    """The content of a file is not what was expected.

    `fault` is kept for messages that name place and expectation themselves.
    """

    def __init__(self, place: str, fault: str, expected: str) -> None:
        super().__init__(f"{place}: {fault}; {expected} was expected.")
        self.fault = fault


def read_text(path: Path, expected: str, most: int = MOST_BYTES) -> str:
    """Return the text of a file of at most `most` bytes, without a byte order mark; errors name what was `expected`.

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
            raise BrokenError(str(path), f"has {size:,} bytes", f"{expected} of at most {most:,}")
        return path.read_bytes()
    except OSError as error:
        name = str(path) if len(str(path)) < 1000 else describe(str(path))
        raise InputError(f"{name}: cannot be read ({error.strerror}); {expected} was expected.") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{str(path)!r}: is no path ({error}); {expected} was expected.") from error  # a NUL byte


def decode(content: bytes, place: str, expected: str) -> str:
    """Return UTF-8 bytes as text, without a byte order mark; see `read_text`.

    Raises:
        BrokenError: If there are none, or they are not plain UTF-8 text.
    """
    if not content.strip():
        raise BrokenError(place, "is empty", expected)
    for mark, name in _MARKS.items():
        if content.startswith(mark):
            raise BrokenError(place, f"is {name} text", f"{expected} in UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        *above, last = error.object[: error.start].decode().split("\n")
        if b"\n" in content.strip():  # else it is one line, which the place may name
            place += f", line {len(above) + 1}"
        fault = f"found the byte 0x{error.object[error.start]:02x}"
        raise BrokenError(f"{place}, column {len(last) + 1}", fault, "UTF-8 text") from error
    if (at := text.find("\0")) >= 0:
        line = text.count("\n", 0, at) + 1
        raise BrokenError(f"{place}, line {line}", "found a NUL character", expected)
    return text


def parse_json(text: str | bytes, place: str, expected: str = "a JSON document", *, unique: bool = False) -> Any:
    """Return the value of a JSON text, or of its UTF-8 bytes.

    With `unique` repeated keys of an object are refused; else the last value counts.

    Raises:
        BrokenError: If it is no JSON, or holds values that nothing here can use.
    """
    text = decode(text, place, expected) if isinstance(text, bytes) else text
    try:
        value = decoder(_unique if unique else None).decode(text)
    except (ValueError, RecursionError) as error:
        raise BrokenError(place, complaint(error), expected) from error
    if "\\u" in text:  # only escapes can make a lone surrogate
        check(value, place)
    return value


def decoder(pairs: Pairs | None = None) -> json.JSONDecoder:
    """Return a decoder that raises `ValueError` or `RecursionError` on values that cannot be used; see `complaint`."""
    return json.JSONDecoder(object_pairs_hook=pairs, parse_int=_whole, parse_float=_number, parse_constant=_no_constant)


def complaint(error: Exception) -> str:
    """Return the fault that a decoder raised, in words."""
    if isinstance(error, RecursionError):
        return f"found more than {DEEPEST} levels of nesting"
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON ({error})"
    return f"found {error}"


def check(value: object, place: str, depth: int = 0, *, longest: int | None = None, most: int | None = None) -> None:
    """Refuse text that is no Unicode, nesting that is too deep, and values beyond a limit; top-level keys are named.

    Texts have at most `longest` characters, lists and objects at most `most` items.

    Raises:
        BrokenError: With the place.
    """
    if depth > DEEPEST:
        raise BrokenError(place, f"found more than {DEEPEST} levels of nesting", "an object of a few levels")
    if isinstance(value, str):
        if longest is not None and len(value) > longest:
            raise BrokenError(place, f"found a text of {len(value):,} characters", f"one of at most {longest:,}")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            surrogate = f"\\u{ord(value[error.start]):04x}"
            raise BrokenError(place, f"found the lone surrogate {surrogate}", "valid Unicode text") from error
    elif isinstance(value, list | dict):
        if most is not None and len(value) > most:
            raise BrokenError(place, f"found {len(value):,} items", f"at most {most:,}")
        if isinstance(value, list):
            for item in value:
                check(item, place, depth + 1, longest=longest, most=most)
            return
        for key, item in dict.items(value):
            check(key, place, depth + 1, longest=longest, most=most)
            inner = place if depth else f"{place}, field '{describe(key)[1:-1]}'"
            check(item, inner, depth + 1, longest=longest, most=most)


def describe(value: object) -> str:
    """Return a value for an error message: its JSON, cut to 60 characters."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 3 * MOST_DIGITS:
        return f"a whole number of about {math.ceil(value.bit_length() * math.log10(2)):,} digits"
    try:
        # a lone surrogate cannot be printed; then everything that is not ASCII is escaped
        text = json.dumps(value, ensure_ascii=False, default=str)
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, default=str)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
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
