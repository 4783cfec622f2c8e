"""The form of a row: which texts carry the instruction, and how the row departs from the published form.

Editors were published under different protocols. InstructEdit's script puts the instruction before the edit and before
the questions of reliability, generalization and portability; all other editors had bare questions (EasyEdit,
`test_InstructEdit.py`). A row of another form is a control: it answers another question than the published number, so
it gives no verdict on that number.
"""

from collections.abc import Callable

from .records import EditorSpec, RunSpec

OURS = "instructedit"
"""The method that reads an instruction."""
PUBLISHED_OPTIONS = {"convsent": {"edit": "all replies"}}
"""Options of tasks under which the published numbers were made."""
_PROBES = {
    "none": "bare probes",
    "all but locality": "instruction on the probes",
    "all": "instruction on the probes, locality included",
}
_WITH_EDIT = {
    "none": "instruction on the edit only",
    "all but locality": "instruction on edit and probes",
    "all": "instruction on edit and probes, locality included",
}
_TRAINED = {"edit only": "none", "edit and queries": "all but locality", "all": "all"}
"""Which probes of InstructEdit's training carry the instruction, by its option `instruct`."""


def form(row: EditorSpec) -> str:
    """Return in words which texts of a row carry the instruction."""
    if row.method != OURS:
        return _PROBES[row.instructed_probes]
    trained = _TRAINED.get(row.config.get("instruct", ""), row.instructed_probes)
    learnt = "" if trained == row.instructed_probes else f", trained with the {_WITH_EDIT[trained]}"
    return _WITH_EDIT[row.instructed_probes] + learnt


def _instruction(_run: RunSpec, row: EditorSpec, _task: str) -> str | None:
    """InstructEdit trains and is probed with the instruction, except locality; all other editors have bare probes."""
    published = _WITH_EDIT["all but locality"] if row.method == OURS else _PROBES["none"]
    return None if (words := form(row)) == published else words


def _condition(_run: RunSpec, row: EditorSpec, _task: str) -> str | None:
    """InstructEdit was published under descriptions of the task, seen or unseen, not under a control."""
    name = row.instruction or "seen"
    described = name == "unseen" or name.partition("-")[0] == "seen"
    return None if row.method != OURS or described else f"instruction '{name}'"


def _task_options(run: RunSpec, _row: EditorSpec, task: str) -> str | None:
    """Return the options of the task that are not the published ones; a run that does not record them departs too."""
    published = PUBLISHED_OPTIONS.get(task, {})
    found = run.task_options.get(task, {})
    other = [
        f"{key} = {found.get(key, 'not recorded')} (published: {value})"
        for key, value in published.items()
        if found.get(key) != value
    ]
    return f"{task} with {', '.join(other)}" if other else None


def trained_for(row: EditorSpec) -> int:
    """Return the number of requests of one edit that a trained row saw in training."""
    training = row.config.get("training")
    return int(training.get("together", 1)) if isinstance(training, dict) else 1


def _edit_size(run: RunSpec, row: EditorSpec, _task: str) -> str | None:
    """MEND and InstructEdit were trained for as many requests an edit as they were tested with."""
    if row.training is None or run.schedule == "sequential":
        return None
    tested = 1 if run.schedule == "single" else run.batch_size
    if trained_for(row) == tested:
        return None
    return f"trained for edits of {trained_for(row)}, tested with {'one edit of all' if tested is None else tested}"


REASONS: tuple[Callable[[RunSpec, EditorSpec, str], str | None], ...] = (
    _instruction,
    _condition,
    _task_options,
    _edit_size,
)
"""In what a row may depart from the published form. Each gets run, row and task, and returns a few words or None."""


def departures(run: RunSpec, row: EditorSpec, task: str) -> tuple[str, ...]:
    """Return in what a row's form on a task is not the published one; empty where it is."""
    return tuple(words for reason in REASONS if (words := reason(run, row, task)) is not None)
