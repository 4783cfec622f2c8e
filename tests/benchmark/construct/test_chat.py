"""The chat proposer against a real server on loopback that misbehaves on purpose."""

import html
import json
import logging
import socket
import subprocess
import sys
import time
import traceback
from base64 import b64encode
from email.utils import formatdate
from urllib.parse import quote

import pytest

from instructedit.benchmark.construct.chat import ChatProposer
from instructedit.benchmark.construct.prompt import messages
from instructedit.benchmark.construct.proposal import Brief, BudgetError, Example, Tried
from instructedit.benchmark.construct.scrub import MARK, Scrubber, guarded
from instructedit.editors import InputError

from .server import (
    USAGE,
    body,
    completion,
    cut,
    echo,
    hang_up,
    ok,
    says,
    serving,
    stall,
    stall_in_body,
    status,
)

KEY = "sk-loop/back+0123456789abcdef"
TEN = [f"Description number {number} of the task, in words of its own" for number in range(10)]
PROSE = "I would rather talk about the weather, which is fine today."
BRIEF = Brief(
    task="convsent",
    title="Conversational Sentiment",
    about="turns of a conversation whose attitude is to change.",
    placeholders=("[TOPIC]", "[LABEL]"),
    examples=(Example("What do you think of tea?", "I love it.", "positive"),),
    tried=(
        Tried("The best one so far", {"reliability": 91.25, "score": 80.0}),
        Tried("The worst one so far", {"reliability": 12.0, "score": 20.04}),
    ),
)


class Time:
    """A clock that runs on by what was slept, without anybody having to wait."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def __call__(self) -> float:
        return time.monotonic() + sum(self.waits)


class Bench:
    """A proposer on a server, and all that it has said."""

    def __init__(self, server) -> None:
        self.server = server
        self.time = Time()
        self.reports: list[str] = []
        self.texts: list[str] = []
        self.proposer: ChatProposer | None = None

    def make(self, **options) -> ChatProposer:
        options = {"timeout": 5.0, "retries": 3, **options}
        self.proposer = ChatProposer(sleep=self.time.sleep, clock=self.time, **options)
        return self.proposer

    def propose(self, *script, count=10, **options):
        """Ask for descriptions of a server that does these things one after another, and no more than these."""
        self.server.script.extend(script)
        proposer = self.proposer if self.proposer and not options else self.make(**options)
        reply = proposer.propose(BRIEF, count, 3, self.reports.append)
        assert not self.server.script, "the server was asked less often than was expected"
        assert list(reply.notes) == self.reports[-len(reply.notes) :] if reply.notes else True
        return reply

    def fails(self, kind, *script, **options) -> str:
        with pytest.raises(kind) as caught:
            self.propose(*script, **options)
        assert not self.server.script
        assert type(caught.value) is kind
        # The SDK's errors hold the request with its headers; nothing may lead there.
        assert caught.value.__cause__ is None and caught.value.__context__ is None
        self.texts += [str(caught.value), repr(caught.value), "".join(traceback.format_exception(caught.value))]
        return str(caught.value)


@pytest.fixture
def bench(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "OPENAI_LOG", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    replies = []
    with serving() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_MODEL", "tiny-chat")
        found = Bench(server)
        propose = ChatProposer.propose
        monkeypatch.setattr(ChatProposer, "propose", lambda *a: replies.append(propose(*a)) or replies[-1])
        yield found
        assert server.surprises == 0, "more requests came than the test expects"
    records = [r for phase in ("setup", "call") for r in caplog.get_records(phase)]
    told = [*map(repr, replies), *found.reports, *found.texts, repr(found.proposer), caplog.text]
    told += [f"{record.getMessage()} {record.__dict__}" for record in records]
    for text in told:
        assert KEY not in text and json.dumps(KEY)[1:-1] not in text and KEY.replace("/", "\\/") not in text


def test_a_good_answer_needs_one_request(bench):
    reply = bench.propose(ok(TEN))
    assert reply.items == tuple(TEN)
    assert json.loads(reply.text) == TEN
    assert (reply.model, reply.input_tokens, reply.output_tokens, reply.notes) == ("tiny-chat", 300, 120, ())
    assert bench.proposer.spent == 420
    (request,) = bench.server.requests
    assert request["path"] == "/v1/chat/completions"
    assert request["headers"]["authorization"] == f"Bearer {KEY}"
    assert request["body"]["messages"] == messages(BRIEF, 10)
    assert (request["body"]["model"], request["body"]["max_tokens"]) == ("tiny-chat", 2048)
    assert {message["content"] in reply.prompt for message in request["body"]["messages"]} == {True}
    assert bench.time.waits == []


def test_the_prompt_says_all_that_the_brief_holds():
    system, user = messages(BRIEF, 7)
    assert (system["role"], user["role"]) == ("system", "user")
    text = user["content"]
    assert "Task: Conversational Sentiment\nDescription: " in text and BRIEF.about in text
    assert '"What do you think of tea?"' in text and '(positive): "I love it."' in text
    assert "It holds [TOPIC] as it is" in text and "It holds [LABEL] as it is" in text
    assert "one line of 6 to 40 words" in text and "JSON array of 7 strings" in text
    assert "reliability 91.2, score 80.0" in text and "score 20.0" in text
    assert text.index("The best one") < text.index("The worst one") < text.index("better than the first one")


def test_the_prompt_of_a_first_round_on_facts_speaks_of_no_trials():
    text = messages(Brief("zsre", "Fact", "facts.", (), (), ()), 1)[1]["content"]
    assert "tried" not in text and "[TOPIC]" not in text and "no square brackets" in text
    assert "JSON array of 1 string," in text


def test_429_waits_as_long_as_the_server_asks(bench):
    reply = bench.propose(status(429, "slow down", {"Retry-After": "7"}), ok(TEN))
    assert reply.items == tuple(TEN)
    assert bench.time.waits == [7.0]
    assert len(bench.server.requests) == 2
    assert reply.notes == (
        "The request failed: it has had too many requests (429): slow down. Attempt 2 of 4 follows in 7.0 seconds.",
    )
    assert reply.seconds >= 7
    assert bench.proposer.spent == 420  # a refusal costs nothing


def test_retry_after_may_be_a_date(bench):
    bench.propose(status(503, "", {"Retry-After": formatdate(time.time() + 30, usegmt=True)}), ok(TEN))
    assert 25 < bench.time.waits[0] <= 30


@pytest.mark.parametrize("value", ["soon", "nan", "-5", ""])
def test_a_retry_after_that_says_nothing_does_no_harm(bench, value):
    bench.propose(status(429, "", {"Retry-After": value}), ok(TEN))
    (wait,) = bench.time.waits
    assert wait == 0 if value == "-5" else 0.5 <= wait <= 1


def test_a_server_that_asks_to_wait_for_a_day_ends_it(bench):
    text = bench.fails(InputError, status(429, "come back tomorrow", {"Retry-After": "86400"}))
    assert "come back tomorrow, and it asks to wait 86,400 seconds." in text
    assert bench.time.waits == []


def test_a_quota_that_is_used_up_is_not_asked_again(bench):
    text = bench.fails(InputError, status(429, "You exceeded your quota", code="insufficient_quota"))
    assert "(429): You exceeded your quota." in text
    assert len(bench.server.requests) == 1


@pytest.mark.parametrize("code", [408, 409, 500, 502, 503])
def test_failures_of_the_server_are_retried(bench, code):
    reply = bench.propose(status(code, "boom"), status(code, "boom"), ok(TEN))
    assert reply.items == tuple(TEN)
    assert len(bench.server.requests) == 3 and len(reply.notes) == 2
    for attempt, note in enumerate(reply.notes, 2):
        assert f"the server failed ({code}): boom. Attempt {attempt} of 4" in note
    first, second = bench.time.waits
    assert 0.5 <= first <= 1.0 <= second <= 2.0


def test_waits_grow_and_are_those_of_the_seed(bench):
    bench.fails(InputError, *[status(500)] * 6, retries=5)
    first = list(bench.time.waits)
    assert all(2**n / 2 <= wait <= 2**n for n, wait in enumerate(first))
    bench.time.waits.clear()
    bench.fails(InputError, *[status(500)] * 6, retries=5)
    assert bench.time.waits == first


def test_after_all_retries_there_is_one_clear_sentence(bench):
    text = bench.fails(InputError, *[status(500, "boom")] * 4)
    assert text == (
        f"The chat model 'tiny-chat' at {bench.server.url} gave no answer in 4 attempts; "
        "the last time, the server failed (500): boom."
    )
    assert len(bench.server.requests) == 4 and len(bench.time.waits) == 3 and len(bench.reports) == 3


@pytest.mark.parametrize("behaviour", [stall, stall_in_body])
def test_a_stall_is_given_up_and_retried(bench, behaviour):
    begun = time.monotonic()
    reply = bench.propose(behaviour, ok(TEN), timeout=0.3)
    assert 0.3 <= time.monotonic() - begun < 3
    assert reply.items == tuple(TEN)
    (note,) = reply.notes
    assert "nothing came from the server for 0.3 seconds. About" in note and "Attempt 2 of 4" in note
    assert bench.proposer.spent > 420  # it may have been charged
    assert reply.input_tokens + reply.output_tokens == bench.proposer.spent


@pytest.mark.parametrize("behaviour", [cut, hang_up])
def test_a_cut_connection_is_retried(bench, behaviour):
    reply = bench.propose(behaviour, ok(TEN))
    assert reply.items == tuple(TEN)
    (note,) = reply.notes
    assert note.startswith("The request failed: the connection was cut (") and "Attempt 2 of 4" in note
    assert len(bench.server.requests) == 2


def test_a_server_that_is_not_there(bench, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
    text = bench.fails(InputError, retries=1)
    assert f"at http://127.0.0.1:{port}/v1 gave no answer in 2 attempts" in text
    assert "no connection could be made (" in text
    assert bench.proposer.spent == 0 and len(bench.time.waits) == 1


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (body('{"choices": [{"mess'), 'the body is no JSON: \'{"choices": [{"mess\''),
        (body("<html>Welcome</html>", kind="text/html"), "the body is no JSON: '<html>Welcome</html>'"),
        (body(""), "the body is no JSON: ''"),
        (body("[" * 50_000), "the body is no JSON: '[["),
        (body('"a string"'), "the body holds no choice: '\"a string\"'"),
        (body('{"choices": []}'), "the body holds no choice: '{\"choices\": []}'"),
        (body('{"error": {"message": "overloaded"}}'), 'the body holds no choice: \'{"error"'),
        (body('{"choices": [{"message": null}]}'), "the reply is empty"),
        (says(""), "the reply is empty"),
        (says(" \n"), "the reply is empty"),
        (says(None), "the reply is empty"),
        (says("", finish="length"), "the reply is empty and was cut off at its most tokens"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_bodies_without_an_answer_are_retried(bench, behaviour, reason):
    reply = bench.propose(behaviour, ok(TEN))
    assert reply.items == tuple(TEN)
    assert any(note.startswith(f"The request failed: {reason}") for note in reply.notes)
    assert len(bench.server.requests) == 2 and len(bench.time.waits) == 1
    assert bench.proposer.spent > 420 and reply.input_tokens + reply.output_tokens == bench.proposer.spent


def test_3_of_10_are_kept_and_the_others_asked_for(bench):
    reply = bench.propose(ok(TEN[:3]), ok(TEN[3:]))
    assert reply.items == tuple(TEN)
    assert reply.notes == ("3 of 10 descriptions came; the other 7 are asked for once more.",)
    assert reply.text == f"{json.dumps(TEN[:3])}\n\n{json.dumps(TEN[3:])}"
    assert (reply.input_tokens, reply.output_tokens) == (600, 240)
    first, second = (request["body"]["messages"] for request in bench.server.requests)
    assert second[: len(first)] == first and second[2] == {"role": "assistant", "content": json.dumps(TEN[:3])}
    assert all(text in second[3]["content"] for text in (*TEN[:3], "Write 7 more", "JSON array of 7 strings"))
    assert second[3]["content"] in reply.prompt


def test_what_comes_twice_counts_once(bench):
    reply = bench.propose(ok([*TEN[:8], TEN[0].upper()]), ok([TEN[7], TEN[8]]))
    assert reply.items == tuple(TEN[:9])
    assert reply.notes[-1] == "9 of 10 descriptions came in the end."


def test_more_than_asked_for_are_left_in_the_text(bench):
    reply = bench.propose(ok(TEN), count=4)
    assert reply.items == tuple(TEN[:4]) and json.loads(reply.text) == TEN
    assert reply.notes == ("10 descriptions came; the first 4 are taken.",)


def test_prose_is_asked_again(bench):
    reply = bench.propose(says(PROSE), ok(TEN))
    assert reply.items == tuple(TEN)
    assert reply.notes == ("The reply holds no list of descriptions; it is asked for once more.",)
    assert "holds no list" in bench.server.asked(1) and "JSON array of 10 strings" in bench.server.asked(1)


def test_prose_twice_is_a_reply_without_descriptions(bench):
    reply = bench.propose(says(PROSE), says(PROSE))
    assert reply.items == () and reply.text == f"{PROSE}\n\n{PROSE}"
    assert reply.notes[-1] == "None of 10 descriptions came in the end."
    assert len(bench.server.requests) == 2


@pytest.mark.parametrize(("first", "kept"), [(ok(TEN[:3]), 3), (says(PROSE), 0)])
def test_what_came_is_kept_when_the_server_fails_afterwards(bench, first, kept):
    reply = bench.propose(first, status(500, "boom"), status(500, "boom"), retries=1)
    assert reply.items == tuple(TEN[:kept]) and reply.text
    assert "gave no answer in 2 attempts" in reply.notes[-2]
    assert reply.notes[-1] == f"{kept or 'None'} of 10 descriptions came in the end."
    assert (reply.input_tokens, reply.output_tokens) == (300, 120)


def test_an_answer_that_was_cut_off_keeps_its_whole_descriptions(bench):
    text = json.dumps(TEN)
    reply = bench.propose(says(text[: text.index("number 4")], finish="length"), ok(TEN[4:]))
    assert reply.items == tuple(TEN)
    assert reply.notes[0] == "The reply was cut off at 2,048 tokens."


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (400, "the server does not take the request (400): no, thanks."),
        (401, "the server does not accept the key (401); a valid one was expected in OPENAI_API_KEY."),
        (403, "the key does not allow this (403): no, thanks."),
        (404, "no such model, or no such address (404); look at OPENAI_MODEL and OPENAI_BASE_URL: no, thanks."),
        (422, "the server does not take the request (422): no, thanks."),
    ],
)
def test_refusals_are_not_retried(bench, code, words):
    text = bench.fails(InputError, status(code, "no, thanks."))
    assert text.startswith(f"The chat model 'tiny-chat' at {bench.server.url} gave no answer: ")
    assert text.rstrip(".").endswith(words.rstrip("."))
    assert len(bench.server.requests) == 1 and bench.time.waits == [] and bench.reports == []


def test_options_that_a_server_refuses_by_name_are_left_out(bench):
    reply = bench.propose(
        status(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
        status(400, "Unsupported value: 'temperature' does not support 0.7"),
        status(422, "extra_forbidden: seed"),
        ok(TEN),
        retries=0,
        temperature=0.7,
    )
    assert reply.items == tuple(TEN) and len(reply.notes) == 3
    sent = [request["body"] for request in bench.server.requests]
    assert {"max_tokens", "temperature", "seed"} <= sent[0].keys() and sent[0]["temperature"] == 0.7
    assert not {"max_tokens", "temperature", "seed"} & sent[3].keys() and sent[3]["max_completion_tokens"] == 2048
    bench.propose(ok(TEN))
    assert len(bench.server.requests) == 5  # it is remembered


def test_a_budget_ends_before_the_request_that_might_break_it(bench):
    bench.propose(ok(TEN), budget=5000, max_tokens=1000)
    spent = 420
    while True:
        bench.server.script.append(ok(TEN, {"prompt_tokens": 600, "completion_tokens": 400}))
        try:
            bench.proposer.propose(BRIEF, 10, 0, bench.reports.append)
        except BudgetError as error:
            text = str(error)
            break
        spent += 1000
    bench.server.script.clear()
    assert bench.proposer.spent == spent <= 5000
    assert len(bench.server.requests) == 1 + (spent - 420) // 1000
    assert text.startswith(f"The budget of 5,000 tokens does not allow another request: {spent:,} are spent")
    assert "up to 1,000 for the answer" in text


def test_a_budget_that_is_too_small_makes_no_request(bench):
    assert "0 are spent" in bench.fails(BudgetError, budget=1000)
    assert bench.server.requests == []


def test_what_came_is_kept_when_the_budget_ends(bench):
    reply = bench.propose(ok(TEN[:3]), budget=2800)
    assert reply.items == tuple(TEN[:3])
    assert reply.notes[1].startswith("The budget of 2,800 tokens does not allow another request: 420 are spent")
    assert reply.notes[2] == "3 of 10 descriptions came in the end."
    assert len(bench.server.requests) == 1 and "Write 7 more" not in reply.prompt  # it was never asked
    bench.server.script.clear()


def test_prose_before_the_end_of_the_budget_is_nothing_to_keep(bench):
    with pytest.raises(BudgetError):
        bench.propose(says(PROSE), budget=2800)
    assert len(bench.server.requests) == 1 and bench.proposer.spent == 420


def test_the_budget_ends_retries_too(bench):
    usage = {"prompt_tokens": 2000, "completion_tokens": 0}
    text = bench.fails(BudgetError, says("", usage), says("", usage), budget=6000, retries=5)
    assert "4,000 are spent" in text and len(bench.server.requests) == 2


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None, "completion_tokens": -1}])
def test_tokens_are_estimated_where_the_server_tells_none(bench, usage):
    reply = bench.propose(ok(TEN[:5], usage), ok(TEN[5:], usage))
    assert reply.items == tuple(TEN)
    assert reply.notes.count("The server told no token counts; characters divided by 4 stand for them.") == 1
    asked = [len("".join(m["content"] for m in request["body"]["messages"])) for request in bench.server.requests]
    assert reply.input_tokens == sum(-(-length // 4) for length in asked)
    assert reply.output_tokens == sum(-(-len(json.dumps(part)) // 4) for part in (TEN[:5], TEN[5:]))
    assert bench.proposer.spent == reply.input_tokens + reply.output_tokens


def test_requests_are_spaced_by_the_rate_limit(bench):
    bench.propose(ok(TEN[:5]), status(429, "", {"Retry-After": "3"}), ok(TEN[5:]), requests_per_minute=6)
    first, asked, rest = bench.time.waits
    assert first == pytest.approx(10, abs=1) and asked == 3 and rest == pytest.approx(7, abs=1)
    bench.propose(ok(TEN))
    assert bench.time.waits[3] == pytest.approx(10, abs=1)


@pytest.mark.parametrize("code", [400, 403, 404])
def test_a_key_that_is_echoed_in_a_refusal_is_hidden(bench, code):
    text = bench.fails(InputError, echo(code))
    assert f"Bearer {MARK} is not welcome" in text


def test_the_words_of_a_401_are_left_out(bench):
    assert "sk-loop" not in bench.fails(InputError, status(401, "Incorrect API key provided: sk-loop****cdef"))


def test_a_key_that_is_echoed_in_a_failure_is_hidden(bench):
    text = bench.fails(InputError, *[echo(500)] * 4)
    assert f"Bearer {MARK} is not welcome" in text


def test_no_part_of_a_key_is_left_where_a_message_is_cut(bench):
    for length in range(270, 300, 4):
        assert "sk-" not in bench.fails(InputError, echo(400, "x" * length))


def test_a_key_in_an_answer_is_hidden(bench):
    reply = bench.propose(echo(200), count=1)
    assert reply.items == (f"You are Bearer {MARK} and this is a description of the task",)
    assert MARK in reply.text


def test_a_key_in_a_body_that_is_no_json_is_hidden(bench):
    reply = bench.propose(body(f"{'y' * 85} {KEY} {KEY}"), body(json.dumps({"k": KEY}).replace("/", "\\/")), ok(TEN))
    assert "sk-" not in "".join(reply.notes) and len(reply.notes) == 3  # the estimate is noted once


def test_records_of_the_libraries_are_kept_and_hold_no_key(bench, caplog):
    bench.propose(echo(200), count=1)
    echoed = [record for record in caplog.records if MARK in record.getMessage()]
    assert echoed, "the HTTP library logs the headers that the server sent; without the guard the key would be there"
    assert any(record.name.startswith("http") for record in echoed)


def test_the_guard_covers_tracebacks_and_goes_away(caplog):
    caplog.set_level(logging.DEBUG)
    log = logging.getLogger("some.library")
    before = logging.getLogRecordFactory()
    with guarded(Scrubber(["a-long-secret"])):
        try:
            raise ValueError("a-long-secret")
        except ValueError:
            log.exception("with %s", "a-long-secret")
        log.debug("%d", "a-long-secret")
    assert logging.getLogRecordFactory() is before
    assert "a-long-secret" not in caplog.text and "ValueError: [hidden]" in caplog.text
    log.debug("%s", "a-long-secret")
    assert "a-long-secret" in caplog.text


def test_a_secret_is_found_however_it_was_escaped():
    secret = 'pass/word&"1'
    forms = [secret, json.dumps(secret), json.dumps(secret).replace("/", "\\/"), html.escape(secret), quote(secret)]
    for text in [*forms, quote(secret, safe=""), repr(secret.encode())]:
        found = Scrubber([secret])(f"a {text} b")
        assert MARK in found and "pass" not in found and "word" not in found


def test_short_keys_do_not_spoil_texts():
    scrub = Scrubber(["x", ""])
    assert scrub("extra x, x-ray 'x'") == "extra [hidden], [hidden]-ray '[hidden]'"
    assert "secret" not in repr(Scrubber(["secret"]))


def test_secrets_of_the_address_are_hidden_too(bench, monkeypatch, caplog):
    port = bench.server.server_port
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://someone:pass-word-1@127.0.0.1:{port}/v1?api-key=query-secret&v=1")
    basic = b64encode(b"someone:pass-word-1").decode()
    text = bench.fails(InputError, echo(400, "query-secret pass-word-1 "))
    assert f"at http://127.0.0.1:{port}/v1 gave no answer" in text
    assert bench.server.requests[0]["path"] == "/v1/chat/completions?api-key=query-secret&v=1"
    for secret in ("query-secret", "pass-word-1", basic):
        assert secret not in text + caplog.text + repr(vars(bench.proposer))


def test_a_server_that_needs_no_key(bench, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    assert bench.propose(ok(TEN)).items == tuple(TEN)
    assert bench.server.requests[0]["headers"]["authorization"] == "Bearer none"
    text = bench.fails(InputError, status(401, "who are you?"))
    assert "the server asks for a key (401); a valid one was expected in OPENAI_API_KEY." in text


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"OPENAI_MODEL": None}, "OPENAI_MODEL is not set; the name of a model at http://127.0.0.1:"),
        ({"OPENAI_MODEL": " "}, "OPENAI_MODEL is not set"),
        (
            {"OPENAI_API_KEY": None, "OPENAI_BASE_URL": None},
            "OPENAI_API_KEY is not set; the key for https://api.openai",
        ),
        ({"OPENAI_API_KEY": f"{KEY} {KEY}"}, "OPENAI_API_KEY holds white space"),
        ({"OPENAI_API_KEY": f"{KEY}é"}, "OPENAI_API_KEY holds white space or signs"),
        ({"OPENAI_BASE_URL": f"localhost:8000/{KEY}"}, "OPENAI_BASE_URL is no address"),
        ({"OPENAI_BASE_URL": f"http://localhost:port/{KEY}"}, "OPENAI_BASE_URL is no address"),
        ({"OPENAI_BASE_URL": f"http://[{KEY}/"}, "OPENAI_BASE_URL is no address"),
    ],
)
def test_what_is_wrong_with_the_environment_is_named(bench, monkeypatch, variables, words):
    for name, value in variables.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    assert bench.fails(InputError).startswith(words)
    assert bench.server.requests == []


@pytest.mark.parametrize(
    "options", [{"timeout": 0}, {"retries": -1}, {"requests_per_minute": 0}, {"budget": -1}, {"max_tokens": -5}]
)
def test_arguments_that_make_no_sense_are_named(bench, options):
    assert next(iter(options)) in bench.fails(InputError, **options)


def test_without_the_package_the_extra_is_named(bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    assert 'pip install "instructedit-bench[instructions]"' in bench.fails(InputError)


def test_importing_the_module_does_not_import_the_package():
    code = "import sys, instructedit.benchmark.construct.chat, instructedit.benchmark.construct.local\n"
    subprocess.run([sys.executable, "-c", f"{code}assert 'openai' not in sys.modules"], check=True)


def test_the_server_itself_speaks_the_protocol(bench):
    """The plain SDK understands it; so it is no fiction of the proposer's own."""
    import openai

    bench.server.script.append(says("hello"))
    answer = openai.OpenAI(base_url=bench.server.url, api_key="x", max_retries=0).chat.completions.create(
        model="m", messages=[{"role": "user", "content": "hi"}]
    )
    assert answer.choices[0].message.content == "hello" and answer.usage.total_tokens == USAGE["total_tokens"]
    assert json.loads(completion("hello"))["object"] == "chat.completion"
