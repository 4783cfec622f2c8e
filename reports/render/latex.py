r"""Tables as LaTeX, to be taken in with `\input{table}`; needs the packages booktabs and graphicx."""

import re
from collections.abc import Iterator, Sequence

from .table import Cell, Report, Table

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
"""Fits a tabular into the line if it is wider, and leaves it alone if it is not."""

_RANKS = ("{}", r"\mathbf{{{}}}", r"\underline{{{}}}")
"""Of a rank, in math mode."""

_PAGE = 50
"""Lines of tables that a float may have: what is longer than a page would be cut off."""
_HEAD = 5
"""Lines that a table has besides its rows."""

_WIDE = 100
"""Letters of a row beyond which intervals go below their numbers: the table would be shrunk past reading."""

_HELD = 12
"""Floats after which a page is forced out: LaTeX holds back few."""


def render(report: Report) -> str:
    r"""Return a report as floats, for each block its scores and then its comparisons, followed by the notes."""
    lines = [f"% {report.title}. Needs \\usepackage{{booktabs,graphicx}}."]
    lines += [rf"\par\noindent\textbf{{{_escape(warning)}}}" for warning in report.warnings]
    count = 0
    for block in report.blocks:
        if block.text:
            heading = rf"\medskip\noindent\textbf{{{_escape(block.heading)}}}\par"
            lines += ["", heading, *_loose(block.text)]
        if block.notes:
            heading = rf"\medskip\noindent\textit{{{_escape(block.heading)}}}\par"
            lines += ["", heading, *_loose(block.notes)]
        for tables in (*_pages(block.tables), *_pages(block.comparisons)):
            lines += ["", *_float(block.heading, tables, report)]
            count += 1
            lines += [r"\clearpage"] * (count % _HELD == 0)
    notes = [f"{word}: {value}." for word, value in report.header] + list(report.footer)
    lines += ["", r"{\footnotesize\setlength{\parindent}{0pt}", *_loose(notes), "}"]
    return "\n".join(lines) + "\n"


def _loose(sentences: Sequence[str]) -> list[str]:
    """Return paragraphs that may have wide spaces: a long name, which has no place to break, else passes the margin."""
    return [r"{\sloppy", *(rf"{_escape(sentence)}\par" for sentence in sentences), "}"]


def _pages(tables: Sequence[Table]) -> Iterator[list[Table]]:
    """Yield tables as many as a page holds; one that is longer than a page goes on in the next."""
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
    """Return how many lines each row takes, with that of its group above it; a small line counts half."""
    groups = table.groups or ("",) * len(table.rows)
    starts = [bool(group) and (row == 0 or groups[row - 1] != group) for row, group in enumerate(groups)]
    return [(1.5 if _is_wide(table) else 1.0) + starts_group for starts_group in starts]


def _is_wide(table: Table) -> bool:
    """Tell whether a table has to be stacked: its longest cells in a row are wider than the page."""
    words = (
        max(
            (len(f"{cell.value} {cell.interval} {cell.note}") + (8 if cell.n else 0) for cell in column if cell),
            default=0,
        )
        for column in zip(*table.cells, strict=True)
    )
    return max(map(len, table.rows), default=0) + sum(words) > _WIDE


def _float(heading: str, tables: Sequence[Table], report: Report) -> list[str]:
    # The warning goes into every caption: a float travels alone.
    caption = " ".join([f"{heading}, {report.title[0].lower()}{report.title[1:]}.", *report.warnings])
    lines = [r"\begin{table}[tp]", r"\centering\footnotesize", rf"\caption{{{_escape(caption)}}}"]
    for table in tables:
        lines += [rf"\par\medskip\textit{{{_escape(table.title)}}}\par\smallskip", *_tabular(table)]
        lines += [rf"\par\smallskip{{\scriptsize {_escape(table.note)}}}"] if table.note else []
    return [*lines, r"\end{table}"]


def _tabular(table: Table) -> list[str]:
    tops, ends = zip(*(head.partition("\n")[::2] for head in table.heads), strict=True)
    narrow = [r"\setlength{\tabcolsep}{4pt}"] if _is_wide(table) else []
    lines = [*narrow, _SHRINK, rf"\begin{{tabular}}{{l{'r' * len(table.heads)}}}", r"\toprule"]
    lines.append(_row([_escape(table.stub), *map(_escape, tops)]))
    if any(ends):
        lines.append(_row(["", *(f"${end}$" if end else "" for end in ends)]))
    lines.append(r"\midrule")
    group = ""
    for number, (row, cells) in enumerate(zip(table.rows, table.cells, strict=True)):
        if table.groups and table.groups[number] != group:
            group = table.groups[number]
            lines += [r"\midrule"] * bool(number)
            lines.append(rf"\multicolumn{{{len(table.heads) + 1}}}{{l}}{{\textit{{{_escape(group)}}}}} \\")
        lines.append(_row([_escape(row), *(_text(cell, _is_wide(table)) for cell in cells)]))
    return [*lines, r"\bottomrule", r"\end{tabular}}"]


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _text(cell: Cell | None, wide: bool) -> str:
    if cell is None:
        return "--"
    # Math mode for the minus signs.
    if not cell.interval:
        return f"${cell.value}$" if re.fullmatch(r"[+-]?\d+(\.\d+)?", cell.value) else _escape(cell.value)
    value = _RANKS[cell.mark.rank].format(cell.value) + ("^{=}" if cell.mark.tied else "")
    n = "" if cell.n is None else rf"\ (n={cell.n})"
    note = _escape(cell.note)
    if wide:
        below = [f"${_ends(cell)}{n}$", *([note] if note else [])]
        lines = "".join(rf"\\[-2pt]{{\tiny {line}}}" for line in below)
        return rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}${value}${lines}\end{{tabular}}"
    return rf"${value}\ {_ends(cell)}{n}$" + (rf"\ {note}" if note else "")


def _ends(cell: Cell) -> str:
    """Return an interval, or the words that stand for it, in math mode."""
    words = cell.interval.replace(" ", "\\ ")
    return cell.interval if cell.interval.startswith("[") else rf"\mathrm{{{words}}}"


def _escape(text: str) -> str:
    return re.sub("|".join(map(re.escape, _SPECIAL)), lambda found: _SPECIAL[found.group()], text)
