"""How a match is decided in free generation: where an answer naturally stops, and when two answers are the same.

Nothing here depends on the gold answer's length, which teacher forcing reveals. The rules are those of open
question answering: greedy text up to its natural stop (WILD, arXiv 2502.11177), compared after SQuAD's normalisation
(arXiv 1606.05250) with every alias.
"""

import re
import unicodedata
from collections.abc import Iterable
from itertools import takewhile

from instructedit.editors.writing_systems import UNSPACED, blank, unspaced

NORMALISATION = "word-ends-1"
"""Name of the rule of `normalise`, recorded in runs; a change of the rule changes the name."""

_SENTENCE_END = re.compile(r"[.!?]+(?=\s)|[。！？｡।॥؟۔။។།]+")
_LINE_END = re.compile(r"[\r\n]")
_ARTICLES = frozenset(("a", "an", "the"))
_KEPT = frozenset("#%‰°")
"""Marks of a Unicode category P that are part of a word at its ends, as `+`, `$` and `°` of a category S are."""
_SIGN = re.compile(r"-(?=[$€£¥₹]?\.?\d)|(?<!\.)\.(?=\d)")
"""At the start of a word: a sign, or the point of a decimal without a leading zero."""
_GRADE = re.compile(r"[^\W\d_]{1,2}-")
"""A word that ends in a sign: a grade, a blood group or an ion (`A-`, `AB-`, `Cl-`)."""
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!,?\d)")
_UNIT = re.compile(r"(?<=\d)\s+(?=[%‰°])")
_INITIALS = re.compile(r"(?<=\b[^\W\d_])\.(?=[^\W\d_]\b)")
_MARKS = re.compile(r"[^\w\s]+")
_UNSPACED_GAP = re.compile(rf"(?<=[{UNSPACED}])\s+(?=[{UNSPACED}])")
_POWERS = str.maketrans({power: f"^{digit}" for power, digit in zip("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789", strict=True)})
_PLAIN = str.maketrans({**dict.fromkeys("‘’ʼ′`´", "'"), **dict.fromkeys("“”„«»″", '"'), "−": "-", "⁄": "/"})
"""Variants of a mark; every dash of the category Pd is a `-`."""
_ZERO_WIDTH = dict.fromkeys(
    [0xAD, 0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
)
_LAST_WORD = re.compile(r"(\w+)$")
_LONE_CAPITAL = re.compile(r"(?:^|[\s.])[^\W\d_a-z]$")

_TITLES = frozenset("St Ste Mt Ft Mr Mrs Ms Dr Prof Rev Hon Gov Sen Gen Col Capt Lt Sgt".split())
"""Abbreviations before a name, so that their full stop ends no sentence."""


def first_answer(text: str, extra_stops: int = 0) -> str:
    """Cut a free generation at its natural stop.

    The stop is the first line end or the first sentence end, whichever comes first. A sentence end is `.`, `!` or `?`
    before white space, or a full-width mark (`。！？`) anywhere; a full stop after a title (`St.`, `Dr.`) is none. The
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

    Unicode NFKC with variants of quotation marks and dashes made one, lower case (`casefold`), punctuation removed at
    the ends of words, the words `a`, `an` and `the` removed, runs of white space made one space. Within a word
    punctuation stays, so `3.5`, `1/2`, `12:30` and `1945-46` are not other numbers. Parts of a word at its ends are:

    - a sign before a number (`-5`), the point of `.5`, and the sign of a grade, a blood group or an ion (`AB-`);
    - `#`, `%`, `‰` and `°` (`C#`, `50%`; a space between a digit and the last three is dropped); and every
      character that is no punctuation to Unicode, such as `+`, `$` and emojis.

    Full stops of initials are at word ends (`U.S.` is `us`). Commas of English thousands are removed (`1,234`). A power
    is no digit of its number (`10²` is `10^2`). In writing systems without spaces each character ends a word: there all
    punctuation is removed, and white space.

    Source: answer normalisation of SQuAD (arXiv 1606.05250), widened from ASCII to Unicode, narrowed to word ends.
    """
    plain = unicodedata.normalize("NFKC", text.translate(_POWERS)).translate(_ZERO_WIDTH).translate(_PLAIN)
    plain = "".join("-" if unicodedata.category(c) == "Pd" else c for c in plain)
    if unspaced(plain):
        plain = _UNSPACED_GAP.sub("", _MARKS.sub(_beside_unspaced, plain))
    plain = _THOUSANDS.sub(lambda found: found.group().replace(",", ""), plain)
    plain = _INITIALS.sub("", _UNIT.sub("", plain))
    words = (_word(piece).casefold() for piece in plain.split())
    return " ".join(word for word in words if word and word not in _ARTICLES)


def _word(piece: str) -> str:
    """Return a piece between white space without the punctuation at its ends."""
    first, end = 0, len(piece)
    while first < end and _is_mark(piece[first]) and not _SIGN.match(piece, first):
        first += 1
    if piece[first : first + 1].isupper() and _GRADE.fullmatch(piece, first, end):
        return piece[first:]
    while first < end and _is_mark(piece[end - 1]):
        end -= 1
    return piece[first:end]


def _beside_unspaced(found: re.Match[str]) -> str:
    """Return what stays of a run of marks: no punctuation next to a character of a writing system without spaces."""
    run, text = found.group(), found.string
    before, after = text[found.start() - 1 : found.start()], text[found.end() : found.end() + 1]
    if not unspaced(before + run + after):
        return run
    sign = "-" if run[-1] == "-" and after.isdigit() else ""  # of a number after an unspaced character
    return "".join(c for c in run if not _is_mark(c)) + sign


def _is_mark(character: str) -> bool:
    return character not in _KEPT and unicodedata.category(character).startswith("P")


def matches(text: str, aliases: Iterable[str]) -> bool:
    """Return whether the first answer of a free generation equals one of the accepted answers.

        match = any over aliases a: normalise(first_answer(text, inner stops of a)) = normalise(a)

    An answer that normalises to nothing ("?!", "The") matches only if the stripped strings themselves are equal. A
    blank alias matches nothing.
    """
    return any(
        _same(first_answer(text, len(_sentence_ends(_first_line(alias)))), alias)
        for alias in aliases
        if not blank(alias)
    )


def generation_agreement(before: str, after: str, accepted: Iterable[str] = ()) -> bool:
    """Return whether the edited model gives the same first answer as the unedited one (locality in free generation).

        agreement = [normalise(first_answer(before)) = normalise(first_answer(after))]

    If `before`, the text of the unedited model, is an accepted answer, the stops inside that answer are passed over in
    both texts: "No. 5" and "No. 6" do not agree on "No". Else a full stop after a lone capital letter marks an initial
    and is passed over: "J. R. R. Tolkien" and "J. K. Rowling" do not agree on "J".
    """
    initials = _initials(_first_line(before))
    known = (len(_sentence_ends(_first_line(alias))) for alias in accepted if matches(before, [alias]))
    stops = next(known, initials)
    return _same(first_answer(before, stops), first_answer(after, stops))


def natural_text(text: str) -> str:
    """Return a free generation up to its natural stop, as `generation_agreement` reads it, with its leading spaces."""
    answer = first_answer(text, _initials(_first_line(text)))
    return text[: text.index(answer) + len(answer)] if answer else ""


def _initials(line: str) -> int:
    """Return the number of full stops after initials at the start of a line's sentence ends."""
    ends = _sentence_ends(line)
    return sum(1 for _ in takewhile(lambda end: _LONE_CAPITAL.search(line[max(0, end[0] - 2) : end[0]]), ends))


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
    """Return whether a growing generation holds all that `matches` and `generation_agreement` will read of it."""
    if _LINE_END.search(text):
        return True
    line = text.lstrip()
    initials = _initials(line)
    inner = max((len(_sentence_ends(_first_line(alias))) for alias in aliases), default=0)
    return len(_sentence_ends(line)) > max(initials, inner)
