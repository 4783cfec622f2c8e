"""Tables as one HTML page without scripts or external files; light or dark as the reader's system is."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from .report import Report


@cache
def _template() -> Template:
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    pages = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return pages.get_template("page.html")


def render(report: Report) -> str:
    """Return a report as one page; all text is escaped."""
    return _template().render(report=report)
