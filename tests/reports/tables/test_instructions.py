"""What a loop looks like on the terminal, from its files alone."""

import io

from rich.console import Console

from instructedit.benchmark.results.loop_results import (
    CONTROLS,
    FINAL,
    LOOP,
    PROPOSAL,
    TRIALS,
    Candidate,
    Final,
    LoopConfig,
    LoopFile,
    Proposal,
    Trial,
    Trials,
    round_folder,
)
from instructedit.benchmark.results.run_folder import write_record
from instructedit.reports.tables.instructions import draw_loop, draw_trials, verdicts


def trial(text, *scores):
    return Trial(
        text=text, cases={str(k): {"reliability": s, "locality": 0.5, "score": s} for k, s in enumerate(scores)}
    )


def drawn(draw, *arguments):
    console = Console(record=True, width=100, file=io.StringIO())
    draw(*arguments, console)
    return console.export_text()


def write(folder, *, finished):
    config = LoopConfig(task="zsre")
    file = LoopFile(config=config, model="m", data="d", editor={}, bank="b", proposer="some-model", settings={})
    write_record(folder / LOOP, file)
    for number, texts in enumerate((("one [x]", "two"), ())):
        place = round_folder(folder, number)
        proposal = Proposal(
            prompt="p",
            text="t",
            model="some-model",
            seed=0,
            candidates=tuple(Candidate(text=text) for text in texts),
            input_tokens=1000,
            output_tokens=234,
            seconds=2.0,
        )
        write_record(place / PROPOSAL, proposal)
        trials = tuple(trial(text, *scores) for text, scores in zip(texts, ((1.0, 0.0), (1.0, 1.0)), strict=False))
        write_record(place / TRIALS, Trials(trials=trials, seconds=3.0))
    if finished:
        write_record(folder / CONTROLS, Trials(trials=(trial("by hand", 0.0, 0.5),), seconds=1.0))
        groups = {"chosen": (trial("two", 1.0, 1.0),), "hand-written": (trial("by hand", 0.0, 0.5),)}
        write_record(folder / FINAL, Final(groups=groups, best={0: trial("two", 1.0, 0.5)}, seconds=1.0))


def test_a_loop_in_full(tmp_path):
    write(tmp_path, finished=True)
    text = drawn(draw_loop, tmp_path)
    rows = [line.split() for line in text.splitlines()]
    intervals = ["[50.0,", "100.0]", "[15.8,", "100.0]", "[50.0,", "100.0]"]
    scores = ["75.0", *intervals[:2], "100.0", *intervals[2:4], "75.0", *intervals[4:]]
    assert ["0", "2", *scores, "1,234", "5"] in rows
    assert ["1", "0", "-", "-", "-", "1,234", "5"] in rows
    assert "1. two" in text and "2. one [x]" in text and "1. by hand" in text
    assert "Test: chosen against hand-written: no difference shown, +75.0 points [-100.0, +100.0], n = 2 cases" in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_a_loop_that_is_not_finished(tmp_path):
    write(tmp_path, finished=False)
    text = drawn(draw_loop, tmp_path)
    assert "Best descriptions" in text and "Test" not in text and "controls" not in text


def test_trials_alone():
    text = drawn(draw_trials, [trial("worse", 0.0, 0.0), trial("better", 1.0, 1.0)])
    assert text.index("better") < text.index("worse")


def test_a_verdict_needs_a_difference_that_is_shown():
    same = {"chosen": (trial("a", 1.0, 0.0),), "random": (trial("b", 0.0, 1.0),)}
    (sentence,) = verdicts(same)
    assert "chosen against random: no difference shown, +0.0 points" in sentence
    worse = {"chosen": (trial("a", *[0.0] * 6),), "first round": (trial("b", *[1.0] * 6),)}
    assert "first round: worse, -100.0 points" in next(verdicts(worse))
    # Six signs alone are p = 0.031: beside another comparison that is not enough.
    both = {**worse, "random": (trial("c", *[0.0] * 6),)}
    assert [sentence.split(", ")[0] for sentence in verdicts(both)] == [
        "Test: chosen against random: no difference shown",
        "Test: chosen against first round: no difference shown",
    ]
