"""One sheet in any format: on the terminal, as Markdown, CSV, JSON, HTML or LaTeX."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from instructedit.editors.errors import InputError
from instructedit.editors.files.atomic import write_whole

from . import html, latex, markdown, terminal
from .literal import literal
from .report import Sheet


def csv_text(records: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> str:
    """Return records as CSV with the given columns; numbers keep all digits, tuples are joined by spaces."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for record in records:
        joined = {key: " ".join(map(str, value)) for key, value in record.items() if isinstance(value, tuple)}
        texts = {key: literal(value) for key, value in record.items() if isinstance(value, str)}
        writer.writerow({**record, **joined, **texts})
    return text.getvalue()


def _json(sheet: Sheet) -> str:
    report = sheet.report
    page = {
        "title": report.title,
        "warnings": report.warnings,
        "header": report.header,
        "text": [sentence for block in report.blocks for sentence in block.text],
        "health": [f"{block.heading}: {sentence}" for block in report.blocks for sentence in block.notes],
        "notes": report.footer,
        "records": sheet.records,
    }
    return json.dumps(page, ensure_ascii=False, indent=1) + "\n"


FORMATS: dict[str, Callable[[Sheet], str]] = {
    "markdown": lambda sheet: markdown.render(sheet.report),
    "csv": lambda sheet: csv_text(sheet.records, list(sheet.records[0])),
    "json": _json,
    "html": lambda sheet: html.render(sheet.report),
    "latex": lambda sheet: latex.render(sheet.report),
}
"""Formats of files; `terminal` is not one of them."""


def write(sheet: Sheet, name: str, out: Path | None, console: Console) -> None:
    """Print a sheet, or write it to a file. The same sheet gives the same bytes.

    Args:
        sheet: What to write; it has at least one record.
        name: `terminal` or a key of `FORMATS`.
        out: File to write; None prints.
        console: Where to print.

    Raises:
        InputError: If the format is unknown, `terminal` is given with a file, or the file cannot be written.
    """
    if name not in ("terminal", *FORMATS):
        raise InputError(f"--format: '{name}' is not known; expected one of terminal, {', '.join(FORMATS)}.")
    if name == "terminal":
        if out is not None:
            raise InputError(f"--out {out}: a file needs --format {', '.join(FORMATS)}; 'terminal' only prints.")
        terminal.draw(sheet.report, console)
    elif out is None:
        console.file.write(FORMATS[name](sheet))
    else:
        write_text(out, FORMATS[name](sheet))


def write_text(path: Path, text: str, *, folder: bool = False) -> Path:
    """Write a file, and make its folder if asked to.

    Raises:
        InputError: If it cannot be written.
    """
    try:
        if folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        return write_whole(path, text)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); expected a file in a folder.") from error
