"""Characters that no reader would see, shown by their codes: every text of data and answers passes here on its way."""

import re

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2060\u2066-\u2069\ud800-\udfff\ufeff]")
"""Characters that are invisible, that turn the text around them, that steer a terminal, or that no file can hold:
control characters, breaks, direction marks, lone surrogates. Tab and line feed are none of them."""


def code(character: str) -> str:
    """Return the code of a character, e.g. `U+001B`."""
    return f"U+{ord(character):04X}"


def literal(text: str) -> str:
    """Return a text with `<U+001B>` and the like in place of such characters."""
    return CONTROL.sub(lambda found: f"<{code(found.group())}>", text)
