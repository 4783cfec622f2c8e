"""Names of the columns of a file of own facts, and what each holds.

It is not within `facts`, because `foreign_layouts`, which all readers import, recognises own facts by it.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import NamedTuple

from instructedit.editors.errors import InputError

Meaning = str
"""What a column holds: a key of `ONCE` or of `STARRED`."""

ONCE: dict[Meaning, tuple[str, ...]] = {
    "prompt": ("prompt", "question"),
    "target": ("target", "answer", "target_new", "new_target", "new_answer", "answers", "targets"),
    "old": ("old", "old_answer", "old_target", "target_old", "target_true", "ground_truth"),
    "subject": ("subject",),
    "instruction": ("instruction",),
    "joint": ("joint",),
    "nested portability": ("portability_inputs",),
    "nested unrelated": ("locality", "locality_inputs"),
}
"""Accepted names of the columns that a file has once, in lower case with `_` between words; the first is preferred."""

STARRED: dict[Meaning, tuple[str, ...]] = {
    "rephrase": ("rephrase", "rephrases", "rephrase_prompt", "rephrase_prompts", "paraphrase", "paraphrases"),
    "unrelated": ("unrelated", "unrelated_prompt", "locality_prompt"),
    "unrelated_answer": ("unrelated_answer", "locality_ground_truth", "locality_answer"),
    "portability": ("portability", "portability_prompt"),
    "portability_answer": ("portability_answer", "portability_ground_truth"),
}
"""Accepted names of the columns that a file may have several times, with a number or a word at the end."""

IGNORED = frozenset({"id", "case_id"})
"""Known columns that are not needed and not reported."""

COLUMNS = tuple(meaning for meaning in (*ONCE, *STARRED) if not meaning.startswith("nested"))
"""The preferred names of the columns of a table."""

_NAMES = {name: meaning for table in (ONCE, STARRED) for meaning, names in table.items() for name in names}
_KNOWN = [name for name in _NAMES if _NAMES[name] in STARRED or name in ONCE[_NAMES[name]][:4]]
_STARRED = re.compile(
    f"(?P<name>{'|'.join(sorted((n for names in STARRED.values() for n in names), key=len, reverse=True))})"
    r"(?:_?(?P<number>\d+)|_(?P<word>\w+))?"
)
_ANSWER_LAST = re.compile(r"(?P<name>unrelated|portability)_?(?P<key>\d+|\w+)_answer")


class Column(NamedTuple):
    """What a column holds; prompts and answers with the same key belong together."""

    meaning: Meaning
    key: str = ""


class Columns(NamedTuple):
    """The columns of a file: those that are read by name, and for each other one a hint, which may be empty."""

    read: dict[str, Column]
    unread: dict[str, str]

    def name(self, meaning: Meaning, key: str = "") -> str | None:
        """Return the file's name of a column; None if it has none."""
        return next((name for name, column in self.read.items() if column == (meaning, key)), None)

    def names(self, meaning: Meaning) -> list[str]:
        """Return the file's names of all columns of a meaning, in the order of the file."""
        return [name for name, column in self.read.items() if column.meaning == meaning]


def column(name: str) -> Column | None:
    """Return what a column of this name holds; None if it is not known."""
    plain = re.sub(r"\W+", "_", name.strip().casefold()).strip("_")
    if plain in _NAMES:
        return Column(_NAMES[plain])
    if found := _ANSWER_LAST.fullmatch(plain):
        return Column(_NAMES[f"{found['name']}_answer"], found["key"])
    if found := _STARRED.fullmatch(plain):
        return Column(_NAMES[found["name"]], found["number"] or found["word"] or "")
    return None


def columns(names: Iterable[str], place: str) -> Columns:
    """Return what the columns of a file hold; `InputError` if two hold the same, or there is no prompt or target."""
    read: dict[str, Column] = {}
    unread: dict[str, str] = {}
    names = list(names)
    for name in names:
        found = column(name)
        if found is None:
            if name.strip().casefold() not in IGNORED:
                near = get_close_matches(re.sub(r"\W+", "_", name.strip().casefold()), _KNOWN, n=1, cutoff=0.75)
                unread[name] = f"did you mean '{near[0]}'?" if near else ""
            continue
        twin = next((other for other, known in read.items() if known == found), None)
        if twin is not None and found.meaning != "rephrase":
            raise InputError(
                f"{place}: the columns '{twin}' and '{name}' are both read as '{found.meaning}', one was expected; "
                f"rename the other{' to old' if found.meaning == 'target' else ''}."
            )
        read[name] = found
    for meaning in ("prompt", "target"):
        if not any(known.meaning == meaning for known in read.values()):
            shown = ", ".join(f"'{name}'{f' ({unread[name]})' if unread.get(name) else ''}" for name in names[:12])
            raise InputError(
                f"{place}: no column '{ONCE[meaning][0]}' or '{ONCE[meaning][1]}' among {shown or 'none'}; a file of "
                "facts has a prompt or question and its target or answer."
            )
    return Columns(read, unread)


def reads(names: Iterable[str]) -> bool:
    """Tell whether records with these fields can be read as own facts."""
    found = {known.meaning for name in names if (known := column(name))}
    return {"prompt", "target"} <= found


TEMPLATE = """\
# Facts to edit into a model: one row for each, below the line of column names. Lines that begin with # are not read.
# prompt     Text before the answer, or a question. A text with a comma has to be in double quotes.
# target     The new answer; several right ones are separated by | and the first is edited in.
# The other columns may be empty or deleted:
# old        The answer before the edit.
# subject    What the fact is about, as in the prompt; some editors need it.
# rephrase   The prompt in other words (generalization). Further columns: rephrase_2, rephrase_3, ...
# unrelated  A prompt whose answer has to stay (locality), and unrelated_answer if you know it; unrelated_2, ...
# portability  A question that follows from the new fact, with portability_answer; portability_2, ...
#
# Example:
# Where is the office?,New York|New York City,Boston,the office,In which city is our office?,Who runs the bakery?,,\
In which state is the office?,New York
# Check it:  instructedit facts check FILE      Run it:  instructedit run FILE --model MODEL
prompt,target,old,subject,rephrase,unrelated,unrelated_answer,portability,portability_answer
"""
"""An empty file of facts to fill in."""
