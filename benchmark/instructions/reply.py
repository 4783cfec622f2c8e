"""Parses the descriptions in a chat model's answer: a JSON array was requested, but other lists are common."""

import json
import re
from collections.abc import Iterator
from typing import Any

QUOTES = (('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("`", "`"), ("**", "**"))
"""Marks that models put around a whole description, Markdown's bold included."""
_ITEM = re.compile(r"[-*•+–](?P<bullet>| .*)|\(*\d+[.):](?P<number>| .*)")
THOUGHT = "</think>"
"""End of the reasoning of some models; drafts in it are no answer."""


def items(text: str) -> tuple[str, ...]:
    """Return the descriptions in a reply, in order.

    A JSON array of strings has precedence: alone, in a code fence, after some prose, or as the only list in an object.
    Of a truncated array, the complete strings count. Without an array, numbered or bulleted lines are taken, of the
    kind that comes first. White space and quotes around a description are removed; prose has none.
    """
    answer = text.rpartition(THOUGHT)[2].strip()
    if answer.startswith("<think>"):
        return ()  # truncated while reasoning
    found = _in_json(answer)
    return tuple(bare for item in (_listed(answer) if found is None else found) if (bare := _bare(item)))


def _in_json(text: str) -> list[str] | None:
    """Return the strings of a JSON array in a text; None if the text holds no array of strings."""
    document = _document(text)
    if isinstance(document, dict):
        lists = [value for value in document.values() if isinstance(value, list)]
        document = lists[0] if len(lists) == 1 else []
    if isinstance(document, list):
        strings = [item for item in document if isinstance(item, str)]
        return strings if len(strings) == len(document) else []
    # a placeholder such as [TOPIC] has a bracket too, but no string follows it
    arrays = (list(_strings(text, place + 1)) for place, sign in enumerate(text) if sign == "[")
    return next((found for found in arrays if found), None)


def _document(text: str) -> Any:
    """Return the JSON value that a text is, or that its first code fence holds; None if there is none."""
    fenced = text.split("```")[1].removeprefix("json") if text.count("```") >= 2 else text
    for candidate in (text, fenced):
        try:
            return json.loads(candidate)
        except (ValueError, RecursionError):
            continue
    return None


def _strings(text: str, place: int) -> Iterator[str]:
    """Yield the strings of an array whose content starts at `place`, up to the first incomplete one."""
    decoder = json.JSONDecoder(strict=False)
    while True:
        place = len(text) - len(text[place:].lstrip(" \t\r\n,"))
        if text[place : place + 1] != '"':
            return
        try:
            item, place = decoder.raw_decode(text, place)
        except ValueError:
            return
        yield item


def _listed(text: str) -> list[str]:
    """Return the items of numbered or bulleted lines; an indented line continues the item above it."""
    found: list[str] = []
    kind = ""
    for line in text.splitlines():
        item = _ITEM.fullmatch(line.strip())
        if item is None:
            if found and line[:1].isspace() and line.strip():
                found[-1] += f" {line.strip()}"
            continue
        own = item.lastgroup or ""
        kind = kind or own
        if own == kind and item[own].strip():
            found.append(item[own].strip())
    return found


def _bare(text: str) -> str:
    """Return a text without white space and pairs of quotes around it."""
    text = text.strip()
    for first, last in QUOTES:
        inner = text[len(first) : -len(last)]
        if text.startswith(first) and text.endswith(last) and inner and first not in inner and last not in inner:
            return _bare(inner)
    return text
