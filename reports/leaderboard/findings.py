"""Findings about a submission, and the one comparison that makes most of them: what is claimed and what is computed."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from instructedit.benchmark.results.records import Record
from instructedit.editors.errors import InputError

CLOSE = 1e-12
"""Allowed difference of two floats that come from the same operations; of numbers above 1 that share of them."""
NAMING = ("digest", "editor", "other", "row", "task", "stage", "measure", "subset", "protocol")
"""Fields that name a record of a list."""
MOST = 10_000
"""Findings after which a submission is read no further: it is refused anyway, and its files may be endless."""
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]")
"""Control characters of terminals and of writing directions, and lone surrogates, which no encoding can write."""


class Finding(NamedTuple):
    """One failed check."""

    file: str
    place: str
    """Line, row, case or cell; empty for the whole file."""
    field: str
    expected: str
    found: str

    def __str__(self) -> str:
        """Return the finding as one sentence."""
        where = f"{self.file}, {self.place}" if self.place else self.file
        return f"{where}: {self.field}: {self.expected} was expected, found {self.found}."


class TooManyError(Exception):
    """The rest of the submission is not checked."""


class Findings:
    """The failed checks of a submission, and notes for its readers.

    Attributes:
        found: Why the submission is refused; empty if it is accepted.
        notes: What could not be checked, and what a reader should know.
    """

    def __init__(self) -> None:
        self.found: list[Finding] = []
        self.notes: list[str] = []

    def add(self, file: str, field: str, expected: object, found: object, place: str = "") -> None:
        """Add a failed check.

        Raises:
            TooManyError: If there are too many.
        """
        self.found.append(Finding(*map(short, (file, place, field, expected, found))))
        if len(self.found) >= MOST:
            raise TooManyError

    def equal(self, file: str, field: str, expected: object, found: object, place: str = "") -> None:
        """Add a failed check if two values differ."""
        if expected != found:
            self.add(file, field, expected, found, place)

    def compare(self, file: str, found: object, expected: object, place: str = "") -> None:
        """Add a failed check for each field in which what is claimed differs from what was computed."""
        for path, wanted, value in differences(found, expected):
            self.add(file, path, wanted, value, place)

    def note(self, text: str) -> None:
        """Add a note, once."""
        if (shown := short(text, 1_000)) not in self.notes:
            self.notes.append(shown)

    @contextmanager
    def reading(self, file: str, expected: str) -> Iterator[None]:
        """Turn an error of the block into a failed check of a file; later files are still checked."""
        try:
            yield
        except InputError as error:
            self.add(file, "content", expected, str(error).removesuffix("."))
        except (ValueError, ArithmeticError, LookupError, RecursionError) as error:
            # Nobody foresaw this one: hostile values can make any computation fail.
            self.add(file, "content", expected, f"{type(error).__name__}: {error}")


def differences(found: Any, expected: Any, path: str = "") -> Iterator[tuple[str, object, object]]:
    """Yield where two values differ: the path of the field, the expected value, and the one that was found."""
    if found == expected:
        return
    found, expected = (dict(value) if isinstance(value, Record) else value for value in (found, expected))
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(found.keys() | expected.keys()):
            yield from differences(found.get(key), expected.get(key), f"{path}.{key}".lstrip("."))
    elif isinstance(expected, tuple) and any(isinstance(one, Record) for one in (*expected, *found)):
        if len(found) != len(expected):
            yield path, f"{len(expected)} entries", len(found)
            return
        for number, (one, two) in enumerate(zip(found, expected, strict=True)):
            yield from differences(one, two, f"{path}.{number}{_name(two)}")
    elif not (isinstance(found, float) and isinstance(expected, float)):
        yield path, repr(expected), repr(found)
    elif abs(found - expected) > CLOSE * max(1.0, abs(expected)):
        yield path, expected, found


def _name(value: object) -> str:
    words = [word for field in NAMING if isinstance(word := getattr(value, field, None), str)]
    return f" ({' '.join(words)})" if words else ""


def short(value: object, longest: int = 300) -> str:
    """Return a value as text of bounded length, with characters that would control a terminal escaped."""
    text = str(value)
    shown = text if len(text) <= longest else f"{text[:longest]}... ({len(text):,} characters)"
    return _UNSEEN.sub(lambda found: f"\\u{ord(found.group()):04x}", shown)


def listed(names: Iterable[str], most: int = 5) -> str:
    """Return how many names there are, and the first ones in order."""
    ordered = sorted(names)
    more = ", ..." if len(ordered) > most else ""
    return f"{len(ordered)} ({', '.join(ordered[:most])}{more})"
