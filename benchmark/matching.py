"""Scores of free generation: where an answer naturally stops, and when two answers are the same.

Nothing here knows the gold answer's length, which is what teacher forcing gives away. The rules are those of open
question answering: greedy text up to its natural stop (WILD, arXiv 2502.11177), compared after SQuAD's normalisation
(arXiv 1606.05250) with every alias.
"""

import re
import unicodedata
from collections.abc import Iterable
from itertools import takewhile

_SENTENCE_END = re.compile(r"[.!?]+(?=\s)|[。！？]+")
_LINE_END = re.compile(r"[\r\n]")
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_LAST_WORD = re.compile(r"(\w+)$")
_LONE_CAPITAL = re.compile(r"(?:^|[\s.])[^\W\d_a-z]$")

_TITLES = frozenset("St Ste Mt Ft Mr Mrs Ms Dr Prof Rev Hon Gov Sen Gen Col Capt Lt Sgt".split())
"""Abbreviations that stand in front of a name and never end one, so that a full stop behind them ends no sentence."""


def first_answer(text: str, extra_stops: int = 0) -> str:
    """Cut a free generation at its natural stop.

    The stop is the first line end or the first sentence end, whichever comes first. A sentence end is `.`, `!` or `?`
    before white space, or a full-width mark (`。！？`) anywhere; a full stop behind a title (`St.`, `Dr.`) is none. The
    mark itself is cut off, unless nothing else is there. Text that opens with a line end is an empty answer.

    Args:
        text: What the model wrote after the prompt.
        extra_stops: Sentence ends to pass over: as many as the expected answer has inside ("Yahoo! Inc" has one).
    """
    line = _first_line(text)
    ends = _sentence_ends(line)
    if extra_stops >= len(ends):
        return line
    start, end = ends[extra_stops]
    return line[:start].rstrip() or line[:end]


def normalise(text: str) -> str:
    """Return the text in the form in which answers are compared.

    In this order: Unicode NFKC, lower case (`casefold`), punctuation removed (every character of a Unicode category P,
    so `+`, `$` and emojis stay), the words `a`, `an` and `the` removed, runs of white space made one space.

    Source: answer normalisation of SQuAD (arXiv 1606.05250), widened from ASCII to Unicode.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(c for c in folded if not unicodedata.category(c).startswith("P"))
    return " ".join(_ARTICLE.sub(" ", kept).split())


def matches(text: str, aliases: Iterable[str]) -> bool:
    """Tell whether the first answer of a free generation equals one of the accepted answers.

        match = any over aliases a: normalise(first_answer(text, inner stops of a)) = normalise(a)

    An answer that normalises to nothing ("?!", "The") matches only if the stripped strings themselves are equal. A
    blank alias matches nothing.

    Args:
        text: What the model wrote after the prompt.
        aliases: Accepted answers, in any order.
    """
    return any(
        _same(first_answer(text, len(_sentence_ends(_first_line(alias)))), alias) for alias in aliases if alias.strip()
    )


def generation_agreement(before: str, after: str, accepted: Iterable[str] = ()) -> bool:
    """Tell whether the edited model gives the same first answer as the unedited one (locality in free generation).

        agreement = [normalise(first_answer(before)) = normalise(first_answer(after))]

    If `before` is an accepted answer, the stops inside that answer are passed over in both texts: "No. 5" and "No. 6"
    do not agree on "No". Else a full stop behind a lone capital letter is taken for an initial and passed over:
    "J. R. R. Tolkien" and "J. K. Rowling" do not agree on "J".

    Args:
        before: Free generation of the unedited model.
        after: Free generation of the edited model from the same prompt.
        accepted: Answers that the data set expects.
    """
    line = _first_line(before)
    initials = sum(
        1 for _ in takewhile(lambda end: _LONE_CAPITAL.search(line[max(0, end[0] - 2) : end[0]]), _sentence_ends(line))
    )
    known = (len(_sentence_ends(_first_line(alias))) for alias in accepted if matches(before, [alias]))
    stops = next(known, initials)
    return _same(first_answer(before, stops), first_answer(after, stops))


def _first_line(text: str) -> str:
    return _LINE_END.split(text, maxsplit=1)[0].strip()


def _sentence_ends(line: str) -> list[tuple[int, int]]:
    """Return start and end of the marks that end a sentence within a line."""
    return [
        found.span()
        for found in _SENTENCE_END.finditer(line)
        # A few characters tell a title from the end of a longer word; all of them take quadratic time.
        if not _is_title(line[max(0, found.start() - 8) : found.start()], found.group())
    ]


def _is_title(front: str, mark: str) -> bool:
    word = _LAST_WORD.search(front)
    return mark == "." and word is not None and word.group() in _TITLES


def _same(answer: str, other: str) -> bool:
    left, right = normalise(answer), normalise(other)
    # Punctuation-only and article-only answers all normalise to "": they must not all be the same answer.
    return left == right if left and right else answer.strip() == other.strip()


def finished(text: str, aliases: Iterable[str]) -> bool:
    """Tell whether a growing generation already holds all that `matches` and `generation_agreement` will read of it.

    Args:
        text: What the model wrote so far.
        aliases: Accepted answers.
    """
    if _LINE_END.search(text):
        return True
    line = text.lstrip()
    ends = _sentence_ends(line)
    initials = sum(1 for _ in takewhile(lambda end: _LONE_CAPITAL.search(line[max(0, end[0] - 2) : end[0]]), ends))
    inner = max((len(_sentence_ends(_first_line(alias))) for alias in aliases), default=0)
    return len(ends) > max(initials, inner)
