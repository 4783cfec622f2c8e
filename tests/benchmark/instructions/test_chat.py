"""The chat proposer against a real server on loopback that misbehaves on purpose."""

import json
import socket
import subprocess
import sys
import time
from email.utils import formatdate

import pytest

from instructedit.benchmark.instructions.conversation import messages
from instructedit.benchmark.instructions.proposer import Brief
from instructedit.editors import InputError

from .chatbench import BRIEF, KEY, PROSE, TEN
from .chatbench import bench as bench
from .server import body, cut, hang_up, ok, says, stall, stall_in_body, status


def test_a_good_answer_needs_one_request(bench):
    reply = bench.propose(ok(TEN))
    assert reply.admitted == tuple(TEN)
    assert json.loads(reply.text) == TEN
    assert (reply.model, reply.input_tokens, reply.output_tokens, reply.notes) == ("tiny-chat", 300, 120, ())
    assert bench.proposer.spent == 420
    (request,) = bench.server.requests
    assert request["path"] == "/v1/chat/completions"
    assert request["headers"]["authorization"] == f"Bearer {KEY}"
    assert request["body"]["messages"] == messages(BRIEF, 10)
    assert (request["body"]["model"], request["body"]["max_tokens"]) == ("tiny-chat", 2048)
    assert {message["content"] in reply.prompt for message in request["body"]["messages"]} == {True}
    assert bench.waits == []


def test_the_prompt_says_all_that_the_brief_holds():
    system, user = messages(BRIEF, 7)
    assert (system["role"], user["role"]) == ("system", "user")
    text = user["content"]
    assert "Task: Conversational Sentiment\nDescription: " in text and BRIEF.about in text
    assert '"What do you think of tea?"' in text and '(positive): "I love it."' in text
    assert "It holds [TOPIC] as it is" in text and "It holds [LABEL] as it is" in text
    assert "one line of 6 to 40 words" in text and "JSON array of 7 strings" in text
    assert "reliability 91.2, score 80.0" in text and "score 20.0" in text
    assert text.count("The best one so far") == text.count("The worst one so far") == 1
    assert text.index("The best one") < text.index("The worst one") < text.index("better than the first one")


def test_the_prompt_of_a_first_round_on_facts_speaks_of_no_trials():
    text = messages(Brief("zsre", "Fact", "facts.", (), (), ()), 1)[1]["content"]
    assert "tried" not in text and "[TOPIC]" not in text and "no square brackets" in text
    assert "JSON array of 1 string," in text


def test_429_waits_as_long_as_the_server_asks(bench):
    reply = bench.propose(status(429, "slow down", {"Retry-After": "7"}), ok(TEN))
    assert reply.admitted == tuple(TEN)
    assert bench.waits == [7.0]
    assert reply.notes == ("The request failed; this is attempt 2 of 4.",)
    assert reply.seconds >= 7
    assert bench.proposer.spent == 420  # a refusal costs nothing


def test_retry_after_may_be_a_date(bench):
    bench.propose(status(503, "", {"Retry-After": formatdate(time.time() + 30, usegmt=True)}), ok(TEN))
    assert 20 < bench.waits[0] <= 30


@pytest.mark.parametrize("code", [408, 409, 500, 502, 503])
def test_failures_of_the_server_are_retried(bench, code):
    reply = bench.propose(status(code, "boom"), status(code, "boom"), ok(TEN))
    assert reply.admitted == tuple(TEN)
    assert reply.notes == tuple(f"The request failed; this is attempt {attempt} of 4." for attempt in (2, 3))
    assert len(bench.waits) == 2 and all(0 < wait < 10 for wait in bench.waits)


def test_after_all_retries_there_is_one_clear_sentence(bench):
    text = bench.fails(InputError, *[status(500, "boom")] * 4)
    assert text == (
        f"The chat model 'tiny-chat' at {bench.server.url} gave no answer in 4 attempts: the server failed (500): boom."
    )
    assert len(bench.server.requests) == 4 and len(bench.waits) == 3 and len(bench.reports) == 3


@pytest.mark.parametrize("behaviour", [stall, stall_in_body])
def test_a_stall_is_given_up_and_retried(bench, behaviour):
    begun = time.monotonic()
    reply = bench.propose(behaviour, ok(TEN), timeout=0.3)
    assert 0.3 <= time.monotonic() - begun < 3
    assert reply.admitted == tuple(TEN)
    assert reply.notes == ("The request failed; this is attempt 2 of 4.",)
    assert bench.proposer.spent > 420  # it may have been charged
    assert reply.input_tokens + reply.output_tokens == bench.proposer.spent


@pytest.mark.parametrize("behaviour", [cut, hang_up])
def test_a_cut_connection_is_retried(bench, behaviour):
    reply = bench.propose(behaviour, ok(TEN))
    assert reply.admitted == tuple(TEN)
    assert reply.notes == ("The request failed; this is attempt 2 of 4.",)
    assert len(bench.server.requests) == 2


def test_a_server_that_is_not_there(bench, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
    text = bench.fails(InputError, retries=1)
    assert f"at http://127.0.0.1:{port}/v1 gave no answer in 2 attempts: Connection error" in text
    assert bench.proposer.spent == 0 and len(bench.waits) == 1


def test_a_stall_at_every_attempt_is_an_error(bench):
    text = bench.fails(InputError, stall, retries=0, timeout=0.3)
    assert text.endswith("gave no answer: nothing came from the server for 0.3 seconds.")


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (body('{"choices": [{"mess'), 'The reply is no chat completion: \'{"choices": [{"mess\''),
        (body("<html>Welcome</html>", kind="text/html"), "The reply is no chat completion: '<html>Welcome</html>'"),
        (body(""), "The reply is no chat completion: ''"),
        (body("[" * 50_000), "The reply is no chat completion: '[["),
        (body('"a string"'), "The reply is no chat completion: '\"a string\"'"),
        (body('{"choices": []}'), "The reply is no chat completion: '{\"choices\": []}'"),
        (body('{"error": {"message": "overloaded"}}'), 'The reply is no chat completion: \'{"error"'),
        (body('{"choices": [{"message": null}]}'), "The reply is no chat completion"),
        (says(""), "The reply is empty"),
        (says(" \n"), "The reply is empty"),
        (says(None), "The reply is empty"),
        (says("", finish="length"), "The reply was cut off at its maximum number of tokens."),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_bodies_without_an_answer_are_requested_once_more(bench, behaviour, reason):
    reply = bench.propose(behaviour, ok(TEN))
    assert reply.admitted == tuple(TEN)
    assert any(note.startswith(reason) for note in reply.notes)
    assert len(bench.server.requests) == 2
    assert bench.server.requests[0]["body"]["messages"] == bench.server.requests[1]["body"]["messages"]
    assert bench.proposer.spent > 420 and reply.input_tokens + reply.output_tokens == bench.proposer.spent


def test_3_of_10_are_kept_and_the_others_asked_for(bench):
    reply = bench.propose(ok(TEN[:3]), ok(TEN[3:]))
    assert reply.admitted == tuple(TEN)
    assert reply.notes == ("3 of 10 descriptions came; the rest is requested once more.",)
    assert reply.text == f"{json.dumps(TEN[:3])}\n\n{json.dumps(TEN[3:])}"
    assert (reply.input_tokens, reply.output_tokens) == (600, 240)
    first, second = (request["body"]["messages"] for request in bench.server.requests)
    assert second[: len(first)] == first and second[2] == {"role": "assistant", "content": json.dumps(TEN[:3])}
    assert all(text in second[3]["content"] for text in (*TEN[:3], "Write 7 more", "JSON array of 7 strings"))
    assert second[3]["content"] in reply.prompt


def test_what_comes_twice_counts_once(bench):
    reply = bench.propose(ok([*TEN[:8], TEN[0].upper()]), ok([TEN[7], TEN[8]]))
    assert reply.admitted == tuple(TEN[:9])
    assert reply.notes[-1] == "9 of 10 descriptions came in the end."


def test_more_than_asked_for_are_left_in_the_text(bench):
    reply = bench.propose(ok(TEN), count=4)
    assert reply.admitted == tuple(TEN[:4]) and json.loads(reply.text) == TEN
    assert reply.notes == ("10 descriptions came; the first 4 are taken.",)


def test_prose_is_asked_again(bench):
    reply = bench.propose(says(PROSE), ok(TEN))
    assert reply.admitted == tuple(TEN)
    assert reply.notes == ("None of 10 descriptions came; the rest is requested once more.",)
    assert "holds no list" in bench.server.asked(1) and "JSON array of 10 strings" in bench.server.asked(1)


def test_prose_twice_is_a_reply_without_descriptions(bench):
    reply = bench.propose(says(PROSE), says(PROSE))
    assert reply.admitted == () and reply.text == f"{PROSE}\n\n{PROSE}"
    assert reply.notes[-1] == "None of 10 descriptions came in the end."
    assert len(bench.server.requests) == 2


@pytest.mark.parametrize(("first", "kept"), [(ok(TEN[:3]), 3), (says(PROSE), 0)])
def test_what_came_is_kept_when_the_server_fails_afterwards(bench, first, kept):
    reply = bench.propose(first, status(500, "boom"), status(500, "boom"), retries=1)
    assert reply.admitted == tuple(TEN[:kept]) and reply.text
    assert "gave no answer in 2 attempts" in reply.notes[-2]
    assert reply.notes[-1] == f"{kept or 'None'} of 10 descriptions came in the end."
    assert (reply.input_tokens, reply.output_tokens) == (300, 120)


def test_an_answer_that_was_cut_off_keeps_its_whole_descriptions(bench):
    text = json.dumps(TEN)
    reply = bench.propose(says(text[: text.index("number 4")], finish="length"), ok(TEN[4:]))
    assert reply.admitted == tuple(TEN)
    assert reply.notes[0] == "The reply was cut off at its maximum number of tokens."


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (400, "the server does not take the request (400): no, thanks."),
        (401, "the server does not accept the key (401); expected a valid one in OPENAI_API_KEY."),
        (403, "the key does not allow this (403): no, thanks."),
        (404, "no such model, or no such address (404); check OPENAI_MODEL and OPENAI_BASE_URL: no, thanks."),
        (422, "the server does not take the request (422): no, thanks."),
    ],
)
def test_refusals_are_not_retried(bench, code, words):
    text = bench.fails(InputError, status(code, "no, thanks."))
    assert text.startswith(f"The chat model 'tiny-chat' at {bench.server.url} gave no answer: ")
    assert text.rstrip(".").endswith(words.rstrip("."))
    assert len(bench.server.requests) == 1 and bench.waits == [] and bench.reports == []


def test_options_that_a_server_refuses_by_name_are_left_out(bench):
    reply = bench.propose(
        status(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
        status(400, "Unsupported value: 'temperature' does not support 1.0"),
        status(422, "extra_forbidden: seed"),
        ok(TEN),
        retries=0,
    )
    assert reply.admitted == tuple(TEN) and len(reply.notes) == 3
    sent = [request["body"] for request in bench.server.requests]
    assert {"max_tokens", "temperature", "seed"} <= sent[0].keys() and sent[0]["temperature"] == 1.0
    assert not {"max_tokens", "temperature", "seed"} & sent[3].keys() and sent[3]["max_completion_tokens"] == 2048
    bench.propose(ok(TEN))
    assert len(bench.server.requests) == 5  # it is remembered


def test_without_the_package_the_extra_is_named(bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    assert 'pip install "instructedit-bench[instructions]"' in bench.fails(InputError)


def test_importing_the_module_does_not_import_the_package():
    code = "import sys, instructedit.benchmark.instructions.chat, instructedit.benchmark.instructions.local\n"
    subprocess.run([sys.executable, "-c", f"{code}assert 'openai' not in sys.modules"], check=True)
