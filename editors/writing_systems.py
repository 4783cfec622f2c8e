"""How a prompt and an answer are joined, given how their writing systems use spaces.

All decisions follow from the characters of a text (Unicode 15 blocks and general categories); no language is guessed.
Only `join` makes one text of a prompt and an answer.
"""

import re
import unicodedata
from typing import Literal

Joint = Literal["", " "]
"""What a data set may have between prompt and answer."""

JOINT_RULE = "scripts-1"
"""Name of the rule of `joint_of`, recorded in runs; a new rule gets a new name."""

UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e7f"  # Thai, without the sign of the baht
    "\u0e80-\u0eff"  # Lao
    "\u0f00-\u0fff"  # Tibetan
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Burmese
    "\u1780-\u17da\u17dc-\u17ff\u19e0-\u19ff"  # Khmer, without the sign of the riel
    "\u1950-\u19df\u1a20-\u1aaf\uaa80-\uaadf"  # Tai Le, New Tai Lue, Tai Tham, Tai Viet
    "\u1b00-\u1b7f\ua980-\ua9df"  # Balinese, Javanese
    "\u2e80-\u2fdf\u3000-\u303f\u31c0-\u31ef\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Han
    "\u3040-\u30ff\u31f0-\u31ff\U0001b000-\U0001b16f"  # Kana
    "\u3100-\u312f\u31a0-\u31bf"  # Bopomofo
    "\ua000-\ua4cf"  # Yi
    "\ufe30-\ufe4f\uff01-\uff9f"  # forms of East Asian typography, full and half width
)
"""Writing systems without spaces between words, with their punctuation, as the inside of a character class.

Hangul is not among them: Korean puts spaces between words.
"""

_UNSPACED = re.compile(f"[{UNSPACED}]")
_BORDER = re.compile(rf"(?:(?<=[^\W{UNSPACED}]) *(?=[{UNSPACED}]))|(?:(?<=[{UNSPACED}]) *(?=[^\W{UNSPACED}]))")
"""Between a letter or digit of a spaced writing system and a character of an unspaced one, in either order."""
_INVISIBLE = {"Cc", "Cf", "Cs", "Cn", "Zs", "Zl", "Zp"}
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0\u2800")
"""Invisible letters and symbols: the fillers of Hangul, and braille without a dot."""
_STRAIGHT = "\"'"
_CLOSING = frozenset(",.;:!?…،؛؟।॥۔")


def unspaced(text: str) -> bool:
    """Tell whether a text has a character of a writing system without spaces between words."""
    return _UNSPACED.search(text) is not None


def blank(text: str) -> bool:
    """Tell whether a text is empty or has only white space, control and zero-width characters."""
    return all(
        unicodedata.category(c) in _INVISIBLE or c in _FILLERS or 0xFE00 <= ord(c) <= 0xFE0F or c == "\u034f"
        for c in text
    )


def joint_of(prompt: str, answer: str) -> str:
    """Return what separates a prompt and its answer, decided by the text: one space, or nothing.

    There is no space

    - where the prompt ends in white space or the answer begins with it,
    - between two characters of writing systems without spaces between words,
    - after an opening quotation mark or bracket, and
    - before closing punctuation (`, . ; : ! ?`, a closing quotation mark or bracket).

    Where one side is written without spaces and the other is not, the prompt decides: what it has at the last such
    border within its last line, else a space only if it has no character of an unspaced writing system. English
    questions about Chinese names keep their space; "Python的作者是" takes none before "Guido".
    """
    last, first = prompt[-1:], answer[:1]
    if not last or not first or last.isspace() or first.isspace() or _opens(prompt) or _closes(answer):
        return ""
    sides = unspaced(last), unspaced(first)
    if not any(sides):
        return " "
    if all(sides):
        return ""
    line = prompt.splitlines()[-1]
    borders = [found.group() for found in _BORDER.finditer(line)]
    return (" " if borders[-1] else "") if borders else ("" if unspaced(line) else " ")


def join(prompt: str, answer: str, joint: Joint | None = None) -> tuple[str, int]:
    """Return prompt and answer as one text, and the character index at which the answer begins.

    Trailing spaces of the prompt become one space. It belongs to the answer, as the joint does: byte-level BPE makes a
    space part of the next token, and a prompt that is continued must not end in half of one. Without a joint `joint_of`
    decides; none is added where the prompt ends in white space or the answer begins with it.
    """
    stripped = prompt.rstrip(" ")
    if not stripped or stripped[-1].isspace() or answer[:1].isspace():
        return stripped + answer, len(stripped)
    if len(stripped) < len(prompt):
        joint = " "
    return stripped + (joint_of(stripped, answer) if joint is None else joint) + answer, len(stripped)


def _opens(prompt: str) -> bool:
    """Tell whether a text ends in a mark that opens a quotation or a bracket."""
    last, before = prompt[-1], prompt[-2:-1]
    if last in _STRAIGHT or unicodedata.category(last) in ("Pi", "Pf"):
        # Straight marks open and close, and so do curly ones: German closes with the mark that English opens with.
        return not before or before.isspace() or unicodedata.category(before) == "Ps"
    return last in "¿¡" or unicodedata.category(last) == "Ps"


def _closes(answer: str) -> bool:
    """Tell whether a text begins with closing punctuation. Before a letter or digit a mark is part of the word."""
    first, following = answer[0], answer[1:2]
    if unicodedata.category(first) == "Pe":
        return True
    return (first in _CLOSING or unicodedata.category(first) == "Pf") and not following.isalnum()
