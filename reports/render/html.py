"""Templates that escape everything, texts from results as markup, and a report as one HTML page.

The page has no scripts and no external files; it is light or dark as the reader's system is.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from .literal import CONTROL, code
from .report import Report


def render(report: Report) -> str:
    """Return a report as one page; all text is escaped."""
    return environment(Path(__file__).parent / "templates").get_template("page.html").render(report=report)


def shown(text: str) -> Markup:
    """Return a text as markup that shows it literally, isolated from the direction of the text around it.

    A control character is shown by its code; `shown` of `assets/data.js` does the same.
    """
    parts = (
        Markup('<span class="control">{}</span>').format(code(part)) if CONTROL.fullmatch(part) else escape(part)
        for part in re.split(f"({CONTROL.pattern})", text)
    )
    return Markup("<bdi>{}</bdi>").format(Markup("").join(parts))


def environment(*folders: Path, **filters: Callable[..., Any]) -> Environment:
    """Return the templates of folders, of the first that has one of a name, with `shown` and further filters."""
    templates = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters.update(shown=shown, **filters)
    return templates
