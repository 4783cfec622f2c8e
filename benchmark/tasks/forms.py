"""In what the form of a task departs from the published one, so that no verdict on published numbers follows."""

from ..results import EditorSpec, RunSpec
from .base import TASKS


def task_form(run: RunSpec, _row: EditorSpec, task: str) -> str | None:
    """Return in a few words which options of a task are not the published ones; None where all are.

    A run of an older version says nothing of options and counts as a departure.
    """
    published = TASKS.get(task).published_options if task in TASKS else {}
    found = run.task_options.get(task, {})
    other = [
        f"{key} = {found.get(key, 'not recorded')} (published: {value})"
        for key, value in published.items()
        if found.get(key) != value
    ]
    return f"{task} with {', '.join(other)}" if other else None
