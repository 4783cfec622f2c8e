"""What a chat model is told when it is to write descriptions of a task."""

import json
from collections.abc import Sequence

from .proposal import Brief, Example, Tried
from .rules import LONGEST, SHORTEST

Message = dict[str, str]
"""`role` (`system`, `user` or `assistant`) and `content`."""

SYSTEM = (
    "You write task descriptions that steer a knowledge editor: a network which changes what a language model says "
    "about one thing and leaves the rest of it alone. You answer with the list that is asked for and nothing else."
)
MEANING = {"[TOPIC]": "what the opinion is about", "[LABEL]": "the attitude to take, positive or negative"}
"""What is filled in for a placeholder."""


def messages(brief: Brief, count: int) -> list[Message]:
    """Return the request for descriptions.

    Args:
        brief: What the model is told about the task.
        count: How many descriptions are wanted.

    Returns:
        A system message and a user message.
    """
    parts = [_purpose(brief), _examples(brief.examples), _rules(brief), _tried(brief.tried), _format(count)]
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": "\n\n".join(part for part in parts if part)},
    ]


def again(asked: Sequence[Message], text: str, found: Sequence[str], missing: int) -> list[Message]:
    """Return the request for what a reply lacks.

    Args:
        asked: What was asked before.
        text: The reply to it.
        found: The descriptions that it holds.
        missing: How many are wanted in addition.

    Returns:
        The conversation so far and a further user message.
    """
    if found:
        have = json.dumps(list(found), ensure_ascii=False)
        request = f"Of your descriptions, {len(found)} came:\n{have}\nWrite {missing} more, different from these."
    else:
        request = "Your reply holds no list of descriptions."
    return [
        *asked,
        {"role": "assistant", "content": text},
        {"role": "user", "content": f"{request}\n\n{_format(missing)}"},
    ]


def rendered(asked: Sequence[Message]) -> str:
    """Return a conversation as one text, for the record and for models without a chat template."""
    return "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in asked)


def _purpose(brief: Brief) -> str:
    return (
        f"An edit belongs to the task '{brief.title}': {brief.about}. The editor reads each edit in this form:\n\n"
        f"Task: {brief.title}\nDescription: <the text that you write>\nInput: <the edit's prompt>\n\n"
        "The same description stands in front of every edit of the task. A good one lets the edit succeed "
        "(reliability), holds for the same question in other words (generalization) and for what follows from the edit "
        "(portability), and leaves everything else as it was (locality)."
    )


def _examples(examples: Sequence[Example]) -> str:
    lines = []
    for example in examples:
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


def _tried(tried: Sequence[Tried]) -> str:
    if not tried:
        return ""
    lines = [f"{rank}. {_measured(one)}" for rank, one in enumerate(tried, 1)]
    return "\n".join(
        [
            "These descriptions were tried, best first and worst last. Measures are in percent, higher is better:",
            *lines,
            "Find out what the better ones have in common, and write descriptions that do better than the first one.",
        ]
    )


def _measured(one: Tried) -> str:
    measures = ", ".join(f"{measure} {value:.1f}" for measure, value in one.measures.items())
    return f"{json.dumps(one.text, ensure_ascii=False)} ({measures})"


def _format(count: int) -> str:
    return (
        f"Answer with a JSON array of {count} {'string' if count == 1 else 'strings'}, one description each, "
        "and nothing before or after it."
    )
