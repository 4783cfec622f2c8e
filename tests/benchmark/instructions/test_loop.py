"""The loop: what is kept apart, what is written when, and that a kill loses nothing."""

import json
import shutil
from contextlib import contextmanager
from itertools import combinations

import pytest

from instructedit.benchmark.instructions import loop as module
from instructedit.benchmark.instructions import material
from instructedit.benchmark.instructions.offline import held_out_description
from instructedit.benchmark.instructions.proposer import words_of
from instructedit.benchmark.results.loop_results import Final, Proposal, Trial, Trials
from instructedit.benchmark.results.records import read_record
from instructedit.benchmark.setup.banks import read_bank
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


@contextmanager
def two_of_each():
    """Compare with two hand-written and two random descriptions instead of nine."""
    every = material.Material.hand_written.fget
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(material, "RANDOM", 2)
        patch.setattr(material.Material, "hand_written", property(lambda self: every(self)[:2]))
        yield


@pytest.fixture
def few():
    with two_of_each():
        yield


@pytest.fixture(scope="module")
def ended(loop_in, tmp_path_factory):
    """Folder, loop and final record of a loop of two rounds."""
    folder = tmp_path_factory.mktemp("ended") / "loop"
    loop = loop_in(folder, Scripted(FIRST, SECOND))
    with two_of_each():
        return folder, loop, loop.run()


def test_a_loop_from_proposals_to_a_bank(make_loop, tmp_path):
    proposer = Scripted(FIRST, [*SECOND[:2], SECOND[0]])
    loop = make_loop(proposer)
    final = loop.run()
    folder = tmp_path / "loop"
    second = read_record(folder / "round-1" / "proposal.json", Proposal)
    assert [c.complaint for c in second.candidates] == [None, None, f"it is almost '{SECOND[0]}'"]
    assert (second.prompt, second.model, second.input_tokens, second.output_tokens) == ("asked", "scripted", 10, 5)
    assert second.seed == proposer.seeds[1] != proposer.seeds[0]
    assert [len(final.groups[name]) for name in ("chosen", "first round", "hand-written", "random", "unseen")] == [
        5,
        3,
        9,
        9,
        1,
    ]
    # chosen by the trials, not by the test
    tried = [trial for _, trials in loop.rounds for trial in trials.trials]
    assert [trial.text for trial in final.groups["chosen"]] == [trial.text for trial in module.ranked(tried)]
    # and the best of each round is tested too
    assert {number: trial.text for number, trial in final.best.items()} == {
        number: module.ranked(trials.trials)[0].text for number, (_, trials) in enumerate(loop.rounds)
    }
    assert set(final.best[0].cases) == {case.request.case_id for case in loop.material.test}
    bank = read_bank(folder / "bank.json")
    own = bank.tasks["counterfact"]
    assert own.descriptions == (*(trial.text for trial in final.groups["chosen"]), loop.unseen.text) and own.unseen == 5
    shipped = read_bank()
    assert bank.tasks["zsre"] == shipped.tasks["zsre"] and own.title == shipped.tasks["counterfact"].title
    (history,) = bank.history
    assert history["from"] == shipped.digest and len(history["rounds"]) == 2
    assert history["unseen"]["text"] == loop.unseen.text and len(history["controls"]) == 18
    assert set(history["test"]) == set(final.groups)
    assert bank.version.startswith(f"{shipped.version}+") and bank.name.endswith("counterfact by scripted, seed 0")
    assert set(history["rounds"][0]["scores"]) == set(FIRST)
    assert bank.model_copy(update={"history": ()}).digest == bank.digest != shipped.digest


def test_the_unseen_description_and_the_test_cases_reach_no_proposer(ended):
    _, loop, _ = ended
    proposer = loop.proposer
    shipped = read_bank().tasks["counterfact"]
    assert loop.unseen.text == shipped.descriptions[shipped.unseen]
    asked = str(proposer.briefs)
    assert loop.unseen.text not in asked
    names = {case.request.subject for case in loop.material.test}
    assert names and not any(name in asked for name in names)
    assert not proposer.briefs[0].tried
    assert [tried.text for tried in proposer.briefs[1].tried] == [
        t.text for t in module.ranked(loop.rounds[0][1].trials)
    ]
    assert len(set(proposer.seeds)) == 2


def test_three_parts_of_the_data_share_no_subject(make_loop):
    material = make_loop(Scripted()).material
    learnt = (*material.training.train, *material.training.validation)
    parts = [{case.request.subject for case in cases} for cases in (learnt, material.trial, material.test)]
    assert all(parts) and not any(first & second for first, second in combinations(parts, 2))
    assert {case.request.task for case in material.training.train} == {"counterfact", "recent", "convsent"}


def test_no_probe_of_the_training_asks_about_a_subject_of_the_trials(place, tmp_path, make_loop):
    """A neighbour's fact in a locality probe would be learnt by heart."""
    material = make_loop(Scripted()).material
    (held, *_) = material.trial
    path = tmp_path / "data"
    shutil.copytree(place / "data", path)
    for name in ("wiki_recent/recent_train.json", "wiki_counterfact/train_cf.json"):
        rows = json.loads((path / name).read_text())
        for row in rows:
            probe = {"prompt": f"The gender of {held.request.subject} is", "ground_truth": [["female"]]}
            row["locality"] = {"Relation_Specificity": [probe]}
        (path / name).write_text(json.dumps(rows))
    again = make_loop(Scripted(), data=path).material
    assert held.request.case_id in {case.request.case_id for case in again.trial}
    prompts = [p.prompt for c in again.training.train if c.request.task != "convsent" for p in c.probes]
    assert prompts and not any(held.request.subject in prompt for prompt in prompts)


def test_the_trial_editor_is_trained_under_no_candidate(make_loop):
    material = make_loop(Scripted()).material
    training = material.training_under(material.training_descriptions(0))
    own = next(case for case in training.train if case.request.task == "counterfact")
    other = next(case for case in training.train if case.request.task == "recent")
    told = {training.request(own, seed).instruction for seed in range(50)}
    assert len(told) > 20 and all(text.startswith("Task: CounterFact\nDescription: ") for text in told)
    descriptions = {text.partition("Description: ")[2] for text in told}
    assert descriptions <= set(material.training_descriptions(0)) and not descriptions & set(
        read_bank().tasks["counterfact"].descriptions
    )
    assert "Task: Recent" in training.request(other, 0).instruction


KILLS = ["first proposal", "first trial", "second proposal", "second trial", "controls", "test", "bank"]


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("place_of_kill", KILLS)
def test_a_killed_loop_goes_on_and_gives_the_same_files(ended, make_loop, tmp_path, monkeypatch, place_of_kill):
    class KilledError(Exception):
        pass

    cut = tmp_path / "cut"
    dies = {"first trial": "round 0", "second trial": "round 1"}.get(place_of_kill, place_of_kill)
    real, write = module.Loop.try_texts, module.write_record

    def killed(self, texts, what, **options):
        if what == dies:
            raise KilledError
        return real(self, texts, what, **options)

    def killed_bank(path, record):
        if dies == path.stem == "bank":
            raise KilledError
        return write(path, record)

    monkeypatch.setattr(module.Loop, "try_texts", killed)
    monkeypatch.setattr(module, "write_record", killed_bank)
    proposals = {"first proposal": [KilledError()], "second proposal": [FIRST, KilledError()]}.get(
        place_of_kill, [FIRST, SECOND]
    )
    first = Scripted(*proposals)
    with pytest.raises(KilledError):
        make_loop(first, cut).run()
    monkeypatch.undo()
    paid = len([reply for reply in first.briefs]) - sum(isinstance(reply, KilledError) for reply in proposals)
    again = Scripted(*[FIRST, SECOND][paid:])
    make_loop(again, cut).run()
    assert not again.replies, "what was answered is not asked again"
    assert files(cut) == files(ended[0])


def steps(monkeypatch, make_loop, *rounds, **options):
    """Run a loop whose rounds come to these scores of twenty cases, and return it with the proposals left over."""
    left = iter(rounds)

    def scored(self, texts, what, **_):
        values = next(left) if what.startswith("round") and texts else [0.0] * 20
        cases = {str(number): {"score": value} for number, value in enumerate(values)}
        return Trials(trials=tuple(Trial(text=text, cases=cases) for text in texts), seconds=1.0)

    monkeypatch.setattr(module.Loop, "try_texts", scored)
    proposer = Scripted(*[[text] if values else [] for text, values in zip(TEXTS, rounds, strict=False)])
    told: list[str] = []
    loop = make_loop(proposer, told=told, **options)
    loop.run()
    return len(loop.rounds), told


def low(share):
    """Scores of twenty cases of which a share is right."""
    return [float(number < 20 * share) for number in range(20)]


def test_a_loop_without_improvement_stops(monkeypatch, make_loop):
    count, told = steps(monkeypatch, make_loop, low(0.5), low(0.5), low(0.5), low(1), rounds=4, patience=2)
    assert count == 3
    assert any("no candidate was significantly better than the best one for 2 rounds" in line for line in told)


def test_a_gain_within_its_interval_is_no_improvement(monkeypatch, make_loop):
    """One case of twenty more is a gain of the mean, and no more than chance gives."""
    count, _ = steps(monkeypatch, make_loop, low(0.5), low(0.55), low(0.5), low(1), rounds=4, patience=2)
    assert count == 3


def test_small_gains_add_up_to_an_improvement(monkeypatch, make_loop):
    """No round beats the one before, the third beats the first."""
    rounds = (low(0.3), low(0.4), low(0.5), low(0.6), low(0.6), low(0.6), low(1))
    count, _ = steps(monkeypatch, make_loop, *rounds[:6], rounds=6, patience=3)
    assert count == 6


def test_rounds_without_anything_to_try_count_as_well(monkeypatch, make_loop):
    count, _ = steps(monkeypatch, make_loop, low(0.5), [], [], low(1), rounds=4, patience=2)
    assert count == 3


@pytest.mark.usefixtures("few")
def test_a_spent_budget_ends_the_loop_cleanly(make_loop, tmp_path):
    told: list[str] = []
    final = make_loop(Scripted(FIRST, budget()), told=told, rounds=3).run()
    assert any("ends after 1 rounds. The budget of 100 tokens is spent." in line for line in told)
    assert isinstance(final, Final) and (tmp_path / "loop" / "bank.json").is_file()


@pytest.mark.usefixtures("few")
def test_a_loop_that_was_tested_chooses_nothing_anew(make_loop, tmp_path):
    ended = make_loop(Scripted(FIRST, budget()), rounds=3).run()
    before = files(tmp_path / "loop")
    told: list[str] = []
    again = make_loop(Scripted(SECOND), told=told, rounds=3).run()
    assert again == ended and files(tmp_path / "loop") == before
    assert told == ["This loop has ended and was tested; another one needs another folder."]


@pytest.mark.usefixtures("few")
def test_a_round_of_nothing_usable_is_said_and_the_next_one_is_asked_for(make_loop, tmp_path):
    told: list[str] = []
    final = make_loop(Scripted(["Too short."], FIRST), told=told).run()
    assert any("round 0: no candidate meets the rules. 'Too short.': it has 2 words" in line for line in told)
    assert len(final.groups["chosen"]) == 3 and "first round" not in final.groups
    with pytest.raises(InputError, match="no candidate was tried"):
        make_loop(Scripted(["Too short."], []), tmp_path / "empty").run()


@pytest.mark.usefixtures("few")
def test_an_empty_later_round_is_a_round_without_improvement(make_loop):
    told: list[str] = []
    loop = make_loop(Scripted(FIRST, []), told=told)
    loop.run()
    assert [len(trials.trials) for _, trials in loop.rounds] == [3, 0]


def test_the_folder_of_another_loop_is_refused(make_loop):
    make_loop(Scripted(FIRST)).begin()
    with pytest.raises(InputError, match="belongs to another loop"):
        make_loop(Scripted(FIRST), seed=1).begin()


@pytest.mark.usefixtures("few")
def test_an_editor_for_each_candidate_is_trained_under_it_alone(make_loop, tmp_path):
    loop = make_loop(Scripted(FIRST[:2]), rounds=1, anew=2)
    final = loop.run()
    # two candidates, and the controls; not the unseen one, which an editor of its own would have seen
    assert len(list((tmp_path / "loop" / "editors").iterdir())) == 2 + 4
    assert "unseen" not in final.groups and "hand-written" in final.groups
    training = loop.material.training_under(FIRST[:1])
    own = next(case for case in training.train if case.request.task == "counterfact")
    assert {training.request(own, seed).instruction for seed in range(9)} == {
        f"Task: CounterFact\nDescription: {FIRST[0]}"
    }


def test_a_task_without_descriptions_keeps_one_of_the_grammar(make_loop, monkeypatch):
    shipped = read_bank()
    tasks = {name: task for name, task in shipped.tasks.items() if name != "zsre"}
    monkeypatch.setattr(
        "instructedit.benchmark.instructions.material.read_bank", lambda *_: shipped.model_copy(update={"tasks": tasks})
    )
    proposer = Scripted(FIRST, SECOND[:2])
    loop = make_loop(proposer, task="zsre")
    final = loop.run()
    assert loop.unseen.text == held_out_description(loop.material.brief)
    assert "hand-written" not in final.groups and len(final.groups["random"]) == 9
    assert not any(loop.unseen.text in str(brief) for brief in proposer.briefs)


def test_random_texts_are_as_long_as_the_chosen_ones(ended):
    _, _, final = ended
    lengths = [[len(words_of(trial.text)) for trial in final.groups[name]] for name in ("chosen", "random")]
    assert lengths[1] == [lengths[0][number % len(lengths[0])] for number in range(2)]


def test_random_texts_about_attitudes_hold_the_placeholders_within_that_length(make_loop):
    loop = make_loop(Scripted(), task="convsent")
    texts = loop.material.random_texts(["Speak of [TOPIC] in a [LABEL] way from now on."], 0)
    assert {len(words_of(text)) for text in texts} == {10}
    assert all(text.endswith(" [TOPIC] [LABEL]") for text in texts)


def test_an_editor_is_used_for_what_it_was_told_alone(make_loop, tmp_path):
    """The folder of a loop may hold the editor of another bank, seed or title."""
    first, other = make_loop(Scripted()), make_loop(Scripted(), seed=1)
    for loop in (first, first, other):
        loop.try_texts(FIRST[:1], "trial")
    assert len(list((tmp_path / "loop" / "editors").iterdir())) == 2


def test_two_processes_do_not_share_a_folder(make_loop):
    loop = make_loop(Scripted(FIRST))
    with module.alone(loop.folder), pytest.raises(InputError, match="another process works on this loop"):
        make_loop(Scripted(FIRST)).run()


@pytest.mark.usefixtures("few")
def test_what_comes_next_in_a_loop_that_has_ended_is_nothing(make_loop):
    loop = make_loop(Scripted(FIRST), rounds=1)
    assert loop.next_round() == 0
    loop.round(0)
    with pytest.raises(InputError, match="all 1 rounds are done"):
        loop.next_round()
    loop.run()
    with pytest.raises(InputError, match="has ended and was tested"):
        loop.next_round()
