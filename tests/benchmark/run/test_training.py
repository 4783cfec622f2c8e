"""Training sets without test subjects, and checkpoints that are shared, resumed and never taken for another's."""

import hashlib
import json
import re
import threading

import pytest
from filelock import FileLock

from instructedit.benchmark.results.checkpoint import Checkpoint
from instructedit.benchmark.results.run_folder import StorageError
from instructedit.benchmark.run.training import trained
from instructedit.benchmark.setup.banks import read_bank, training_instructor
from instructedit.benchmark.setup.config import RunConfig
from instructedit.benchmark.setup.leakage import training_cases
from instructedit.benchmark.setup.resolve import resolve
from instructedit.benchmark.setup.settings import TrainingTasks
from instructedit.benchmark.setup.training_sets import Training, training_set
from instructedit.benchmark.tasks.base import subject_key
from instructedit.benchmark.tasks.sampling import divide
from instructedit.benchmark.tasks.sources import Embedded, Folder
from instructedit.editors import EditCase, EditRequest, InputError

from ..worlds import Learner, write_training

MIX = ("counterfact", "recent", "convsent")


def on(*train, limits=None, sampling="balanced", label=None):
    return TrainingTasks(label or "+".join(train), train, train, limits or {}, sampling)


def case(index, subject=None):
    return EditCase(EditRequest(f"t/train/{index}", "t", "p", "x", subject or f"s{index}"), ())


def ids(cases):
    return {case.request.case_id for case in cases}


@pytest.fixture
def cases(tmp_path):
    write_training(tmp_path, recent=10, counterfact=20, convsent=30)
    return {task: training_cases(task, Folder(tmp_path), ()).cases for task in MIX}


@pytest.fixture(autouse=True)
def forget():
    Learner.fits.clear()


def digest_of(key):
    return hashlib.sha256(f"validation {key}".encode()).hexdigest()


def names(cases):
    return {case.request.subject.casefold() for case in cases}


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_subject_is_kept_for_validation_by_its_name_alone(share):
    """By the definition: sha256 of a word and the case-folded name, as a fraction of the largest, below the share."""
    everything = [case(index) for index in range(400)]
    train, validation = divide(everything, None, share)
    digests = {c.request.subject: digest_of(c.request.subject) for c in everything}
    wanted = {subject for subject, digest in digests.items() if int(digest, 16) / 16**64 < share}
    assert names(validation) == wanted
    assert [*train] == [c for c in everything if c.request.subject not in wanted]
    assert len(validation) == pytest.approx(400 * share, rel=0.25)


def test_spellings_of_one_subject_are_on_one_side_in_every_task():
    people = [f"Person {index}" for index in range(60)]
    first = [case(index, name) for index, name in enumerate(people)]
    second = [case(1000 + index, name.upper()) for index, name in enumerate(people * 2)]
    for share in (0.1, 0.3, 0.6):
        sides = [divide(own, None, share) for own in (first, second)]
        assert names(sides[0][0]) == names(sides[1][0])
        assert names(sides[0][1]) == names(sides[1][1])


def test_a_smaller_limit_is_a_part_of_a_larger_one_on_either_side():
    everything = [case(index, f"s{index // 3}") for index in range(240)]
    before: tuple[set[str], set[str]] = set(), set()
    for limit in (*range(2, 240), None):
        sides = divide(everything, limit, 0.1)
        assert not names(sides[0]) & names(sides[1])
        assert sum(map(len, sides)) == (limit or 240)
        assert all(sides), "one of each at least"
        if limit:
            assert len(sides[1]) <= max(1, round(0.1 * limit)) + 1
        assert before[0] <= ids(sides[0])
        assert before[1] <= ids(sides[1])
        before = ids(sides[0]), ids(sides[1])


def test_no_validation_subject_of_the_embedded_world_is_ever_trained_on():
    """In any setting, arm and limit; and what a smaller limit validates no larger one trains on."""
    trained_on: set[str] = set()
    validated: set[str] = set()
    for setting in ("single-task", "multi-task", "hold-out", "unseen-instruction", "task-scaling", "balanced"):
        limits: list[object] = [{"counterfact": 32, "recent": 32}] if setting == "balanced" else [None]
        limits += [4, 50, {"recent": 10}] if setting == "multi-task" else []
        for limit in limits:
            config = RunConfig(setting=setting, train_limit=limit, editors={"mend": {}}, held_out=("zsre",))
            found = resolve(config, "test")
            assert found.trainings
            for training in found.trainings:
                for task in training.tasks.train:
                    parts = training.cases.train, training.cases.validation
                    own = [[c for c in part if c.request.task == task] for part in parts]
                    assert all(own)
                    spec = training.spec("c", None)
                    assert [spec.cases[task], spec.validation[task]] == [*map(len, own)]
                trained_on |= {subject_key(c.request.subject) for c in training.cases.train}
                validated |= {subject_key(c.request.subject) for c in training.cases.validation}
    assert len(trained_on) > 300
    assert len(validated) > 30
    assert not trained_on & validated


def test_a_task_without_a_case_on_one_side_is_refused_with_the_shares_that_divide_it(cases):
    keys = names(cases["recent"])
    ranks = [int(digest_of(key), 16) / 16**64 for key in keys]
    low, high = min(ranks), max(ranks)
    for share, counts in ((low / 2, "10 cases to train on and 0"), ((1 + high) / 2, "0 cases to train on and 10")):
        with pytest.raises(InputError, match=f"'recent' has {counts}") as caught:
            training_set(on("recent"), cases, share)
        above, most = re.search(r"a 'validation' from (\S+) to (\S+) keeps", str(caught.value)).groups()
        assert low < float(above) < low + 0.002
        assert high - 0.002 < float(most) <= high
        for fit in (float(above), float(most)):
            assert training_set(on("recent"), cases, fit).validation


def test_tested_subjects_appear_neither_as_edits_nor_in_probes(tmp_path):
    write_training(tmp_path)
    path = tmp_path / "wiki_recent" / "recent_train.json"
    rows = json.loads(path.read_text())
    rows[0]["subject"] = "ada lovelace"
    rows[1]["locality"]["Relation_Specificity"].append(
        {"prompt": "The gender of Ada Lovelace is", "ground_truth": [["female"]]}
    )
    rows[2]["subject"] = "Ada Lovelace Street"  # holds a tested name, but is another thing
    rows[2]["rephrase_prompt"] = "Where is Ada Lovelace Street?"
    rows[2]["portability"] = {"Reasoning": [{"prompt": "Who knew adam and Adalbert?", "ground_truth": "x"}]}
    path.write_text(json.dumps(rows))
    found = training_cases("recent", Folder(tmp_path), [case(0, "Ada Lovelace"), case(1, "Ada")])
    assert [c.request.case_id for c in found.cases] == [f"recent/train/{index}" for index in (1, 2, 3)]
    asked = [probe.prompt for c in found.cases for probe in c.probes]
    assert "The gender of Ada Lovelace is" not in asked
    assert "Where is Ada Lovelace Street?" in asked
    assert "Who knew adam and Adalbert?" in asked
    assert found.data.skipped["probe left out: it names a tested subject"] == 1
    assert found.data.skipped["row left out: its subject is tested"] == 1


@pytest.mark.parametrize("task", ["recent", "counterfact", "zsre", "convsent"])
def test_no_training_probe_of_the_embedded_world_names_a_tested_subject(task):
    """Checked by plain search in the text, not by the words of the implementation."""
    from instructedit.benchmark.tasks.base import TASKS

    world = ("recent", "counterfact", "zsre", "convsent")
    tests = [c for name in world for c in TASKS.get(name)().load(Embedded()).cases]
    names = {c.request.subject for c in tests}
    found = training_cases(task, Embedded(), tests)
    assert found.cases
    for one in found.cases:
        for probe in one.probes:
            text = f" {probe.prompt} ".replace("?", " ").replace("'", " ").replace(",", " ").replace(".", " ")
            assert not [name for name in names if f" {name} " in text and name not in one.request.subject]


def test_a_training_set_is_the_same_in_whatever_order_tasks_are_named(cases):
    first = training_set(on(*MIX), cases, 0.1)
    second = training_set(on(*reversed(MIX)), cases, 0.1)
    assert first.digest == second.digest
    assert len(first.validation) == 1 + 2 + 3
    assert len(first.train) == 9 + 18 + 27


def test_the_digest_follows_cases_limits_weights_and_share(cases):
    digests = {
        training_set(on(*MIX, **options), cases, share).digest
        for options, share in (
            ({}, 0.1),
            ({}, 0.2),
            ({"limits": {"convsent": 20}}, 0.1),
            ({"sampling": "proportional"}, 0.1),
        )
    }
    digests.add(training_set(on("recent"), cases, 0.1).digest)
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("sampling", "weights"),
    [
        ("balanced", {"counterfact": 1 / 3, "recent": 1 / 3, "convsent": 1 / 3}),
        ("proportional", {"counterfact": 18 / 54, "recent": 9 / 54, "convsent": 27 / 54}),
        ({"counterfact": 1, "recent": 2, "convsent": 5}, {"counterfact": 1 / 8, "recent": 2 / 8, "convsent": 5 / 8}),
    ],
)
def test_weights_follow_the_sampling(cases, sampling, weights):
    assert training_set(on(*MIX, sampling=sampling), cases, 0.1).weights == pytest.approx(weights)


def test_what_cannot_be_a_training_set_is_refused(cases):
    with pytest.raises(InputError, match="gives no weight to 'recent'"):
        training_set(on(*MIX, sampling={"counterfact": 1.0, "convsent": 1.0}), cases, 0.1)
    with pytest.raises(
        InputError, match="'recent' has 0 cases to train on and 1 for validation, expected at least one"
    ):
        training_set(on("recent", limits={"recent": 1}), cases, 0.1)


def make(cases, seed=0, bank="b" * 16, config=None, **options):
    training = Training(
        ("learner",), Learner(config), on(*MIX, **options), training_set(on(*MIX, **options), cases, 0.1)
    )
    return training, training.checkpoint("base" * 16, "tokens" * 10, seed, bank)


def test_a_checkpoint_is_named_by_all_that_decides_its_weights(cases):
    training, checkpoint = make(cases)
    name = checkpoint.folder_name
    assert name.startswith(f"learner-basebase-{training.cases.digest[:8]}-")
    assert make(cases, label="other")[1].folder_name == name, "what the setting calls it decides nothing"
    others = [
        make(cases, seed=1)[1].folder_name,
        make(cases, bank="c" * 16)[1].folder_name,
        make(cases, config=Learner.Config(blocks=(0,)))[1].folder_name,
        make(cases, sampling="proportional")[1].folder_name,
        training.checkpoint("bose" * 16, "tokens" * 10, 0, "b" * 16).folder_name,
        training.checkpoint("base" * 16, "others" * 10, 0, "b" * 16).folder_name,
    ]
    assert len({name, *others}) == 7


def test_the_bank_of_an_editor_that_reads_no_instruction_decides_nothing(cases, monkeypatch):
    monkeypatch.setattr(Learner, "instructed", False)
    assert make(cases)[1] == make(cases, bank="c" * 16)[1]


def test_a_training_is_done_once_and_then_read(cases, tmp_path, model):
    training, checkpoint = make(cases, seed=5)
    said: list[str] = []
    editor = trained(training, model, checkpoint, tmp_path / "c", report=said.append)
    assert editor is training.editor
    ((folder, learnt, seed),) = Learner.fits
    assert (folder, learnt, seed) == (tmp_path / "c" / checkpoint.folder_name, training.cases, 5)
    assert said == ["training learner on counterfact+recent+convsent (54 cases, 6 for validation)"]
    again = trained(make(cases, seed=5)[0], model, checkpoint, tmp_path / "c", report=said.append)
    assert isinstance(again, Learner)
    assert len(Learner.fits) == 1
    assert "is trained already" in said[1]


def test_a_training_that_was_killed_goes_on(cases, tmp_path, model):
    training, checkpoint = make(cases)
    trained(training, model, checkpoint, tmp_path)
    (tmp_path / checkpoint.folder_name / "editor.json").unlink()  # written last
    trained(training, model, checkpoint, tmp_path)
    assert [folder for folder, _, _ in Learner.fits] == [tmp_path / checkpoint.folder_name] * 2


def test_the_checkpoint_of_another_training_is_refused(cases, tmp_path, model):
    training, checkpoint = make(cases)
    trained(training, model, checkpoint, tmp_path)
    path = tmp_path / checkpoint.folder_name / "checkpoint.json"
    # the same eight digits in the name, but another model
    path.write_text(path.read_text().replace("base" * 16, "base" * 15 + "bose"))
    with pytest.raises(InputError, match=r"is of another training \(base: (base){15}bose, .* was expected\)"):
        trained(training, model, checkpoint, tmp_path)


def test_a_folder_that_cannot_be_written_is_a_sentence(cases, tmp_path, model):
    (tmp_path / "file").write_text("")
    training, checkpoint = make(cases)
    with pytest.raises(StorageError, match="checkpoints cannot be written"):
        trained(training, model, checkpoint, tmp_path / "file")


def test_a_disk_that_fills_up_while_training_is_a_sentence(cases, tmp_path, model, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    training, checkpoint = make(cases)
    monkeypatch.setattr(Learner, "fit", full)
    with pytest.raises(StorageError, match=r"\(No space left on device\); the same command starts it again"):
        trained(training, model, checkpoint, tmp_path)


def test_two_processes_share_a_training(cases, tmp_path, model):
    """The second waits, says so, and reads what the first has trained."""
    training, checkpoint = make(cases)
    said: list[str] = []
    waiting = threading.Event()

    def report(text):
        said.append(text)
        waiting.set()

    with FileLock(tmp_path / f".{checkpoint.folder_name}.lock"):
        thread = threading.Thread(
            target=trained, args=(training, model, checkpoint, tmp_path), kwargs={"report": report}
        )
        thread.start()
        assert waiting.wait(20)
        folder = tmp_path / checkpoint.folder_name
        training.editor.save(folder)
        (folder / "checkpoint.json").write_text(checkpoint.model_dump_json())
    thread.join(20)
    assert said[0] == "waiting for another process that trains learner on counterfact+recent+convsent"
    assert "is trained already" in said[1]
    assert not Learner.fits


def test_the_record_reads_back(cases):
    training, checkpoint = make(cases, limits={"convsent": 10})
    assert Checkpoint.model_validate_json(checkpoint.model_dump_json()).folder_name == checkpoint.folder_name
    spec = training.spec(checkpoint.folder_name, "b" * 16)
    assert spec.instructions == checkpoint.instructions == "b" * 16
    assert spec.cases == {"convsent": 9, "counterfact": 18, "recent": 9}
    assert spec.validation == {"convsent": 1, "counterfact": 2, "recent": 1}
    assert (spec.limits, spec.digest) == ({"convsent": 10}, training.cases.digest)


def test_training_instructions_are_drawn_by_the_seed(cases):
    learnt = training_set(on(*MIX), cases, 0.1, training_instructor(read_bank()))
    told = {learnt.request(learnt.train[0], seed).instruction for seed in range(60)}
    assert len(told) == 9
    assert learnt.digest == training_set(on(*MIX), cases, 0.1).digest
