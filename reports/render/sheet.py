"""A report together with the records behind it, in the format that is asked for."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from instructedit.editors.errors import InputError
from instructedit.editors.files.atomic import write_whole

from . import html, latex, markdown, terminal
from .table import Report


@dataclass(frozen=True, slots=True)
class Sheet:
    """Tables as a reader sees them, and their numbers with all digits and keys.

    Attributes:
        report: The tables.
        records: One record for each number, all with the same keys; what CSV and JSON hold.
    """

    report: Report
    records: tuple[dict[str, Any], ...]


def _csv(sheet: Sheet) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, sheet.records[0], lineterminator="\n")
    writer.writeheader()
    for record in sheet.records:
        lists = {key: " ".join(map(str, value)) for key, value in record.items() if isinstance(value, tuple)}
        writer.writerow(record | lists)
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
    "csv": _csv,
    "json": _json,
    "html": lambda sheet: html.render(sheet.report),
    "latex": lambda sheet: latex.render(sheet.report),
}
"""Formats besides `terminal`."""


def write(sheet: Sheet, name: str, out: Path | None, console: Console) -> None:
    """Print a sheet, or write it to a file. The same sheet gives the same bytes every time.

    Args:
        sheet: What to write; it has at least one record.
        name: `terminal` or a key of `FORMATS`.
        out: File to write; None prints.
        console: Where to print.

    Raises:
        InputError: If there is no such format, `terminal` is to go into a file, or the file cannot be written.
    """
    if name not in ("terminal", *FORMATS):
        raise InputError(f"--format: '{name}' is not known; one of terminal, {', '.join(FORMATS)} was expected.")
    if name == "terminal":
        if out is not None:
            raise InputError(f"--out {out}: a file needs --format {', '.join(FORMATS)}; 'terminal' only prints.")
        terminal.draw(sheet.report, console)
        return
    text = FORMATS[name](sheet)
    if out is None:
        console.file.write(text)
        return
    try:
        write_whole(out, text)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); a file in a folder was expected.") from error
