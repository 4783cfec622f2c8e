"""The options of a search, and the searches that they resolve to before a model is loaded.

An untrained editor is scored on the training split, without the subjects that any run of the preset tests. A trained
one is trained on its training part, as in the preset, and scored on its validation part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from instructedit.editors import (
    EDITORS,
    CaseError,
    Editor,
    EditRequest,
    InputError,
    LanguageModel,
    Scaled,
    did_you_mean,
)
from instructedit.editors.search import current, drawn, plain, replaced, significant

from ..setup.checks import make_editor
from ..setup.config import RunConfig, make_config, read_suite
from ..setup.data import DataReader
from ..setup.resolve import ResolvedRun, resolve
from ..setup.settings import barred_tasks, get_setting, held_out, trainings_of
from .score import can_be_scored

ONE_TRAINING = ("multi-task", "hold-out", "unseen-instruction")
"""Settings that may train an editor once; the others train several of a row, whose best options could differ."""


@dataclass(frozen=True, slots=True)
class TuneOptions:
    """The options of `instructedit tune`."""

    preset: str
    rows: tuple[str, ...]
    """Rows of the preset, or names of editors."""
    budget: int
    """Number of trials of each row."""
    given: Mapping[str, Any]
    """Keys that replace those of the preset's runs."""
    tasks: tuple[str, ...] | None
    """Scored tasks; None for the factual ones of the preset that it does not hold out."""
    limit: int
    """Maximum number of scored cases of each task."""
    seed: int
    """Of drawn options and of the runs."""


@dataclass(frozen=True, slots=True)
class Search:
    """The search for the options of one row, with its editor and its resolved run of trial 0.

    `train` has the tasks that each trial trains on.
    """

    options: TuneOptions
    row: str
    editor: Editor[Any]
    base: ResolvedRun
    train: tuple[str, ...]
    notes: tuple[str, ...]
    reader: DataReader

    @property
    def counts(self) -> dict[str, int]:
        """Scored cases of each task."""
        return {task: len(cases) for task, cases in self.base.cases.items()}

    def drawn(self, trial: int) -> dict[str, Any]:
        """Return a trial's options by name; factors for ranges that are `Scaled`."""
        space = self.editor.search
        return drawn(space, self.options.seed, trial) if trial else current(self.editor.config, space)

    def shown(self, trial: int) -> str:
        """Return a trial's options as they are known without the model."""
        space = self.editor.search
        return ", ".join(
            f"{name} = {plain(value)}" + (f" x {own.unit}" if trial and isinstance(own := space[name], Scaled) else "")
            for name, value in self.drawn(trial).items()
        )

    def measured(self, trial: int, model: LanguageModel) -> dict[str, Any]:
        """Return a trial's options by name, scaled ones in the model's units; `InputError` without such a unit."""
        values = self.drawn(trial)
        scaled = [name for name, own in self.editor.search.items() if isinstance(own, Scaled)] if trial else []
        others = {name: value for name, value in values.items() if name not in scaled}
        for name in scaled:
            editor = make_editor(self.with_options(others), self.row)
            cases = [case.request for own in self.base.cases.values() for case in own]
            requests = [request for request in cases if _fits(editor, model, request)]
            values[name] = significant(values[name] * editor.unit(name, model, requests))
        return values

    def with_options(self, values: Mapping[str, Any]) -> RunConfig:
        """Return the configuration of a trial."""
        config = self.base.config
        return config.model_copy(update={"editors": {self.row: replaced(config.editors[self.row], values)}})


def plan_searches(options: TuneOptions) -> tuple[Search, ...]:
    """Resolve the options to one search per row and read the data; `InputError` if something of it cannot be used."""
    if options.budget < 1:
        raise InputError(f"--budget: found {options.budget}, expected 1 or more trials.")
    if not options.rows:
        raise InputError("--editor: found none, expected one or more rows to tune.")
    every = [run.config for run in read_suite(options.preset, options.given, seeds=(options.seed,))]
    known = list(dict.fromkeys(row for config in every for row in config.editors))
    barred = tuple(dict.fromkeys(task for config in every for task in barred_tasks(config)))
    for row in options.rows:
        if row not in known and row not in EDITORS:
            raise InputError(
                f"{options.preset}: no row '{row}', and no editor of that name."
                f"{did_you_mean(row, list({*known, *EDITORS}))}"
            )
    reader = DataReader()
    return tuple(_search(options, row, barred, reader) for row in dict.fromkeys(options.rows))


def _search(options: TuneOptions, row: str, barred: Sequence[str], reader: DataReader) -> Search:
    configs = [run.config for run in read_suite(options.preset, options.given, seeds=(options.seed,), editors=[row])]
    editor = make_editor(configs[0], row)
    if not editor.search:
        raise InputError(
            f"The editor '{editor.name}' declares no ranges in its attribute 'search', so nothing is tuned."
        )
    config, train = _trained_run(configs, row, options.preset) if editor.trains else (configs[0], ())
    tasks = options.tasks or tuple(task for task in config.tasks if task not in held_out(config)) or config.tasks
    if editor.trains:
        if wrong := [task for task in options.tasks or () if task not in train]:
            raise InputError(
                f"--task: found '{wrong[0]}', but '{row}' is scored on what it is trained on: {', '.join(train)}."
            )
        tasks = tuple(task for task in tasks if task in train)

    def trial_on(tasks: tuple[str, ...]) -> ResolvedRun:
        """Resolve trial 0: one row, single edits scored by teacher forcing, no test case."""
        trial = {
            **config.model_dump(),
            "schedule": "single",
            "edited": None,
            "at": (),
            "fluency": False,
            "generation": {"max_new_tokens": 0},
            "setting": "multi-task" if train else "direct",
            "split": "validation" if train else "train",
            "tasks": tasks,
            "train": train,
            "held_out": tuple(task for task in barred if task not in (*tasks, *train)),  # bars their subjects
            "train_limit": config.train_limit if train else None,
            "sampling": config.sampling if train else "balanced",
            "limit": options.limit,
            "editors": {row: config.editors[row]},
        }
        return resolve(make_config(trial, "command line"), options.preset, reader)

    found = trial_on(tasks)
    chosen = tuple(task for task, cases in found.cases.items() if can_be_scored(cases))
    left_out = [task for task in found.cases if task not in chosen]
    if left_out and (options.tasks or not chosen):
        raise InputError(
            f"The task '{left_out[0]}' cannot be tuned on: its cases are no facts, or lack probes of reliability, "
            "generalization or locality."
        )
    notes = (*(f"{task} is left out of the score: its cases are no facts." for task in left_out), *found.notes)
    return Search(options, row, make_editor(config, row), trial_on(chosen), train, notes, reader)


def _trained_run(configs: Sequence[RunConfig], row: str, preset: str) -> tuple[RunConfig, tuple[str, ...]]:
    for config in configs:
        if config.setting in ONE_TRAINING:
            found = trainings_of(config, lambda _: 0)  # these settings do not call for sizes
            if len(found) == 1:
                return config, found[0].train
    settings = dict.fromkeys(get_setting(config.setting).name for config in configs)
    raise InputError(
        f"{preset}: '{row}' has to be trained, but the setting {' or '.join(map(repr, settings))} trains no editor or "
        f"several; a run of {', '.join(ONE_TRAINING)} that trains it once was expected."
    )


def _fits(editor: Editor[Any], model: LanguageModel, request: EditRequest) -> bool:
    try:
        editor.encode(model, request)
    except CaseError:
        return False
    return True
