"""Synthetic cases of one stated shape: a prompt of 17 tokens, a target of 2 or 3, eight probes."""

import random
from collections.abc import Sequence
from dataclasses import replace

from instructedit.editors import EditCase, EditRequest, Probe, Role, seed_of

from .shapes import word

PROMPT = 17
"""Tokens of every prompt."""
TARGETS = 2, 3
"""Tokens of a target and of every answer, from case to case in turn."""
PROBES: dict[Role, int] = {"reliability": 1, "generalization": 1, "locality": 3, "portability": 3}
FRONT = 34
"""Tokens in front of InstructEdit's prompt: the mean over the 40 instructions of KnowEdit's tasks in the shipped bank
is 33.6 under GPT-2's tokenizer, 30.6 of the instruction and 3 of the line break and `Input:`."""
INSTRUCTIONS = 9
"""Instructions that a task's cases are told, as in a run: the shipped bank has ten descriptions of a task, one of them
unseen."""


def make_cases(count: int, vocabulary: int, first: int = 0) -> list[EditCase]:
    """Return cases of words that a seed and the case's number draw; each stands for itself, however many are made.

    Args:
        count: How many.
        vocabulary: Tokens of the model.
        first: Number of the first.
    """
    return [_case(number, vocabulary) for number in range(first, first + count)]


def _case(number: int, vocabulary: int) -> EditCase:
    dice = random.Random(seed_of("speed", number))

    def text(tokens: int) -> str:
        return " ".join(word(dice.randrange(2, vocabulary)) for _ in range(tokens))

    length = TARGETS[number % len(TARGETS)]
    prompt, target = text(PROMPT), text(length)
    request = EditRequest(f"speed/test/{number}", "speed", prompt, target, prompt.split()[0])
    probes = []
    for role, times in PROBES.items():
        for _ in range(times):
            asked = prompt if role == "reliability" else text(PROMPT)
            answer = target if role in ("reliability", "generalization") else text(length)
            probes.append(Probe(role, role, asked, (answer,)))
    return EditCase(request, tuple(probes))


def instructed(cases: Sequence[EditCase], vocabulary: int) -> list[EditCase]:
    """Return the cases with one of the task's instructions in their requests; `Input:` is a token behind it."""
    found = []
    for case in cases:
        number = seed_of("speed", case.request.case_id) % INSTRUCTIONS
        dice = random.Random(seed_of("speed", "instruction", number))
        words = " ".join(word(dice.randrange(2, vocabulary)) for _ in range(FRONT - 1))
        found.append(replace(case, request=replace(case.request, instruction=words)))
    return found
