"""The search for options: it finds a known optimum, sees no test case, resumes, and leaves a file that runs."""

import json
import math
import shutil
from itertools import count
from typing import ClassVar

import pytest

from instructedit.baselines.grace import GRACE, GRACEConfig
from instructedit.benchmark.results.records import CaseRecord, RunFile, read_record
from instructedit.benchmark.results.tuning_trail import Trail, Trial
from instructedit.benchmark.run import worker
from instructedit.benchmark.run.runner import run as inner_run
from instructedit.benchmark.setup.config import read_suite
from instructedit.benchmark.tuning import tune as tuning
from instructedit.benchmark.tuning.plan import TuneOptions
from instructedit.editors import EDITORS, Choice, InputError, Range, Scaled, Uniform
from instructedit.reports.tables.tuning import markdown

from ...cli.command import call
from ..worlds import Learner, write_data, write_model, write_training

RIGHT = 6.0
"""Of the radii 0.5, 6 and 100: the first catches no rephrase, the last everything."""


class DialConfig(GRACEConfig):
    width: float = 1.0


class Dial(GRACE):
    """GRACE with two options of its own choice to tune."""

    name, title, source = "dial", "Dial", "test"
    Config = DialConfig
    search: ClassVar[dict[str, Range]] = {
        "radius": Choice((100.0, RIGHT, 0.5)),
        "width": Scaled(Uniform(1.0, 2.0), "requests"),
    }
    told: ClassVar[list] = []
    measured: ClassVar[list] = []

    def unit(self, option, model, requests):
        self.measured.extend(requests)
        return 10.0 * len(requests)

    def edit(self, model, requests, seed=0):
        self.told.extend(requests)
        return super().edit(model, requests, seed)


TOML = """
description = "A search."
tasks = ["recent", "counterfact", "convsent"]
train = ["recent", "counterfact"]
held_out = ["zsre"]
chunk = 3

[[runs]]
setting = "multi-task"
only = ["none", "tuned", "learner"]

[[runs]]
setting = "hold-out"
only = ["tuned", "learner"]

[[runs]]
setting = "single-task"
only = ["alone"]

[editors.none]

[editors.tuned]
method = "dial"
block = 1
radius = 0.5
steps = 25

[editors.learner]
training = { steps = 7 }

[editors.alone]
method = "learner"
"""


@pytest.fixture(scope="module", autouse=True)
def outsiders():
    EDITORS.register("dial")(Dial)
    EDITORS.register("learner")(Learner)
    yield
    EDITORS.unregister("dial")
    EDITORS.unregister("learner")


@pytest.fixture(autouse=True)
def forget():
    for seen in (Dial.told, Dial.measured, Learner.told, Learner.fits):
        seen.clear()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune")
    write_training(write_data(folder / "data"), recent=12, counterfact=12, convsent=4)
    write_model(folder / "model")
    (folder / "own.toml").write_text(TOML)
    for path in (folder / "data").glob("wiki_*/*train*.json"):
        rows = json.loads(path.read_text())
        for row in rows:  # near enough to the prompt, and far enough from it, for a random model
            row["rephrase_prompt"] = f"Well. {row['prompt']}"
            row["locality"]["Relation_Specificity"][0]["prompt"] = f"{row['subject']}: gender?"
        path.write_text(json.dumps(rows))
    # ZsRE is held out and not tuned on, but the preset tests it: its subject must not be seen either
    path = folder / "data" / "ZsRE" / "ZsRE-test-all.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([*rows, {**rows[0], "subject": "Recent Person3", "prompt": "Who is Recent Person3?"}]))
    return folder


def tune(place, out, *words, editor="tuned", budget=4, preset="own.toml"):
    options = ["--data", place / "data", "--model", place / "model", "--device", "cpu", "--out", out, "--limit", 5]
    return call("tune", place / preset, "--editor", editor, "--budget", budget, *options, *words)


def trail_of(out, row="tuned"):
    return read_record(out / "tune" / "own" / row / "trail.json", Trail)


@pytest.fixture(scope="module")
def finished(place, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished")
    code, text, _ = tune(place, out, budget=6)
    assert code == 0, text
    return out


def test_the_known_optimum_is_found(finished):
    trail = trail_of(finished)
    assert trail.trials[0].options == {"radius": 0.5, "width": 1.0}, "trial 0 is the row as it stands"
    assert trail.trials[0].score == 0.0, "nothing generalizes, no score"
    radii = [trial.options["radius"] for trial in trail.trials]
    assert set(radii) == {0.5, RIGHT, 100.0}
    assert trail.best == radii.index(RIGHT), "the first of those that score alike"
    for trial in trail.trials:
        assert (trial.score > 0.5) == (trial.options["radius"] == RIGHT)
        parts = trial.tasks[0]
        assert (parts.generalization.mean > 0) == (trial.options["radius"] > 0.5)
        assert (parts.locality.mean > 0) == (trial.options["radius"] < 100)


def test_scores_follow_from_the_lines_of_the_runs(finished):
    """The harmonic mean of three means over cases, by a loop over the raw lines."""
    trail = trail_of(finished)
    for trial in trail.trials:
        lines = (finished / "tune" / "own" / "runs" / trial.run / "cases.jsonl").read_text().splitlines()
        records = [CaseRecord.model_validate_json(line) for line in lines]
        scores = []
        for task in ("recent", "counterfact"):
            means = []
            for measure in ("reliability", "generalization", "locality"):
                cases = []
                for record in (record for record in records if record.task == task):
                    own = [
                        s.value
                        for s in record.scores
                        if (s.measure, s.protocol, s.derived) == (measure, "teacher_forced_exact", False)
                    ]
                    cases.append(sum(own) / len(own))
                means.append(sum(cases) / len(cases))
                assert len(cases) == 5
            scores.append(0.0 if 0 in means else 3 / sum(1 / mean for mean in means))
        assert [task.score for task in trial.tasks] == pytest.approx(scores)
        assert trial.score == pytest.approx(sum(scores) / 2)


def test_scaled_options_are_factors_times_the_measured_unit(finished):
    for trial in trail_of(finished).trials[1:]:
        assert 100 <= trial.options["width"] <= 200, "ten requests, ten each, a factor of 1 to 2"


def test_the_written_file_is_the_preset_with_the_winner_in_it(place, finished, tmp_path):
    written = finished / "tune" / "own.toml"
    found, before = dict(read_suite(str(written))), dict(read_suite(str(place / "own.toml")))
    assert found.keys() == before.keys()
    winner = trail_of(finished).winner.options
    for label, config in found.items():
        rows = {row: {**own, **(winner if row == "tuned" else {})} for row, own in before[label].editors.items()}
        given = {"data": str(place / "data"), "model": str(place / "model"), "editors": rows}
        assert config == before[label].model_copy(update=given)
    options = ["--setting", "multi-task", "--editor", "none", "--editor", "tuned", "--task", "recent"]
    code, _, err = call("run", written, *options, "--limit", 1, "--device", "cpu", "--out", tmp_path)
    assert code == 0, err
    (path,) = tmp_path.glob("*/run.json")
    assert read_record(path, RunFile).spec.editors[1].config["radius"] == RIGHT


def test_a_row_that_extends_another_keeps_what_its_trial_had(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(
        "[editors.mend]\nrank = 8\ntraining = { steps = 4, batch = 2, lr = 1e-3 }\nobjective = { c_loc = 0.5 }\n"
        '[editors.asked]\nextends = "mend"\nobjective = { c_edit = 2.0 }\n'
    )
    found = {"training.lr": 5e-4, "objective.c_edit": 0.1, "edit_lr": -1e-3}
    trail = Trail.model_construct(
        row="asked",
        trials=(
            Trial(number=0, options={}, run=None, score=0.1),
            Trial(number=1, options=found, run=None, score=0.2),
        ),
        best=1,
        cases={"zsre": 1},
        budget=2,
        seed=0,
        split="validation",
        model_fingerprint="f" * 64,
    )
    (tmp_path / "tuned.toml").write_text(
        tuning.tuned_preset(TuneOptions(str(path), ("asked",), 2, {}, None, 8, 0), [trail])
    )
    before, after = (read_suite(str(tmp_path / name))[0].config.editors for name in ("own.toml", "tuned.toml"))
    assert after["mend"] == before["mend"]
    # a group of its own takes the place of what it extends, before the search as in it
    assert after["asked"] == {
        "method": "mend",
        "rank": 8,
        "edit_lr": -1e-3,
        "training": {"steps": 4, "batch": 2, "lr": 5e-4},
        "objective": {"c_edit": 0.1},
    }


def test_another_seed_makes_other_trials(place, finished, tmp_path):
    tune(place, tmp_path, "--seed", 1, budget=3)
    ours, theirs = trail_of(finished), trail_of(tmp_path)
    assert ours.trials[0].options == theirs.trials[0].options
    assert all(ours.trials[k].options != theirs.trials[k].options for k in (1, 2))


def test_a_stopped_search_resumes_and_a_larger_budget_extends_it(place, finished, tmp_path, monkeypatch):
    runs = count(1)

    def stop(*arguments, **options):
        if next(runs) == 3:
            raise KeyboardInterrupt
        return inner_run(*arguments, **options)

    monkeypatch.setattr(tuning, "run", stop)
    assert tune(place, tmp_path, budget=4)[0] == 130
    monkeypatch.undo()
    Dial.told.clear()
    assert tune(place, tmp_path, budget=4)[0] == 0
    assert len(Dial.told) == 2 * 10, "two trials were finished before"
    short = trail_of(tmp_path)
    assert short.trials == trail_of(finished).trials[:4]
    Dial.told.clear()
    monkeypatch.setattr(worker, "run_chunk", lambda *_a, **_k: pytest.fail("nothing is missing"))
    assert tune(place, tmp_path, budget=4)[0] == 0
    monkeypatch.undo()
    assert tune(place, tmp_path, budget=6)[0] == 0
    assert len(Dial.told) == 2 * 10
    for name in ("own.toml", "own/tuned/trail.json", "own/tuned/trail.md"):
        assert (tmp_path / "tune" / name).read_bytes() == (finished / "tune" / name).read_bytes()


def test_no_test_case_is_seen(place, tmp_path):
    tested = {
        row.get("subject") or row["ent"]
        for path in (place / "data").glob("*/*test*.json")
        for row in json.loads(path.read_text())
    }
    assert "Recent Person3" in tested
    tune(place, tmp_path, "--task", "recent", budget=2)
    assert Dial.told
    assert {request.case_id.split("/")[1] for request in [*Dial.told, *Dial.measured]} == {"train"}
    assert not {request.subject for request in [*Dial.told, *Dial.measured]} & tested


def test_a_trained_editor_is_scored_on_validation_cases_only(place, tmp_path):
    code, _, err = tune(place, tmp_path, editor="learner", budget=2)
    assert code == 0, err
    assert len(Learner.fits) == 2, "each trial trains"
    (_, training, seed), _ = Learner.fits
    assert seed == 0
    learnt = {case.request.case_id for case in training.train}
    kept = {case.request.case_id for case in training.validation}
    told = {request.case_id for request in Learner.told}
    assert told
    assert told <= kept
    assert not told & learnt
    assert {case.request.task for case in training.train} == {"recent", "counterfact"}
    assert "Recent Person3" not in {case.request.subject for case in (*training.train, *training.validation)}
    trail = trail_of(tmp_path, "learner")
    assert (trail.split, trail.train) == ("validation", ("recent", "counterfact"))
    rates = [trial.options["training.lr"] for trial in trail.trials]
    assert rates[0] == 1e-6 != rates[1]
    steps = {
        spec.config["training"]["steps"]
        for trial in trail.trials
        for spec in read_record(tmp_path / "tune" / "own" / "runs" / trial.run / "run.json", RunFile).spec.editors
    }
    assert steps == {7}, "what is not searched stays as the row has it"
    for path in (tmp_path / "checkpoints").glob("*/checkpoint.json"):
        path.write_text("{oops}")
    shutil.rmtree(tmp_path / "tune")
    code, _, err = tune(place, tmp_path, editor="learner", budget=2)
    assert code == 0, "what is damaged is made again"
    assert trail_of(tmp_path, "learner").trials == trail.trials


def test_what_cannot_be_edited_scores_zero_and_says_why(place, tmp_path, monkeypatch):
    (place / "right.toml").write_text(TOML.replace("radius = 0.5", f"radius = {RIGHT}"))
    monkeypatch.setattr(Dial, "search", {"lr": Choice((1e38,))})
    code, _, err = tune(place, tmp_path / "infinite", budget=2, preset="right.toml")
    assert code == 0
    before, broken = read_record(tmp_path / "infinite" / "tune" / "right" / "tuned" / "trail.json", Trail).trials
    assert before.score > broken.score == 0.0
    assert broken.reason.startswith("10 of 10 edits failed; the first: ")
    assert "not finite" in broken.reason or "not all numbers" in broken.reason
    assert broken.reason in err
    assert [task.failed for task in broken.tasks] == [5, 5]
    monkeypatch.setattr(Dial, "search", {"block": Choice((40,))})
    tune(place, tmp_path / "absent", budget=2)
    _, refused = trail_of(tmp_path / "absent").trials
    assert (refused.run, refused.score) == (None, 0.0)
    assert "Block 40 does not exist; the model has 4 blocks" in refused.reason
    written = (tmp_path / "absent" / "tune" / "own.toml").read_text()
    assert "block = 1\n" in written, "the options that the row has are the best"


def test_a_dry_run_prints_options_and_starts_nothing(place, finished, tmp_path):
    code, out, _ = tune(place, tmp_path, "--dry-run", budget=6)
    assert code == 0
    assert not list(tmp_path.iterdir())
    lines = [line for line in out.splitlines() if "radius = " in line]
    for line, trial in zip(lines, trail_of(finished).trials, strict=True):
        assert line.split()[0] == str(trial.number)
        assert f"radius = {trial.options['radius']:g}," in line
    assert "x requests" in lines[1]
    assert "recent 5, counterfact 5" in out


def test_the_table_says_before_after_and_what_was_scored(finished):
    trail = trail_of(finished)
    page = markdown(trail)
    assert f"after {100 * trail.winner.score:.1f} (trial {trail.best})" in page
    assert "Split train, seed 0" in page
    assert "recent, n = 5" in page
    best = trail.winner.tasks[0]
    cells = [f"{100 * part.mean:.0f}" for part in (best.reliability, best.generalization, best.locality)]
    (line,) = (line for line in page.splitlines() if "(best)" in line)
    assert " / ".join(cells) in line
    assert "| none | unedited model | 0 / 0 / 100 |" in page
    assert f"{100 * trail.gain.difference:.1f} [" in page


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"editor": "tunned"}, "no row 'tunned', and no editor of that name. Did you mean 'tuned'?"),
        ({"editor": "none"}, "The editor 'none' declares no ranges"),
        ({"budget": 0}, "--budget: found 0, expected 1 or more trials"),
        ({"editor": "alone"}, "'alone' has to be trained, but the setting 'single-task' trains no editor or several"),
        (
            {"editor": "learner", "task": "zsre"},
            "--task: found 'zsre', but 'learner' is scored on what it is trained on",
        ),
        ({"task": "convsent"}, "The task 'convsent' cannot be tuned on"),
        ({"task": "zsrre"}, "Unknown task 'zsrre'. Did you mean 'zsre'?"),
    ],
)
def test_errors_are_one_sentence(place, tmp_path, words, sentence):
    task = ["--task", words["task"]] if "task" in words else []
    code, out, err = tune(place, tmp_path, *task, editor=words.get("editor", "tuned"), budget=words.get("budget", 2))
    assert code == 2
    assert not out
    assert err.startswith("instructedit: ")
    assert err.count("\n") == 1
    assert sentence in err
    assert not list(tmp_path.iterdir()), "nothing was started"


def test_a_trial_whose_file_is_broken_is_an_error_and_no_score_of_zero(place, finished, tmp_path):
    shutil.copytree(finished / "tune", tmp_path / "tune")
    digest = trail_of(finished).trials[1].run
    (tmp_path / "tune" / "own" / "runs" / digest / "cases.jsonl").write_text("{oops}\n")
    code, _, err = tune(place, tmp_path, budget=6)
    assert code == 2
    assert "line 1: not valid JSON" in err


def test_the_trail_refuses_what_it_does_not_know(finished, tmp_path):
    fields = json.loads((finished / "tune" / "own" / "tuned" / "trail.json").read_text())
    (tmp_path / "trail.json").write_text(json.dumps({**fields, "extra": 1}))
    with pytest.raises(InputError, match="field 'extra'"):
        read_record(tmp_path / "trail.json", Trail)
    assert math.isfinite(fields["gain"]["low"])
