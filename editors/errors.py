"""Errors whose message is for the user: one sentence that names the place and what was expected."""

from difflib import get_close_matches
from pathlib import Path


class InputError(ValueError):
    """Invalid input.

    The message is one sentence with the place (file, row, field or option), the value found and what was expected. The
    command line prints it without a traceback and exits with code 2.
    """


class CaseError(InputError):
    """One case cannot be edited or scored, for example because its target exceeds the model's context.

    The runner writes the message into the case's record and continues with the other cases.
    """


class ReservedTokenError(CaseError):
    """A text spells a special token of the model, which its chat template would read as that token."""


class DamagedError(InputError):
    """A file that this program wrote is truncated, corrupted, replaced or missing."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: damaged ({what}).")
        self.path = path


class UnservedError(CaseError):
    """The model lacks the part that an editor changes.

    All cases of the editor fail; the other editors of a run continue.
    """


def did_you_mean(word: str, known: list[str]) -> str:
    """Return the end of an error message that suggests the nearest known word and lists all of them."""
    near = get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"{hint} Known: {', '.join(sorted(known))}."
