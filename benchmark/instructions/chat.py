"""A proposer that asks any server which speaks the chat-completions protocol, through the `openai` package."""

import math
import os
import random
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar
from urllib.parse import SplitResult, parse_qsl, urlsplit

from instructedit.editors import InputError, seed_of

from .asking import AskingProposer, Exchange
from .completion import KEY, MODEL, URL, Completion, Failure, estimate, read, refusal
from .ledger import Ledger
from .prompt import Message
from .proposal import BudgetError
from .scrub import Scrubber, guarded, secrets_of

PUBLIC = "https://api.openai.com/v1"
"""Where requests go if no address is set."""
LONGEST_BACKOFF = 60.0
LONGEST_WAIT = 300.0
"""Seconds up to which a server's Retry-After is waited for; one that asks for more has no room for this loop today."""


class ChatProposer(AskingProposer):
    """Asks the model `OPENAI_MODEL` at `OPENAI_BASE_URL` with the key `OPENAI_API_KEY`.

    Each retry is reported and noted with its reason. The key, and whatever the address holds of the kind, is replaced
    in all that the server says, in all messages, and in all that is logged during a request.

    Args:
        timeout: Seconds without a byte from the server after which an attempt is given up.
        retries: Attempts after the first one.
        requests_per_minute: Most requests in a minute, evenly spaced; None for no limit.
        budget: Most tokens of all requests in the ledger, of prompts and answers together; None for no limit. Before it
            is sent, a prompt is taken at four characters a token; the last request may go beyond by the error of that.
        ledger: What was spent so far; a new one by default.
        temperature: Temperature of sampling; None leaves it to the server.
        max_tokens: Most tokens of an answer; by default 2,048, or 100 for each description where that is more.
        sleep: Waits for seconds.
        clock: Gives the time in seconds.

    Raises:
        InputError: If a variable or an argument cannot be used, or the package `openai` is not installed.
    """

    name: ClassVar[str] = "openai"

    def __init__(
        self,
        *,
        timeout: float = 120.0,
        retries: int = 5,
        requests_per_minute: float | None = None,
        budget: int | None = None,
        ledger: Ledger | None = None,
        temperature: float | None = 1.0,
        max_tokens: int | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(clock)
        numbers = {"timeout": timeout, "requests_per_minute": requests_per_minute, "max_tokens": max_tokens}
        for name, value in numbers.items():
            if value is not None and not value > 0:
                raise InputError(f"{name} is {value}; a number above 0 was expected.")
        if retries < 0 or (budget is not None and budget < 0):
            raise InputError("retries and budget cannot be negative.")
        if find_spec("openai") is None:
            raise InputError(
                "The proposer 'openai' needs the package openai: "
                'pip install "instructedit-bench[instructions]" installs it.'
            )
        address = _address()
        self._keyed = bool(_key())
        self._scrub = Scrubber([_key(), *secrets_of(address)])
        self._url = self._scrub(address._replace(netloc=address.netloc.rpartition("@")[2], query="").geturl())
        self._model = _variable(MODEL)
        if not self._model:
            raise InputError(f"{MODEL} is not set; the name of a model at {self._url} was expected.")
        self._retries, self._spacing = retries, 60.0 / (requests_per_minute or math.inf)
        self._budget, self._ledger = budget, ledger or Ledger()
        self._max_tokens, self._temperature, self._timeout = max_tokens, temperature, timeout
        self._sleep, self._free_at = sleep, -math.inf
        self._left_out: set[str] = set()
        self._client = self._connect(address)

    def _connect(self, address: SplitResult) -> Any:
        import openai

        with guarded(self._scrub):
            return openai.OpenAI(
                base_url=address._replace(query="").geturl(),
                default_query=dict(parse_qsl(address.query)),
                # Servers that ask for no key do not look at it, but the package insists on one.
                api_key=_key() or "none",
                timeout=self._timeout,
                max_retries=0,
            )

    @property
    def model(self) -> str:
        """See `Proposer.model`."""
        return self._scrub(self._model)

    @property
    def settings(self) -> dict[str, object]:
        """See `Proposer.settings`."""
        return {"url": self._url, "temperature": self._temperature, "max_tokens": self._max_tokens}

    @property
    def spent(self) -> int:
        """Tokens that were spent so far, of prompts and answers together."""
        return self._ledger.tokens

    def _answer(self, asked: Sequence[Message], count: int, seed: int, exchange: Exchange) -> str:
        dice = random.Random(seed_of(seed, "retry"))
        limit = self._max_tokens or max(2048, 100 * count)
        attempt = 1
        while True:
            most = self._afford(asked, limit)
            self._pace()
            number = self._ledger.sent(most)
            outcome = self._attempt(asked, limit, seed)
            self._count(number, outcome, exchange)
            if isinstance(outcome, Completion):
                if outcome.cut_off:
                    exchange.note(f"The reply was cut off at {limit:,} tokens.")
                return outcome.text
            if option := self._unwanted(outcome):
                self._left_out.add(option)
                exchange.note(f"The server does not take the option {option}; it is asked again without it.")
                continue
            reason = f"The chat model '{self.model}' at {self._url} gave no answer"
            if not outcome.again:
                raise InputError(f"{reason}: {outcome.reason}.")
            if attempt > self._retries:
                raise InputError(f"{reason} in {attempt} attempts; the last time, {outcome.reason}.")
            wait = outcome.wait
            if wait is None:
                wait = min(LONGEST_BACKOFF, 2.0 ** (attempt - 1)) * dice.uniform(0.5, 1.0)
            if wait > LONGEST_WAIT:
                raise InputError(f"{reason}: {outcome.reason}, and it asks to wait {wait:,.0f} seconds.")
            attempt += 1
            cost = f" About {outcome.tokens:,} tokens are counted for it." if outcome.tokens else ""
            exchange.note(
                f"The request failed: {outcome.reason}.{cost} "
                f"Attempt {attempt} of {self._retries + 1} follows in {wait:.1f} seconds."
            )
            self._sleep(wait)

    def _afford(self, asked: Sequence[Message], limit: int) -> int:
        """Check that the next request stays within the budget with the longest answer, and return its tokens then."""
        prompt = estimate(asked)
        if self._budget is not None and self.spent + prompt + limit > self._budget:
            raise BudgetError(
                f"The budget of {self._budget:,} tokens does not allow another request: {self.spent:,} are spent, and "
                f"it may take {prompt + limit:,} (about {prompt:,} for the prompt, up to {limit:,} for the answer)."
            )
        return prompt + limit

    def _pace(self) -> None:
        """Wait until the rate limit allows the next request."""
        now = self._clock()
        if self._free_at > now:
            self._sleep(self._free_at - now)
        self._free_at = max(now, self._free_at) + self._spacing

    def _attempt(self, asked: Sequence[Message], limit: int, seed: int) -> Completion | Failure:
        """Make one request. Failures are returned: an error raised here would carry the request and its key along."""
        import openai

        # Newer models of OpenAI want the limit under another name, and take neither a temperature nor a seed.
        name = "max_completion_tokens" if "max_tokens" in self._left_out else "max_tokens"
        options = {name: limit, "temperature": self._temperature, "seed": seed % 2**31}
        kept = {key: value for key, value in options.items() if value is not None and key not in self._left_out}
        try:
            with guarded(self._scrub):
                raw = self._client.chat.completions.with_raw_response.create(
                    model=self._model, messages=list(asked), **kept
                )
                return read(raw.http_response.text, asked, limit, self._scrub)
        except openai.APIStatusError as error:
            return refusal(error.response, error.body, self._scrub, keyed=self._keyed)
        except openai.APIConnectionError as error:
            cause = error.__cause__
            kind, words = type(cause).__name__, self._scrub(" ".join(str(cause or "").split()))
            # What was sent may have been answered at full length, and charged for, though nothing arrived; a
            # connection that was never made cost nothing.
            tokens = 0 if kind.startswith("Connect") else estimate(asked) + limit
            if isinstance(error, openai.APITimeoutError):
                return Failure(f"nothing came from the server for {self._timeout:g} seconds", tokens=tokens)
            what = "the connection was cut" if tokens else "no connection could be made"
            return Failure(f"{what} ({words or kind})", tokens=tokens)
        except openai.OpenAIError as error:
            return Failure(self._scrub(" ".join(str(error).split())), again=False)

    def _unwanted(self, failure: Failure) -> str | None:
        """Return the option that the server refuses by name, unless it was left out already."""
        if failure.status not in {400, 422}:
            return None
        options = ["max_tokens", "seed", *(["temperature"] if self._temperature is not None else [])]
        found = (option for option in options if option not in self._left_out and option in failure.reason)
        option = next(found, None)
        return None if option == "max_tokens" and "max_completion_tokens" not in failure.reason else option

    def _count(self, number: int, outcome: Completion | Failure, exchange: Exchange) -> None:
        exchange.input_tokens += outcome.tokens
        answer = outcome if isinstance(outcome, Completion) else None
        if answer:
            exchange.output_tokens += answer.output_tokens
        tokens = outcome.tokens + (answer.output_tokens if answer else 0)
        self._ledger.came(number, tokens, answer.text if answer else None)
        if outcome.tokens and outcome.estimated:
            exchange.note_once("The server told no token counts; characters divided by 4 stand for them.")


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()


def _key() -> str:
    """Return the key, empty if none is set; what is wrong with it is said without it."""
    key = _variable(KEY)
    if not key and not _variable(URL):
        raise InputError(f"{KEY} is not set; the key for {PUBLIC} was expected, or {URL} for a server that needs none.")
    if not all("!" <= sign <= "~" for sign in key):
        raise InputError(f"{KEY} holds white space or signs that are not ASCII; no key has them.")
    return key


def _address() -> SplitResult:
    try:
        address = urlsplit(_variable(URL) or PUBLIC)
        usable = address.scheme in {"http", "https"} and bool(address.hostname) and address.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InputError(f"{URL} is no address; one like http://localhost:8000/v1 was expected.")
    return address
