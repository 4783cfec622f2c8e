"""Suites from files to files: trainings shared, rows by training and instruction, an index of what belongs together."""

import shutil

import pytest

from instructedit.benchmark.forecast.machine import Place
from instructedit.benchmark.results.records import RunFile, RunSummary, read_record
from instructedit.benchmark.results.suite_results import SuiteFile
from instructedit.benchmark.run import worker
from instructedit.benchmark.run.prepare import prepare
from instructedit.benchmark.run.runner import run
from instructedit.benchmark.run.suite import plan_suite, run_suite
from instructedit.benchmark.setup.config import read_suite
from instructedit.benchmark.setup.resolve import resolve
from instructedit.editors import EDITORS, InputError

from ..worlds import Learner, people_of, records_of, write_data, write_model, write_training

SUITE = """
limit = 2
chunk = 2
fluency = false
generation = { max_new_tokens = 3 }
train_limit = { counterfact = 6 }

[editors.none]

[editors.learner]

[[runs]]
setting = "multi-task"

[[runs]]
setting = "hold-out"
"""


@pytest.fixture(scope="module", autouse=True)
def learner():
    EDITORS.register("learner")(Learner)
    yield
    EDITORS.unregister("learner")


@pytest.fixture(autouse=True)
def forget():
    Learner.fits.clear()
    Learner.told.clear()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite")
    write_training(write_data(folder / "data"), counterfact=8, recent=5, convsent=20)
    write_model(folder / "model")
    (folder / "mine.toml").write_text(SUITE)
    return folder


def suite_of(place, **options):
    given = {"data": str(place / "data"), "model": str(place / "model"), **options.pop("given", {})}
    return read_suite(str(place / "mine.toml"), given, **options)


def run_all(suite, out, report=lambda _: None):
    return run_suite(suite, plan_suite(suite, "mine.toml"), Place(out, device="cpu"), report=report)


def one(place, setting, editors=(), **given):
    ((_, config),) = suite_of(place, setting=setting, editors=editors, given=given)
    return prepare(resolve(config, "mine.toml"), device="cpu")


def test_runs_of_a_suite_share_their_training(place, tmp_path):
    said: list[str] = []
    suite = suite_of(place, seeds=[0, 1])
    folders = run_all(suite, tmp_path, said.append)
    assert len(Learner.fits) == 2, "one for each seed, none for the second setting"
    assert [text for text in said if text.startswith("run ")] == [
        "run 1 of 4: multi-task, seed 0",
        "run 2 of 4: hold-out, seed 0",
        "run 3 of 4: multi-task, seed 1",
        "run 4 of 4: hold-out, seed 1",
    ]
    assert {folder.parent for folder, _, _ in Learner.fits} == {tmp_path / "checkpoints"}
    files = [read_record(folder / "run.json", RunFile) for folder in folders]
    assert [file.spec.tasks for file in files] == [("recent", "counterfact", "convsent"), ("zsre",)] * 2
    assert [data.task for data in files[1].data] == ["zsre"]
    assert [data.task for data in files[1].training] == ["convsent", "counterfact", "recent"]
    index = read_record(tmp_path / "suites" / "mine.json", SuiteFile)
    assert [(entry.label, entry.seed, entry.digest) for entry in index.runs] == [
        (label, config.seed, folder.name) for (label, config), folder in zip(suite, folders, strict=True)
    ]


def test_the_index_keeps_what_is_not_run_again(place, tmp_path):
    first = run_all(suite_of(place), tmp_path)
    again = run_all(suite_of(place, setting="hold-out", given={"limit": 1}), tmp_path)
    index = read_record(tmp_path / "suites" / "mine.json", SuiteFile)
    assert [entry.digest for entry in index.runs] == [first[0].name, again[0].name]


def test_what_a_row_learnt_from_stands_in_the_run(place):
    prepared = one(place, "multi-task")
    none, learner = prepared.file.spec.editors
    assert none.training is None
    assert none.instruction is None
    spec = learner.training
    assert spec.tasks == ("counterfact", "recent", "convsent")
    assert spec.limits == {"counterfact": 6}
    assert spec.cases == {"convsent": 18, "counterfact": 5, "recent": 4}
    assert spec.validation == {"convsent": 2, "counterfact": 1, "recent": 1}
    assert spec.weights == pytest.approx(dict.fromkeys(("convsent", "counterfact", "recent"), 1 / 3))
    (training,) = prepared.resolved.trainings
    assert spec.digest == training.cases.digest
    assert spec.checkpoint == prepared.checkpoints[0].folder_name
    assert learner.instruction == "seen"
    assert prepared.file.spec.instructions == prepared.resolved.bank.digest


def test_the_digest_follows_all_that_decides_the_numbers(place):
    digests = {
        one(place, setting, **given).file.digest
        for setting, given in (
            ("multi-task", {}),
            ("unseen-instruction", {}),
            ("multi-task", {"train_limit": None}),
            ("multi-task", {"train_limit": 5}),
            ("multi-task", {"sampling": "proportional"}),
            ("multi-task", {"sampling": {"recent": 2, "counterfact": 1, "convsent": 1}}),
            ("multi-task", {"validation": 0.4}),
            ("multi-task", {"instruction": "none"}),
            ("multi-task", {"train": ("counterfact", "recent")}),
            ("multi-task", {"schedule": "batch"}),
            ("multi-task", {"schedule": "batch", "edited": ("recent",)}),
            ("multi-task", {"schedule": "sequential"}),
            ("multi-task", {"schedule": "sequential", "at": (1, 2)}),
        )
    }
    assert len(digests) == 13
    assert one(place, "multi-task").file.digest in digests
    # a bank without a reader decides nothing
    assert one(place, "direct", editors=["none"], train_limit=None).file.spec.instructions is None


def test_no_test_subject_reaches_a_training_of_any_setting(place, tmp_path):
    shutil.copytree(place / "data", tmp_path / "data")
    path = tmp_path / "data" / "wiki_recent" / "recent_train.json"
    path.write_text(path.read_text().replace(people_of("Recent Person", 2)[1], "Ada Lovelace"))
    given = {"data": str(tmp_path / "data"), "train_limit": None}
    for setting in ("single-task", "multi-task", "hold-out", "unseen-instruction", "task-scaling", "balanced"):
        prepared = one(place, setting, **given)
        assert prepared.resolved.trainings
        for training in prepared.resolved.trainings:
            for case in training.cases.train + training.cases.validation:
                assert "Ada Lovelace" not in str(case)


def test_rows_of_unseen_instruction_are_told_what_they_are_called(place, tmp_path):
    prepared = one(place, "unseen-instruction", tasks=("recent",))
    folder = run(prepared, tmp_path)
    assert len(Learner.fits) == 1, "one training for all instructions"
    records = records_of(folder)
    bank = prepared.resolved.bank.of("recent")
    told = {(r.editor, r.case_id): r.instruction for r in records}
    names = ["unseen" if index == bank.unseen else f"seen-{bank.seen.index(index)}" for index in range(10)]
    for name, text in zip(names, bank.descriptions, strict=True):
        for case in {case for _, case in told}:
            assert told[f"learner#{name}", case] == f"Task: {bank.title}\nDescription: {text}"
    assert len([name for name, _ in told if name.startswith("learner#")]) == 14 * 2
    assert {told[key] for key in told if key[0] in ("none", "learner#none")} == {None}
    assert {told[key] for key in told if key[0] == "learner#name-only"} == {f"Task: {bank.title}"}
    named = {row.name: row.instruction for row in prepared.resolved.rows}
    assert all(named[f"learner#{name}"] == name for name in names)
    assert {request.instruction for request in Learner.told} == {
        instruction for (name, _), instruction in told.items() if name != "none"
    }


def test_rows_are_evaluated_on_their_own_tasks_only(place, tmp_path):
    prepared = one(place, "hold-out", held_out=("recent", "zsre"), tasks=("recent", "zsre"), train_limit=None)
    folder = run(prepared, tmp_path)
    named = {editor.name: editor.tasks for editor in prepared.file.spec.editors}
    assert named == {
        "none": None,
        "learner@counterfact+convsent+zsre": ("recent",),
        "learner@counterfact+recent+convsent": ("zsre",),
    }
    seen = {(record.editor, record.task) for record in records_of(folder)}
    assert seen == {
        ("none", "recent"),
        ("none", "zsre"),
        ("learner@counterfact+convsent+zsre", "recent"),
        ("learner@counterfact+recent+convsent", "zsre"),
    }
    summary = read_record(folder / "summary.json", RunSummary)
    assert summary.complete
    assert prepared.total == len(records_of(folder)) == 8


def test_a_killed_run_of_several_trainings_goes_on_without_training_again(place, tmp_path):
    prepared = one(place, "single-task", train=("recent", "zsre"), train_limit=None)
    folder = run(prepared, tmp_path)
    whole = {name: (folder / name).read_bytes() for name in ("cases.jsonl", "summary.json")}
    assert len(Learner.fits) == 2
    (folder / "cases.jsonl").write_bytes(whole["cases.jsonl"][:-1500])
    (folder / "summary.json").unlink()
    run(one(place, "single-task", train=("recent", "zsre"), train_limit=None), tmp_path)
    assert {name: (folder / name).read_bytes() for name in whole} == whole
    assert len(Learner.fits) == 2


def test_a_finished_run_needs_no_checkpoint(place, tmp_path):
    prepared = one(place, "multi-task")
    run(prepared, tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    run(prepared, tmp_path)
    assert len(Learner.fits) == 1


def test_all_trainings_come_before_the_first_case(place, tmp_path, monkeypatch):
    counts = []
    inner = worker.run_chunk
    monkeypatch.setattr(worker, "run_chunk", lambda *a, **k: counts.append(len(Learner.fits)) or inner(*a, **k))
    prepared = one(place, "single-task", train=("recent", "zsre"), tasks=("recent",), train_limit=None)
    run(prepared, tmp_path, checkpoints=tmp_path / "own")
    assert set(counts) == {2}
    assert len([path for path in (tmp_path / "own").iterdir() if path.is_dir()]) == 2


def test_validation_cases_are_evaluated_and_not_trained_on(place, tmp_path):
    prepared = one(place, "balanced", split="validation", train_limit={"counterfact": 6, "recent": 4}, limit=None)
    for training in prepared.resolved.trainings:
        learnt = {case.request.case_id for case in training.cases.train}
        for task in training.tasks.train:
            evaluated = {case.request.case_id for case in prepared.resolved.cases[task]}
            assert evaluated
            assert not evaluated & learnt
            assert evaluated <= {case.request.case_id for case in training.cases.validation}
    data = {entry.task: entry for entry in prepared.file.data}
    assert data["recent"].cases == 1
    assert data["recent"].skipped["case left out: editors may learn from it"] == 4
    folder = run(prepared, tmp_path)
    assert read_record(folder / "summary.json", RunSummary).complete


@pytest.mark.parametrize(
    ("setting", "given", "sentence"),
    [
        ("direct", {}, "'learner' has to be trained, but the setting 'direct' trains none"),
        ("multi-task", {"split": "train"}, "trained editors learn from the split 'train'; 'validation' or 'test'"),
        (
            "multi-task",
            {"schedule": "batch", "edited": ("recnt",)},
            "key 'edited': Unknown task 'recnt'. Did you mean 'recent'",
        ),
        ("multi-task", {"schedule": "batch", "edited": ()}, "key 'edited': found no task"),
        ("multi-task", {"train": ("counterfcat",)}, "Unknown task 'counterfcat'. Did you mean 'counterfact'"),
        ("multi-task", {"train_limit": 1}, "0 cases to train on and 1 for validation, expected at least one"),
        ("multi-task", {"instruction": "unsene"}, "Unknown instruction condition 'unsene'"),
        ("multi-task", {"instructions": "nowhere.json"}, "nowhere.json: cannot be read"),
        ("balanced", {"train_limit": {"convsent": 4}}, "has nothing to cut"),
        ("balanced", {"data": "embedded", "train_limit": None}, "counterfact 400, recent 400, convsent 320"),
    ],
)
def test_what_cannot_be_run_is_refused_before_a_model_is_loaded(place, setting, given, sentence, monkeypatch):
    monkeypatch.setattr("instructedit.benchmark.run.prepare.load_model", lambda *_a, **_k: pytest.fail("too late"))
    with pytest.raises(InputError, match=sentence):
        one(place, setting, **given)


def test_no_run_starts_before_all_are_checked(place):
    suite = (*suite_of(place), *suite_of(place, setting="direct"))
    with pytest.raises(InputError, match="trains none"):
        plan_suite(suite, "mine.toml")
    planned = plan_suite(suite_of(place), "mine.toml")
    assert {task: len(own) for task, own in planned["multi-task"].run.cases.items()} == {
        "recent": 2,
        "counterfact": 2,
        "convsent": 2,
    }
    trainings = {label: {own.editor: own.trainings for own in found.editors} for label, found in planned.items()}
    assert trainings == {"multi-task": {"none": 0, "learner": 1}, "hold-out": {"none": 0, "learner": 0}}, "it is shared"


def test_a_run_that_tests_none_of_the_wanted_tasks_is_left_out_with_a_sentence(place):
    suite = suite_of(place, given={"tasks": ("recent",)})
    said: list[str] = []
    assert list(plan_suite(suite, "mine.toml", said.append)) == ["multi-task"]
    (sentence,) = said
    assert sentence.startswith(f"A run is left out. {place / 'mine.toml'}, run 'hold-out': key 'setting': ")
    assert sentence.endswith("The setting 'hold-out' tests on zsre, but the run's tasks are recent.")
    with pytest.raises(InputError, match="tests on zsre"):
        plan_suite(suite[1:], "mine.toml")


def test_untrained_editors_need_the_files_of_their_tasks_alone(place, tmp_path):
    shutil.copytree(place / "data" / "ZsRE", tmp_path / "ZsRE")
    prepared = one(place, "hold-out", editors=["none"], data=str(tmp_path), train_limit=None)
    assert [data.task for data in prepared.file.data] == ["zsre"]
    assert prepared.file.training == ()
