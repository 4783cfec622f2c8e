"""Rules that a description must meet before it is tried."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

SHORTEST, LONGEST = 6, 40
"""Minimum and maximum number of words of a description."""
ALIKE = 0.85
"""Similarity from which two descriptions are near duplicates; see `similarity`."""
FAR = 0.6
"""Similarity from which a description is too close to the one that is held out of training."""
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_BRACKETS = re.compile(r"\[[^\]]*\]|[\[\]]")


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules for candidates of one task: placeholders that each must contain, and answers that none may contain.

    Training under a candidate that is similar to a `held_out` description would reveal it.
    """

    placeholders: tuple[str, ...]
    answers: frozenset[str]
    held_out: tuple[str, ...]

    def complaint(self, text: str, others: Sequence[str] = ()) -> str | None:
        """Return what is wrong with a description, the candidates before it given; None if nothing is."""
        return next(self._complaints(text, others), None)

    def _complaints(self, text: str, others: Sequence[str]) -> Iterator[str]:
        words = words_of(text)
        if text != text.strip() or len(text.splitlines()) != 1:
            yield "it is not one line of text"
        if not SHORTEST <= len(words) <= LONGEST:
            yield f"it has {len(words)} words, expected {SHORTEST} to {LONGEST}"
        found = _BRACKETS.findall(text)
        yield from (f"it lacks the placeholder {mark}" for mark in self.placeholders if mark not in found)
        yield from (f"it holds {mark}, which nothing fills" for mark in found if mark not in self.placeholders)
        # an answer in lower case matches capitals too; a name does not match a lower-case word with the same letters
        within = f" {' '.join(words)} "
        for answer in sorted(self.answers):
            if f" {' '.join(words_of(answer))} " in (within.casefold() if answer.islower() else within):
                yield f"it holds the answer '{answer}' of the data"
        yield from (f"it is almost '{other}'" for other in others if similarity(text, other) >= ALIKE)
        if any(similarity(text, other) >= FAR for other in self.held_out):
            yield "it is too similar to the description that is held out of training"


def words_of(text: str) -> list[str]:
    """Return the words of a text, as they are written."""
    return _WORD.findall(text)


def similarity(first: str, second: str) -> float:
    """Return the share of words that two texts have in the same order: twice the matches over all words, 0 to 1."""
    a, b = ([word.casefold() for word in words_of(text)] for text in (first, second))
    return SequenceMatcher(None, a, b, autojunk=False).ratio()


def revealing(answers: Collection[str], ordinary: Collection[str]) -> frozenset[str]:
    """Return the answers that no description may contain: all except those made of ordinary words only."""
    found = {answer.strip() for answer in answers}
    return frozenset(answer for answer in found if not set(words_of(answer)) <= set(ordinary))
