"""The one error a user sees: a sentence that says where the trouble is and what was expected."""

from difflib import get_close_matches
from pathlib import Path


class InputError(ValueError):
    """Something a user handed in cannot be used.

    The message is one sentence that names the place (file, row, field or option), what stands there, and what was
    expected. The command line prints it without a traceback and exits with 2.
    """


class CaseError(InputError):
    """One case cannot be edited or scored (say, a target longer than the model's context); the others can.

    The runner writes the sentence into the case's record, counts it, and goes on.
    """


class DamagedError(InputError):
    """A file of the program's own is not what was written: cut off, garbled, exchanged, or not there any more.

    Args:
        path: The file.
        what: What is wrong with it, without a full stop.
    """

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: damaged ({what}).")
        self.path = path


class UnservedError(CaseError):
    """An editor cannot edit this model, because it lacks the part that the editor changes.

    All cases of the editor's row have failed; the other rows of a run go on.
    """


def did_you_mean(word: str, known: list[str]) -> str:
    """Return the tail of an error sentence that suggests the nearest known word and lists all of them."""
    near = get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"{hint} Known: {', '.join(sorted(known))}."
