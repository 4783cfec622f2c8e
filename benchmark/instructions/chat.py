"""A proposer that uses any server with the chat-completions protocol, through the `openai` package."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from instructedit.editors import InputError

from .conversation import ChatModelProposer, Exchange, Message
from .ledger import Ledger
from .proposer import BudgetError
from .server import KEY, MODEL, URL, Scrubber, address_of_server, key_of_server, no_logs, secrets_of, variable

REASONS = {
    401: f"the server does not accept the key (401); expected a valid one in {KEY}",
    403: "the key does not allow this (403)",
    404: f"there is no such model, or no such address (404); check {MODEL} and {URL}",
    429: "it has had too many requests (429)",
}
"""Reasons of refusals by HTTP status."""
WORDS = 300
"""Characters of a server's own message that are repeated."""
TEMPERATURE = 1.0
ANSWER = 2048
"""Maximum number of tokens of an answer, or 100 per description if that is more."""
CHARACTERS = 4
"""Characters of a token, about, in English."""


class Failure(NamedTuple):
    """Why a request gave no answer: the end of a sentence, without secrets, and the HTTP status of a refusal."""

    reason: str
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One request with its retries; `attempts` has the numbers of its attempts in the ledger, in order."""

    conversation: Sequence[Message]
    limit: int
    seed: int
    prompt: int
    retries: int
    exchange: Exchange
    attempts: list[int] = field(default_factory=list)


class ChatProposer(ChatModelProposer):
    """Uses the model `OPENAI_MODEL` at `OPENAI_BASE_URL` with the key `OPENAI_API_KEY`.

    The `openai` package retries failed attempts, with its own back-off and the server's Retry-After; each attempt is
    entered in the ledger. Secrets are removed from replies and messages; during a request nothing is logged.

    Args:
        ledger: The tokens spent so far.
        timeout: Seconds without a byte from the server after which an attempt has failed.
        retries: Further attempts after the first one.
        requests_per_minute: Maximum number of requests in a minute, evenly spaced; None for no limit.
        budget: Maximum number of tokens of all requests in the ledger, prompts and answers; None for no limit. A prompt
            is estimated at four characters a token, so the last request may exceed the budget by that error.

    Raises:
        InputError: If a variable cannot be used, or the package `openai` is not installed.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        timeout: float,
        retries: int,
        requests_per_minute: float | None = None,
        budget: int | None = None,
    ) -> None:
        if find_spec("openai") is None:
            raise InputError(
                "The proposer 'openai' needs the package openai: "
                'pip install "instructedit-bench[instructions]" installs it.'
            )
        address, key = address_of_server(), key_of_server()
        self._scrub = Scrubber([key, *secrets_of(address)])
        self._url = self._scrub(address._replace(netloc=address.netloc.rpartition("@")[2], query="").geturl())
        self._model = variable(MODEL)
        if not self._model:
            raise InputError(f"{MODEL} is not set; expected the name of a model at {self._url}.")
        self._timeout, self._retries, self._spacing = timeout, retries, 60.0 / (requests_per_minute or math.inf)
        self._budget, self._ledger = budget, ledger
        self._free_at = -math.inf
        self._left_out: set[str] = set()

    @property
    def model(self) -> str:
        """See `Proposer.model`."""
        return self._scrub(self._model)

    @property
    def settings(self) -> dict[str, object]:
        """See `Proposer.settings`."""
        return {"url": self._url, "temperature": TEMPERATURE, "max_tokens": None}

    @property
    def spent(self) -> int:
        """Tokens spent so far, prompts and answers together."""
        return self._ledger.tokens

    def _answer(self, conversation: Sequence[Message], count: int, seed: int, exchange: Exchange) -> str:
        limit = max(ANSWER, 100 * count)
        prompt = _estimate("".join(message["content"] for message in conversation))
        while True:
            before = self.spent
            call = Call(conversation, limit, seed, prompt, self._affordable_retries(prompt, limit), exchange)
            outcome = self._request(call)
            text, tokens = ("", 0) if isinstance(outcome, Failure) else self._read(outcome, call)
            exchange.output_tokens += tokens
            exchange.input_tokens += self.spent - before - tokens
            if not isinstance(outcome, Failure):
                return text
            if option := self._refused_option(outcome):
                self._left_out.add(option)
                exchange.note(f"The server does not take the option {option}; the request is repeated without it.")
                continue
            self._affordable_retries(prompt, limit)
            tried = f" in {len(call.attempts)} attempts" if len(call.attempts) > 1 else ""
            raise InputError(f"The chat model '{self.model}' at {self._url} gave no answer{tried}: {outcome.reason}.")

    def _affordable_retries(self, prompt: int, limit: int) -> int:
        """Return how many retries the budget allows at the highest cost; `BudgetError` if not even one attempt."""
        if self._budget is None:
            return self._retries
        attempts = (self._budget - self.spent) // (prompt + limit)
        if attempts < 1:
            raise BudgetError(
                f"The budget of {self._budget:,} tokens does not allow another request: {self.spent:,} are spent, and "
                f"it may take {prompt + limit:,} (about {prompt:,} for the prompt, up to {limit:,} for the answer)."
            )
        return min(self._retries, attempts - 1)

    def _request(self, call: Call) -> str | Failure:
        """Return the body of the server's response. Errors are returned: one raised here would carry the key along."""
        import openai

        # newer models of OpenAI want the limit under another name, and take neither a temperature nor a seed
        name = "max_completion_tokens" if "max_tokens" in self._left_out else "max_tokens"
        options = {name: call.limit, "temperature": TEMPERATURE, "seed": call.seed % 2**31}
        address = address_of_server()
        try:
            with no_logs(), self._metered_client(call) as http_client:
                client: Any = openai.OpenAI(
                    base_url=address._replace(query="").geturl(),
                    default_query=dict(parse_qsl(address.query)),
                    api_key=key_of_server() or "none",  # the package needs one even if the server does not
                    timeout=self._timeout,
                    max_retries=call.retries,
                    http_client=http_client,
                )
                response = client.chat.completions.with_raw_response.create(
                    model=self._model,
                    messages=list(call.conversation),
                    **{key: value for key, value in options.items() if key not in self._left_out},
                )
                return str(response.http_response.text)
        except openai.APIStatusError as error:
            return self._refusal(error)
        except openai.APITimeoutError:
            return Failure(f"nothing came from the server for {self._timeout:g} seconds")
        except openai.OpenAIError as error:
            return Failure(self._words(f"{error} {error.__cause__ or ''}"))

    def _metered_client(self, call: Call) -> Any:
        """Return an HTTP client that enters each attempt in the ledger: at its highest cost, or at none if refused."""
        import openai

        ledger, pace = self._ledger, self._pace

        class MeteredClient(openai.DefaultHttpxClient):
            def send(self, request: Any, **options: Any) -> Any:
                if call.attempts:
                    number = len(call.attempts) + 1
                    call.exchange.note(f"The request failed; this is attempt {number} of {call.retries + 1}.")
                pace()
                call.attempts.append(ledger.sent(call.prompt + call.limit))
                try:
                    response = super().send(request, **options)
                except Exception as error:
                    if type(error).__name__.startswith("Connect"):  # nothing was sent
                        ledger.came(call.attempts[-1], 0, None)
                    raise
                if response.status_code >= 300:
                    ledger.came(call.attempts[-1], 0, None)
                return response

        return MeteredClient()

    def _read(self, body: str, call: Call) -> tuple[str, int]:
        """Return the answer in a response's body, empty if there is none, and its tokens, and enter the cost."""
        try:
            document = json.loads(body)
            choice = document["choices"][0]
            text = choice["message"]["content"] or ""
            usage = document.get("usage") or {}
            counts: list[Any] = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            call.exchange.note(f"The reply is no chat completion: '{self._words(body)[:100]}'.")
            return "", 0
        text = self._scrub(str(text))
        if not all(type(count) is int and count >= 0 for count in counts):
            counts = [call.prompt, _estimate(text)]
            call.exchange.note(f"The server reports no token counts; {CHARACTERS} characters are taken for a token.")
        self._ledger.came(call.attempts[-1], sum(counts), text)
        if choice.get("finish_reason") == "length":
            call.exchange.note("The reply was cut off at its maximum number of tokens.")
        if not text.strip():
            call.exchange.note("The reply is empty.")
        return text, int(counts[1])

    def _refusal(self, error: Any) -> Failure:
        status, body = error.status_code, error.body if isinstance(error.body, dict) else {}
        reason = REASONS.get(
            status, f"the server {'failed' if status >= 500 else 'does not take the request'} ({status})"
        )
        # the server's message on a 401 is left out: some repeat a part of the key
        words = "" if status == 401 else self._words(body.get("message") or error.response.text)
        return Failure(f"{reason}: {words}" if words else reason, status)

    def _refused_option(self, failure: Failure) -> str | None:
        """Return the option that the server refuses by name, unless it is left out already."""
        if failure.status not in {400, 422}:
            return None
        options = (option for option in ("max_tokens", "seed", "temperature") if option not in self._left_out)
        option = next((option for option in options if option in failure.reason), None)
        return None if option == "max_tokens" and "max_completion_tokens" not in failure.reason else option

    def _pace(self) -> None:
        now = time.monotonic()
        if self._free_at > now:
            time.sleep(self._free_at - now)
        self._free_at = max(now, self._free_at) + self._spacing

    def _words(self, text: object) -> str:
        """Return a text of the server or a library for a message, scrubbed before it is cut."""
        return " ".join(self._scrub(str(text)).split())[:WORDS].rstrip(" .")


def _estimate(text: str) -> int:
    return math.ceil(len(text) / CHARACTERS)
