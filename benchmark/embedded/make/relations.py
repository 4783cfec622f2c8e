"""The relations of the world in the wordings of KnowEdit, read from `relations.toml`, and the words of `words.toml`.

The relations of ZsRE share neither a relation nor a kind of subject with CounterFact and Recent, so nothing that an
editor learned there is tested here.
"""

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((resources.files(__package__) / name).read_text(encoding="utf-8"))


WORDS = _read("words.toml")


def words(section: str) -> dict[str, tuple[str, ...]]:
    """Return lists of words by name; in `words.toml`, lists of single words are strings."""
    return {name: tuple(own.split() if isinstance(own, str) else own) for name, own in WORDS[section].items()}


@dataclass(frozen=True, slots=True)
class Relation:
    """One relation, from a kind of subject to a kind of answer or a fixed list of words; `{S}` is the subject.

    The prompt and the other `forms` are statements that end where the answer begins. `noun` is a phrase for the answer
    ("the employer of {S}"); as the subject of another relation it is a second hop. The questions are those of ZsRE's
    data; other relations get theirs from the rule for rephrasing.
    """

    name: str
    subject: str
    answer: str
    prompt: str
    noun: str = ""
    forms: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()


PERSON, WORK, ZSRE, BACKGROUND = (
    tuple(Relation(name, **relation) for name, relation in group.items()) for group in _read("relations.toml").values()
)
RELATIONS = {relation.name: relation for relation in (*PERSON, *WORK, *ZSRE, *BACKGROUND)}

INVERSE = {"spouse": "spouse", "follows": "followed_by", "followed_by": "follows"}
"""Inverse relations, for Logical_Generalization."""

BRIDGES, RECENT = words("roles").values()
"""First relations of two-hop facts; and those of the news, whose twenty answers or more keep guessing near zero."""

HOPS = {name: tuple(hop.name for hop in BACKGROUND if hop.subject == RELATIONS[name].answer) for name in BRIDGES}
"""Second hops by first relation, for Reasoning.

Persons are no bridges. A two-hop fact generalises only if many subjects share the bridge and the bridge has many facts:
in a first model, unseen two-hop facts were right in .48 to .88 of cases over countries (four facts each) and in 0 to
.17 over spouses and authors.
"""

LISTS = words("lists")
"""Answers that are words, not names."""
