"""The conversation with a chat model: the request for descriptions, and a second one for those that are missing."""

import json
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from instructedit.editors import InputError, seed_of

from .proposer import Brief, BudgetError, Proposer, Reply, Report
from .reply import items
from .rules import LONGEST, SHORTEST

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
    """Messages and costs of one proposal.

    Attributes:
        report: Receives messages for the user.
        notes: The messages so far.
        input_tokens: Tokens of all prompts, including failed attempts.
        output_tokens: Tokens of all answers.
    """

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

    def propose(self, brief: Brief, count: int, seed: int, report: Report = lambda _: None) -> Reply:
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
        return Reply(
            prompt=rendered(conversation),
            text="\n\n".join(texts),
            items=found[:count],
            model=self.model,
            input_tokens=exchange.input_tokens,
            output_tokens=exchange.output_tokens,
            seconds=time.monotonic() - begun,
            notes=tuple(exchange.notes),
        )


def messages(brief: Brief, count: int) -> list[Message]:
    """Return a system message and the user message that requests `count` descriptions."""
    parts = [_purpose(brief), _examples(brief), _rules(brief), _tried(brief), _format(count)]
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": "\n\n".join(part for part in parts if part)},
    ]


def request_missing(conversation: Sequence[Message], text: str, found: Sequence[str], missing: int) -> list[Message]:
    """Return the conversation so far with a request for the descriptions that a reply lacks.

    Args:
        conversation: The messages so far.
        text: The reply to them.
        found: The descriptions in it.
        missing: Number of further descriptions.
    """
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


def _purpose(brief: Brief) -> str:
    return (
        f"An edit belongs to the task '{brief.title}': {brief.about}. The editor reads each edit in this form:\n\n"
        f"Task: {brief.title}\nDescription: <the text that you write>\nInput: <the edit's prompt>\n\n"
        "The same description stands in front of every edit of the task. A good one lets the edit succeed "
        "(reliability), holds for the same question in other words (generalization) and for what follows from the edit "
        "(portability), and leaves everything else as it was (locality)."
    )


def _examples(brief: Brief) -> str:
    lines = []
    for example in brief.examples:
        attitude = f" ({example.sentiment})" if example.sentiment else ""
        lines.append(f"Input: {json.dumps(example.prompt, ensure_ascii=False)}")
        lines.append(f"Wanted answer{attitude}: {json.dumps(example.target, ensure_ascii=False)}")
    return "\n".join(["Some edits of the task:", *lines]) if lines else ""


def _rules(brief: Brief) -> str:
    marks = [
        f"It holds {mark} as it is, for {MEANING.get(mark, 'a value of the edit')}." for mark in brief.placeholders
    ]
    marks.append("It holds no other square brackets." if marks else "It holds no square brackets.")
    return "\n".join(
        [
            "Rules for each description:",
            f"- It is one line of {SHORTEST} to {LONGEST} words.",
            *(f"- {rule}" for rule in marks),
            "- It speaks of the task as a whole and holds no answer or name from the examples.",
            "- Its wording differs clearly from that of all others, those below included.",
        ]
    )


def _tried(brief: Brief) -> str:
    if not brief.tried:
        return ""
    lines = []
    for rank, tried in enumerate(brief.tried, 1):
        measures = ", ".join(f"{measure} {value:.1f}" for measure, value in tried.measures.items())
        lines.append(f"{rank}. {json.dumps(tried.text, ensure_ascii=False)} ({measures})")
    return "\n".join(
        [
            "These descriptions were tried, best first and worst last. Measures are in percent, higher is better:",
            *lines,
            "Find out what the better ones have in common, and write descriptions that do better than the first one.",
        ]
    )


def _format(count: int) -> str:
    return (
        f"Answer with a JSON array of {count} {'string' if count == 1 else 'strings'}, one description each, "
        "and nothing before or after it."
    )
