"""What one request for a chat completion comes to."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from .prompt import Message
from .scrub import Scrubber

URL, KEY, MODEL = "OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_MODEL"
"""Variables of the environment that say whom to ask."""
AGAIN = frozenset({408, 409, 429})
"""Statuses below 500 that may be gone at the next attempt."""
WORDS = 300
"""Characters of a server's own words that go into a message."""
CHARACTERS = 4
"""Characters of English text that make one token, about."""


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer.

    Attributes:
        text: What the model said, not empty, without secrets.
        tokens: Tokens of the prompt.
        output_tokens: Tokens of the answer.
        estimated: Whether the server told no counts and they are estimated.
        cut_off: Whether the answer ended at the most tokens it may have.
    """

    text: str
    tokens: int
    output_tokens: int
    estimated: bool
    cut_off: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that gave no answer.

    Attributes:
        reason: What was wrong, as the end of a sentence, without secrets.
        again: Whether another attempt may succeed.
        wait: Seconds that the server asks to wait.
        tokens: Tokens that the attempt may have cost.
        estimated: Whether they are estimated.
        status: HTTP status of a refusal.
    """

    reason: str
    again: bool = True
    wait: float | None = None
    tokens: int = 0
    estimated: bool = False
    status: int | None = None


def estimate(asked: Sequence[Message]) -> int:
    """Return the tokens of a conversation, at four characters for one."""
    return _tokens("".join(message["content"] for message in asked))


def read(body: str, asked: Sequence[Message], limit: int, scrub: Scrubber) -> Completion | Failure:
    """Read the body of a response with status 200.

    Args:
        body: The body.
        asked: What was asked, to estimate tokens that the server does not tell.
        limit: Most tokens that the answer could have; a body that cannot be read counts as such an answer.
        scrub: Takes secrets out of whatever is kept.

    Returns:
        The answer, or why there is none.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return Failure(f"the body is no JSON: {_start(body, scrub)}", tokens=estimate(asked) + limit, estimated=True)
    document = document if isinstance(document, dict) else {}
    choice = _at(document, "choices", 0)
    text = _at(choice, "message", "content")
    text = scrub(text) if isinstance(text, str) else ""
    told = [_at(document, "usage", name) for name in ("prompt_tokens", "completion_tokens")]
    counts = [count for count in told if type(count) is int and count >= 0]
    estimated = len(counts) < 2
    prompt, answer = (estimate(asked), _tokens(text)) if estimated else counts
    cut_off = _at(choice, "finish_reason") == "length"
    if text.strip():
        return Completion(text, prompt, answer, estimated, cut_off)
    if choice is None:
        reason = f"the body holds no choice: {_start(body, scrub)}"
    else:
        reason = "the reply is empty" + (" and was cut off at its most tokens" if cut_off else "")
    return Failure(reason, tokens=prompt + answer, estimated=estimated)


def refusal(response: Any, error: object, scrub: Scrubber, *, keyed: bool) -> Failure:
    """Read a response whose status is 300 or more.

    Args:
        response: The response, as the HTTP library gives it.
        error: The error that the SDK found in the body.
        scrub: Takes secrets out of whatever is kept.
        keyed: Whether a key was sent.
    """
    status: int = response.status_code
    body = error if isinstance(error, dict) else {}
    said = body.get("message")
    words = scrub(" ".join((said if isinstance(said, str) else response.text).split()))[:WORDS].rstrip(" .")
    told = f": {words}" if words else ""
    exhausted = body.get("code") == "insufficient_quota"  # it comes as a 429, and waiting does not help
    if (status in AGAIN or status >= 500) and not exhausted:
        what = "it has had too many requests" if status == 429 else "the server failed"
        return Failure(f"{what} ({status}){told}", wait=_retry_after(response.headers.get("retry-after")))
    match status:
        case 401:
            # What the server says is left out: some repeat a part of the key.
            what = "the server does not accept the key (401)" if keyed else "the server asks for a key (401)"
            reason = f"{what}; a valid one was expected in {KEY}"
        case 403:
            reason = f"the key does not allow this (403){told}"
        case 404:
            reason = f"there is no such model, or no such address (404); look at {MODEL} and {URL}{told}"
        case _:
            reason = f"the server does not take the request ({status}){told}"
    return Failure(reason, again=False, status=status)


def _retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After asks for, as a number or as a date; None if it asks for nothing."""
    try:
        seconds = float(value or "nan")
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value or "").timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _at(value: Any, *path: str | int) -> Any:
    """Return what stands at a path in a JSON value; None if there is no such place."""
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _tokens(text: str) -> int:
    return -(-len(text) // CHARACTERS)


def _start(body: str, scrub: Scrubber) -> str:
    """Return the start of a body for a message; scrubbed before it is cut, lest a part of a secret is left."""
    return f"'{' '.join(scrub(body).split())[:100]}'"
