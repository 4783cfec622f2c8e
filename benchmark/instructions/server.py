"""The server of a chat model, as environment variables name it, and its secrets, which reach no text and no log."""

import html
import json
import logging
import os
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from instructedit.editors import InputError

URL, KEY, MODEL = "OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL"
"""Environment variables that name the server."""
PUBLIC = "https://api.openai.com/v1"
"""Address if none is set."""
MARK = "[hidden]"
"""Replaces a secret."""
SHORT = 8
"""Secrets of fewer characters are replaced only as whole words: local servers use keys such as `none` or `x`."""


def variable(name: str) -> str:
    """Return an environment variable; empty if it is not set."""
    return os.environ.get(name, "").strip()


def key_of_server() -> str:
    """Return the key, empty if none is set; `InputError`, which does not repeat it, if it is needed or none."""
    key = variable(KEY)
    if not key and not variable(URL):
        raise InputError(f"{KEY} is not set; expected the key for {PUBLIC}, or {URL} for a server that needs none.")
    if not all("!" <= sign <= "~" for sign in key):
        raise InputError(f"{KEY} holds white space or characters that are not ASCII; no key has them.")
    return key


def address_of_server() -> SplitResult:
    """Return the server's address; `InputError`, which does not repeat it, if it is none."""
    try:
        address = urlsplit(variable(URL) or PUBLIC)
        usable = address.scheme in {"http", "https"} and bool(address.hostname) and address.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InputError(f"{URL} is no address; expected one like http://localhost:8000/v1.")
    return address


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
def no_logs() -> Iterator[None]:
    """Log nothing within the context: HTTP libraries log addresses and headers, under many names."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _variants(secret: str) -> set[str]:
    escaped = json.dumps(secret)[1:-1]
    return {secret, escaped, escaped.replace("/", "\\/"), html.escape(secret), quote(secret), quote(secret, safe="")}
