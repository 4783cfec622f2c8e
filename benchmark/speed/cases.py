"""Synthetic cases of one fixed shape, and editors that are ready to edit them."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from instructedit.editors import (
    EDITORS,
    EditCase,
    Editor,
    EditRequest,
    InputError,
    LanguageModel,
    Probe,
    Role,
    TrainedEditor,
    did_you_mean,
    make,
    seed_of,
)

from .reference_edits import REFERENCES
from .shapes import word

PROMPT = 17
"""Tokens of every prompt."""
TARGETS = 2, 3
"""Tokens of a target and of every answer, alternating from case to case."""
PROBES: dict[Role, int] = {"reliability": 1, "generalization": 1, "locality": 3, "portability": 3}
INSTRUCTION = 34
"""Tokens before InstructEdit's prompt: the mean over the 40 instructions of KnowEdit's tasks in the shipped bank is
33.6 under GPT-2's tokenizer, 30.6 of the instruction and 3 of the line break and `Input:`."""
INSTRUCTIONS = 9
"""Instructions of a task, as in a run: the shipped bank has ten descriptions of a task, one of them unseen."""
OPTIONS: dict[str, dict[str, Any]] = {"calinet": {"steps": 10}, "grace": {"steps": 200}, "ke": {"max_scale": 100.0}}
"""Options that differ from the defaults.

CaliNet takes ten steps: with random weights it does not reach its stop loss, and rounding errors of two paths grow with
the steps (on S a log-probability differs by 4e-5 after 10 steps, 3e-4 after 20, 0.3 after 200). GRACE takes the 200
steps of EasyEdit, whose times the page shows. With KE's own scale, the gates of a random network change next to
nothing. InstructEdit's probes carry the instruction, but for locality, as published.
"""


def make_cases(count: int, vocabulary: int, first: int = 0) -> list[EditCase]:
    """Return random cases numbered from `first`; a case depends on its number only."""
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
            question = prompt if role == "reliability" else text(PROMPT)
            answer = target if role in ("reliability", "generalization") else text(length)
            probes.append(Probe(role, role, question, (answer,)))
    return EditCase(request, tuple(probes))


def instructed(cases: Sequence[EditCase], vocabulary: int) -> list[EditCase]:
    """Return the cases with one of the task's instructions in their requests; `Input:` adds one more token."""
    found = []
    for case in cases:
        number = seed_of("speed", case.request.case_id) % INSTRUCTIONS
        dice = random.Random(seed_of("speed", "instruction", number))
        words = " ".join(word(dice.randrange(2, vocabulary)) for _ in range(INSTRUCTION - 1))
        found.append(replace(case, request=replace(case.request, instruction=words)))
    return found


def timed_editors(chosen: Sequence[str] = ()) -> list[str]:
    """Return the editors to time, all with a reference or the chosen ones; `InputError` if one of these has none."""
    known = [name for name in REFERENCES if name in EDITORS]
    for name in chosen:
        if name not in EDITORS:
            raise InputError(f"Unknown editor '{name}'.{did_you_mean(name, EDITORS.names())}")
        if name not in known:
            raise InputError(
                f"The editor '{name}' cannot be timed; {', '.join(known)} have a reference to compare with."
            )
    return [name for name in known if not chosen or name in chosen]


def prepare(name: str, model: LanguageModel, cases: Sequence[EditCase]) -> tuple[Editor[Any], list[EditCase]]:
    """Return an editor that is ready to edit, and the cases as it receives them.

    A hypernetwork has random weights; its running statistics are those of the cases' own tokens.
    """
    editor = make(EDITORS.get(name), OPTIONS.get(name, {}))
    own = instructed(cases, model.model.config.vocab_size) if editor.instructed else list(cases)
    if isinstance(editor, TrainedEditor):
        editor.build(model)
        editor.observe(model, [case.request for case in own])
    return editor, own
