"""What is wrong with a submission, each as a sentence that says where, what was expected and what was found."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

MOST = 10_000
"""Findings after which a submission is read no further: it is refused anyway, and could go on for ever."""
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]")
"""Control characters of terminals and of writing directions, and half pairs, which no encoding can write."""
_LONGEST = 300
"""Characters of a found or expected value that are shown."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken law.

    Attributes:
        file: Name of the file within the submission.
        place: Line, row, case or cell; empty for the whole file.
        field: What is wrong.
        expected: What was expected.
        found: What stands there.
    """

    file: str
    place: str
    field: str
    expected: str
    found: str

    def __str__(self) -> str:
        """Return the finding as one sentence."""
        where = f"{self.file}, {self.place}" if self.place else self.file
        return f"{where}: {self.field}: {self.expected} was expected, found {self.found}."


class EnoughError(Exception):
    """So many findings that the rest is not looked at."""


@dataclass(slots=True)
class Findings:
    """The findings and the notes of a submission.

    Attributes:
        found: Why it is refused; empty if it is not.
        notes: What a reader has to know besides, which refuses nothing.
    """

    found: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, file: str, what: str, expected: object, found: object, place: str = "") -> None:
        """Add a finding.

        Raises:
            EnoughError: If there are too many.
        """
        self.found.append(Finding(*map(short, (file, place, what, expected, found))))
        if len(self.found) >= MOST:
            raise EnoughError

    def note(self, text: str) -> None:
        """Add a note, once."""
        if (shown := short(text, 1_000)) not in self.notes:
            self.notes.append(shown)

    @contextmanager
    def caught(self, file: str) -> Iterator[None]:
        """Make a finding of what a file does to the check that nobody thought of: others have still to be checked."""
        try:
            yield
        except (ValueError, ArithmeticError, LookupError, RecursionError) as error:
            self.add(file, "content", "what can be checked", f"{type(error).__name__}: {error}")

    @contextmanager
    def limited(self) -> Iterator[None]:
        """Stop what is done inside once there are too many findings, and say so."""
        try:
            yield
        except EnoughError:
            self.note(f"Nothing was looked at behind the first {MOST:,} findings.")


def short(value: object, longest: int = _LONGEST) -> str:
    """Return a value as text of a bounded length, without characters that a terminal would obey."""
    text = str(value)
    shown = text if len(text) <= longest else f"{text[:longest]}... ({len(text):,} characters)"
    return _UNSEEN.sub(lambda found: f"\\u{ord(found.group()):04x}", shown)


def listed(names: list[str], most: int = 5) -> str:
    """Return a number of names: how many there are, and the first ones."""
    more = ", ..." if len(names) > most else ""
    return f"{len(names)} ({', '.join(names[:most])}{more})"
