"""What a proposer is told, what it answers, and what every proposer can do.

A proposer writes candidate descriptions of one task (InstructEdit, arXiv:2402.16123, "Instruction Construction"). It is
told what the task is, a few training cases, and how earlier candidates did; never a test case, and never the
description that is kept from training.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from instructedit.editors import InputError

Measures = dict[str, float]
"""Means of a trial in percent by measure: reliability, generalization, locality, portability, score."""


class BudgetError(InputError):
    """The token budget does not allow another request; the loop ends cleanly with what it has."""


@dataclass(frozen=True, slots=True)
class Example:
    """One training case, as a proposer may see it.

    Attributes:
        prompt: The edit's prompt.
        target: What it is to be answered with.
        sentiment: `positive` or `negative` for attitudes, None for facts.
    """

    prompt: str
    target: str
    sentiment: str | None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """An earlier candidate and what its trial came to."""

    text: str
    measures: Measures


@dataclass(frozen=True, slots=True)
class Brief:
    """What a proposer is told about a task.

    Attributes:
        task: Registered name.
        title: Name behind `Task: ` in the instruction.
        about: What an edit of this task changes, in a sentence or two.
        placeholders: Those that every description has to keep, e.g. `[TOPIC]` and `[LABEL]`; none for facts.
        examples: A few training cases.
        tried: The best and the worst candidates so far, best first; empty in the first round.
        known: All candidates so far; what is almost one of them is not tried again.
    """

    task: str
    title: str
    about: str
    placeholders: tuple[str, ...]
    examples: tuple[Example, ...]
    tried: tuple[Tried, ...] = ()
    known: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a proposer has answered, with what it cost.

    Attributes:
        prompt: Everything that it was asked, for the record; the offline proposer says what it drew from.
        text: Its answer as it came.
        items: The descriptions found in it, in order; perhaps fewer than asked for.
        model: Name of the model, or `offline`.
        input_tokens: Tokens of the prompt, as the server counts them; 0 offline.
        output_tokens: Tokens of the answer.
        seconds: Time it took, waiting and retries included.
        notes: Sentences about what went wrong on the way: retries, items that were missing.
    """

    prompt: str
    text: str
    items: tuple[str, ...]
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


class Proposer(ABC):
    """Writes descriptions of a task.

    Attributes:
        name: What `--proposer` calls it.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def model(self) -> str:
        """Name of the model that writes, for the record."""

    @property
    def settings(self) -> dict[str, object]:
        """What decides its answers besides, for the record: address, temperature and the like, without secrets."""
        return {}

    @abstractmethod
    def propose(self, brief: Brief, count: int, seed: int, report: Callable[[str], None] = lambda _: None) -> Reply:
        """Write descriptions.

        Args:
            brief: What it is told.
            count: How many are wanted.
            seed: Seed of whatever it draws; a server may ignore it.
            report: Takes sentences for the user, e.g. on a retry.

        Returns:
            The reply; its items may be fewer than wanted, or none.

        Raises:
            BudgetError: If the token budget does not allow the request.
            InputError: If there is no answer, after all retries; the sentence says what was wrong, without the key.
        """
