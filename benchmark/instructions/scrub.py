"""Keeps a key out of every text: replies, messages, and what libraries log on the way."""

import html
import json
import logging
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote

MARK = "[hidden]"
"""What stands where a secret stood."""
SHORT = 8
"""Characters below which a secret is replaced only where it stands as a word of its own.

Local servers are given keys such as `none` or `x`; taken out of the middle of words they would spoil the texts.
"""


class Scrubber:
    """Replaces secrets in texts, also where JSON, HTML or an address has escaped them; its `repr` does not show them.

    Args:
        secrets: What must not be seen; empty ones are passed over.
    """

    __slots__ = ("_pattern",)

    def __init__(self, secrets: Iterable[str]) -> None:
        found = {variant for secret in secrets if secret for variant in _variants(secret)}
        # Longest first, so that no part of a secret is left where another one is its front.
        parts = [_expression(secret) for secret in sorted(found, key=len, reverse=True)]
        self._pattern = re.compile("|".join(parts)) if parts else None

    def __call__(self, text: str) -> str:
        """Return a text without the secrets."""
        return text if self._pattern is None else self._pattern.sub(MARK, text)

    def __repr__(self) -> str:
        return "Scrubber()"


def secrets_of(address: SplitResult) -> Iterator[str]:
    """Yield what an address tells beyond the place: user and password, and the values of its query."""
    front, at, _ = address.netloc.rpartition("@")
    if at:
        plain = unquote(front)
        user, _, password = plain.partition(":")
        # A user name beside a password may be an ordinary word; alone it is a token.
        yield from (front, plain, password, "" if password else user)
        yield b64encode(f"{user}:{password}".encode()).decode()  # as the header for basic authentication has it
    for name, value in parse_qsl(address.query):
        yield f"{name}={value}"
        yield f"{name}={quote(value)}"
        if len(value) >= SHORT:
            yield value


@contextmanager
def guarded(scrub: Scrubber) -> Iterator[None]:
    """Scrub all that is logged meanwhile, by whatever library.

    The HTTP libraries log addresses and headers, each under a name of its own, and some only once they are imported.
    So it is the making of records that is guarded, not a list of loggers.
    """
    before = logging.getLogRecordFactory()

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        return _scrubbed(before(*args, **kwargs), scrub)

    logging.setLogRecordFactory(factory)
    try:
        yield
    finally:
        logging.setLogRecordFactory(before)


def _scrubbed(record: logging.LogRecord, scrub: Scrubber) -> logging.LogRecord:
    try:
        record.msg, record.args = scrub(record.getMessage()), None
    except (TypeError, ValueError, KeyError):  # arguments that do not fit the message
        record.msg, record.args = f"{scrub(str(record.msg))} {scrub(repr(record.args))}", None
    if record.exc_info:
        record.exc_text = scrub(logging.Formatter().formatException(record.exc_info))
        record.exc_info = None
    return record


def _variants(secret: str) -> set[str]:
    escaped = json.dumps(secret)[1:-1]
    return {secret, escaped, escaped.replace("/", "\\/"), html.escape(secret), quote(secret), quote(secret, safe="")}


def _expression(secret: str) -> str:
    expression = re.escape(secret)
    return expression if len(secret) >= SHORT else rf"(?<!\w){expression}(?!\w)"
