"""Tables as one HTML page that has nothing to fetch and no script; light or dark as the reader's system is."""

from collections.abc import Iterator
from html import escape

from .table import Cell, Report, Table

_STYLE = """
:root { color-scheme: light dark; --line: #c4c8ce; --dim: #59606b; --warn: #9b1c1c; --ground: #fff; --ink: #1c1f24 }
@media (prefers-color-scheme: dark) {
  :root { --line: #444a54; --dim: #a3abb8; --warn: #ff9d94; --ground: #16181d; --ink: #e4e7ec }
}
body { margin: 2rem auto; max-width: 78rem; padding: 0 1rem; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif }
h1, h2 { line-height: 1.25 }
h2 { margin-top: 2.5rem }
.warning { color: var(--warn); font-weight: 600 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .9em }
dt { font-weight: 600 }
dd { margin: 0; overflow-wrap: anywhere }
.wide { overflow-x: auto; margin: 1.2rem 0 }
table { border-collapse: collapse; border-block: 2px solid currentColor; font-variant-numeric: tabular-nums }
caption { text-align: left; font-style: italic; padding-bottom: .4rem }
th, td { padding: .25rem .8rem .25rem 0; text-align: right; vertical-align: top; white-space: nowrap; font-weight: 400 }
th[scope=row], thead th:first-child, th[scope=rowgroup] { text-align: left }
thead th { border-bottom: 1px solid currentColor; font-weight: 600; vertical-align: bottom }
th[scope=rowgroup] { font-style: italic; padding-top: .5rem }
tbody + tbody { border-top: 1px solid var(--line) }
strong { font-weight: 700 }
td { position: relative }
.tie { position: absolute }
u { text-underline-offset: .2em }
small, footer { color: var(--dim) }
small { font-size: .85em }
footer { margin-top: 2.5rem; font-size: .85em }
"""


def render(report: Report) -> str:
    """Return a report as one page; all text is escaped."""
    lines = [
        "<!doctype html>",
        '<html lang="en">',
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(report.title)}</title>",
        f"<style>{_STYLE}</style>",
        f"<h1>{escape(report.title)}</h1>",
        *(f'<p class="warning">{escape(warning)}</p>' for warning in report.warnings),
        "<dl>",
        *(f"<dt>{escape(word)}</dt><dd>{escape(value)}</dd>" for word, value in report.header),
        "</dl>",
    ]
    for block in report.blocks:
        lines += [f"<section><h2>{escape(block.heading)}</h2>", *(f"<p>{escape(text)}</p>" for text in block.text)]
        for tables, sentences in ((block.tables, block.notes), (block.comparisons, ())):
            for table in tables:
                lines += _table(table)
            lines += (f"<p>{escape(text)}</p>" for text in sentences)
        lines.append("</section>")
    lines += ["<footer>", *(f"<p>{escape(note)}</p>" for note in report.footer), "</footer>", "</html>"]
    return "\n".join(lines) + "\n"


def _table(table: Table) -> Iterator[str]:
    yield f'<div class="wide" tabindex="0"><table><caption>{escape(table.title)}</caption>'
    heads = "".join(f'<th scope="col">{_broken(head)}</th>' for head in (table.stub, *table.heads))
    yield f"<thead><tr>{heads}</tr></thead>"
    yield "<tbody>"
    group = ""
    for number, (row, cells) in enumerate(zip(table.rows, table.cells, strict=True)):
        if table.groups and table.groups[number] != group:
            group = table.groups[number]
            if number:
                yield "</tbody><tbody>"
            yield f'<tr><th scope="rowgroup" colspan="{len(table.heads) + 1}">{escape(group)}</th></tr>'
        yield f'<tr><th scope="row">{escape(row)}</th>{"".join(map(_cell, cells))}</tr>'
    yield "</tbody></table></div>"
    if table.note:
        yield f"<p><small>{escape(table.note)}</small></p>"


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "<td>-</td>"
    tag = ("", "strong", "u")[cell.mark.rank]
    value = f"<{tag}>{escape(cell.value)}</{tag}>" if tag else escape(cell.value)
    if cell.mark.tied:
        value += '<span class="tie">=</span>'
    # Read out, or hovered over: what bold, underlined and the sign stand for.
    title = f' title="{cell.mark.word}"' if cell.mark.rank else ""
    beside = " ".join(filter(None, (cell.interval, "" if cell.n is None else f"n={cell.n}")))
    small = "".join(f"<br><small>{escape(text)}</small>" for text in (beside, cell.note) if text)
    return f"<td{title}>{value}{small}</td>"


def _broken(head: str) -> str:
    first, line_end, second = head.partition("\n")
    return escape(first) + (f"<br><small>{escape(second)}</small>" if line_end else "")
