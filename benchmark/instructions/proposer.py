"""What a proposer receives, what it returns, and the interface of all proposers.

A proposer writes candidate descriptions of one task (InstructEdit, arXiv:2402.16123, "Instruction Construction"). It
receives the task, a few training cases and the results of earlier candidates; never a test case, and never the
description that is held out of training.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from instructedit.editors import InputError

Report = Callable[[str], None]
"""Receives messages for the user."""


class BudgetError(InputError):
    """The token budget does not allow another request; the loop ends with the rounds it has."""


@dataclass(frozen=True, slots=True)
class Example:
    """One training case as a proposer sees it.

    Attributes:
        prompt: The edit's prompt.
        target: The answer to it after the edit.
        sentiment: `positive` or `negative` for attitudes, None for facts.
    """

    prompt: str
    target: str
    sentiment: str | None = None


@dataclass(frozen=True, slots=True)
class Tried:
    """An earlier candidate and the means of its trial, in percent by measure."""

    text: str
    measures: dict[str, float]


@dataclass(frozen=True, slots=True)
class Brief:
    """What a proposer receives about a task.

    Attributes:
        task: Registered name.
        title: Name after `Task: ` in the instruction.
        about: What an edit of this task changes, in a sentence or two.
        placeholders: Placeholders that every description must contain, e.g. `[TOPIC]` and `[LABEL]`; none for facts.
        examples: A few training cases.
        tried: The best and the worst candidates so far, best first; empty in the first round.
        known: All candidates so far; near duplicates of them are not tried again.
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
    """What a proposer returned, and its cost.

    Attributes:
        prompt: The whole prompt; for the offline proposer a description of its grammar.
        text: The answer as it came.
        items: The descriptions in it, in order; perhaps fewer than requested.
        model: Name of the model, or `offline`.
        input_tokens: Tokens of the prompts, as the server counts them; 0 offline.
        output_tokens: Tokens of the answers.
        seconds: Duration, including retries.
        notes: Messages about retries and missing descriptions.
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
        name: Its name for `--proposer`.
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def model(self) -> str:
        """Name of the model that writes, for the record."""

    @property
    def settings(self) -> dict[str, object]:
        """Everything else that decides its answers, for the record: address, temperature and so on, without secrets."""
        return {}

    @abstractmethod
    def propose(self, brief: Brief, count: int, seed: int, report: Report = lambda _: None) -> Reply:
        """Write descriptions.

        Args:
            brief: The task.
            count: Number of descriptions.
            seed: Seed of its random choices; a server may ignore it.
            report: Receives messages for the user.

        Returns:
            The reply; it may hold fewer descriptions, or none.

        Raises:
            BudgetError: If the token budget does not allow the request.
            InputError: If there is no answer after all retries. The message never contains the key.
        """
