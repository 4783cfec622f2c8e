"""Removes keys and passwords from every text: replies, messages, and log records of the HTTP libraries."""

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
"""Replaces a secret."""
SHORT = 8
"""Secrets of fewer characters are replaced only as whole words: local servers use keys such as `none` or `x`."""


class Scrubber:
    """Replaces secrets in texts, also in their JSON, HTML and URL escapes; its `repr` does not show them."""

    __slots__ = ("_pattern",)

    def __init__(self, secrets: Iterable[str]) -> None:
        found = {variant for secret in secrets if secret for variant in _variants(secret)}
        # longest first, so that a secret that starts with another one is removed completely
        parts = [
            re.escape(secret) if len(secret) >= SHORT else rf"(?<!\w){re.escape(secret)}(?!\w)"
            for secret in sorted(found, key=len, reverse=True)
        ]
        self._pattern = re.compile("|".join(parts)) if parts else None

    def __call__(self, text: str) -> str:
        """Return a text without the secrets."""
        return text if self._pattern is None else self._pattern.sub(MARK, text)

    def __repr__(self) -> str:
        return "Scrubber()"


def secrets_of(address: SplitResult) -> Iterator[str]:
    """Yield the secrets in an address: user and password, and the values of its query."""
    userinfo, at, _ = address.netloc.rpartition("@")
    if at:
        plain = unquote(userinfo)
        user, _, password = plain.partition(":")
        # a user name next to a password may be an ordinary word; alone it is a token
        yield from (userinfo, plain, password, "" if password else user)
        yield b64encode(f"{user}:{password}".encode()).decode()  # the header of basic authentication
    for name, value in parse_qsl(address.query):
        yield from (f"{name}={value}", f"{name}={quote(value)}", value if len(value) >= SHORT else "")


@contextmanager
def guarded(scrub: Scrubber) -> Iterator[None]:
    """Scrub all log records within the context, of any library.

    HTTP libraries log addresses and headers under many logger names, some of which exist only after a lazy import.
    Therefore the factory of records is replaced, not a list of loggers.
    """
    before = logging.getLogRecordFactory()

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = before(*args, **kwargs)
        try:
            record.msg, record.args = scrub(record.getMessage()), None
        except (TypeError, ValueError, KeyError):  # arguments that do not fit the message
            record.msg, record.args = f"{scrub(str(record.msg))} {scrub(repr(record.args))}", None
        if record.exc_info:
            record.exc_text = scrub(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None
        return record

    logging.setLogRecordFactory(factory)
    try:
        yield
    finally:
        logging.setLogRecordFactory(before)


def _variants(secret: str) -> set[str]:
    escaped = json.dumps(secret)[1:-1]
    return {secret, escaped, escaped.replace("/", "\\/"), html.escape(secret), quote(secret), quote(secret, safe="")}
