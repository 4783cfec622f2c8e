"""The trainings and rows of a configuration, by hand."""

from types import SimpleNamespace

import pytest

from instructedit.benchmark.setup.config import make_config
from instructedit.benchmark.setup.settings import MIX, SETTINGS, barred_tasks, get_setting, rows_of, trainings_of
from instructedit.editors import InputError

PLAIN = SimpleNamespace(trains=False, instructed=False)
TRAINED = SimpleNamespace(trains=True, instructed=False)
TOLD = SimpleNamespace(trains=True, instructed=True)
SIZES = {"counterfact": 1428, "recent": 570, "zsre": 10_000, "convsent": 14_390}
CONDITIONS = ("seen-0", "unseen", "none")


def config(setting, **options):
    return make_config({"setting": setting, **options}, "test")


def found(setting, **options):
    return trainings_of(config(setting, **options), SIZES.__getitem__)


def named_trainings(setting, **options):
    return [(own.label, own.train, own.test) for own in found(setting, **options)]


def named(setting, kinds, **options):
    configuration = config(setting, **options)
    return rows_of(configuration, kinds, trainings_of(configuration, SIZES.__getitem__), CONDITIONS)


ALL = ("recent", "counterfact", "zsre", "convsent")
ON_MIX = "counterfact+recent+convsent"


def test_direct_trains_nothing():
    assert found("direct") == ()
    assert barred_tasks(config("direct", tasks=("zsre",))) == ("zsre",)


def test_single_task_has_a_training_for_each_task():
    assert named_trainings("single-task") == [(task, (task,), ALL) for task in ALL]
    assert named_trainings("single-task", train=("zsre",), tasks=("recent",)) == [("zsre", ("zsre",), ("recent",))]


def test_multi_task_tests_what_it_trains_on_in_the_order_of_the_run():
    assert named_trainings("multi-task") == [(ON_MIX, MIX, ("recent", "counterfact", "convsent"))]
    assert named_trainings("multi-task", tasks=("convsent",)) == [(ON_MIX, MIX, ("convsent",))]


@pytest.mark.parametrize("schedule", ["batch", "sequential"])
def test_multi_task_asks_for_the_damage_to_tasks_nobody_edits(schedule):
    assert named_trainings("multi-task", schedule=schedule, edited=("recent",)) == [(ON_MIX, MIX, ALL)]


def test_hold_out_leaves_out_one_task_at_a_time():
    assert named_trainings("hold-out") == [(ON_MIX, MIX, ("zsre",))]
    assert named_trainings("hold-out", held_out=("recent", "zsre")) == [
        ("counterfact+convsent+zsre", ("counterfact", "convsent", "zsre"), ("recent",)),
        (ON_MIX, MIX, ("zsre",)),
    ]
    # what leaves the same tasks to train on is one training
    assert named_trainings("hold-out", train=("recent",), held_out=("counterfact", "zsre")) == [
        ("recent", ("recent",), ("counterfact", "zsre"))
    ]


def test_task_scaling_adds_one_task_at_a_time():
    assert named_trainings("task-scaling") == [
        ("recent", ("recent",), ALL),
        ("recent+counterfact", ("recent", "counterfact"), ALL),
        ("recent+counterfact+convsent", ("recent", "counterfact", "convsent"), ALL),
    ]


def test_balanced_cuts_convsent_to_the_largest_factual_task():
    full, cut = found("balanced")
    assert (full.label, full.limits, full.sampling) == ("full", {}, "proportional")
    assert (cut.label, cut.limits, cut.sampling) == ("balanced", {"convsent": 1428}, "proportional")
    assert full.train == cut.train == MIX
    # a limit on the factual tasks moves the cut
    _, cut = found("balanced", train_limit={"counterfact": 300, "recent": 400})
    assert cut.limits == {"counterfact": 300, "recent": 400, "convsent": 400}


def test_balanced_says_when_there_is_nothing_to_cut():
    sizes = {"counterfact": 400, "recent": 400, "convsent": 320}
    with pytest.raises(InputError) as error:
        trainings_of(config("balanced"), sizes.__getitem__)
    sentence = str(error.value)
    assert "counterfact 400, recent 400, convsent 320" in sentence
    assert "train_limit = { counterfact = 32, recent = 32 }" in sentence
    # and what it proposes works
    assert len(trainings_of(config("balanced", train_limit={"counterfact": 32, "recent": 32}), sizes.__getitem__)) == 2


def test_limits_and_sampling_reach_the_trainings():
    (training,) = found("multi-task", train_limit=50, sampling="proportional")
    assert training.limits == dict.fromkeys(MIX, 50)
    assert training.sampling == "proportional"
    first, second, _ = found("task-scaling", train_limit={"counterfact": 7})
    assert (first.limits, second.limits) == ({}, {"counterfact": 7})


@pytest.mark.parametrize(
    ("setting", "options", "sentence"),
    [
        ("hold-out", {"tasks": ("recent",)}, "The setting 'hold-out' tests on zsre, but the run's tasks are recent."),
        ("hold-out", {"train": ("zsre",)}, "leaves out 'zsre', and no other task is left"),
        ("multi-task", {"train_limit": {"zsre": 5}}, "Option 'train_limit' names 'zsre', but .* trains on convsent,"),
        ("multi-task", {"sampling": {"zsre": 1.0}}, "Option 'sampling' names 'zsre'"),
        (
            "balanced",
            {"train": ("recent", "zsre")},
            "cuts convsent to the size of a factual task, but trains on recent",
        ),
    ],
)
def test_settings_that_do_not_fit_the_run_are_refused(setting, options, sentence):
    with pytest.raises(InputError, match=sentence):
        found(setting, **options)


def test_subjects_of_every_task_the_run_names_are_barred():
    """Whichever of them it evaluates: so the runs of a suite share their trainings."""
    for setting in ("multi-task", "unseen-instruction", "task-scaling"):
        assert set(barred_tasks(config(setting))) == set(ALL)
    assert set(barred_tasks(config("hold-out", tasks=("zsre",)))) == set(ALL)
    assert set(barred_tasks(config("multi-task", tasks=("recent",), held_out=("zsre",)))) == set(ALL)
    assert set(barred_tasks(config("single-task", tasks=("recent",)))) == {"recent"}


def test_one_training_leaves_the_names_alone():
    kinds = {"none": PLAIN, "mend": TRAINED, "told": TOLD}
    none, mend, told = named("multi-task", kinds)
    assert (none.name, none.training, none.instruction, none.tasks) == (
        "none",
        None,
        None,
        ("recent", "counterfact", "convsent"),
    )
    assert (mend.name, mend.training.label, mend.instruction) == ("mend", ON_MIX, None)
    assert (told.name, told.instruction) == ("told", "seen")
    assert named("multi-task", kinds, instruction="none")[2].instruction == "none"


def test_several_trainings_are_told_apart_and_untrained_editors_have_one_row():
    found = named("single-task", {"none": PLAIN, "mend": TRAINED}, train=("recent", "zsre"))
    assert [row.name for row in found] == ["none", "mend@recent", "mend@zsre"]
    assert [row.tasks for row in found] == [ALL] * 3
    held = named("hold-out", {"none": PLAIN, "mend": TRAINED}, held_out=("recent", "zsre"))
    assert [(row.name.partition("@")[0], row.tasks) for row in held] == [
        ("none", ("recent", "zsre")),
        ("mend", ("recent",)),
        ("mend", ("zsre",)),
    ]


def test_unseen_instruction_has_a_row_for_each_condition_of_instructed_editors():
    found = named("unseen-instruction", {"none": PLAIN, "mend": TRAINED, "told": TOLD})
    assert [(row.name, row.instruction) for row in found] == [
        ("none", None),
        ("mend", None),
        ("told#seen-0", "seen-0"),
        ("told#unseen", "unseen"),
        ("told#none", "none"),
    ]
    assert {row.tasks for row in found} == {ALL}


def test_editors_that_need_training_are_refused_where_there_is_none():
    with pytest.raises(InputError, match=r"'mend' has to be trained, but the setting 'direct' trains none; .*hold-out"):
        named("direct", {"none": PLAIN, "mend": TRAINED})


def test_rows_of_the_same_name_are_refused():
    with pytest.raises(InputError, match="Two rows would be called 'mend@recent'"):
        named("single-task", {"mend@recent": PLAIN, "mend": TRAINED}, train=("recent", "zsre"))


def test_settings_describe_themselves():
    for name, setting in SETTINGS.items():
        assert get_setting(name) is setting
        assert setting.description.endswith(".")
    with pytest.raises(InputError, match=r"Unknown setting 'holdout'\. Did you mean 'hold-out'"):
        get_setting("holdout")
