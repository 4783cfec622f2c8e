"""What `instructedit list` prints."""

import textwrap
from collections.abc import Callable, Iterator

from instructedit.editors import EDITORS, InputError, did_you_mean

from .config import presets, read_suite
from .settings import SETTINGS
from .tasks.base import TASKS


def rows(what: str) -> list[tuple[str, str]]:
    """Return names and one line each of the editors, tasks, presets or settings.

    Raises:
        InputError: If `what` is none of these.
    """
    if what not in LISTS:
        raise InputError(f"Nothing to list under '{what}'.{did_you_mean(what, list(LISTS))}")
    return list(LISTS[what]())


def entry(name: str, text: str, front: str = "", width: int | None = None) -> str:
    """Return the line of a name; on a screen of so many columns it goes on below its text."""
    line = f"{front}{name:18} {text}"
    if width is None:
        return line
    below = " " * (len(line) - len(text))
    return textwrap.fill(line, width, subsequent_indent=below, break_long_words=False, break_on_hyphens=False)


def _editors() -> Iterator[tuple[str, str]]:
    for name in EDITORS:
        title, source = EDITORS.texts(name, ("title", "source"))
        yield name, f"{title} ({source})"


def _tasks() -> Iterator[tuple[str, str]]:
    for name in TASKS:
        task = TASKS.get(name)
        rows = ", ".join(f"{split} {count:,}" for split, count in task.published_rows.items()) or "none"
        yield name, f"{task.title}; published rows: {rows}; licence {task.licence}; {task.homepage}"


def _presets() -> Iterator[tuple[str, str]]:
    for name in presets():
        yield name, read_suite(name)[0].config.description


def _settings() -> Iterator[tuple[str, str]]:
    for name, setting in SETTINGS.items():
        yield name, setting.description


LISTS: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "editors": _editors,
    "tasks": _tasks,
    "presets": _presets,
    "settings": _settings,
}
"""What makes the names and lines of each list."""
