"""The loop: what is kept apart, what is written when, and that a kill loses nothing."""

import json

import pytest

from instructedit.benchmark.construct import loop as module
from instructedit.benchmark.construct.journal import Final, Proposal
from instructedit.benchmark.construct.outcome import chosen
from instructedit.benchmark.construct.records import Trial
from instructedit.benchmark.instructions import read_bank
from instructedit.benchmark.results import read_record
from instructedit.editors import InputError

from .worlds import TEXTS, Scripted, budget

FIRST, SECOND = TEXTS[:3], TEXTS[3:]


def files(folder):
    return {
        str(path.relative_to(folder)): strip(json.loads(path.read_text()))
        for path in sorted(folder.rglob("*.json"))
        if "editors" not in path.parts
    }


def strip(content):
    """Leave out what differs between two equal loops: times."""
    if isinstance(content, dict):
        return {key: strip(value) for key, value in content.items() if key != "seconds"}
    return [strip(entry) for entry in content] if isinstance(content, list) else content


def test_a_loop_from_proposals_to_a_bank(make_loop, tmp_path):
    proposer = Scripted(FIRST, [*SECOND[:2], SECOND[0]])
    loop = make_loop(proposer)
    final = loop.run()
    folder = tmp_path / "loop"
    second = read_record(folder / "round-1" / "proposal.json", Proposal)
    assert [c.complaint for c in second.candidates] == [None, None, f"it is almost '{SECOND[0]}'"]
    assert (second.prompt, second.model, second.input_tokens, second.output_tokens) == ("asked", "scripted", 10, 5)
    assert loop.journal.tokens() == 2 * 15
    assert [len(final.groups[name]) for name in ("chosen", "first round", "hand-written", "random", "unseen")] == [
        5,
        3,
        9,
        9,
        1,
    ]
    # chosen by the trials, not by the test
    tried = [trial for _, trials in loop.journal.rounds() for trial in trials.trials]
    assert [trial.text for trial in final.groups["chosen"]] == [trial.text for trial in module.ranked(tried)]
    # and the best of each round is tested too
    assert {number: trial.text for number, trial in final.best.items()} == {
        number: module.ranked(trials.trials)[0].text for number, (_, trials) in enumerate(loop.journal.rounds())
    }
    assert set(final.best[0].cases) == {case.request.case_id for case in loop.material.test}
    bank = read_bank(folder / "bank.json")
    own = bank.tasks["counterfact"]
    assert own.descriptions == (*chosen(loop), loop.unseen) and own.unseen == 5
    shipped = read_bank()
    assert bank.tasks["zsre"] == shipped.tasks["zsre"] and own.title == shipped.tasks["counterfact"].title
    (history,) = bank.history
    assert history["from"] == shipped.digest and len(history["rounds"]) == 2
    assert set(history["rounds"][0]["scores"]) == set(FIRST)
    assert bank.model_copy(update={"history": ()}).digest == bank.digest != shipped.digest


def test_the_unseen_description_and_the_test_cases_reach_no_proposer(make_loop):
    proposer = Scripted(FIRST, SECOND)
    loop = make_loop(proposer)
    loop.run()
    shipped = read_bank().tasks["counterfact"]
    assert loop.unseen == shipped.descriptions[shipped.unseen]
    asked = str(proposer.briefs)
    assert loop.unseen not in asked
    names = {case.request.subject for case in loop.material.test}
    assert names and not any(name in asked for name in names)
    assert not proposer.briefs[0].tried
    assert [tried.text for tried in proposer.briefs[1].tried] == [
        t.text for t in module.ranked(loop.journal.rounds()[0][1].trials)
    ]
    assert len(set(proposer.seeds)) == 2


def test_three_parts_of_the_data_never_meet(make_loop):
    material = make_loop(Scripted()).material
    learnt = {case.request.case_id for case in (*material.training.train, *material.training.validation)}
    trial, test = ({case.request.case_id for case in cases} for cases in (material.trial, material.test))
    assert learnt and trial and test
    assert not learnt & trial and not trial & test and not learnt & test
    assert {case.request.task for case in material.training.train} == {"counterfact", "recent", "convsent"}


def test_the_trial_editor_is_trained_under_no_candidate(make_loop):
    material = make_loop(Scripted()).material
    training = material.taught(material.varied(0))
    own = next(case for case in training.train if case.request.task == "counterfact")
    other = next(case for case in training.train if case.request.task == "recent")
    told = {training.request(own, seed).instruction for seed in range(50)}
    assert len(told) > 20 and all(text.startswith("Task: CounterFact\nDescription: ") for text in told)
    descriptions = {text.partition("Description: ")[2] for text in told}
    assert descriptions <= set(material.varied(0)) and not descriptions & set(
        read_bank().tasks["counterfact"].descriptions
    )
    assert "Task: Recent" in training.request(other, 0).instruction


@pytest.mark.parametrize("place_of_kill", ["first proposal", "first trial", "second proposal", "second trial", "test"])
def test_a_killed_loop_goes_on_and_gives_the_same_files(make_loop, tmp_path, monkeypatch, place_of_kill):
    class KilledError(Exception):
        pass

    whole = tmp_path / "whole"
    make_loop(Scripted(FIRST, SECOND), whole).run()
    cut = tmp_path / "cut"
    dies = {"first trial": "round 0", "second trial": "round 1", "test": "test"}.get(place_of_kill)
    real = module.Loop.trials

    def killed(self, texts, what, **options):
        if what == dies:
            raise KilledError
        return real(self, texts, what, **options)

    monkeypatch.setattr(module.Loop, "trials", killed)
    proposals = {"first proposal": [KilledError()], "second proposal": [FIRST, KilledError()]}.get(
        place_of_kill, [FIRST, SECOND]
    )
    first = Scripted(*proposals)
    with pytest.raises(KilledError):
        make_loop(first, cut).run()
    monkeypatch.setattr(module.Loop, "trials", real)
    paid = len([reply for reply in first.briefs]) - sum(isinstance(reply, KilledError) for reply in proposals)
    again = Scripted(*[FIRST, SECOND][paid:])
    make_loop(again, cut).run()
    assert not again.replies, "what was answered is not asked again"
    assert files(cut) == files(whole)


def test_a_loop_without_improvement_stops(make_loop, monkeypatch):
    scores = iter([0.5, 0.5, 0.5])

    def same(self, texts, what, **_):
        value = next(scores) if what.startswith("round") else 0.5
        return module.Trials(
            trials=tuple(Trial(text=t, cases={"a": {"score": value}, "b": {"score": value}}) for t in texts),
            seconds=1.0,
        )

    monkeypatch.setattr(module.Loop, "trials", same)
    told: list[str] = []
    proposer = Scripted(TEXTS[:1], TEXTS[1:2], TEXTS[2:3], TEXTS[3:4])
    loop = make_loop(proposer, told=told, rounds=4, patience=2)
    loop.run()
    assert len(loop.journal.rounds()) == 3 and len(proposer.replies) == 1
    assert any("not beaten by more than its interval for 2 rounds" in line for line in told)


def test_a_spent_budget_ends_the_loop_cleanly(make_loop, tmp_path):
    told: list[str] = []
    final = make_loop(Scripted(FIRST, budget()), told=told, rounds=3).run()
    assert any("ends after 1 rounds. The budget of 100 tokens is spent." in line for line in told)
    assert isinstance(final, Final) and (tmp_path / "loop" / "bank.json").is_file()


def test_a_loop_that_was_tested_chooses_nothing_anew(make_loop, tmp_path):
    ended = make_loop(Scripted(FIRST, budget()), rounds=3).run()
    before = files(tmp_path / "loop")
    told: list[str] = []
    again = make_loop(Scripted(SECOND), told=told, rounds=3).run()
    assert again == ended and files(tmp_path / "loop") == before
    assert told == ["This loop has ended and was tested; another one needs another folder."]


def test_a_round_of_nothing_usable_is_said_and_the_next_one_is_asked_for(make_loop, tmp_path):
    told: list[str] = []
    final = make_loop(Scripted(["Too short."], FIRST), told=told).run()
    assert any("round 0: nothing that can be tried. 'Too short.': it has 2 words" in line for line in told)
    assert len(final.groups["chosen"]) == 3 and "first round" not in final.groups
    with pytest.raises(InputError, match="no candidate was tried"):
        make_loop(Scripted(["Too short."], []), tmp_path / "empty").run()


def test_an_empty_later_round_is_a_round_without_improvement(make_loop):
    told: list[str] = []
    loop = make_loop(Scripted(FIRST, []), told=told)
    loop.run()
    assert [len(trials.trials) for _, trials in loop.journal.rounds()] == [3, 0]


def test_the_folder_of_another_loop_is_refused(make_loop):
    make_loop(Scripted(FIRST)).begin()
    with pytest.raises(InputError, match="belongs to another loop"):
        make_loop(Scripted(FIRST), seed=1).begin()


def test_an_editor_for_each_candidate_is_trained_under_it_alone(make_loop, tmp_path):
    loop = make_loop(Scripted(FIRST), rounds=1, anew=2)
    loop.begin()
    loop.trials(FIRST[:2], "round 0")
    folders = list((tmp_path / "loop" / "editors").iterdir())
    assert len(folders) == 2
    assert {(folder / "editor.json").is_file() for folder in folders} == {True}
    training = loop.material.taught(FIRST[:1])
    own = next(case for case in training.train if case.request.task == "counterfact")
    assert {training.request(own, seed).instruction for seed in range(9)} == {
        f"Task: CounterFact\nDescription: {FIRST[0]}"
    }


def test_a_task_without_descriptions_keeps_one_of_its_own(make_loop, monkeypatch):
    shipped = read_bank()
    tasks = {name: task for name, task in shipped.tasks.items() if name != "zsre"}
    monkeypatch.setattr(
        "instructedit.benchmark.construct.material.read_bank", lambda *_: shipped.model_copy(update={"tasks": tasks})
    )
    proposer = Scripted(TEXTS[5:6], FIRST, SECOND[:2])
    loop = make_loop(proposer, task="zsre")
    final = loop.run()
    assert loop.unseen == TEXTS[5]
    assert "hand-written" not in final.groups and len(final.groups["random"]) == 9
    assert not any(TEXTS[5] in str(brief) for brief in proposer.briefs)
