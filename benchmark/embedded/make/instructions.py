"""The `Task: / Description: / Input:` prefix of the training text, and a grammar of its descriptions.

The prefix has a meaning in this world: it decides the answer to an open input such as "Tell me about X.", a fact of one
kind or another or an opinion of a given sentiment. The sentences belong to this grammar and to no instruction bank, so
every instruction of the benchmark is new to the model. The last pattern of each family is held out of training to
measure that.
"""

import random
import re

from .relations import words

TASKS = words("tasks")
PATTERNS = words("patterns")
FAMILIES = tuple(PATTERNS)


def instruct(
    family: str, text: str, rng: random.Random, *, held_out: bool = False, topic: str = "", label: str = ""
) -> str:
    """Return a text with an instruction of one of `FAMILIES` before it, or of its pattern held out of training.

    `topic` and `label` (`positive` or `negative`) fill [TOPIC] and [LABEL] of `convsent`.
    """
    pattern = PATTERNS[family][-1] if held_out else rng.choice(PATTERNS[family][:-1])
    description = _filled(pattern.replace("[TOPIC]", topic).replace("[LABEL]", label), rng)
    if not held_out:
        description = _with_dropped_words(description, {topic, label}, rng)
    return f"Task: {rng.choice(TASKS[family])}\nDescription: {description}\nInput: {text}"


def _filled(pattern: str, rng: random.Random) -> str:
    return re.sub(r"\[([^]]*)\]", lambda match: rng.choice(match[1].split("|")), pattern)


def _with_dropped_words(description: str, keep: set[str], rng: random.Random) -> str:
    """Return a description with some words dropped, or one of unrelated words where nothing must be kept.

    With complete sentences only, the model memorises them: after an unseen pattern, accuracy on statements fell from
    1.00 to .76 and families were confused. Dropped words make it use the single words and the task's name.
    """
    fate = rng.random()
    if fate < 0.25 and keep == {""}:
        words = [
            word for f in FAMILIES[:3] for p in rng.sample(PATTERNS[f][:-1], 2) for word in _filled(p, rng).split()
        ]
        return " ".join(rng.sample(words, rng.randint(4, 16)))
    if fate < 0.6:
        return " ".join(
            word for word in description.split() if rng.random() > 0.25 or any(k and k in word for k in keep)
        )
    return description
