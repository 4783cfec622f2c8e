"""The commands `table` and `reproduce`: what they print and write, and one sentence for what they refuse."""

import json

import pytest

from ..reports.papers import write_main
from ..reports.suites import write_index
from .command import call


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    write_index(out, *write_main(out))
    return out


def test_a_table_is_printed_or_written(place, tmp_path):
    code, printed, _ = call("table", "paper:table3", place, "--format", "markdown")
    assert code == 0
    assert "| Reliability, n = 20 | 0.0 [0.0, 16.8] | 40.0 [19.1, 63.9] |" in printed
    code, said, _ = call("table", "paper:table3", place, "--format", "markdown", "--out", tmp_path / "t.md")
    assert (code, said) == (0, f"Written to {tmp_path / 't.md'}\n")
    assert (tmp_path / "t.md").read_text(encoding="utf-8") == printed


def test_results_are_held_against_the_published_ones(place):
    code, printed, _ = call("reproduce", "paper:table3", place, "--format", "json")
    assert code == 0
    page = json.loads(printed)
    assert page["text"][0].startswith("DIRECTIONS ONLY.")
    assert {record["kind"] for record in page["records"]} == {"direction"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("table", "tasks", "--protocol", "free_generation", "--protocol", "teacher_forced_exact"),
            "--protocol: found free_generation and teacher_forced_exact, expected one: a column never mixes protocols, "
            "which measure different things. Make a table of each.",
        ),
        (
            ("reproduce", "paper:table3", "--schedule", "single", "--schedule", "batch"),
            "--schedule: found single and batch, expected one: a column never mixes schedules, which edit different "
            "models. Make a table of each.",
        ),
        (("table", "nothing"), "'nothing' is no table; expected one of tasks, subsets, "),
        (("reproduce", "tasks"), "'tasks' is nothing to reproduce; expected one of paper:table3, "),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(place, words, sentence):
    command, name, *options = words
    code, _, err = call(command, name, place, *options)
    assert code == 2
    assert err.startswith(f"instructedit: {sentence}")
    assert err.count("\n") == 1
