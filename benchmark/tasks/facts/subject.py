"""The subject of a fact, where the file does not name it: the phrase that prompt and rephrases share."""

import re
from collections.abc import Iterator, Sequence

STOP_WORDS = frozenset(
    "a an the of in on at to for from by with as is are was were be been being do does did has have had which who whom "
    "whose what where when why how that this these those and or not it its he she his her their they there than then "
    "into about after before between can could will would may name s".split()
)
"""Words that are no subject by themselves, and that do not begin or end one."""
_WORD = re.compile(r"\w+")


def shared_phrase(prompt: str, rephrases: Sequence[str]) -> str:
    """Return the longest run of words that a prompt shares with all of its rephrases, as it stands in the prompt.

    Stop words at its ends are cut off. A run with a capital letter or a digit, the prompt's first word apart, holds a
    name: it precedes all others, and words in lower case at its ends are cut off. Words are compared case-folded.

    Returns:
        An empty text if there are no rephrases, nothing is shared, or two runs are equally long.
    """
    if not rephrases:
        return ""
    words = list(_WORD.finditer(prompt))
    folded = [word[0].casefold() for word in words]
    others = [f" {' '.join(_WORD.findall(text.casefold()))} " for text in rephrases]
    runs = {}
    for first, last in _maximal(folded, others):
        name = any(_is_name(words[i][0]) for i in range(max(first, 1), last))
        empty = {i for i in range(first, last) if folded[i] in STOP_WORDS or (name and not _is_name(words[i][0]))}
        kept = [i for i in range(first, last) if i not in empty]
        if kept:
            text = prompt[words[kept[0]].start() : words[kept[-1]].end()]
            runs[text] = name, kept[-1] - kept[0]
    ranked = sorted(runs, key=lambda text: runs[text], reverse=True)
    if not ranked or (len(ranked) > 1 and runs[ranked[0]] == runs[ranked[1]]):
        return ""
    return ranked[0]


def _is_name(word: str) -> bool:
    return not word.islower() and word.casefold() not in STOP_WORDS


def _maximal(words: Sequence[str], others: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the runs of words, as slices, that all other texts have and that no longer such run contains."""
    reached = 0
    for first in range(len(words)):
        last = first
        while last < len(words) and all(f" {' '.join(words[first : last + 1])} " in other for other in others):
            last += 1
        if last > max(first, reached):
            yield first, last
            reached = last
