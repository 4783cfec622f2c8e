"""Rephrases derived from a prompt's own relation phrase, for data sets that give none.

WikiData CounterFact and WikiData Recent have one wording for each fact, so generalization is measured on derived
rephrases. A relation never holds " the ", so a chain of two relations ("the father of the spouse of S") is matched by
no rule instead of being rephrased wrongly.
"""

import re

PEOPLE = frozenset(
    "architect, author, cast members, child, composer, director, editor, father, founder, head of government, "
    "head of state, mother, screenwriter, siblings, spouse".split(", ")
)
"""Relations whose answer is a person."""

# (prompt, possessive or None, question); <X> is the relation, <S> the subject, {owner} the subject with its apostrophe:
# a bare one after s, else 's. {who} is Who for a relation of `PEOPLE`, else What.
_RULES: tuple[tuple[str, str | None, str], ...] = (
    ("The (?:name of the )?<X> of <S> is", "{owner} {x} is", "{who} is the {x} of {s}?"),
    ("The names of the <X> of <S> are", "{owner} {x} are", "{who} are the {x} of {s}?"),
    ("The name of the <X> in <S> is", "{owner} {x} is", "{who} is the {x} in {s}?"),
    ("The name of the <X> held by <S> is", None, "Which {x} is held by {s}?"),
    ("The name of the <X> which <S> is (?P<rest>.+) is", None, "Which {x} is {s} {rest}?"),
    ("The name of the <X> which <S> plays in is", None, "Which {x} does {s} play in?"),
    ("The name of the <X> <S> won is", None, "Which {x} did {s} win?"),
    ("The number of <X> <S> has is", None, "How many {x} does {s} have?"),
    ("<S> follows", None, "What does {s} follow?"),
    ("<S> is followed by", None, "What is {s} followed by?"),
)
_RELATION = "(?P<x>(?:(?! the ).)+?)"


def derive_rephrases(prompt: str, subject: str) -> list[tuple[str, str]]:
    """Put a prompt without trailing white space in other words; the subject is as written in the prompt.

    Returns:
        `(form, text)` pairs with form `possessive` or `question`, the possessive first; each text is answered by the
        prompt's own target. Empty if no rule covers the prompt.
    """
    for pattern, possessive, question in _RULES:
        match = re.fullmatch(pattern.replace("<X>", _RELATION).replace("<S>", re.escape(subject)), prompt)
        if match:
            words = match.groupdict() | {
                "s": subject,
                "owner": f"{subject}'" if subject[-1:] in ("s", "S") else f"{subject}'s",
            }
            words["who"] = "Who" if words.get("x") in PEOPLE else "What"
            forms = [("question", question.format_map(words))]
            return forms if possessive is None else [("possessive", possessive.format_map(words)), *forms]
    return []
