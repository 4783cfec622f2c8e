"""Titles of rows, tasks and models, as a paper writes them, in place of the names by which they are registered."""

from pathlib import PurePath

from instructedit.benchmark.results.records import RunFile


def task_title(run: RunFile, task: str) -> str:
    """Return the title of a task, e.g. `CounterFact`; its name where the run does not have one."""
    return run.titles.get(task, task)


def row_title(run: RunFile, row: str) -> str:
    """Return the title of a row: that of its method, with what the row's name adds to the method's in brackets."""
    method = next((editor.method for editor in run.spec.editors if editor.name == row), row)
    title = run.titles.get(method, method)
    if row == method:
        return title
    rest = row.removeprefix(method)
    if rest == row:
        return row
    return f"{title} ({rest[1:].replace('-', ' ')})" if rest.startswith("-") else f"{title}{rest}"


def short_model(name: str) -> str:
    """Return the name of a model; of a folder the last part."""
    path = PurePath(name)
    if name == "embedded":
        return "Embedded model"
    return path.name if path.is_absolute() or name.startswith(".") else name


def model_title(run: RunFile) -> str:
    """Return the name of a run's model with its type and size."""
    origin = run.provenance
    return f"{short_model(origin.model)} ({origin.model_type}, {origin.parameters / 1e6:,.1f} M parameters)"
