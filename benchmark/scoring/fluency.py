"""Fluency: n-gram entropy of a generated text, over a tokenisation into words that needs no data file."""

import math
import re
import unicodedata
from collections import Counter
from functools import cache

from instructedit.editors.scripts import UNSPACED

WORDS = "scripts-1"
"""Name of the rule of `words`, recorded in runs; a change of the rule changes the name."""


def words(text: str) -> list[str]:
    r"""Split a text into words and marks of punctuation, deterministically and without any data file.

    The rule is the regular expression `\w+(?:['’]\w+)*|[^\w\s]`, where a letter carries its combining marks: case is
    kept, "don't" is one word, "..." is three marks. In writing systems without spaces between words (Chinese, Japanese,
    Thai, ...) each character with its combining marks is a word.
    """
    return _words().findall(text)


@cache
def _words() -> re.Pattern[str]:
    r"""Return the expression of `words`: `re` has no class of combining marks, and `\w` leaves them out."""
    marks = "".join(map(chr, (c for c in range(0x300, 0x1F000) if unicodedata.category(chr(c)).startswith("M"))))
    joined = f"[{marks}\u200c\u200d]*"  # Persian and the scripts of India join letters, or part them, within a word
    letter = rf"[^\W{UNSPACED}]{joined}"
    return re.compile(rf"(?:{letter})+(?:['’](?:{letter})+)*|[{UNSPACED}]{joined}|[^\w\s]")


def ngram_entropy(text: str) -> float | None:
    """Fluency: entropy of the bigrams and trigrams of a text, which falls when the text repeats itself.

        H_n = -sum_g p_n(g) log2 p_n(g)      score = 100 * (H_2 / 3 + 2 H_3 / 3)

    p_n(g) is the share of the n-gram g among the text's n-grams of `words`. A text of m different words reaches about
    100 log2 m, so only texts of equal length compare.

    Args:
        text: Generated text without its prompt.

    Returns:
        The score, or None if the text has fewer than three words and so no trigram.

    Source: generation entropy of ROME (arXiv 2202.05262), with its weights (2/3, 4/3) / 2; times 100 as KnowEdit
    reports it.
    """
    tokens = words(text)
    if len(tokens) < 3:
        return None
    return 100 * (_entropy(tokens, 2) / 3 + 2 * _entropy(tokens, 3) / 3)


def _entropy(tokens: list[str], n: int) -> float:
    counts = Counter(zip(*(tokens[i:] for i in range(n)), strict=False))
    total = counts.total()
    return math.fsum(count / total * math.log2(total / count) for count in counts.values())
