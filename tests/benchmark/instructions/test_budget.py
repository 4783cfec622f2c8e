"""What a chat proposer may spend: tokens, and requests in a minute."""

import json

import pytest

from instructedit.benchmark.instructions.ledger import Ledger
from instructedit.benchmark.instructions.proposer import BudgetError
from instructedit.editors import InputError

from .chatbench import BRIEF, PROSE, TEN
from .chatbench import bench as bench
from .server import body, cut, ok, says, stall, status


def test_a_budget_ends_before_the_request_that_might_break_it(bench):
    bench.propose(ok(TEN), budget=5000, answer=1000)
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
    assert reply.admitted == tuple(TEN[:3])
    assert reply.notes[1].startswith("The budget of 2,800 tokens does not allow another request: 420 are spent")
    assert reply.notes[2] == "3 of 10 descriptions came in the end."
    assert len(bench.server.requests) == 1 and "Write 7 more" not in reply.prompt  # it was never asked
    bench.server.script.clear()


def test_prose_before_the_end_of_the_budget_is_nothing_to_keep(bench):
    with pytest.raises(BudgetError):
        bench.propose(says(PROSE), budget=2800)
    assert len(bench.server.requests) == 1 and bench.proposer.spent == 420


def test_the_budget_ends_retries_too(bench):
    """Each attempt that stalled may have cost 2,300 tokens or so, and a third would not be allowed."""
    text = bench.fails(BudgetError, stall, stall, budget=6000, retries=5, timeout=0.3)
    assert "does not allow another request" in text and len(bench.server.requests) == 2


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None, "completion_tokens": -1}])
def test_tokens_are_estimated_where_the_server_tells_none(bench, usage):
    reply = bench.propose(ok(TEN[:5], usage), ok(TEN[5:], usage))
    assert reply.admitted == tuple(TEN)
    assert reply.notes.count("The server reports no token counts; 4 characters are taken for a token.") == 1
    asked = [len("".join(m["content"] for m in request["body"]["messages"])) for request in bench.server.requests]
    assert reply.input_tokens == sum(-(-length // 4) for length in asked)
    assert reply.output_tokens == sum(-(-len(json.dumps(part)) // 4) for part in (TEN[:5], TEN[5:]))
    assert bench.proposer.spent == reply.input_tokens + reply.output_tokens


@pytest.mark.parametrize("behaviour", [stall, cut, body("no JSON")])
def test_what_may_have_been_answered_counts_as_the_longest_answer(bench, behaviour):
    reply = bench.propose(behaviour, ok(TEN), answer=1000, timeout=0.3)
    asked = bench.proposer.spent - 420 - 1000
    assert asked == -(-len("".join(m["content"] for m in bench.server.requests[0]["body"]["messages"])) // 4)
    assert reply.input_tokens + reply.output_tokens == bench.proposer.spent


def test_a_budget_holds_over_processes_that_failed(bench, tmp_path):
    """Each start makes one attempt that stalls; its possible cost is not forgotten."""
    for number, kind in enumerate((InputError, BudgetError), 1):
        ledger = Ledger(tmp_path / "requests.jsonl")
        bench.fails(kind, stall, retries=0, budget=7000, ledger=ledger, timeout=0.3)
        assert 2048 * number < ledger.tokens < 3000 * number
    ledger = Ledger(tmp_path / "requests.jsonl")
    assert f"{ledger.tokens:,} are spent" in bench.fails(BudgetError, budget=7000, ledger=ledger)
    assert len(bench.server.requests) == 2


def test_a_request_that_a_kill_cut_short_counts_in_full(tmp_path):
    path = tmp_path / "requests.jsonl"
    ledger = Ledger(path)
    ledger.came(ledger.sent(900), 420, "text")
    ledger.sent(900)
    assert Ledger(path).tokens == ledger.tokens == 420 + 900
    with path.open("a") as file:
        file.write('{"request": 2, "tok')
    again = Ledger(path)
    assert again.sent(1) == 2 and Ledger(path).tokens == 1321
    path.write_text("a line of something else\n")
    with pytest.raises(InputError, match="line 1: expected a request and its tokens"):
        Ledger(path)


def test_requests_are_spaced_by_the_rate_limit(bench):
    bench.propose(ok(TEN[:5]), status(429, "", {"Retry-After": "3"}), ok(TEN[5:]), requests_per_minute=6)
    first, retry_after, rest = bench.waits
    assert first == pytest.approx(10, abs=1) and retry_after == 3 and rest == pytest.approx(7, abs=1)
    bench.propose(ok(TEN))
    assert bench.waits[3] == pytest.approx(10, abs=1)
