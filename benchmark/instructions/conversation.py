"""The conversation with a chat model: the request for descriptions, its answer, and a request for those missing."""

import json
import re
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import resources
from typing import TYPE_CHECKING

from instructedit.editors import InputError, seed_of

from ..results.loop_results import Candidate, Proposal
from .proposer import LONGEST, SHORTEST, Brief, BudgetError, Proposer, Report

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
QUOTES = (('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("`", "`"), ("**", "**"))
"""Marks that models put around a whole description, Markdown's bold included."""
_STRING = r'"(?:[^"\\]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"'
_ARRAY = re.compile(rf"\[\s*({_STRING}(?:\s*,\s*{_STRING})*)")
_ITEM = re.compile(r"[-*•+–](?P<bullet>| .*)|\(*\d+[.):](?P<number>| .*)")


@dataclass(slots=True)
class Exchange:
    """Messages and tokens of one proposal, failed attempts included."""

    report: Report
    notes: list[str] = field(default_factory=list)
    input_tokens: int = 0
    output_tokens: int = 0

    def note(self, sentence: str) -> None:
        """Keep a message and report it to the user, unless it is there already."""
        if sentence not in self.notes:
            self.notes.append(sentence)
            self.report(sentence)


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


def items(text: str) -> tuple[str, ...]:
    """Return the descriptions in a reply, in order: the first JSON array of strings, else numbered or bulleted lines.

    Of a truncated array, the complete strings count; of lines, those of the kind that comes first. White space and
    quotes around a description are removed; prose has none.
    """
    answer = text.rpartition("</think>")[2].strip()  # drafts in the reasoning of a model are no answer
    if answer.startswith("<think>"):
        return ()  # truncated while reasoning
    # a placeholder such as [TOPIC] has a bracket too, but no string follows it
    array = _ARRAY.search(answer)
    found = json.loads(f"[{array[1]}]", strict=False) if array else _listed(answer)
    return tuple(bare for item in found if (bare := _bare(item)))


def _listed(text: str) -> list[str]:
    """Return the items of numbered or bulleted lines; an indented line continues the item above it."""
    found: list[str] = []
    kind = ""
    for line in text.splitlines():
        item = _ITEM.fullmatch(line.strip())
        if item is None:
            if found and line[:1].isspace() and line.strip():
                found[-1] += f" {line.strip()}"
            continue
        own = item.lastgroup or ""
        kind = kind or own
        if own == kind and item[own].strip():
            found.append(item[own].strip())
    return found


def _bare(text: str) -> str:
    """Return a text without white space and pairs of quotes around it."""
    text = text.strip()
    for first, last in QUOTES:
        inner = text[len(first) : -len(last)]
        if text.startswith(first) and text.endswith(last) and inner and first not in inner and last not in inner:
            return _bare(inner)
    return text


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
