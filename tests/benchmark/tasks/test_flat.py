"""CounterFact in the flat layout and zsRE in MEND's: what a row becomes, what is left out, how one file is divided."""

import hashlib
import json
import re
from itertools import product
from pathlib import Path

import pytest

from instructedit.benchmark.tasks.base import make_task, subject_key, subjects
from instructedit.benchmark.tasks.flat import RomeCounterFact
from instructedit.benchmark.tasks.sources import Folder
from instructedit.benchmark.tasks.zsre import MendZsRE
from instructedit.editors import InputError, Probe


def fact(number, subject, **changes):
    return {
        "case_id": number,
        "prompt": f"The mother tongue of {subject} is",
        "target_new": " English",
        "subject": subject,
        "ground_truth": "French",
        "rephrase_prompt": f"A passage at random. {subject} grew up speaking",
        "locality_prompt": "Somebody Else is a native speaker of",
        "locality_ground_truth": "French",
        **changes,
    }


def query(subject, **changes):
    return {
        "subject": subject,
        "src": f"Which river contains {subject}?",
        "pred": "Some River",
        "rephrase": f"What river is {subject} in?",
        "alt": "Other River",
        "answers": ["True River", "The True River"],
        "loc": "nq question: how many seasons are there",
        "loc_ans": "12",
        "cond": f"Some River >> Other River || Which river contains {subject}?",
        **changes,
    }


def in_test(subject):
    """The stated rule, written out: below a fifth of all hashes of `split/` and the key."""
    digest = hashlib.sha256(f"split/{subject_key(subject)}".encode()).hexdigest()
    return int(digest[:16], 16) / 16**16 < 0.2


NAMES = [f"Person {number}" for number in range(60)]
TESTED = [name for name in NAMES if in_test(name)]
TRAINED = [name for name in NAMES if not in_test(name)]


def load(tmp_path, name, records, split="test", **options):
    (kind,) = [kind for kind in (RomeCounterFact, MendZsRE) if kind.name == name]
    file = tmp_path / kind.files["test"][0]
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(records))
    return make_task(name, {name: options}).load(Folder(tmp_path), split)


def test_a_fact_in_full(tmp_path):
    subject = TESTED[0]
    loaded = load(tmp_path, "rome-counterfact", [fact(7, TRAINED[0]), fact(9, subject)])
    (case,) = loaded.cases
    request = case.request
    assert (request.case_id, request.task, request.subject) == ("rome-counterfact/test/1", "rome-counterfact", subject)
    prompt = f"The mother tongue of {subject} is"
    assert (request.prompt, request.target, request.old) == (prompt, "English", "French")
    assert case.probes == (
        Probe("reliability", "edit", prompt, ("English",)),
        Probe("generalization", "rephrase", f"A passage at random. {subject} grew up speaking", ("English",)),
        Probe("locality", "Neighborhood", "Somebody Else is a native speaker of", ("French",)),
    )
    assert loaded.data.skipped == {"row left out: its subject is of the other split": 1}
    assert loaded.notes == (
        "rome-counterfact: read counterfact/counterfact-edit.json, 2 rows; 20% of the subjects, by a hash of the name, "
        "are the test split, all others the training split.",
    )


@pytest.mark.parametrize("target", ["alt", "answers"])
def test_a_query_in_full(tmp_path, target):
    subject = TESTED[0]
    loaded = load(tmp_path, "mend-zsre", [query(subject)], target=target)
    (case,) = loaded.cases
    accepted = ("Other River",) if target == "alt" else ("True River", "The True River")
    assert (case.request.prompt, case.request.target) == (f"Which river contains {subject}?", accepted[0])
    # the true answer is what the edit replaces; where it is the target, the file does not say what that replaces
    assert case.request.old == ("True River" if target == "alt" else None)
    assert case.probes == (
        Probe("reliability", "edit", case.request.prompt, accepted),
        Probe("generalization", "rephrase", f"What river is {subject} in?", accepted),
        Probe("locality", "NQ", "how many seasons are there", ("12",)),
    )
    assert loaded.data.options == {"target": target}


def test_a_subject_is_on_one_side_only_whatever_its_spelling(tmp_path):
    spelt = [*NAMES, *(f" {name.upper()} " for name in NAMES)]
    sides = {
        (name, split): subjects(load(tmp_path, name, [make(s) for s in spelt], split).cases)
        for (name, make), split in product(
            (("rome-counterfact", lambda s: fact(0, s)), ("mend-zsre", query)), ("train", "test")
        )
    }
    for name in ("rome-counterfact", "mend-zsre"):
        assert sides[name, "test"] == {subject_key(subject) for subject in TESTED}
        assert sides[name, "train"] == {subject_key(subject) for subject in TRAINED}
    assert 4 <= len(TESTED) <= 20


def test_a_target_that_held_before_is_counted(tmp_path):
    rows = [query(TESTED[0], answers=["Other River", "True River"]), query(TESTED[1], answers=["Other River"])]
    loaded = load(tmp_path, "mend-zsre", rows)
    assert [case.request.old for case in loaded.cases] == ["True River", None]
    assert loaded.data.skipped == {
        "edit: no other answer from before the edit is given": 1,
        "edit: the target is an answer from before the edit": 2,
    }


@pytest.mark.parametrize(("field", "value", "options"), [("alt", None, {}), ("answers", [3], {"target": "answers"})])
def test_the_target_is_required_under_every_option(tmp_path, field, value, options):
    with pytest.raises(InputError, match=f"row 0, field '{field}': found .*, expected a non-empty string"):
        load(tmp_path, "mend-zsre", [query(TESTED[0], **{field: value})], **options)


def test_names_of_files_are_tried_in_order(tmp_path):
    small = tmp_path / "counterfact_3k.json"
    small.write_text(json.dumps([fact(0, name) for name in NAMES]))
    loaded = RomeCounterFact().load(Folder(tmp_path))
    assert list(loaded.data.sha256) == ["counterfact_3k.json"]
    load(tmp_path, "rome-counterfact", [fact(0, name) for name in NAMES[:9]])
    assert list(RomeCounterFact().load(Folder(tmp_path)).data.sha256) == ["counterfact/counterfact-edit.json"]


@pytest.mark.parametrize(
    ("name", "rows", "options"),
    [("rome-counterfact", 8009, {}), ("mend-zsre", 2384, {}), ("mend-zsre", 2384, {"target": "answers"})],
)
def test_all_real_rows(shared, name, rows, options):
    task, source = make_task(name, {name: options}), Folder(shared / "data")
    splits = {split: task.load(source, split) for split in ("train", "test")}
    assert [found.data.rows for found in splits.values()] == [rows, rows]
    assert sum(found.data.cases for found in splits.values()) == rows
    assert subjects(splits["train"].cases).isdisjoint(subjects(splits["test"].cases))
    assert splits["test"].data.cases / rows == pytest.approx(0.2, abs=0.02)
    for found in splits.values():
        for case in found.cases:
            request = case.request
            assert request.subject in request.prompt
            assert case.probes[0] == Probe("reliability", "edit", request.prompt, case.probes[0].answers)
            assert case.probes[0].answers[0] == request.target != request.old
            assert all(probe.prompt == probe.prompt.strip() != request.prompt for probe in case.probes[1:])
            assert not any(probe.prompt.startswith("nq question") or probe.derived for probe in case.probes)
    without = sum(len(case.probes) < 3 for found in splits.values() for case in found.cases)
    assert without == (12 if name == "rome-counterfact" else 0), "12 rephrases repeat their prompt"


def test_the_page_of_tasks_shows_a_task_that_reads(tmp_path):
    """A flat layout needs no code: the example of docs/tasks.md reads a row with all its probes."""
    page = (Path(__file__).parents[3] / "docs" / "tasks.md").read_text()
    spaces: dict[str, object] = {"__name__": "example"}
    exec(next(code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "FlatTask" in code), spaces)
    row = {"subject": TESTED[0], "update": f"{TESTED[0]} lives in", "ans": "Rome", "rephrase": "", "mhop": "Where?"}
    (tmp_path / "months.json").write_text(json.dumps([{**row, "mhop_ans": "Italy", "loc": "What else?", "tag": "new"}]))
    loaded = spaces["Months"]().load(Folder(tmp_path))
    assert loaded.cases[0].probes == (
        Probe("reliability", "edit", row["update"], ("Rome",)),
        Probe("portability", "Multi_Hop", "Where?", ("Italy",)),
        Probe("locality", "Other_Fact", "What else?", ()),
    )
    assert loaded.data.skipped == {
        "field 'tag' not read": 1,
        "generalization: no rephrase given": 1,
        "locality: probe without an answer kept, the unedited model's own is read": 1,
    }
