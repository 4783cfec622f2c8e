"""What a search over an editor's options is asked for, and what it resolves to before a model is loaded.

An editor that is not trained is scored on the training split, without the subjects that any run of the preset tests. A
trained one is trained on its training part, as in the preset, and scored on its validation part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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

from ..results.records import Split
from ..setup.config import RunConfig, make_config, read_suite
from ..setup.resolve import make_editor, outline
from ..setup.settings import arms, barred_tasks, get_setting, held_out
from .score import suits

ONE_TRAINING = ("multi-task", "hold-out", "unseen-instruction")
"""Settings that may train an editor once; the others train several of a row, whose options could differ."""
SINGLE_RUN: dict[str, Any] = {
    "schedule": "single",
    "edited": None,
    "at": (),
    "fluency": False,
    "generation": {"max_new_tokens": 0},
}
"""What a trial does not need to know of a preset: it scores single edits by teacher forcing."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a search is asked for.

    Attributes:
        preset: Preset, or path of a TOML file.
        rows: Rows of it, or names of editors.
        budget: Number of trials of each row.
        given: Keys that replace those of the preset's runs (`model`, `data`).
        tasks: Scored tasks; None for the factual ones of the preset that it does not hold out.
        limit: Maximum number of scored cases of each task.
        seed: Seed of drawn options and of the runs.
    """

    preset: str
    rows: tuple[str, ...]
    budget: int
    given: Mapping[str, Any]
    tasks: tuple[str, ...] | None
    limit: int
    seed: int


@dataclass(frozen=True)
class Search:
    """The search for one row.

    Attributes:
        wanted: What was asked for.
        row: Name of the row.
        config: Configuration of trial 0.
        train: Tasks that each trial trains on.
        requests: Requests of the scored cases.
        counts: Scored cases of each task.
        data: Per task: sha256 by file.
        notes: Sentences for the user.
    """

    wanted: Wanted
    row: str
    config: RunConfig
    train: tuple[str, ...]
    requests: tuple[EditRequest, ...]
    counts: Mapping[str, int]
    data: Mapping[str, Mapping[str, str]]
    notes: tuple[str, ...]

    @cached_property
    def editor(self) -> Editor[Any]:
        """The row's editor before the search."""
        return make_editor(self.config, self.row)

    def drawn(self, trial: int) -> dict[str, Any]:
        """Return a trial's options by name; factors for ranges that are `Scaled`."""
        space = self.editor.search
        return drawn(space, self.wanted.seed, trial) if trial else current(self.editor.config, space)

    def shown(self, trial: int) -> str:
        """Return a trial's options as they are known without the model."""
        space = self.editor.search
        return ", ".join(
            f"{name} = {plain(value)}" + (f" x {own.unit}" if trial and isinstance(own := space[name], Scaled) else "")
            for name, value in self.drawn(trial).items()
        )

    def options(self, trial: int, model: LanguageModel) -> dict[str, Any]:
        """Return a trial's options by name, with scaled ones in the units of the model.

        Raises:
            InputError: If a unit cannot be measured.
        """
        values = self.drawn(trial)
        scaled = [name for name, own in self.editor.search.items() if isinstance(own, Scaled)] if trial else []
        others = {name: value for name, value in values.items() if name not in scaled}
        for name in scaled:
            editor = make_editor(self.with_options(others), self.row)
            requests = [request for request in self.requests if _fits(editor, model, request)]
            values[name] = significant(values[name] * editor.unit(name, model, requests))
        return values

    def with_options(self, values: Mapping[str, Any]) -> RunConfig:
        """Return the configuration of a trial."""
        rows = {self.row: replaced(self.config.editors[self.row], values)}
        return self.config.model_copy(update={"editors": rows})


def searches(wanted: Wanted) -> tuple[Search, ...]:
    """Resolve what is asked for and read the data; no model is loaded.

    Raises:
        InputError: If the budget, a row, an option, a task or the setting cannot be used.
    """
    if wanted.budget < 1:
        raise InputError(f"--budget: found {wanted.budget}, expected 1 or more trials.")
    if not wanted.rows:
        raise InputError("--editor: found none, expected one or more rows to tune.")
    every = [run.config for run in read_suite(wanted.preset, wanted.given, seeds=(wanted.seed,))]
    known = list(dict.fromkeys(row for config in every for row in config.editors))
    barred = tuple(dict.fromkeys(task for config in every for task in barred_tasks(config)))
    for row in wanted.rows:
        if row not in known and row not in EDITORS:
            raise InputError(
                f"{wanted.preset}: no row '{row}', and no editor of that name."
                f"{did_you_mean(row, list({*known, *EDITORS}))}"
            )
    return tuple(_search(wanted, row, barred) for row in dict.fromkeys(wanted.rows))


def _search(wanted: Wanted, row: str, barred: Sequence[str]) -> Search:
    configs = [run.config for run in read_suite(wanted.preset, wanted.given, seeds=(wanted.seed,), editors=[row])]
    kind = type(make_editor(configs[0], row))
    if not kind.search:
        raise InputError(f"The editor '{kind.name}' declares no ranges in its attribute 'search', so nothing is tuned.")
    split: Split = "validation" if kind.trains else "train"
    base, train = _trained(configs, row, wanted.preset) if kind.trains else (configs[0], ())
    tasks = wanted.tasks or tuple(task for task in base.tasks if task not in held_out(base)) or base.tasks
    if kind.trains:
        if wrong := [task for task in wanted.tasks or () if task not in train]:
            raise InputError(
                f"--task: found '{wrong[0]}', but '{row}' is scored on what it is trained on: {', '.join(train)}."
            )
        tasks = tuple(task for task in tasks if task in train)

    def narrowed(tasks: tuple[str, ...]) -> RunConfig:
        options = {
            **base.model_dump(),
            **SINGLE_RUN,
            "setting": "multi-task" if kind.trains else "direct",
            "split": split,
            "tasks": tasks,
            "train": train,
            "held_out": tuple(task for task in barred if task not in (*tasks, *train)),  # their subjects stay unseen
            "train_limit": base.train_limit if kind.trains else None,
            "sampling": base.sampling if kind.trains else "balanced",
            "limit": wanted.limit,
            "editors": {row: base.editors[row]},
        }
        return make_config(options, "command line")

    found = outline(narrowed(tasks), wanted.preset)
    chosen = tuple(task for task, cases in found.cases.items() if suits(cases))
    left = [task for task in found.cases if task not in chosen]
    if left and (wanted.tasks or not chosen):
        raise InputError(
            f"The task '{left[0]}' cannot be tuned on: its cases are no facts, or lack probes of reliability, "
            "generalization or locality."
        )
    cases = {task: found.cases[task] for task in chosen}
    return Search(
        wanted=wanted,
        row=row,
        config=narrowed(chosen),
        train=train,
        requests=tuple(case.request for own in cases.values() for case in own),
        counts={task: len(own) for task, own in cases.items()},
        data={entry.task: entry.sha256 for entry in found.data if entry.task in chosen},
        notes=(*(f"{task} is left out of the score: its cases are no facts." for task in left), *found.notes),
    )


def _trained(configs: Sequence[RunConfig], row: str, preset: str) -> tuple[RunConfig, tuple[str, ...]]:
    """Return the first run that trains the row once, and the tasks that it trains on."""
    for config in configs:
        if config.setting in ONE_TRAINING:
            found = arms(config, lambda _: 0)  # these settings do not ask for sizes
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
