"""Tables as GitHub-flavoured Markdown."""

import re

from .tables import Cell, Report, Table

_RANKS = ("{}", "**{}**", "<ins>{}</ins>")
"""Of a rank; GitHub shows `ins` underlined, and lets `u` not pass."""


def render(report: Report) -> str:
    """Return a report as one Markdown page."""
    parts = [f"# {_escape(report.title)}", *(f"> **{_escape(warning)}**" for warning in report.warnings)]
    parts.append("\n".join(f"- {word}: {_escape(value)}" for word, value in report.header))
    for block in report.blocks:
        parts += [f"## {_escape(block.heading)}", *map(_escape, block.text)]
        for tables, sentences in ((block.tables, block.notes), (block.comparisons, ())):
            for table in tables:
                parts += [f"### {_escape(table.title)}", _grid(table)]
            if sentences:
                parts.append("\n".join(f"- {_escape(sentence)}" for sentence in sentences))
    parts += ["## Notes", "\n".join(f"- {_escape(note)}" for note in report.footer)]
    return "\n\n".join(parts) + "\n"


def _grid(table: Table) -> str:
    heads = [table.stub, *(_escape(head.replace("\n", ", ")) for head in table.heads)]
    lines = [heads, ["---", *["---:"] * len(table.heads)]]
    group = ""
    for number, (row, cells) in enumerate(zip(table.rows, table.cells, strict=True)):
        if table.groups and table.groups[number] != group:
            group = table.groups[number]
            lines.append([f"*{_escape(group)}*", *[""] * len(table.heads)])
        lines.append([_escape(row), *map(_text, cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    value = _RANKS[cell.mark.rank].format(_escape(cell.value)) + ("=" if cell.mark.tied else "")
    n = "" if cell.n is None else f"n={cell.n}"
    return " ".join(filter(None, [value, cell.interval, n, _escape(cell.note)]))


def _escape(text: str) -> str:
    """Keep a name from being read as markup; an underscore inside a word is none."""
    return re.sub(r"([\\`*|<>])", r"\\\1", text)
