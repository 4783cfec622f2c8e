"""From a results folder to its tables: on the terminal, or as files beside the results."""

from pathlib import Path

from rich.console import Console

from instructedit.benchmark.results.guard import read_suite_summary
from instructedit.editors.errors import InputError
from instructedit.editors.files.atomic import write_whole

from ..render import latex, markdown, terminal
from ..render.table import build
from . import longform
from .load import load
from .suite_tables import build_suite


def write_report(directory: Path) -> list[Path]:
    """Write `report/table.md`, `table.csv` and `table.tex` into a results folder and return their paths.

    The same results give the same bytes every time.

    Raises:
        InputError: If the folder holds no readable results, or its `report/` cannot be written.
    """
    run, summary = load(directory)
    report = build(run, summary)
    texts = {
        "table.md": markdown.render(report),
        "table.csv": longform.render(run, summary),
        "table.tex": latex.render(report),
    }
    return _write(directory / "report", texts)


def write_suite(path: Path) -> list[Path]:
    """Write `suite.md`, `suite.csv` and `suite.tex` beside the `suite.json` they are made from and return their paths.

    Raises:
        InputError: If it cannot be read, or they cannot be written.
    """
    summary = read_suite_summary(path)
    report = build_suite(summary)
    texts = {
        "suite.md": markdown.render(report),
        "suite.csv": longform.render_suite(summary),
        "suite.tex": latex.render(report),
    }
    return _write(path.parent, texts)


def _write(folder: Path, texts: dict[str, str]) -> list[Path]:
    try:
        folder.mkdir(exist_ok=True)
        for name, text in texts.items():
            write_whole(folder / name, text)
    except OSError as error:
        raise InputError(
            f"{error.filename}: the report cannot be written ({error.strerror}); {folder} has to be a folder whose "
            "files may be changed."
        ) from error
    return [folder / name for name in texts]


def render_terminal(directory: Path, console: Console) -> None:
    """Print the tables of a results folder.

    Raises:
        InputError: If the folder holds no readable results.
    """
    terminal.draw(build(*load(directory)), console)


def render_suite(path: Path, console: Console) -> None:
    """Print the tables of a `suite.json`.

    Raises:
        InputError: If it cannot be read.
    """
    terminal.draw(build_suite(read_suite_summary(path)), console)
