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
            lines += ["", *_float(block.heading, tables, report)]
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


def _float(heading: str, tables: Sequence[Table], report: Report) -> list[str]:
    # Every caption repeats the warning: floats move apart.
    caption = " ".join([f"{heading}, {report.title[0].lower()}{report.title[1:]}.", *report.warnings])
    lines = [r"\begin{table}[tp]", r"\centering\footnotesize", rf"\caption{{{escape(caption)}}}"]
    for table in tables:
        lines += [rf"\par\medskip\textit{{{escape(table.title)}}}\par\smallskip", *_tabular(table)]
        lines += [rf"\par\smallskip{{\scriptsize {escape(table.note)}}}"] if table.note else []
    return [*lines, r"\end{table}"]


def _tabular(table: Table) -> list[str]:
    tops, ends = zip(*(head.partition("\n")[::2] for head in table.heads), strict=True)
    narrow = [r"\setlength{\tabcolsep}{4pt}"] if _is_wide(table) else []
    lines = [*narrow, _SHRINK, rf"\begin{{tabular}}{{l{'r' * len(table.heads)}}}", r"\toprule"]
    lines.append(_row([escape(table.stub), *map(escape, tops)]))
    if any(ends):
        lines.append(_row(["", *(f"${end}$" if end else "" for end in ends)]))
    lines.append(r"\midrule")
    for number, (row, cells) in enumerate(zip(table.rows, table.cells, strict=True)):
        if table.starts_group(number):
            lines += [r"\midrule"] * bool(number)
            group = escape(table.groups[number])
            lines.append(rf"\multicolumn{{{len(table.heads) + 1}}}{{l}}{{\textit{{{group}}}}} \\")
        lines.append(_row([escape(row), *(_text(cell, _is_wide(table)) for cell in cells)]))
    return [*lines, r"\bottomrule", r"\end{tabular}}"]


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _text(cell: Cell | None, wide: bool) -> str:
    if cell is None:
        return "--"
    # Math mode for the minus signs.
    if not cell.interval:
        return f"${cell.value}$" if re.fullmatch(r"[+-]?\d+(\.\d+)?", cell.value) else escape(cell.value)
    value = _RANKS[cell.mark.rank].format(cell.value) + ("^{=}" if cell.mark.tied else "")
    n = "" if cell.n is None else rf"\ (n={cell.n})"
    note = escape(cell.note)
    if wide:
        below = [f"${_ends(cell)}{n}$", *([note] if note else [])]
        lines = "".join(rf"\\[-2pt]{{\tiny {line}}}" for line in below)
        return rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}${value}${lines}\end{{tabular}}"
    return rf"${value}\ {_ends(cell)}{n}$" + (rf"\ {note}" if note else "")


def _ends(cell: Cell) -> str:
    """Return an interval, or the words that replace it, in math mode."""
    words = cell.interval.replace(" ", "\\ ")
    return cell.interval if cell.interval.startswith("[") else rf"\mathrm{{{words}}}"


def escape(text: str) -> str:
    """Return a text with its special characters escaped and its opening quotes as such."""
    escaped = re.sub("|".join(map(re.escape, _SPECIAL)), lambda found: _SPECIAL[found.group()], literal(text))
    return re.sub(r"(?<![^\s(])'", "`", escaped)
