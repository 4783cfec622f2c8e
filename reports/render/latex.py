r"""Tables as LaTeX, for `\input{table}`; needs the packages booktabs and graphicx."""

import re
from collections.abc import Iterator, Sequence

from .literal import literal
from .report import Cell, Report, Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",
    "†": r"\dag{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}

_SHRINK = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""Shrinks a tabular that is wider than the line."""

_RANKS = ("{}", r"\mathbf{{{}}}", r"\underline{{{}}}")
"""Markup of each rank, in math mode."""

_PAGE = 50
"""Maximum number of table lines in a float; LaTeX cuts off what is longer than a page."""
_HEAD = 5
"""Lines of a table that are not rows."""

_WIDE = 100
"""Characters of a row beyond which intervals go below their numbers; the table would become too small to read."""

_HELD = 12
"""Number of floats after which a page is forced out; LaTeX queues only a few."""


def render(report: Report) -> str:
    """Return a report as floats, for each block its scores and then its comparisons, followed by the notes."""
    lines = [f"% {report.title}. Needs \\usepackage{{booktabs,graphicx}}."]
    lines += [rf"\par\noindent\textbf{{{escape(warning)}}}" for warning in report.warnings]
    count = 0
    for block in report.blocks:
        for style, sentences in (("textbf", block.text), ("textit", block.notes)):
            if sentences:
                heading = rf"\medskip\noindent\{style}{{{escape(block.heading)}}}\par"
                lines += ["", heading, *_loose(sentences)]
        for tables in (*_pages(block.tables), *_pages(block.comparisons)):
            # Every caption repeats the warning: floats move apart.
            caption = [f"{block.heading}, {report.title[0].lower()}{report.title[1:]}.", *report.warnings]
            lines += ["", *floated(" ".join(caption), tables)]
            count += 1
            lines += [r"\clearpage"] * (count % _HELD == 0)
    notes = [f"{word}: {value}." for word, value in report.header] + list(report.footer)
    lines += ["", r"{\footnotesize\setlength{\parindent}{0pt}", *_loose(notes), "}"]
    return "\n".join(lines) + "\n"


def _loose(sentences: Sequence[str]) -> list[str]:
    """Return paragraphs with loose spacing; a long name without a break would pass the margin."""
    return [r"{\sloppy", *(rf"{escape(sentence)}\par" for sentence in sentences), "}"]


def _pages(tables: Sequence[Table]) -> Iterator[list[Table]]:
    """Yield the tables of each page; a table that is longer than a page is split."""
    page: list[Table] = []
    for piece in (piece for table in tables for piece in _pieces(table)):
        if page and sum(sum(_lines(other)) + _HEAD for other in (*page, piece)) > _PAGE:
            yield page
            page = []
        page.append(piece)
    if page:
        yield page


def _pieces(table: Table) -> Iterator[Table]:
    """Yield the table in pieces that fit a page."""
    start, taken = 0, 0.0
    for row, lines in enumerate(_lines(table)):
        if taken and taken + lines > _PAGE - _HEAD:
            yield table.part(rows=slice(start, row))
            start, taken = row, 0.0
        taken += lines
    yield table.part(rows=slice(start, None))


def _lines(table: Table) -> list[float]:
    """Return how many lines each row takes, including the head of its group; a small line counts half."""
    return [(1.5 if _is_wide(table) else 1.0) + table.starts_group(row) for row in range(len(table.rows))]


def _is_wide(table: Table) -> bool:
    """Tell whether the longest cells of a row are wider than the page."""
    words = (
        max(
            (len(f"{cell.value} {cell.interval} {cell.note}") + (8 if cell.n else 0) for cell in column if cell),
            default=0,
        )
        for column in zip(*table.cells, strict=True)
    )
    return max(map(len, table.rows), default=0) + sum(words) > _WIDE


def floated(caption: str, tables: Sequence[Table], label: str = "") -> list[str]:
    """Return the lines of a float of some tables, each with its title above and its note below."""
    lines = [r"\begin{table}[tp]", r"\centering\footnotesize", rf"\caption{{{escape(caption)}}}"]
    lines += [rf"\label{{{label}}}"] if label else []
    for table in tables:
        lines += [rf"\par\medskip\textit{{{escape(table.title)}}}\par\smallskip"] if table.title else []
        lines += _tabular(table)
        lines += [rf"\par\smallskip{{\scriptsize {escape(table.note)}}}"] if table.note else []
    return [*lines, r"\end{table}"]


def _tabular(table: Table) -> list[str]:
    """Return the lines of a table; intervals are columns of their own, or below the numbers in a wide table."""
    wide = _is_wide(table)
    spans = [1 if wide or not any(map(_rest, column)) else 2 for column in zip(*table.cells, strict=True)]
    tops, ends = zip(*(head.partition("\n")[::2] for head in table.heads), strict=True)
    narrow = [r"\setlength{\tabcolsep}{4pt}"] if wide else []
    form = "".join(("r", "r@{~}l")[span - 1] for span in spans)
    lines = [*narrow, _SHRINK, rf"\begin{{tabular}}{{l{form}}}", r"\toprule"]
    lines.append(_row([escape(table.stub), *map(_head, spans, map(escape, tops))]))
    if any(ends):
        lines.append(_row(["", *map(_head, spans, (f"${end}$" if end else "" for end in ends))]))
    lines.append(r"\midrule")
    for number, (row, cells) in enumerate(zip(table.rows, table.cells, strict=True)):
        if table.starts_group(number):
            lines += [r"\midrule"] * bool(number)
            group = escape(table.groups[number])
            lines.append(rf"\multicolumn{{{sum(spans) + 1}}}{{l}}{{\textit{{{group}}}}} \\")
        shown = (_cell(cell, span, wide=wide) for cell, span in zip(cells, spans, strict=True))
        lines.append(_row([escape(row), *shown]))
    return [*lines, r"\bottomrule", r"\end{tabular}}"]


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _head(span: int, text: str) -> str:
    return text if span == 1 else rf"\multicolumn{{{span}}}{{c}}{{{text}}}"


def _cell(cell: Cell | None, span: int, *, wide: bool) -> str:
    if cell is None:
        return "--" + " &" * (span - 1)
    value = escape(cell.value)
    if re.fullmatch(r"[+-]?\d+(\.\d+)?", cell.value):  # in math mode, for the minus sign
        value = f"${_RANKS[cell.mark.rank].format(cell.value)}{'^{=}' * cell.mark.tied}$"
    rest = _rest(cell)
    if wide and rest:
        lines = "".join(rf"\\[-2pt]{{\tiny {line}}}" for line in rest)
        return rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{value}{lines}\end{{tabular}}"
    return " & ".join([value, " ".join(rest)][:span])


def _rest(cell: Cell | None) -> list[str]:
    """Return what a cell has apart from its number: interval, or the words that replace it, and n; then its note."""
    if cell is None:
        return []
    ends = f"${cell.interval}$" if cell.interval.startswith("[") else escape(cell.interval)
    numbers = " ".join(filter(None, (ends, "" if cell.n is None else f"$(n={cell.n})$")))
    return [text for text in (numbers, escape(cell.note)) if text]


def escape(text: str) -> str:
    """Return a text with its special characters escaped and its opening quotes as such."""
    escaped = re.sub("|".join(map(re.escape, _SPECIAL)), lambda found: _SPECIAL[found.group()], literal(text))
    return re.sub(r"(?<![^\s(])'", "`", escaped)
