"""What data say of the joint between prompt and answer, and a target with several right answers."""

import json

import pytest

from instructedit.benchmark.tasks.base import make_task
from instructedit.benchmark.tasks.sources import Folder
from instructedit.editors import InputError

RECORD = {"subject": "丁国", "prompt": "丁国的首都是", "target_new": "黑山"}
PROBES = {"locality": {"Relation_Specificity": [{"prompt": "丁国在", "ground_truth": "南方"}]}}


def load(tmp_path, records, task="counterfact", **options):
    reader = make_task(task, {task: options})
    file = tmp_path / reader.files["test"][0]
    file.parent.mkdir(exist_ok=True, parents=True)
    file.write_text(json.dumps(records))
    return reader.load(Folder(tmp_path))


def test_a_records_joint_goes_before_the_tasks(tmp_path):
    records = [{**RECORD, **PROBES}, {**RECORD, **PROBES, "joint": ""}, {**RECORD, "joint": None}]
    for option, joints in ((None, [None, "", None]), (" ", [" ", "", " "])):
        loaded = load(tmp_path, records, **({} if option is None else {"joint": option}))
        assert [case.request.joint for case in loaded.cases] == joints
        for case in loaded.cases:
            assert {probe.joint for probe in case.probes} == {case.request.joint}


def test_an_option_that_is_not_set_leaves_no_trace_in_the_run(tmp_path):
    assert load(tmp_path, [RECORD]).data.options == {}
    assert load(tmp_path, [RECORD], joint="").data.options == {"joint": ""}


@pytest.mark.parametrize("value", ["  ", "\n", 1, []])
def test_another_joint_is_one_sentence(tmp_path, value):
    with pytest.raises(InputError, match=r"row 0, field 'joint': found .*, expected an empty string or \" \"\.$"):
        load(tmp_path, [{**RECORD, "joint": value}])
    with pytest.raises(InputError, match=r"^Option 'joint' of the task 'counterfact': "):
        load(tmp_path, [RECORD], joint=value)


@pytest.mark.parametrize("task", ["counterfact", "recent", "zsre"])
def test_of_several_right_answers_the_first_is_edited_in_and_all_are_accepted(tmp_path, task):
    (case,) = load(tmp_path, [{**RECORD, "target_new": ["黑山", " 黑山市", "\u200b", "黑山"]}], task).cases
    assert case.request.target == "黑山"
    assert case.probes[0].answers == ("黑山", "黑山市")


@pytest.mark.parametrize("value", [[], ["\u200b"], ["a", 3], [["a"]]])
def test_a_list_without_an_answer_is_one_sentence(tmp_path, value):
    with pytest.raises(InputError, match=r"row 0, field 'target_new': found .*, expected a non-empty string or a list"):
        load(tmp_path, [{**RECORD, "target_new": value}])


@pytest.mark.parametrize("field", ["subject", "prompt", "target_new"])
@pytest.mark.parametrize("value", ["\u200b", "\x00\x07", "\ufeff \u2060"])
def test_texts_that_show_nothing_are_empty(tmp_path, field, value):
    with pytest.raises(InputError, match=f"row 0, field '{field}': found .*, expected a non-empty string"):
        load(tmp_path, [{**RECORD, field: value}])
