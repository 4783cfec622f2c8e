"""The settings: which tasks train an editor and which are evaluated, and the rows of a table that follow from that.

A setting is a list of trainings, each with the tasks that it is tested on. `trainings_of` resolves a configuration to
them, `rows_of` resolves editors and trainings to the rows of a run. Both are pure functions.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from instructedit.editors.cases import InstructedProbes
from instructedit.editors.errors import InputError, did_you_mean

from .config import RunConfig, Sampling

if TYPE_CHECKING:
    from instructedit.editors import Editor

MIX = ("counterfact", "recent", "convsent")
"""What the paper's multi-task editors are trained on (InstructEdit, arXiv 2402.16123, main table)."""
HELD_OUT = ("zsre",)
"""What they are tested on without training."""
SCALING = ("recent", "counterfact", "convsent")
"""Order in which the paper's figure 4 adds tasks, as its panels suggest."""
ATTITUDE = "convsent"
"""The task about attitudes; the others are about facts."""

_TRAIN = ", or name the tasks to train on, as in --train counterfact --train recent with their --data"

Sizes = Callable[[str], int]
"""From a task to its number of training cases, without test subjects."""


class NothingTestedError(InputError):
    """A setting tests none of a run's tasks."""


@dataclass(frozen=True, slots=True)
class TrainingTasks:
    """One training of a setting: the tasks that it is trained on and tested on."""

    label: str
    """Its name within the setting: the trained tasks joined by +, or a name that the setting gives."""
    train: tuple[str, ...]
    test: tuple[str, ...]
    limits: Mapping[str, int]
    """Maximum number of training cases by task."""
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Setting:
    """A named setting of the field."""

    name: str
    description: str
    trainings: Callable[[RunConfig, tuple[str, ...], Sizes], Iterable[TrainingTasks]] | None = None
    """From configuration, trained tasks and their sizes to the trainings, in the order of their rows."""
    train: Callable[[RunConfig], tuple[str, ...]] = lambda _: MIX
    """Tasks that are trained on where the configuration names none."""
    controls: bool = False
    """Whether an instructed editor has a row for each description and each control."""


class RowSpec(NamedTuple):
    """A row of a run's tables."""

    name: str
    editor: str
    """Key of its editor in the configuration."""
    training: TrainingTasks | None
    instruction: str | None
    """Condition of its instructions; None if neither its editor nor its probes have any."""
    tasks: tuple[str, ...]


def trained_tasks(config: RunConfig) -> tuple[str, ...]:
    """Return the tasks that a configuration trains on, over all trainings; own facts are none of them."""
    setting = get_setting(config.setting)
    tasks = (config.train or setting.train(config)) if setting.trainings else ()
    return tuple(task for task in tasks if task != config.facts_task)


def held_out(config: RunConfig) -> tuple[str, ...]:
    """Return the tasks that a configuration names as held out, or else those of its setting."""
    return config.held_out or (HELD_OUT if config.setting == "hold-out" else ())


def barred_tasks(config: RunConfig) -> tuple[str, ...]:
    """Return the tasks whose test subjects no editor may be trained on.

    They are all that the run names, tested or not, so that the runs of a suite share their trainings.
    """
    return tuple(dict.fromkeys((*config.tasks, *trained_tasks(config), *held_out(config))))


def trainings_of(config: RunConfig, sizes: Sizes) -> tuple[TrainingTasks, ...]:
    """Return the trainings of a configuration's setting; none where it trains no editor.

    Raises:
        NothingTestedError: If the setting tests none of the configuration's tasks.
        InputError: If the setting does not fit the configuration's limits or weights.
    """
    setting = get_setting(config.setting)
    if setting.trainings is None:
        return ()
    wanted = tuple(setting.trainings(config, trained_tasks(config), sizes))
    narrowed = [
        replace(own, test=tuple(task for task in config.tasks if task in own.test or task == config.facts_task))
        for own in wanted
    ]
    kept = tuple(own for own in narrowed if own.test)
    if not kept:
        tested = sorted({task for own in wanted for task in own.test})
        raise NothingTestedError(
            f"The setting '{setting.name}' tests on {', '.join(tested)}, but the run's tasks are "
            f"{', '.join(config.tasks)}."
        )
    known = sorted({task for own in wanted for task in own.train})
    for option, named in (("train_limit", config.train_limit), ("sampling", config.sampling)):
        for task in named if isinstance(named, dict) else ():
            if task not in known:
                raise InputError(
                    f"Option '{option}' names '{task}', but the setting '{setting.name}' trains on {', '.join(known)}."
                )
    return kept


def rows_of(
    config: RunConfig,
    kinds: "Mapping[str, type[Editor[Any]]]",
    trainings: tuple[TrainingTasks, ...],
    conditions: Sequence[str],
    probes: Mapping[str, InstructedProbes] | None = None,
) -> tuple[RowSpec, ...]:
    """Return the rows of a run: editors in their order, each with every training and every instruction.

    A row is named like its editor, with `@` and the training's label where the setting has several trainings, and with
    `#` and the instruction where it has several. Editors without training have one row for all trainings. A row has an
    instruction if its editor reads one, or if its probes carry one (`instructed_probes`).

    Raises:
        InputError: If an editor needs training that the setting does not give, or two rows have the same name.
    """
    setting = get_setting(config.setting)
    tested = tuple(task for task in config.tasks if not trainings or any(task in own.test for own in trainings))
    found = []
    for editor, kind in kinds.items():
        if kind.trains and not trainings:
            trained = ", ".join(name for name, other in SETTINGS.items() if other.trainings)
            raise InputError(
                f"The editor '{editor}' has to be trained, but the setting '{setting.name}' trains none; choose one of "
                f"{trained}{_TRAIN if config.facts else ''}."
            )
        instructed = kind.instructed or (probes or {}).get(editor, "none") != "none"
        several = setting.controls and instructed
        for own in trainings if kind.trains else (None,):
            name = f"{editor}@{own.label}" if own is not None and len(trainings) > 1 else editor
            for condition in conditions if several else (config.instruction if instructed else None,):
                full = f"{name}#{condition}" if several else name
                found.append(RowSpec(full, editor, own, condition, tested if own is None else own.test))
    names = [row.name for row in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"Two rows would be called '{name}'; give one of these editors another name.")
    return tuple(found)


def get_setting(name: str) -> Setting:
    """Return a setting by its name; `InputError` if there is none of that name."""
    if name not in SETTINGS:
        raise InputError(f"Unknown setting '{name}'.{did_you_mean(name, list(SETTINGS))}")
    return SETTINGS[name]


def _training(config: RunConfig, train: tuple[str, ...], test: tuple[str, ...]) -> TrainingTasks:
    limit = config.train_limit
    limits = dict.fromkeys(train, limit) if isinstance(limit, int) else limit or {}
    known = {task: limits[task] for task in train if task in limits}
    return TrainingTasks("+".join(train), train, test, known, config.sampling)


def _mix(config: RunConfig, train: tuple[str, ...], _: Sizes) -> Iterable[TrainingTasks]:
    # Joint and sequential edits are also evaluated by the damage they do to tasks that are not edited.
    own_tasks = config.setting == "multi-task" and config.schedule == "single"
    return [_training(config, train, train if own_tasks else config.tasks)]


def _leave_one_out(config: RunConfig, train: tuple[str, ...], _: Sizes) -> Iterable[TrainingTasks]:
    tests: dict[tuple[str, ...], list[str]] = {}
    for task in held_out(config):
        others = tuple(other for other in train if other != task)
        if not others:
            raise InputError(f"The setting 'hold-out' leaves out '{task}', and no other task is left to train on.")
        tests.setdefault(others, []).append(task)
    return [_training(config, others, tuple(tasks)) for others, tasks in tests.items()]


def _full_and_balanced(config: RunConfig, train: tuple[str, ...], sizes: Sizes) -> Iterable[TrainingTasks]:
    """Return the mix with all of ConvSent, and with ConvSent cut to the largest factual task."""
    # Proportional as one concatenated file, so that the size of ConvSent has an effect.
    full = replace(_training(config, train, config.tasks), label="full", sampling="proportional")
    facts = [task for task in train if task != ATTITUDE]
    if ATTITUDE not in train or not facts:
        raise InputError(
            f"The setting 'balanced' cuts {ATTITUDE} to the size of a factual task, but trains on {', '.join(train)}."
        )
    counts = {task: min(sizes(task), full.limits.get(task, sizes(task))) for task in train}
    largest = max(counts[task] for task in facts)
    if counts[ATTITUDE] <= largest:
        raise InputError(
            f"The setting 'balanced' has nothing to cut: training cases are "
            f"{', '.join(f'{task} {count:,}' for task, count in counts.items())}; option 'train_limit' can cut the "
            "factual tasks to the imbalance of the published data, 10 to 1 at most: train_limit = { "
            f"{', '.join(f'{task} = {max(2, counts[ATTITUDE] // 10)}' for task in facts)} }}."
        )
    return full, replace(full, label="balanced", limits={**full.limits, ATTITUDE: largest})


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("direct", "Editors that need no training, each test case edited on its own from the clean model."),
        Setting(
            "single-task",
            "Trained on one task, tested on every one; a row for each trained task.",
            lambda config, train, _: (_training(config, (task,), config.tasks) for task in train),
            train=lambda config: config.tasks,
        ),
        Setting("multi-task", "Trained on a mix of tasks and tested on them; under other schedules on all.", _mix),
        Setting(
            "hold-out",
            "Trained on all tasks but one and tested on that one.",
            _leave_one_out,
            train=lambda config: tuple(dict.fromkeys((*MIX, *config.tasks))),
        ),
        Setting(
            "unseen-instruction",
            "Trained on a mix; instructed editors get a row for each description and for each control.",
            _mix,
            controls=True,
        ),
        Setting(
            "task-scaling",
            "Trained on one task, on two, on three, and tested on every one.",
            lambda config, train, _: (_training(config, train[: n + 1], config.tasks) for n in range(len(train))),
            train=lambda _: SCALING,
        ),
        Setting(
            "balanced",
            "Trained on a mix with all of ConvSent, and with ConvSent cut to the largest factual task.",
            _full_and_balanced,
        ),
    )
}
