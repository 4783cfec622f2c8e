"""Which rows of a setting are compared."""

from instructedit.benchmark.questions import base_name, questions
from instructedit.benchmark.results import EditorSpec

from ..reports.suites import trained


def asked(setting, rows, tasks=("a", "b")):
    return [(q.question, q.first, q.second, q.tasks) for q in questions(setting, rows, tasks)]


def test_editors_are_compared_where_they_learnt_the_same():
    rows = [trained(f"{name}@{task}", task, only=[task]) for name in ("mend", "instructedit") for task in ("a", "b")]
    assert asked("hold-out", [EditorSpec(name="none", method="none"), *rows]) == [
        ("mend", "instructedit@a", "mend@a", ("a",)),
        ("mend", "instructedit@b", "mend@b", ("b",)),
    ]


def test_single_task_asks_for_the_drop_from_the_diagonal():
    rows = [trained(f"mend@{task}", task) for task in ("a", "b", "c")]
    assert asked("single-task", rows) == [
        ("drop", "mend@b", "mend@a", ("a",)),
        ("drop", "mend@c", "mend@a", ("a",)),
        ("drop", "mend@a", "mend@b", ("b",)),
        ("drop", "mend@c", "mend@b", ("b",)),
    ]


def test_the_seen_descriptions_stand_for_an_editor_together():
    told = {"0": "description-0", "1": "description-1", "2": "unseen", "none": "none"}
    rows = [trained(f"instructedit#{mark}", "a", instruction=condition) for mark, condition in told.items()]
    found = list(questions("unseen-instruction", [trained("mend", "a"), *rows], ["a"]))
    assert [(q.question, q.rows, q.others) for q in found] == [
        ("unseen", ("instructedit#2",), ("instructedit#0", "instructedit#1")),
        ("control", ("instructedit#none",), ("instructedit#0", "instructedit#1")),
        ("mend", ("instructedit#0", "instructedit#1"), ("mend",)),
        ("mend", ("instructedit#2",), ("mend",)),
    ]
    assert found[0].first == "instructedit, unseen description"
    assert found[2].first == "instructedit, seen descriptions"


def test_the_name_of_an_editor_without_its_marks():
    assert base_name(trained("mend@a+b", "a", "b")) == "mend"
    assert base_name(trained("instructedit@a#none", "a")) == "instructedit"
    assert base_name(EditorSpec(name="my@editor", method="grace")) == "my@editor"
