"""The training loop: what is drawn, what is kept, and that a kill at any moment changes nothing."""

import json
import random
import sys
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from instructedit.baselines.ke import KE
from instructedit.baselines.mend import MEND
from instructedit.editors import InputError, TrainingSet, make
from instructedit.editors.hypernet.objective import Losses
from instructedit.editors.hypernet.training_config import TaskSampler
from instructedit.editors.hypernet.training_loop import Trainer, case_losses, step_losses
from instructedit.editors.instructedit import InstructEdit

from ..cases import attitude, fact, facts

TRAINING = {
    "steps": 12,
    "batch": 2,
    "accumulate": 2,
    "lr": 1e-3,
    "clip": 1.0,
    "warmup": 2,
    "validate_every": 4,
    "validation_cases": 3,
    "save_every": 3,
    "decay": "linear",
}
SMALL = {"mend": {"rank": 8}, "instructedit": {"rank": 8}, "ke": {"hidden": 8, "condition": 6}}


def editor_of(kind, joint=None, **training):
    options = {**SMALL[kind.name], **({} if joint is None else {"joint": joint})}
    return make(kind, {**options, "training": {**TRAINING, **training}})


def told(request, seed):
    words = random.Random(f"{seed} {request.case_id}").sample(["spouse", "place", "birth", "King"], 2)
    return type(request)(
        request.case_id, request.task, request.prompt, request.target, request.subject, "Task: " + " ".join(words)
    )


def training_set(instruct=None) -> TrainingSet:
    train = (*facts(7), *(attitude(n) for n in range(3)))
    return TrainingSet(train, (fact(8), fact(9), attitude(4)), {"facts": 2.0, "opinions": 1.0}, instruct)


def lines(folder):
    read = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in read]


def test_tasks_are_drawn_in_exact_shares_and_each_round_in_a_new_order():
    cases = [*facts(5, task="a"), *facts(4, task="b"), *facts(3, task="c")]
    sampler = TaskSampler(cases, {"a": 1, "b": 1, "c": 2}, seed=1)
    drawn = [sampler.draw() for _ in range(80)]
    for count in range(1, 81):
        seen = Counter(case.request.task for case in drawn[:count])
        assert all(abs(seen[task] - count * share) <= 1 for task, share in (("a", 0.25), ("b", 0.25), ("c", 0.5)))
    own = [case.request.case_id for case in drawn if case.request.task == "a"]
    rounds = [tuple(own[first : first + 5]) for first in range(0, 20, 5)]
    assert all(len(set(ids)) == 5 for ids in rounds)
    assert len(set(rounds)) > 1


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, {}) for kind in (MEND, KE, InstructEdit)),
        (MEND, {"joint": "sum", "together": 3, "steps": 6}),
        (InstructEdit, {"together": 3, "steps": 6}),
    ],
)
def test_a_training_killed_several_times_ends_with_the_same_weights(kind, options, model, tmp_path, monkeypatch):
    instruct = told if kind is InstructEdit else None
    whole = editor_of(kind, **options)
    whole.fit(model, training_set(instruct), tmp_path / "whole", seed=5)

    class KilledError(Exception):
        pass

    dice = random.Random(3)
    most = 4
    left = {"kills": most}
    step = Trainer._step
    save = Trainer._save

    def dying_step(self):
        line = step(self)
        if left["kills"] and dice.random() < 0.6:
            left["kills"] -= 1
            raise KilledError
        return line

    def dying_save(self):
        if left["kills"] and dice.random() < 0.5:
            left["kills"] -= 1
            raise KilledError
        save(self)

    monkeypatch.setattr(Trainer, "_step", dying_step)
    monkeypatch.setattr(Trainer, "_save", dying_save)
    kills = 0
    while True:
        parts = editor_of(kind, **options)
        torch.manual_seed(kills)  # a new process has another global stream
        try:
            parts.fit(model, training_set(instruct), tmp_path / "parts", seed=5)
            break
        except KilledError:
            kills += 1
    assert kills == most
    ours, theirs = (load_file(tmp_path / name / "state.safetensors") for name in ("whole", "parts"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert lines(tmp_path / "whole") == lines(tmp_path / "parts")
    assert not list((tmp_path / "parts").glob("*.part"))


def test_training_lowers_the_loss_on_what_it_validates(make_language_model, tmp_path):
    model = make_language_model("llama")
    mend = editor_of(MEND, steps=40, validate_every=20, lr=3e-3)
    mend.fit(model, TrainingSet(facts(6), facts(6), {"facts": 1.0}), tmp_path)
    validations = [line["validation"]["loss"] for line in lines(tmp_path) if "validation" in line]
    assert validations[-1] < validations[0]


def validated(monkeypatch, losses):
    """Let validation see the given losses."""
    given = iter(losses)
    inner = Losses.mean

    def mean(self, c_edit, c_loc):
        found = inner(self, c_edit, c_loc)
        return found | {"loss": next(given)} if self.cases == 3 else found

    monkeypatch.setattr(Losses, "mean", mean)


def weights_at(model, folder, steps):
    """Weights after some steps, kept as they are at the end."""
    mend = editor_of(MEND, steps=steps, keep="last", patience=100, decay="none")
    mend.fit(model, training_set(), folder)
    return load_file(folder / "state.safetensors")


def test_the_best_checkpoint_is_kept_and_training_stops_when_patience_ends(model, tmp_path, monkeypatch):
    expected = weights_at(model, tmp_path / "eight", 8)
    validated(monkeypatch, [3.0, 1.0, 2.0, 2.5, 9.0])
    mend = editor_of(MEND, steps=100, patience=8, decay="none")
    mend.fit(model, training_set(), tmp_path / "best")
    assert lines(tmp_path / "best")[-1]["step"] == 16, "the best loss was at step 8, patience is 8"
    got = load_file(tmp_path / "best" / "state.safetensors")
    assert all(torch.equal(got[name], expected[name]) for name in got)
    assert torch.equal(mend.state()["edit_lr"], expected["edit_lr"]), "the editor in memory is the kept one"


def test_steps_that_are_not_finite_are_skipped_and_counted(model, tmp_path, monkeypatch):
    before: list[torch.Tensor] = []

    def losses(editor, *given):
        found = step_losses(editor, *given)
        if len(before) == 4:
            editor.network.edit_lr.grad.fill_(float("inf"))
        before.append(editor.network.edit_lr.detach().clone())
        return found

    monkeypatch.setattr("instructedit.editors.hypernet.training_loop.step_losses", losses)
    mend = editor_of(MEND, accumulate=1, steps=8)
    mend.fit(model, training_set(), tmp_path)
    assert torch.equal(before[4], before[5]), "the fifth step was not taken"
    assert not torch.equal(before[5], before[6])
    read = lines(tmp_path)
    assert [line["skipped"] for line in read] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert read[4]["gradient_norm"] is None


def test_a_training_that_only_skips_stops_with_a_sentence(model, tmp_path, monkeypatch):
    monkeypatch.setattr("instructedit.editors.hypernet.training_loop.SKIPS_IN_A_ROW", 3)
    mend = editor_of(MEND)
    mend.config = mend.config.model_copy(update={"edit_lr": float("nan")})
    with pytest.raises(InputError, match="not finite"):
        mend.fit(model, training_set(), tmp_path)


def test_a_training_without_a_finite_validation_is_refused(model, tmp_path, monkeypatch):
    validated(monkeypatch, [float("nan")] * 9)
    with pytest.raises(InputError, match="no validation had a finite loss"):
        editor_of(MEND, steps=8).fit(model, training_set(), tmp_path)
    assert lines(tmp_path)[3]["validation"]["loss"] is None, "JSON has no word for it"
    assert not MEND.saved(tmp_path)


def test_a_validation_that_scores_nothing_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "instructedit.editors.hypernet.training_loop.case_losses", lambda *a: case_losses(*a) if a[5] else Losses()
    )
    with pytest.raises(InputError, match="no validation case fits"):
        editor_of(MEND, steps=8).fit(model, training_set(), tmp_path)


def test_rates_fall_in_a_straight_line_to_zero(model, tmp_path, monkeypatch):
    rates: list[list[float]] = []
    inner = torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam,
        "step",
        lambda self, *a: rates.append([group["lr"] for group in self.param_groups]) or inner(self, *a),
    )
    editor_of(MEND, steps=4, decay="linear", lr=1e-3).fit(model, training_set(), tmp_path)
    assert rates == [pytest.approx([1e-3 * share, 1e-4 * share]) for share in (1.0, 0.75, 0.5, 0.25)]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("kind", [MEND, InstructEdit, KE])
def test_batches_of_a_step_run_together_as_one_after_another(make_language_model, kind, batch):
    """In double precision, the running statistics included: they take in each batch before it is normalised."""
    model = make_language_model("gpt2", torch.float64)
    found = []
    for together in (True, False):
        editor = editor_of(kind, batch=batch, accumulate=10 // batch)
        editor.build(model, 0)
        editor.observe(model, [[case.request] for case in facts(3)])
        with torch.no_grad():
            for parameter in editor.network.parameters():
                parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)).double())
        editor.network.train()
        cases, seeds, sums = list(facts(10)), list(range(10)), Losses()
        cases[3] = replace(cases[3], request=replace(cases[3].request, target="a name " * 60))  # does not fit
        if together:
            sums = step_losses(editor, model, cases, training_set(), seeds)
        else:
            for first in range(0, 10, batch):
                part = slice(first, first + batch)
                sums.add(case_losses(editor, model, cases[part], training_set(), seeds[part], 1 / 10))
        gradients = {name: p.grad for name, p in editor.network.named_parameters() if p.grad is not None}
        found.append((sums, gradients, dict(editor.network.named_buffers())))
    (sums, gradients, buffers), (slow, wanted, statistics) = found
    assert (sums.edit, sums.locality, sums.cases) == (pytest.approx(slow.edit), pytest.approx(slow.locality), 9)
    assert gradients.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(gradients[name], wanted[name], rtol=1e-8, atol=1e-12)
    for name in statistics:
        torch.testing.assert_close(buffers[name], statistics[name], rtol=1e-12, atol=1e-15)


def test_a_folder_of_another_training_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.setattr(MEND, "save", lambda self, folder: None)
    editor_of(MEND).fit(model, training_set(), tmp_path, seed=1)
    with pytest.raises(InputError, match="another configuration, data, seed or base model"):
        editor_of(MEND).fit(model, training_set(), tmp_path, seed=2)


def test_a_checkpoint_of_another_base_model_or_shape_is_refused(make_language_model, tmp_path):
    model = make_language_model("gpt2")
    editor_of(MEND, steps=1).fit(model, training_set(), tmp_path)
    loaded = MEND.load(tmp_path)
    assert loaded.edit(model, [fact(0).request]).first_block == 1
    with pytest.raises(InputError, match="was trained for the base model"):
        loaded.edit(make_language_model("llama"), [fact(0).request])
    outline = json.loads((tmp_path / "editor.json").read_text())
    outline["config"]["rank"] = 4
    (tmp_path / "editor.json").write_text(json.dumps(outline))
    with pytest.raises(InputError, match="size mismatch"):
        MEND.load(tmp_path)


def test_training_in_half_precision_is_refused(make_language_model, tmp_path):
    model = make_language_model("gpt2")
    model.model.half()
    with pytest.raises(InputError, match="'mend' cannot be trained in float16"):
        editor_of(MEND).fit(model, training_set(), tmp_path)


def test_an_editor_that_is_not_trained_says_so(model):
    with pytest.raises(InputError, match="has to be trained first"):
        MEND().edit(model, [fact(0).request])


def test_cases_that_do_not_fit_are_left_out_and_said(model, tmp_path):
    long = fact(1)
    long = type(long)(type(long.request)("facts/train/99", "facts", "x " * 200, "London", "x"), long.probes)
    said: list[str] = []
    training = TrainingSet((*facts(3), long), facts(2), {"facts": 1.0})
    editor_of(MEND, steps=1).fit(model, training, tmp_path, report=said.append)
    assert any("1 training cases do not fit" in line for line in said)
    with pytest.raises(InputError, match="no training case"):
        editor_of(MEND).fit(model, TrainingSet((long,), (), {"facts": 1.0}), tmp_path / "none")


def test_a_case_whose_rephrase_does_not_fit_costs_that_step_only(model, tmp_path):
    case = fact(1)
    probes = [probe for probe in case.probes if probe.role != "generalization"]
    probes += [type(case.probes[0])("generalization", "rephrase", "x " * 200, ("London",))]
    training = TrainingSet((*facts(3), type(case)(case.request, tuple(probes))), facts(2), {"facts": 1.0})
    editor_of(MEND, steps=4).fit(model, training, tmp_path)
    assert len(lines(tmp_path)) == 4


def test_metrics_go_to_the_tracker_that_is_asked_for(model, tmp_path, monkeypatch):
    logged: list[tuple[int, dict]] = []
    fake = SimpleNamespace(
        init=lambda **k: None, log=lambda values, step: logged.append((step, values)), finish=lambda: None
    )
    monkeypatch.setitem(sys.modules, "wandb", fake)
    editor_of(MEND, steps=4).fit(model, training_set(), tmp_path, track="wandb")
    assert [step for step, _ in logged] == [1, 2, 3, 4]
    assert "validation/loss" in logged[-1][1]
    with pytest.raises(InputError, match="wandb or trackio"):
        editor_of(MEND, steps=4).fit(model, training_set(), tmp_path / "other", track="tensorboard")


def test_the_digest_of_a_training_set_is_its_content():
    assert training_set().digest == training_set(told).digest
    other = TrainingSet(training_set().train[1:], training_set().validation, training_set().weights)
    assert other.digest != training_set().digest


@pytest.mark.parametrize(
    "changed", [{"seed": 4}, {"steps": 2}, {"training": TrainingSet((fact(1),), (fact(2),), {"facts": 1})}]
)
def test_a_finished_editor_of_another_training_is_not_taken_for_this_one(model, tmp_path, changed):
    asked = {"training": training_set(), "folder": tmp_path, "seed": 3, "steps": 1}
    editor_of(MEND).fit(model, **asked)
    editor_of(MEND).fit(model, **asked)
    with pytest.raises(InputError, match="of another training"):
        editor_of(MEND).fit(model, **{**asked, **changed})


def test_a_training_without_a_validation_case_is_refused(model, tmp_path):
    with pytest.raises(InputError, match="no validation case for the editor 'mend'"):
        editor_of(MEND).fit(model, TrainingSet(facts(3), (), {"facts": 1.0}), tmp_path)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"parts": ("mlp",)}, "Option 'parts.0' of the editor 'mend': Input should be 'up', 'down', 'shared up'"),
        ({"parts": ()}, "Option 'parts' of the editor 'mend'"),
        ({"blocks": ()}, "Option 'blocks' of the editor 'mend'"),
        ({"blocks": (-1, 3)}, "name transformer.h.3.mlp.c_fc twice"),
        ({"parts": ("up", "up")}, "name transformer.h.1.mlp.c_fc twice"),
    ],
)
def test_edited_maps_are_named_once_and_rightly(model, options, sentence):
    with pytest.raises(InputError, match=sentence):
        make(MEND, options).build(model)
