"""Which rows of a setting are compared."""

from instructedit.benchmark.results.planned_comparisons import base_name, questions
from instructedit.benchmark.results.records import EditorSpec

from ...reports.suites import trained


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


def forms(told=("seen",)):
    """Both forms of MEND and of InstructEdit; all but bare MEND have a row for each instruction."""
    carried = {"mend-instructed": "all but locality", "instructedit": "all but locality"}
    rows = [trained("mend", "a")]
    for name in ("mend-instructed", "instructedit", "instructedit-edit-only"):
        more = {"method": name.partition("-")[0], "instructed_probes": carried.get(name, "none")}
        rows += [trained(f"{name}#{one}" if len(told) > 1 else name, "a", instruction=one, **more) for one in told]
    return rows


def test_the_published_form_meets_both_forms_of_mend_and_its_control_the_bare_one():
    found = questions("multi-task", forms(), ["a"])
    assert [(q.first, q.second) for q in found] == [
        ("instructedit", "mend"),
        ("instructedit", "mend-instructed"),
        ("instructedit-edit-only", "mend"),
    ]


def test_instructed_probes_are_compared_under_the_same_instructions():
    found = questions("unseen-instruction", forms(("seen-0", "seen-1", "unseen")), ["a"])
    pairs = [(q.rows, q.others) for q in found if q.question == "mend" and q.rows[0].startswith("instructedit#")]
    seen, unseen = ("instructedit#seen-0", "instructedit#seen-1"), ("instructedit#unseen",)
    assert pairs == [
        (seen, ("mend",)),
        (seen, ("mend-instructed#seen-0", "mend-instructed#seen-1")),
        (unseen, ("mend",)),
        (unseen, ("mend-instructed#unseen",)),
    ]


def test_the_name_of_an_editor_without_its_marks():
    assert base_name(trained("mend@a+b", "a", "b")) == "mend"
    assert base_name(trained("instructedit@a#none", "a")) == "instructedit"
    assert base_name(EditorSpec(name="my@editor", method="grace")) == "my@editor"


def test_rows_trained_for_joint_edits_meet_rows_trained_for_the_same():
    def trained_for(name, together, joint):
        config = {"training": {"together": together}, "joint": joint}
        return trained(name, "recent").model_copy(update={"config": config})

    rows = [
        trained_for(f"{method}{mark}", together, joint).model_copy(update={"method": method})
        for method in ("mend", "instructedit")
        for mark, together, joint in (("", 1, "mean loss"), ("-12", 12, "mean loss"), ("-12-sum", 12, "sum"))
    ]
    found = {(a.first, a.second) for a in questions("multi-task", rows, ["recent"]) if a.question == "mend"}
    assert found == {
        ("instructedit", "mend"),
        ("instructedit-12", "mend-12"),
        ("instructedit-12-sum", "mend-12-sum"),
    }
