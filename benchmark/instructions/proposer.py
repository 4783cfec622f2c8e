"""What a proposer receives, what it returns, the rules for it, and the interface of all proposers.

A proposer writes candidate descriptions of one task (InstructEdit, arXiv:2402.16123, "Instruction Construction"). It
receives the task, a few training cases and the results of earlier candidates; never a test case, and never the
description that is held out of training.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from instructedit.editors import InputError

from ..results.loop_results import Proposal, Trial

Report = Callable[[str], None]
"""Receives messages for the user."""
SHORTEST, LONGEST = 6, 40
"""Minimum and maximum number of words of a description."""
ALIKE = 0.85
"""Similarity from which two descriptions are near duplicates; see `similarity`."""
FAR = 0.6
"""Similarity from which a description is too close to the one that is held out of training."""
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_BRACKETS = re.compile(r"\[[^\]]*\]|[\[\]]")


class BudgetError(InputError):
    """The token budget does not allow another request; the loop ends with the rounds it has."""


@dataclass(frozen=True, slots=True)
class Example:
    """One training case as a proposer sees it, with a sentiment for attitudes."""

    prompt: str
    target: str
    sentiment: str | None = None


@dataclass(frozen=True, slots=True)
class Brief:
    """What a proposer receives about a task: its name, its title after `Task: `, what its edits change, and examples.

    Every description must contain the `placeholders`, e.g. `[TOPIC]` and `[LABEL]`; facts have none. `tried` has the
    best and the worst candidates so far, best first; near duplicates of all `known` ones are not tried again.
    """

    task: str
    title: str
    about: str
    placeholders: tuple[str, ...]
    examples: tuple[Example, ...]
    tried: tuple[Trial, ...] = ()
    known: tuple[str, ...] = ()


class Proposer(ABC):
    """Writes descriptions of a task."""

    @property
    @abstractmethod
    def model(self) -> str:
        """Name of the model that writes, for the record."""

    @property
    def settings(self) -> dict[str, object]:
        """Everything else that decides its answers, for the record: address, temperature and so on, without secrets."""
        return {}

    @abstractmethod
    def propose(self, brief: Brief, count: int, seed: int, report: Report = lambda _: None) -> Proposal:
        """Write `count` descriptions; a proposal may hold fewer, or none. A server may ignore the seed.

        Nothing is judged yet. Tokens are those of all requests as the server counts them, seconds include retries.

        Raises:
            BudgetError: If the token budget does not allow the request.
            InputError: If there is no answer after all retries. The message never contains the key.
        """


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
