"""Own facts in a configuration: the tasks of a run, its trainings, its digest, and the instructions of facts."""

import pytest

from instructedit.benchmark.setup.banks import instruct, read_bank
from instructedit.benchmark.setup.config import RunConfig, make_config, read_suite
from instructedit.benchmark.setup.data import DataReader
from instructedit.benchmark.setup.resolve import requests_of, resolve
from instructedit.editors import EditRequest, InputError

HEAD = "prompt,target,subject,instruction\n"


@pytest.fixture
def facts(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(HEAD + "The capital of Wuthor is,Traston,Wuthor,\nWuthor borders,Nelan,,Task: borders\n")
    return str(path)


def test_the_facts_are_the_only_task_or_one_more(facts):
    assert RunConfig(facts=facts).tasks == ("mine",)
    assert RunConfig(facts=facts, tasks=("zsre",)).tasks == ("zsre", "mine")
    assert RunConfig(facts=facts, tasks=("mine", "zsre")).tasks == ("mine", "zsre")
    assert make_config({"facts": facts, "tasks": ["recent"]}, "here").tasks == ("recent", "mine")
    assert RunConfig(facts=facts).model_copy(update={"seed": 1}).tasks == ("mine",)
    assert RunConfig.model_validate(RunConfig(facts=facts).model_dump()).tasks == ("mine",)
    assert RunConfig().tasks == ("recent", "counterfact", "zsre", "convsent")


@pytest.mark.parametrize("setting", ["single-task", "multi-task", "hold-out", "unseen-instruction", "task-scaling"])
def test_every_setting_tests_the_facts_and_trains_on_others(facts, setting):
    options = {"facts": facts, "setting": setting, "editors": {"none": {}, "mend": {}}, "train_limit": 20}
    train = {} if setting != "single-task" else {"train": ["recent"]}
    run = resolve(make_config(options | train, "here"), "here", DataReader())
    assert set(run.cases) == {"mine"}
    assert run.trainings
    for training in run.trainings:
        assert "mine" not in training.tasks.train
        assert training.tasks.test == ("mine",)
    assert all(row.tasks == ("mine",) for row in run.rows)


def test_training_never_sees_a_subject_of_the_facts(tmp_path):
    plain = make_config({"setting": "multi-task", "editors": {"mend": {}}, "train": ["counterfact"]}, "here")
    reader = DataReader()
    learnt = [case.request for case in reader.training(plain, "counterfact").cases]
    first = learnt[0].subject
    prompt = next(request.prompt for request in learnt if request.subject != first)
    path = tmp_path / "mine.csv"
    path.write_text(f"prompt,target,subject\n{first} is,x,{first}\n{prompt},y,\n")
    own = plain.model_copy(update={"facts": str(path), "tasks": ("counterfact", "mine")})
    found = reader.training(own, "counterfact")
    left = [case.request for case in found.cases]
    assert left == [request for request in learnt if request.subject != first and request.prompt != prompt]
    assert found.data.cases == len(left)
    assert found.data.left_out["row left out: its prompt is tested"] == 1


def test_other_splits_and_unknown_tasks_are_refused(facts):
    with pytest.raises(InputError, match=r"own facts have the split 'test' alone, found 'train'"):
        resolve(make_config({"facts": facts, "split": "train"}, "here"), "here")
    with pytest.raises(InputError, match=r"Unknown task 'mine'"):
        resolve(make_config({"facts": facts, "train": ["mine"]}, "here"), "here")


def test_the_presets_rows_edit_any_model(facts):
    ((_, config),) = read_suite("facts", {"facts": facts})
    assert config.tasks == ("mine",)
    assert not resolve(config, "facts").trainings


def test_instructions_of_facts():
    bank = read_bank()
    own = bank.with_own_facts("mine")
    assert own.digest == bank.digest
    bare = EditRequest("mine/test/0", "mine", "A is", "x", "A")
    told = EditRequest("mine/test/1", "mine", "A is", "x", "A", instruction="Task: mine")
    like = EditRequest("mine/test/0", "counterfact", "A is", "x", "A")
    assert instruct(own, bare, "seen", 0).instruction == instruct(bank, like, "seen", 0).instruction
    assert instruct(own, told, "seen", 0) == instruct(own, told, "unseen", 0) == told
    assert instruct(own, told, "none", 0).instruction is None
    for condition in ("wrong-task", "random-text", "name-only"):
        assert instruct(own, told, condition, 0).instruction != told.instruction
    with pytest.raises(InputError, match=r"no descriptions of the task 'mine'"):
        instruct(bank, bare, "seen", 0)


def test_an_editor_without_instructions_gets_none(facts):
    run = resolve(make_config({"facts": facts, "editors": {"none": {}}}, "here"), "here")
    assert run.cases["mine"][1].request.instruction == "Task: borders"
    assert all(request.instruction is None for request in requests_of(None, None, run.cases["mine"], 0))
