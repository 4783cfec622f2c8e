"""Options of tasks from a preset to a run's identity, its training sets, and the words around its tables."""

import json

import pytest

from instructedit.benchmark.results.forms import departures
from instructedit.benchmark.results.records import EditorSpec
from instructedit.benchmark.run.prepare import prepare
from instructedit.benchmark.setup.config import make_config, read_suite
from instructedit.benchmark.setup.resolve import resolve
from instructedit.editors import InputError
from instructedit.reports.leaderboard.findings import Findings
from instructedit.reports.leaderboard.run_checks import check_training_data
from instructedit.reports.tables.run_facts import header, runs_header

from ..worlds import write_data, write_model, write_training


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("options")
    write_training(write_data(folder / "data"), counterfact=8, recent=8, convsent=8)
    write_model(folder / "model")
    flat = [
        {"prompt": f"The home of {who} is", "target_new": "Oslo", "subject": who, "ground_truth": "Rome"}
        for who in (f"Person {number}" for number in range(40))
    ]
    (folder / "data" / "counterfact").mkdir()
    (folder / "data" / "counterfact" / "counterfact_3k.json").write_text(json.dumps(flat))
    return folder


@pytest.fixture(scope="module")
def ready(place):
    def make(**options):
        given = {"data": str(place / "data"), "model": str(place / "model"), "fluency": False, "limit": 2}
        config = make_config({**given, "generation": {"max_new_tokens": 0}, **options}, "test")
        return prepare(resolve(config, "test"), device="cpu")

    return make


def convsent(edit):
    return {"convsent": {"edit": edit}}


def test_options_are_part_of_the_runs_identity_and_said_of_its_data(ready):
    files = {
        edit: ready(tasks=("convsent",), task_options=convsent(edit) if edit else {}).file
        for edit in (None, "all replies", "descriptor", "reply")
    }
    assert files[None].digest == files["all replies"].digest, "a default that is written down changes nothing"
    assert len({file.digest for file in files.values()}) == 3
    for edit, file in files.items():
        assert file.spec.task_options == convsent(edit or "all replies")
        assert file.data[0].options == {"edit": edit or "all replies"}
        words = dict(header(file))["Data"]
        assert f"edit = {edit or 'all replies'}" in words


def test_a_task_without_options_has_none(ready):
    file = ready(tasks=("recent",), task_options=convsent("reply")).file
    assert file.spec.task_options == {}
    assert file.digest == ready(tasks=("recent",)).file.digest


def test_options_reach_the_training_and_name_it(ready):
    found = {}
    for edit in ("all replies", "reply"):
        given = {"setting": "single-task", "train": ("convsent",), "tasks": ("recent",), "editors": {"mend": {}}}
        prepared = ready(**given, task_options=convsent(edit))
        (training,) = prepared.resolved.trainings
        found[edit] = prepared
        assert all(bool(case.request.replies) == (edit == "all replies") for case in training.cases.train)
        assert prepared.file.spec.task_options == convsent(edit), "of a task that is trained on alone, too"
        assert prepared.file.training[0].options == {"edit": edit}
    assert len({prepared.checkpoints[0].folder_name for prepared in found.values()}) == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"convsnt": {}}, r"^test: key 'task_options': Unknown task 'convsnt'\. Did you mean 'convsent'\?"),
        (
            {"convsent": {"edti": "reply"}},
            r"^test: key 'task_options.convsent': The task 'convsent' has no option 'edti'\. Did you mean 'edit'\?",
        ),
        (
            {"convsent": {"edit": "one"}},
            r"^test: key 'task_options.convsent': Option 'edit' of the task 'convsent': Input should be",
        ),
        (
            {"zsre": {"target": "alt"}},
            r"^test: key 'task_options.zsre': The task 'zsre' has no option 'target'\. Known: joint\.",
        ),
        (
            {"mend-zsre": {"target": "answer"}},
            r"^test: key 'task_options.mend-zsre': Option 'target' of the task 'mend-zsre': Input should be 'alt' or",
        ),
    ],
)
def test_mistakes_are_one_sentence_even_of_tasks_that_the_run_leaves_out(ready, options, sentence):
    with pytest.raises(InputError, match=sentence):
        ready(tasks=("recent",), task_options=options)


def test_a_table_of_a_preset_sets_them(tmp_path):
    file = tmp_path / "own.toml"
    file.write_text('[task_options.convsent]\nedit = "reply"\n\n[editors.none]\n')
    ((_, config),) = read_suite(str(file))
    assert config.task_options == convsent("reply")


@pytest.mark.parametrize("preset", ["paper-gpt2-xl", "paper-llama-2-7b"])
def test_the_presets_of_the_paper_take_the_published_form(preset):
    for run in read_suite(preset):
        assert run.config.task_options == convsent("all replies")


def test_another_form_than_the_published_one_is_said(ready):
    row = EditorSpec(name="none", method="none")
    specs = {
        edit: ready(tasks=("convsent",), task_options=convsent(edit)).file.spec for edit in ("reply", "descriptor")
    }
    for edit, spec in specs.items():
        assert f"convsent with edit = {edit} (published: all replies)" in departures(spec, row, "convsent")
    assert departures(ready(tasks=("convsent",)).file.spec, row, "convsent") == ()
    assert departures(ready(tasks=("recent",)).file.spec, row, "recent") == ()
    old = specs["reply"].model_copy(update={"task_options": {}})
    assert "convsent with edit = not recorded (published: all replies)" in departures(old, row, "convsent")


def test_a_row_says_what_its_schedule_makes_of_the_method(ready):
    rows = {"none": {}, "calinet": {"steps": 1}, "small": {"method": "calinet", "slots": 2, "steps": 1}}
    single = ready(tasks=("recent",), editors=rows).file
    assert set(single.notes) == {"calinet", "small"}
    (note,) = [text for word, text in header(single) if word == "Note"]
    assert note.startswith(
        "calinet, small, schedule single: a set of slots for each edit; the published CaliNet trains"
    )
    assert [text for word, text in runs_header([single, single]) if word == "Note"] == [note]
    batch = ready(tasks=("recent",), editors=rows, schedule="batch").file
    assert batch.notes == {}
    assert not [text for word, text in header(batch) if word == "Note"]


def test_a_data_set_of_one_file_trains_and_tests_on_two_parts_of_it(ready):
    prepared = ready(
        setting="single-task",
        train=("rome-counterfact",),
        tasks=("rome-counterfact",),
        editors={"mend": {}},
        limit=None,
    )
    tested = {case.request.subject for cases in prepared.resolved.cases.values() for case in cases}
    (training,) = prepared.resolved.trainings
    trained = {case.request.subject for case in (*training.cases.train, *training.cases.validation)}
    assert len(tested) + len(trained) == 40
    assert tested.isdisjoint(trained)
    file = prepared.file
    assert file.data[0].sha256 == file.training[0].sha256
    findings = Findings()
    check_training_data(file, file.training[0], "run.json", findings)
    assert not findings.found
    # a task with a file for each split may not do that
    findings = Findings()
    check_training_data(file, file.training[0].model_copy(update={"task": "recent"}), "run.json", findings)
    assert [finding for finding in findings.found if "another file than a tested one" in str(finding)]
