"""Of how many requests edits are, in training and in the run, said from `run.json` alone."""

import pytest

from instructedit.benchmark.results.forms import trained_for
from instructedit.benchmark.results.records import EditorSpec, RunFile, TrainingSpec
from instructedit.reports.tables.run_facts import header, rows, runs_header, sizes, suite_header

from ..conftest import CASES, run_file


def row(name, together=1, joint="mean loss"):
    training = TrainingSpec(
        label="recent", tasks=("recent",), weights={"recent": 1}, cases={"recent": 9}, validation={"recent": 1},
        digest="d" * 16, checkpoint="c",
    )  # fmt: skip
    config = {"joint": joint, "training": {"together": together}}
    return EditorSpec(name=name, method="mend", config=config, training=training)


def run_of(*editors, **changes) -> RunFile:
    base = run_file()
    none = EditorSpec(name="none", method="none")
    return base.model_copy(update={"spec": base.spec.model_copy(update={"editors": (none, *editors), **changes})})


ROWS = row("mend"), row("mend-12", 12), row("mend-12-sum", 12, "sum")


def test_the_number_a_row_was_trained_for_is_named():
    assert [trained_for(one) for one in ROWS] == [1, 12, 12]
    assert trained_for(EditorSpec(name="old", method="mend", config={"rank": 8})) == 1
    (line,) = [text for word, text in rows(ROWS) if word == "Trained for"]
    assert line == (
        "mend: one request per edit; mend-12: joint edits of 12 requests (mean loss); mend-12-sum: joint edits of 12 "
        "requests (sum)"
    )
    assert not [word for word, _ in rows([EditorSpec(name="none", method="none")]) if word == "Trained for"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "Each case is edited separately. Trained for another number of requests than the 1 of an edit: mend-12 "
         "(for 12), mend-12-sum (for 12)."),
        ({"schedule": "batch", "batch_size": 12},
         "The 40 edited cases make 3 joint edits of 12, and one of the last 4. Trained for another number of requests "
         "than the 12 of a joint edit: mend (for 1)."),
        ({"schedule": "batch", "batch_size": 12, "edited": ("counterfact",), "limit": 12},
         "The 12 edited cases make one joint edit of 12. Trained for another number of requests than the 12 of a joint "
         "edit: mend (for 1)."),
        ({"schedule": "batch", "edited": ("counterfact",)},
         "The 20 edited cases make one joint edit of 20. Trained for another number of requests than the 20 of a joint "
         "edit: mend (for 1), mend-12 (for 12), mend-12-sum (for 12)."),
        ({"schedule": "sequential", "limit": 6, "edited": ("counterfact", "convsent")},
         "12 edits follow one another on one model. Trained for another number of requests than the 12 of the "
         "sequence: mend (for 1)."),
    ],
)  # fmt: skip
def test_edits_of_another_size_than_trained_for_are_said(changes, sentence):
    assert CASES == 20
    run = run_of(*ROWS, **changes)
    assert sizes(run) == sentence
    assert ("Edits", sentence) in list(header(run))
    assert runs_header([run, run]) == tuple(header(run))


def test_nothing_is_said_where_all_was_trained_for_what_is_tested():
    assert sizes(run_of(ROWS[0])) is None
    run = run_of(*ROWS[1:], schedule="batch", batch_size=10)
    assert "Trained" in sizes(run)
    run = run_of(*ROWS[1:], schedule="batch", batch_size=12)
    assert sizes(run) == "The 40 edited cases make 3 joint edits of 12, and one of the last 4."
    assert "batches of 12" in dict(header(run))["Setting"]


def test_a_suite_says_it_group_by_group():
    from instructedit.benchmark.results.suite_results import SuiteGroup

    run = run_of(*ROWS, schedule="batch", batch_size=12)
    group = SuiteGroup(label="many", run=run, seeds=(0,), digests=(run.digest,), failed={}, means=(), comparisons=())
    found = list(suite_header([group]))
    assert ("Edits", f"many: {sizes(run)}") in found
    assert any(word == "Trained for" for word, _ in found)
    assert any(word == "Setting" and "batches of 12" in text for word, text in found)
