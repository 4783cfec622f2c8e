"""A chat proposer on a loopback server, and all that it has said, in which no key may stand."""

import json
import logging
import time
import traceback

import pytest

from instructedit.benchmark.instructions import chat
from instructedit.benchmark.instructions.chat import ChatProposer
from instructedit.benchmark.instructions.ledger import Ledger
from instructedit.benchmark.instructions.proposer import Brief, Example
from instructedit.benchmark.results.loop_results import Trial

from .server import serving

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
        Trial(text="The best one so far", cases={"case": {"reliability": 0.9125, "score": 0.8}}),
        Trial(text="The worst one so far", cases={"case": {"reliability": 0.12, "score": 0.2004}}),
    ),
)


class Bench:
    """A proposer on a server, all that it has said, and the waits that were skipped."""

    def __init__(self, server, monkeypatch, folder) -> None:
        self.server, self.monkeypatch, self.folder, self.made = server, monkeypatch, folder, 0
        self.waits: list[float] = []
        self.reports: list[str] = []
        self.texts: list[str] = []
        self.proposer: ChatProposer | None = None

    def make(self, answer=chat.ANSWER, **options) -> ChatProposer:
        self.monkeypatch.setattr(chat, "ANSWER", answer)
        self.made += 1
        ledger = Ledger(self.folder / f"{self.made}.jsonl")
        options = {"ledger": ledger, "timeout": 5.0, "retries": 3, **options}
        self.proposer = ChatProposer(**options)
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
def bench(monkeypatch, caplog, tmp_path_factory):
    caplog.set_level(logging.DEBUG)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "OPENAI_LOG", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    replies = []
    with serving() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_MODEL", "tiny-chat")
        found = Bench(server, monkeypatch, tmp_path_factory.mktemp("ledgers"))
        monotonic = time.monotonic
        monkeypatch.setattr(time, "sleep", found.waits.append)
        monkeypatch.setattr(time, "monotonic", lambda: monotonic() + sum(found.waits))
        propose = ChatProposer.propose
        monkeypatch.setattr(ChatProposer, "propose", lambda *a: replies.append(propose(*a)) or replies[-1])
        yield found
        assert server.surprises == 0, "more requests came than the test expects"
    records = [r for phase in ("setup", "call") for r in caplog.get_records(phase)]
    told = [path.read_text() for path in found.folder.iterdir()]
    told += [*map(repr, replies), *found.reports, *found.texts, repr(found.proposer), caplog.text]
    told += [f"{record.getMessage()} {record.__dict__}" for record in records]
    for text in told:
        assert KEY not in text and json.dumps(KEY)[1:-1] not in text and KEY.replace("/", "\\/") not in text
