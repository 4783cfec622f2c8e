"""Tables for the terminal. A table that is too wide is stacked, then split in halves; nothing is cut off."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.rule import Rule
from rich.table import Table as Grid
from rich.text import Text

from .literal import literal
from .report import Cell, Report, Table

_NARROW, _STUB = 15, 36
"""Widths of the column of row names where longer names are folded, to keep intervals beside or below their numbers."""
_STYLES = ("", "bold", "underline")
"""Style of each rank; not a colour, for colour-blind readers."""
_SIGNS = ("", "*", "_")
"""Sign of each rank, for output without styles."""


def plain(text: str, style: str = "") -> Text:
    """Return a text for the terminal as it is: rich would take an interval such as [97.0, 99.6] for markup."""
    return Text(literal(text), style)


def draw(report: Report, console: Console) -> None:
    """Print a report, without the tables of blocks that are details."""
    _warn(report, console)
    header = Grid.grid(padding=(0, 1, 0, 0))
    header.add_column(min_width=11, no_wrap=True)
    header.add_column(overflow="fold")
    for word, value in report.header:
        header.add_row(plain(word, "bold"), plain(value))
    console.print(header)
    for block in (block for block in report.blocks if block.notes or not block.detail):
        console.print()
        console.print(Rule(plain(block.heading, "bold"), align="left", characters="=", style="dim"))
        for sentence in block.text:
            console.print(plain(sentence))
        for tables, sentences in ((block.tables, block.notes), (block.comparisons, ())):
            for grid in _beside(tables, console) if block.beside else ():
                console.print()
                console.print(grid)
            for table in () if block.detail or block.beside else tables:
                for grid in _fitting(table, console):
                    console.print()
                    console.print(grid)
                if table.note:
                    console.print(plain(table.note, "dim"))
            if sentences:
                console.print()
            for sentence in sentences:
                console.print(plain(sentence))
    console.print(Rule(style="dim"))
    for note in report.footer:
        console.print(plain(note, "dim"))
    _warn(report, console)


def _warn(report: Report, console: Console) -> None:
    for warning in report.warnings:
        console.print(plain(f"!!! {warning}", "bold red"))


def _beside(tables: Sequence[Table], console: Console) -> Iterator[Grid]:
    """Yield lines of as many tables as the console is wide; the names of the rows are in the first of a line."""
    lines: list[list[Table]] = []
    for table in tables:
        if lines and _width(_line([*lines[-1], table]), console) <= console.width:
            lines[-1].append(table)
        else:
            lines.append([table])
    for line in lines:
        yield from [_line(line)] if _width(_line(line), console) <= console.width else _fitting(line[0], console)


def _line(tables: Sequence[Table]) -> Grid:
    line = Grid.grid(padding=(0, 4, 0, 0))
    for _ in tables:
        line.add_column(vertical="bottom", no_wrap=True)
    grids = [_grid(table, " ", None, stub=number == 0) for number, table in enumerate(tables)]
    for grid, table in zip(grids, tables, strict=True):
        grid.min_width = len(table.title)  # so that no title is folded
    line.add_row(*grids)
    return line


def _width(grid: Grid, console: Console) -> int:
    return console.measure(grid, options=console.options.update(width=10_000)).maximum


def _fitting(table: Table, console: Console) -> Iterator[Grid]:
    """Yield the table as it fits the console: intervals beside the numbers, else below them, else in two halves."""
    for fold, between in ((None, " "), (_NARROW, " "), (None, "\n"), (_STUB, "\n")):
        grid = _grid(table, between, fold)
        if _width(grid, console) <= console.width:
            yield grid
            return
    half = len(table.heads) // 2
    if not half:
        yield grid
        return
    for columns in (slice(half), slice(half, None)):
        yield from _fitting(table.part(columns=columns), console)


def _grid(table: Table, between: str, fold: int | None, *, stub: bool = True) -> Grid:
    grid = Grid(
        title=plain(table.title, "italic") if table.title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    if stub:
        grid.add_column(plain(table.stub), no_wrap=fold is None, max_width=fold)
    for head in table.heads:
        grid.add_column(plain(head), justify="right", overflow="fold")
    for number, (row, cells) in enumerate(zip(table.rows, table.cells, strict=True)):
        if table.starts_group(number):
            if number:
                grid.add_section()
            grid.add_row(plain(table.groups[number], "italic"))
        grid.add_row(*[plain(row)] * stub, *(_text(cell, between) for cell in cells))
    return grid


def _text(cell: Cell | None, between: str) -> Text:
    if cell is None:
        return plain("-", "dim")
    beside = " ".join(filter(None, (cell.interval, "" if cell.n is None else f"n={cell.n}")))
    return Text.assemble(
        (cell.value, _STYLES[cell.mark.rank]),
        _SIGNS[cell.mark.rank] + ("=" if cell.mark.tied else ""),
        (f"{between}{beside}" if beside else "", "dim"),
        # A p-value on the same line would make four columns wider than a terminal.
        f"\n{cell.note}" if cell.note else "",
    )
