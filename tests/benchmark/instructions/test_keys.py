"""Keys and other secrets reach no message, record or answer; and what is wrong with the environment is named."""

import html
import json
import logging
from base64 import b64encode
from urllib.parse import quote

import pytest

from instructedit.benchmark.instructions.server import MARK, Scrubber, no_logs
from instructedit.editors import InputError

from .chatbench import KEY, TEN
from .chatbench import bench as bench
from .server import body, echo, ok, status


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
    assert reply.admitted == (f"You are Bearer {MARK} and this is a description of the task",)
    assert MARK in reply.text


def test_a_key_in_a_body_that_is_no_json_is_hidden(bench):
    first, second = body(f"{'y' * 85} {KEY} {KEY}"), body(json.dumps({"k": KEY}).replace("/", "\\/"))
    reply = bench.propose(first, second)
    assert "sk-" not in "".join(reply.notes) and sum("no chat completion" in note for note in reply.notes) == 2


def test_during_a_request_nothing_is_logged(bench, caplog):
    bench.propose(echo(200), count=1)
    assert not caplog.records, "HTTP libraries log the headers that the server sent"
    log = logging.getLogger("some.library")
    with no_logs():
        log.critical("a-long-secret")
    log.debug("afterwards")
    assert caplog.messages == ["afterwards"]


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
    assert bench.propose(ok(TEN)).admitted == tuple(TEN)
    assert bench.server.requests[0]["headers"]["authorization"] == "Bearer none"
    text = bench.fails(InputError, status(401, "who are you?"))
    assert "the server does not accept the key (401); expected a valid one in OPENAI_API_KEY." in text


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"OPENAI_MODEL": None}, "OPENAI_MODEL is not set; expected the name of a model at http://127.0.0.1:"),
        ({"OPENAI_MODEL": " "}, "OPENAI_MODEL is not set"),
        (
            {"OPENAI_API_KEY": None, "OPENAI_BASE_URL": None},
            "OPENAI_API_KEY is not set; expected the key for https://api.openai",
        ),
        ({"OPENAI_API_KEY": f"{KEY} {KEY}"}, "OPENAI_API_KEY holds white space"),
        ({"OPENAI_API_KEY": f"{KEY}é"}, "OPENAI_API_KEY holds white space or characters"),
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
