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
    told = ("seen-0", "seen-1", "unseen", "none")
    rows = [trained(f"instructedit#{condition}", "a", instruction=condition) for condition in told]
    found = list(questions("unseen-instruction", [trained("mend", "a"), *rows], ["a"]))
    assert [(q.question, q.rows, q.others) for q in found] == [
        ("unseen", ("instructedit#unseen",), ("instructedit#seen-0", "instructedit#seen-1")),
        ("control", ("instructedit#none",), ("instructedit#seen-0", "instructedit#seen-1")),
        ("mend", ("instructedit#seen-0", "instructedit#seen-1"), ("mend",)),
        ("mend", ("instructedit#unseen",), ("mend",)),
    ]
    assert found[0].first == "instructedit, unseen description"
    assert found[2].first == "instructedit, seen descriptions"


def test_the_name_of_an_editor_without_its_marks():
    assert base_name(trained("mend@a+b", "a", "b")) == "mend"
    assert base_name(trained("instructedit@a#none", "a")) == "instructedit"
    assert base_name(EditorSpec(name="my@editor", method="grace")) == "my@editor"
