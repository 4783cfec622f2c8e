"""Tables as GitHub-flavoured Markdown."""

import re

from .literal import literal
from .report import Cell, Report, Table

_RANKS = ("{}", "**{}**", "<ins>{}</ins>")
"""Markup of each rank. GitHub underlines `ins` and drops `u`."""


def render(report: Report) -> str:
    """Return a report as one Markdown page."""
    parts = [f"# {escape(report.title)}", *(f"> **{escape(warning)}**" for warning in report.warnings)]
    parts.append("\n".join(f"- {word}: {escape(value)}" for word, value in report.header))
    for block in report.blocks:
        parts += [f"## {escape(block.heading)}", *map(escape, block.text)]
        for tables, sentences in ((block.tables, block.notes), (block.comparisons, ())):
            for table in tables:
                parts += [f"### {escape(table.title)}", grid(table), *([escape(table.note)] if table.note else [])]
            if sentences:
                parts.append("\n".join(f"- {escape(sentence)}" for sentence in sentences))
    parts += ["## Notes", "\n".join(f"- {escape(note)}" for note in report.footer)]
    return "\n\n".join(parts) + "\n"


def grid(table: Table) -> str:
    """Return a table without its title."""
    heads = [table.stub, *(escape(head.replace("\n", ", ")) for head in table.heads)]
    lines = [heads, ["---", *["---:"] * len(table.heads)]]
    for number, (row, cells) in enumerate(zip(table.rows, table.cells, strict=True)):
        if table.starts_group(number):
            lines.append([f"*{escape(table.groups[number])}*", *[""] * len(table.heads)])
        lines.append([escape(row), *map(_text, cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    value = _RANKS[cell.mark.rank].format(escape(cell.value)) + ("=" if cell.mark.tied else "")
    n = "" if cell.n is None else f"n={cell.n}"
    return " ".join(filter(None, [value, cell.interval, n, escape(cell.note)]))


def escape(text: str) -> str:
    """Escape markup and show control characters; an underscore inside a word needs no escape."""
    return re.sub(r"([\\`*|<>])", r"\\\1", literal(text))
