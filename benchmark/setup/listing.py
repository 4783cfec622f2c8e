"""What `instructedit list` prints."""

import textwrap
from collections.abc import Callable, Iterator

from instructedit.editors import EDITORS, InputError, did_you_mean
from instructedit.editors.registry import title_and_source

from ..tasks.base import TASKS
from .config import presets, read_suite
from .settings import SETTINGS


def rows(what: str) -> list[tuple[str, str]]:
    """Return names and one line each of the editors, tasks, presets or settings.

    Raises:
        InputError: If `what` is none of these.
    """
    if what not in _LISTS:
        raise InputError(f"Nothing to list under '{what}'.{did_you_mean(what, [*_LISTS, 'options'])}")
    return list(_LISTS[what]())


def lines(what: str | None = None, name: str | None = None, width: int | None = None) -> list[str]:
    """Return the lines of one list, or of all under headings.

    Args:
        what: See `rows`, or `options`; all but options if None.
        name: The editor whose options are listed.
        width: Columns of the screen; longer lines go on below their text. Without it they stay whole, but for options.

    Raises:
        InputError: If there is no such list, or `name` is missing or not asked for.
    """
    if what == "options":
        if name is None:
            raise InputError(f"Options of which editor? One of {', '.join(EDITORS)} was expected behind 'options'.")
        from .options import option_lines  # loads torch, where names and titles are read from the sources

        return option_lines(name, width or 80)
    if name is not None:
        raise InputError(f"'{what}' takes no further name, found '{name}'; 'options {name}' lists an editor's options.")
    if what is not None:
        return _lines(what, "", width)
    return [line for kind in _LISTS for line in ("", kind.capitalize(), *_lines(kind, "  ", width))][1:]


def _lines(what: str, front: str, width: int | None) -> list[str]:
    found = [(f"{front}{name:18} ", text) for name, text in rows(what)]
    if width is None:
        return [name + text for name, text in found]
    below = " " * (len(front) + 19)
    fold = textwrap.TextWrapper(width, subsequent_indent=below, break_long_words=False, break_on_hyphens=False)
    return [line for name, text in found for line in fold.wrap(name + text)]


def _editors() -> Iterator[tuple[str, str]]:
    for name in EDITORS:
        title, source = title_and_source(name)
        yield name, f"{title} ({source})"


def _tasks() -> Iterator[tuple[str, str]]:
    for name in TASKS:
        task = TASKS.get(name)
        rows = ", ".join(f"{split} {count:,}" for split, count in task.published_rows.items()) or "none"
        if task.test_share is not None:
            rows = f"one file, {task.test_share:.0%} of its subjects tested"
        yield name, f"{task.title}; published rows: {rows}; licence {task.licence}; {task.homepage}"


def _presets() -> Iterator[tuple[str, str]]:
    for name in presets():
        yield name, read_suite(name)[0].config.description


def _settings() -> Iterator[tuple[str, str]]:
    for name, setting in SETTINGS.items():
        yield name, setting.description


_LISTS: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "editors": _editors,
    "tasks": _tasks,
    "presets": _presets,
    "settings": _settings,
}
