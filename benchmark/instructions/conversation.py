"""The conversation with a chat model: the request for descriptions, and a second one for those that are missing."""

import json
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import resources
from typing import TYPE_CHECKING

from instructedit.editors import InputError, seed_of

from ..results.loop_results import Candidate, Proposal
from .proposer import Brief, BudgetError, Proposer, Report
from .reply import items
from .rules import LONGEST, SHORTEST

if TYPE_CHECKING:
    from jinja2 import Template

Message = dict[str, str]
"""`role` (`system`, `user` or `assistant`) and `content`."""

SYSTEM = (
    "You write task descriptions that steer a knowledge editor: a network which changes what a language model says "
    "about one thing and leaves the rest of it alone. You answer with the list that is asked for and nothing else."
)
MEANING = {"[TOPIC]": "what the opinion is about", "[LABEL]": "the attitude to take, positive or negative"}
"""Meaning of the placeholders."""


@dataclass(slots=True)
class Exchange:
    """Messages and tokens of one proposal, failed attempts included."""

    report: Report
    notes: list[str] = field(default_factory=list)
    input_tokens: int = 0
    output_tokens: int = 0

    def note(self, sentence: str) -> None:
        """Keep a message and report it to the user."""
        self.notes.append(sentence)
        self.report(sentence)

    def note_once(self, sentence: str) -> None:
        """Do the same unless the message is there already."""
        if sentence not in self.notes:
            self.note(sentence)


class ChatModelProposer(Proposer):
    """Base of the proposers that use a chat model."""

    @abstractmethod
    def _answer(self, conversation: Sequence[Message], count: int, seed: int, exchange: Exchange) -> str:
        """Return the model's answer to a conversation that requests `count` descriptions.

        Raises:
            BudgetError: If the token budget does not allow the request.
            InputError: If there is no answer.
        """

    def propose(self, brief: Brief, count: int, seed: int, report: Report = lambda _: None) -> Proposal:
        """See `Proposer.propose`.

        Missing descriptions are requested once more. If that fails, the reply holds those that came and a note says
        why; errors are raised only where nothing came.
        """
        exchange, begun = Exchange(report), time.monotonic()
        conversation = messages(brief, count)
        texts = [self._answer(conversation, count, seed, exchange)]
        found = _distinct(items(texts[0]))
        if missing := max(0, count - len(found)):
            exchange.note(f"{len(found) or 'None'} of {count} descriptions came; the rest is requested once more.")
            further = request_missing(conversation, texts[0], found, missing)
            try:
                texts.append(self._answer(further, missing, seed_of(seed, "again"), exchange))
                conversation = further
            except InputError as error:
                if isinstance(error, BudgetError) and not found:
                    raise
                exchange.note(str(error))
            found = _distinct((*found, *items(texts[-1])))
            if len(found) < count:
                exchange.note(f"{len(found) or 'None'} of {count} descriptions came in the end.")
        if len(found) > count:
            exchange.note(f"{len(found)} descriptions came; the first {count} are taken.")
        return Proposal(
            prompt=rendered(conversation),
            text="\n\n".join(texts),
            model=self.model,
            seed=seed,
            candidates=tuple(Candidate(text=text) for text in found[:count]),
            input_tokens=exchange.input_tokens,
            output_tokens=exchange.output_tokens,
            seconds=round(time.monotonic() - begun, 3),
            notes=tuple(exchange.notes),
        )


def messages(brief: Brief, count: int) -> list[Message]:
    """Return a system message and the user message that requests `count` descriptions."""
    request = _template().render(brief=brief, shortest=SHORTEST, longest=LONGEST, meaning=MEANING)
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": request + _format(count)}]


@cache
def _template() -> "Template":
    from jinja2 import Environment, StrictUndefined

    texts = Environment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)  # noqa: S701
    texts.filters["json"] = partial(json.dumps, ensure_ascii=False)
    texts.filters["measures"] = lambda means: ", ".join(f"{name} {value:.1f}" for name, value in means.items())
    return texts.from_string((resources.files(__package__) / "request.txt").read_text(encoding="utf-8"))


def request_missing(conversation: Sequence[Message], text: str, found: Sequence[str], missing: int) -> list[Message]:
    """Return a conversation with the reply to it and a request for the descriptions that the reply lacks."""
    if not text.strip():  # servers refuse empty messages
        return list(conversation)
    if found:
        have = json.dumps(list(found), ensure_ascii=False)
        request = f"Of your descriptions, {len(found)} came:\n{have}\nWrite {missing} more, different from these."
    else:
        request = "Your reply holds no list of descriptions."
    return [
        *conversation,
        {"role": "assistant", "content": text},
        {"role": "user", "content": f"{request}\n\n{_format(missing)}"},
    ]


def rendered(conversation: Sequence[Message]) -> str:
    """Return a conversation as one text, for the record and for models without a chat template."""
    return "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in conversation)


def _distinct(texts: Sequence[str]) -> tuple[str, ...]:
    """Drop texts that equal an earlier one up to case."""
    found: dict[str, str] = {}
    for text in texts:
        found.setdefault(text.casefold(), text)
    return tuple(found.values())


def _format(count: int) -> str:
    return (
        f"Answer with a JSON array of {count} {'string' if count == 1 else 'strings'}, one description each, "
        "and nothing before or after it."
    )
