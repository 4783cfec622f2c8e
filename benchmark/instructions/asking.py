"""What proposers that ask a chat model have in common: ask, look for descriptions, ask once more for missing ones."""

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from instructedit.editors import InputError, seed_of

from .prompt import Message, again, messages, rendered
from .proposal import Brief, BudgetError, Proposer, Reply
from .reply import items


@dataclass(slots=True)
class Exchange:
    """What happens while one proposal is asked for.

    Attributes:
        report: Takes sentences for the user.
        notes: The sentences so far.
        input_tokens: Tokens of all prompts, those of attempts that failed included.
        output_tokens: Tokens of all answers.
    """

    report: Callable[[str], None]
    notes: list[str] = field(default_factory=list)
    input_tokens: int = 0
    output_tokens: int = 0

    def note(self, sentence: str) -> None:
        """Write a sentence down and tell the user."""
        self.notes.append(sentence)
        self.report(sentence)

    def note_once(self, sentence: str) -> None:
        """Do the same unless it was said before."""
        if sentence not in self.notes:
            self.note(sentence)


class AskingProposer(Proposer):
    """A proposer that asks a chat model, and once more where descriptions are missing.

    Args:
        clock: Gives the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    @abstractmethod
    def _answer(self, asked: Sequence[Message], count: int, seed: int, exchange: Exchange) -> str:
        """Return the model's answer to a conversation.

        Raises:
            BudgetError: If the token budget does not allow the request.
            InputError: If there is no answer.
        """

    def propose(self, brief: Brief, count: int, seed: int, report: Callable[[str], None] = lambda _: None) -> Reply:
        """See `Proposer.propose`.

        What came is kept: if descriptions are missing and cannot be had any more, the reply holds those that came, and
        a note says why. `BudgetError` and `InputError` are raised only where there is nothing to keep.
        """
        exchange, begun = Exchange(report), self._clock()
        asked = messages(brief, count)
        texts = [self._answer(asked, count, seed, exchange)]
        found = _different(items(texts[0]))
        if missing := max(0, count - len(found)):
            exchange.note(_lacking(len(found), count))
            further = again(asked, texts[0], found, missing)
            try:
                texts.append(self._answer(further, missing, seed_of(seed, "again"), exchange))
                asked = further
            except BudgetError as error:
                if not found:
                    raise
                exchange.note(str(error))
            except InputError as error:  # the first answer is kept, even if it was prose
                asked = further
                exchange.note(str(error))
            found = _different((*found, *items(texts[-1])))
            if len(found) < count:
                exchange.note(f"{len(found) or 'None'} of {count} descriptions came in the end.")
        if len(found) > count:
            exchange.note(f"{len(found)} descriptions came; the first {count} are taken.")
        return Reply(
            prompt=rendered(asked),
            text="\n\n".join(texts),
            items=found[:count],
            model=self.model,
            input_tokens=exchange.input_tokens,
            output_tokens=exchange.output_tokens,
            seconds=self._clock() - begun,
            notes=tuple(exchange.notes),
        )


def _different(texts: Sequence[str]) -> tuple[str, ...]:
    """Return texts without those that an earlier one equals but for its case."""
    found: dict[str, str] = {}
    for text in texts:
        found.setdefault(text.casefold(), text)
    return tuple(found.values())


def _lacking(found: int, count: int) -> str:
    if not found:
        return "The reply holds no list of descriptions; it is asked for once more."
    rest = count - found
    return f"{found} of {count} descriptions came; the other {rest} {'is' if rest == 1 else 'are'} asked for once more."
