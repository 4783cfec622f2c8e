"""Rules that a description has to keep before it is tried. Each says in a few words what is wrong."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

SHORTEST, LONGEST = 6, 40
"""Words of a description."""
ALIKE = 0.85
"""Share of words in the same order from which two descriptions are too much alike."""
FAR = 0.6
"""The same share from which one is too much like the description that is kept from training."""
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_BRACKETS = re.compile(r"\[[^\]]*\]|[\[\]]")


@dataclass(frozen=True, slots=True)
class Rules:
    """What candidates of one task are checked against.

    Attributes:
        placeholders: Placeholders that every description has to hold.
        answers: Answers of the data, none of which may stand in a description.
        kept: Descriptions that are kept from training; a candidate like one of them would make it a seen one.
    """

    placeholders: tuple[str, ...]
    answers: frozenset[str]
    kept: tuple[str, ...]

    def complaint(self, text: str, others: Sequence[str] = ()) -> str | None:
        """Return what is wrong with a description; None if nothing is.

        Args:
            text: The description.
            others: Candidates that were admitted before it.
        """
        return next(self._complaints(text, others), None)

    def _complaints(self, text: str, others: Sequence[str]) -> Iterator[str]:
        words = words_of(text)
        if text != text.strip() or len(text.splitlines()) != 1:
            yield "it is not one line of text"
        if not SHORTEST <= len(words) <= LONGEST:
            yield f"it has {len(words)} words, {SHORTEST} to {LONGEST} were expected"
        found = _BRACKETS.findall(text)
        yield from (f"it lacks the placeholder {mark}" for mark in self.placeholders if mark not in found)
        yield from (f"it holds {mark}, which nothing fills" for mark in found if mark not in self.placeholders)
        if answer := _first_within(words, self.answers):
            yield f"it holds the answer '{answer}' of the data"
        yield from (f"it is almost '{other}'" for other in others if alike(text, other) >= ALIKE)
        if any(alike(text, other) >= FAR for other in self.kept):
            yield "it is too much like the one that is kept from training"


def words_of(text: str) -> list[str]:
    """Return the words of a text, as they are written."""
    return _WORD.findall(text)


def alike(first: str, second: str) -> float:
    """Return the share of words that two texts have in the same order: twice the matches over all words, 0 to 1."""
    a, b = ([word.casefold() for word in words_of(text)] for text in (first, second))
    return SequenceMatcher(None, a, b, autojunk=False).ratio()


def telling(answers: Collection[str], ordinary: Collection[str]) -> frozenset[str]:
    """Return the answers that no description may hold: all but those of ordinary words alone, in lower case."""
    found = {answer.strip() for answer in answers}
    return frozenset(answer for answer in found if not set(words_of(answer)) <= set(ordinary))


def _first_within(words: Sequence[str], answers: Collection[str]) -> str | None:
    """Return the first answer, in alphabetical order, whose words stand in a row among the words.

    An answer in lower case is found with capitals too; a name is not found in a lower-case word that is spelt like it.
    """
    text = f" {' '.join(words)} "
    lower = text.casefold()
    return next(
        (
            answer
            for answer in sorted(answers)
            if f" {' '.join(words_of(answer))} " in (lower if answer.islower() else text)
        ),
        None,
    )
