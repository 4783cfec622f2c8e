"""The layouts of data sets, read by one reader: KnowEdit's record, clean and dirty, in each task that has it."""

import json
from pathlib import Path

import pytest

from instructedit.benchmark.tasks.base import TASKS
from instructedit.benchmark.tasks.sources import Folder
from instructedit.editors import InputError, Probe

RECORD = {
    "subject": "Ada Lovelace",
    "prompt": "The name of the spouse of Ada Lovelace is ",
    "target_new": " Alan Turing",
    "rephrase_prompt": "Ada Lovelace is married to",
}


def load(tmp_path: Path, *records: dict[str, object], task: str = "counterfact"):
    reader = TASKS.get(task)()
    file = tmp_path / reader.files["test"][0]
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(records))
    return reader.load(Folder(tmp_path))


def by_role(case, role):
    return [probe for probe in case.probes if probe.role == role]


@pytest.mark.parametrize("task", ["recent", "counterfact", "zsre"])
def test_request(tmp_path, task):
    request = load(tmp_path, RECORD, RECORD, task=task).cases[1].request
    assert request.case_id == f"{task}/test/1"
    assert request.task == task
    assert request.prompt == "The name of the spouse of Ada Lovelace is"
    assert request.target == "Alan Turing"
    assert request.subject == "Ada Lovelace"
    assert request.instruction is None


def test_bare_record_has_reliability_and_the_given_rephrase(tmp_path):
    loaded = load(tmp_path, RECORD)
    prompt = "The name of the spouse of Ada Lovelace is"
    assert loaded.cases[0].probes == (
        Probe("reliability", "edit", prompt, ("Alan Turing",)),
        Probe("generalization", "rephrase", "Ada Lovelace is married to", ("Alan Turing",)),
    )
    assert loaded.data.skipped == {}


def test_derived_rephrases_are_marked_and_counted(tmp_path):
    record = {key: value for key, value in RECORD.items() if key != "rephrase_prompt"}
    loaded = load(tmp_path, record, record)
    assert by_role(loaded.cases[0], "generalization") == [
        Probe("generalization", "possessive", "Ada Lovelace's spouse is", ("Alan Turing",), derived=True),
        Probe("generalization", "question", "Who is the spouse of Ada Lovelace?", ("Alan Turing",), derived=True),
    ]
    assert loaded.data.skipped == {
        "generalization: possessive derived": 2,
        "generalization: question derived": 2,
        "record: the same prompt, target and subject as an earlier one": 1,
    }


@pytest.mark.parametrize("rephrase", [None, "", [], RECORD["prompt"]])
def test_edit_prompt_never_stands_in_for_a_rephrase(tmp_path, rephrase):
    record = {**RECORD, "prompt": "Ada was wed to", "rephrase_prompt": rephrase}
    if rephrase == RECORD["prompt"]:
        record["prompt"] = RECORD["prompt"]
        record["subject"] = "nobody the rules could find"
    loaded = load(tmp_path, record)
    assert by_role(loaded.cases[0], "generalization") == []
    assert loaded.data.skipped["generalization: no rephrase given and no rule covers the prompt"] == 1
    repeated = "generalization: rephrase that repeats the edit prompt left out"
    assert loaded.data.skipped.get(repeated, 0) == (rephrase == RECORD["prompt"])


def test_malformed_rephrase_is_counted_and_several_are_kept(tmp_path):
    loaded = load(tmp_path, {**RECORD, "rephrase_prompt": 3, "rephrase": ["a b", "c d", "a b"]})
    assert [probe.prompt for probe in by_role(loaded.cases[0], "generalization")] == ["a b", "c d"]
    assert loaded.data.skipped == {"generalization: malformed rephrase left out": 1}


def test_answers_of_every_shape_and_any_subset_name(tmp_path):
    locality = {
        "Relation_Specificity": [{"prompt": "p1 ", "ground_truth": "x"}, {"prompt": "p2", "ground_truth": ["x", "y"]}],
        "Forgetfulness": [{"prompt": "p3", "ground_truth": [["x", "y"], ["z", "x"]]}],
        "Neighborhood": [{"prompt": "p4", "ground_truth": [["x"]]}],
        "Empty": [],
        "Null": None,
    }
    loaded = load(tmp_path, {**RECORD, "locality": locality})
    assert by_role(loaded.cases[0], "locality") == [
        Probe("locality", "Relation_Specificity", "p1", ("x",)),
        Probe("locality", "Relation_Specificity", "p2", ("x", "y")),
        Probe("locality", "Forgetfulness", "p3", ("x", "y", "z")),
        Probe("locality", "Neighborhood", "p4", ("x",)),
    ]
    assert loaded.data.skipped == {}


def test_probes_without_an_answer_are_counted(tmp_path):
    items = [{"prompt": f"p{i}", "ground_truth": value} for i, value in enumerate(["", [[]], [[], []], [""], None])]
    loaded = load(tmp_path, {**RECORD, "portability": {"Reasoning": [*items, {"prompt": "p"}]}})
    assert by_role(loaded.cases[0], "portability") == []
    assert loaded.data.skipped == {"portability: probe without an answer left out": 6}


@pytest.mark.parametrize(
    "item", ["text", 3, {"ground_truth": "x"}, {"prompt": 3}, {"prompt": " "}, {"prompt": "p", "ground_truth": 3}]
)
def test_malformed_probes_are_counted(tmp_path, item):
    loaded = load(tmp_path, {**RECORD, "locality": {"Forgetfulness": [item, {"prompt": "p", "ground_truth": "x"}]}})
    assert by_role(loaded.cases[0], "locality") == [Probe("locality", "Forgetfulness", "p", ("x",))]
    assert loaded.data.skipped == {"locality: malformed probe left out": 1}


@pytest.mark.parametrize("group", ["text", [], {"Reasoning": "text"}, {"Reasoning": {"prompt": "p"}}])
def test_malformed_groups_are_counted(tmp_path, group):
    loaded = load(tmp_path, {**RECORD, "portability": group})
    assert loaded.data.skipped == {"portability: malformed group of probes left out": 1}


def test_repeated_probes_are_merged_within_their_subset(tmp_path):
    portability = {
        "Reasoning": [{"prompt": "p", "ground_truth": "x"}, {"prompt": "p ", "ground_truth": [["y", "x"]]}],
        "Logical_Generalization": [{"prompt": "p", "ground_truth": "z"}],
    }
    loaded = load(tmp_path, {**RECORD, "portability": portability})
    assert by_role(loaded.cases[0], "portability") == [
        Probe("portability", "Reasoning", "p", ("x", "y")),
        Probe("portability", "Logical_Generalization", "p", ("z",)),
    ]
    assert loaded.data.skipped == {"portability: repeated probe merged, its answers kept": 1}


@pytest.mark.parametrize("role", ["portability", "locality"])
def test_probe_with_the_edit_prompt_is_left_out(tmp_path, role):
    loaded = load(tmp_path, {**RECORD, role: {"Any": [{"prompt": RECORD["prompt"], "ground_truth": "x"}]}})
    assert by_role(loaded.cases[0], role) == []
    assert loaded.data.skipped == {f"{role}: probe that repeats the edit prompt left out": 1}


@pytest.mark.parametrize(
    ("ground_truth", "accepted"),
    [
        ([["Alan Turing", "Turing", "A. M. Turing"]], ("Alan Turing", "Turing", "A. M. Turing")),
        ([["somebody"], ["Alan Turing", "Turing"]], ("Alan Turing", "Turing")),
        ([["Turing", "Alan Turing"]], ("Alan Turing",)),
        (["Alan Turing", "Turing"], ("Alan Turing",)),
        ([["Alan Turing", 3]], ("Alan Turing",)),
        ("Alan Turing", ("Alan Turing",)),
        ([[]], ("Alan Turing",)),
    ],
)
def test_aliases_of_the_target_where_they_are_certain(tmp_path, ground_truth, accepted):
    portability = {"Subject_Aliasing": [{"prompt": "p", "ground_truth": ground_truth}, "dirt"]}
    case = load(tmp_path, {**RECORD, "portability": portability}).cases[0]
    assert by_role(case, "reliability")[0].answers == accepted
    assert by_role(case, "generalization")[0].answers == accepted


@pytest.mark.parametrize("field", ["subject", "prompt", "target_new"])
@pytest.mark.parametrize(("value", "found"), [(3, "3"), (None, "null"), ("", '""'), (" \n", '" \\n"'), ([], "[]")])
def test_required_fields_stop_the_run(tmp_path, field, value, found):
    with pytest.raises(InputError) as error:
        load(tmp_path, RECORD, {**RECORD, field: value})
    file = tmp_path / "wiki_counterfact" / "test_cf.json"
    expected = "a non-empty string" + (" or a list of such" if (field, value) == ("target_new", []) else "")
    assert str(error.value) == f"{file}, row 1, field '{field}': found {found}, expected {expected}."


def test_missing_field_stops_the_run(tmp_path):
    with pytest.raises(InputError, match=r"row 0, field 'target_new': found nothing, expected a non-empty string\.$"):
        load(tmp_path, {"subject": "a", "prompt": "b"})
