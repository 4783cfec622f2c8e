"""What a proposer receives, what it returns, and the interface of all proposers.

A proposer writes candidate descriptions of one task (InstructEdit, arXiv:2402.16123, "Instruction Construction"). It
receives the task, a few training cases and the results of earlier candidates; never a test case, and never the
description that is held out of training.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from instructedit.editors import InputError

from ..results.loop_results import Proposal, Trial

Report = Callable[[str], None]
"""Receives messages for the user."""


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
