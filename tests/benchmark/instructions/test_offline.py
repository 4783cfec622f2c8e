"""The grammar: what it writes passes the rules, is a function of its seed, and takes after what did well."""

from collections import Counter
from dataclasses import replace

import pytest

from instructedit.benchmark.instructions.offline import (
    MUTATION,
    OfflineProposer,
    candidate_slots,
    held_out_description,
    training_slots,
)
from instructedit.benchmark.instructions.proposer import ALIKE, Brief, Example, Rules, similarity
from instructedit.benchmark.results.loop_results import Trial

STATEMENT = Example("The place of birth of Ada is", "Paris")
QUESTION = Example("Where was Ada born?", "Paris")


def brief(*examples, placeholders=(), tried=()):
    return Brief("mine", "Mine", "facts about people", placeholders, examples, tried)


FACTS = brief(STATEMENT)
VIEWS = brief(QUESTION, placeholders=("[TOPIC]", "[LABEL]"))


@pytest.mark.parametrize("told", [FACTS, VIEWS, brief(QUESTION)])
def test_everything_it_writes_keeps_the_rules(told):
    reply = OfflineProposer().propose(told, 60, 0)
    assert len(set(reply.admitted)) == 60
    rules = Rules(told.placeholders, frozenset(), ())
    # no complaint even about the others
    assert [rules.complaint(text, reply.admitted[:number]) for number, text in enumerate(reply.admitted)] == [None] * 60


def test_a_task_that_takes_many_words_has_fewer_descriptions_and_says_so():
    told = replace(FACTS, about=" ".join(["word"] * 33))
    assert OfflineProposer().propose(told, 10, 0).notes == (
        "The grammar has 0 of 10 descriptions that meet the rules and are new.",
    )
    assert not OfflineProposer().propose(FACTS, 10, 0).notes


@pytest.mark.parametrize("told", [FACTS, VIEWS, brief(QUESTION)])
def test_the_trial_editor_learns_no_sentence_that_a_candidate_holds(told):
    for tried, learnt in zip(candidate_slots(told), training_slots(told), strict=True):
        assert len(tried) >= 7 and len(learnt) >= 4 and not set(tried) & set(learnt)
    assert not any(
        sentence in held_out_description(told)
        for slot in (*candidate_slots(told), *training_slots(told))
        for sentence in slot
    )


def test_nothing_like_a_known_description_is_written_again():
    first = OfflineProposer().propose(FACTS, 10, 0).admitted
    again = OfflineProposer().propose(replace(FACTS, known=first), 10, 0).admitted
    assert len(again) == 10 and max(similarity(a, b) for a in again for b in first) < ALIKE


def test_the_wording_follows_the_metadata():
    asked, stated = (" ".join(OfflineProposer().propose(told, 50, 0).admitted) for told in (brief(QUESTION), FACTS))
    assert "question" in asked and "question" not in stated
    assert "sentence" in stated and "facts about people" in stated
    mixed = brief(STATEMENT, STATEMENT, QUESTION)
    assert candidate_slots(mixed)[1] == candidate_slots(FACTS)[1]


def test_a_seed_gives_the_same_descriptions_and_another_others():
    first, again, other = (OfflineProposer().propose(FACTS, 10, seed).admitted for seed in (1, 1, 2))
    assert first == again != other


def test_later_rounds_take_after_the_better_half():
    best, second, third, worst = OfflineProposer().propose(FACTS, 4, 5).admitted
    tried = tuple(
        Trial(text=text, cases={"case": {"score": score / 100}})
        for score, text in zip((4, 3, 2, 1), (best, second, third, worst), strict=True)
    )
    told = replace(brief(STATEMENT, tried=tried), known=(best, second, third, worst))
    found = OfflineProposer().propose(told, 25, 1).admitted
    assert not set(found) & {best, second, third, worst}
    slots = candidate_slots(FACTS)
    seen = Counter()
    for text in found:
        for slot in slots:
            (choice,) = (option for option in slot if f" {option} " in f" {text} ")
            seen["parent" if choice in best or choice in second else "other"] += 1
    share = seen["parent"] / sum(seen.values())
    # a redrawn slot is a parent's by chance in a quarter of the draws at most
    assert share > 1 - MUTATION - 0.1
    assert seen["other"] > 0
