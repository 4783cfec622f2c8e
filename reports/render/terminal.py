"""Tables for the terminal, one small one per task and protocol: they fit 100 to 120 columns."""

from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.rule import Rule
from rich.table import Table as Grid
from rich.text import Text

from .table import Cell, Report, Table

_STUB = 36
"""Width of the column of row names where longer ones have to be folded."""
_STYLES = ("", "bold", "underline")
"""Of a rank: never a colour, which not everybody sees."""
_SIGNS = ("", "*", "_")
"""Of a rank, for a terminal, a file or a reader without styles."""


def draw(report: Report, console: Console) -> None:
    """Print a report, but for the tables of blocks that are details."""
    # Everything is a Text: in a plain string rich would read an interval such as [97.0, 99.6] as markup.
    _warn(report, console)
    width = max((len(word) + 1 for word, _ in report.header), default=0)
    for word, value in report.header:
        console.print(Text.assemble((word.ljust(max(width, 12)), "bold"), value))
    for block in (block for block in report.blocks if block.notes or not block.detail):
        console.print()
        console.print(Rule(Text(block.heading, "bold"), align="left", characters="="))
        for sentence in block.text:
            console.print(Text(sentence))
        for tables, sentences in ((block.tables, block.notes), (block.comparisons, ())):
            for table in () if block.detail else tables:
                for grid in _fitting(table, console):
                    console.print()
                    console.print(grid)
                if table.note:
                    console.print(Text(table.note, "dim"))
            if sentences:
                console.print()
            for sentence in sentences:
                console.print(Text(sentence))
    console.print(Rule(style="dim"))
    for note in report.footer:
        console.print(Text(note, "dim"))
    _warn(report, console)


def _warn(report: Report, console: Console) -> None:
    for warning in report.warnings:
        console.print(Text(f"!!! {warning}", "bold red"))


def _fitting(table: Table, console: Console) -> Iterator[Grid]:
    """Yield the table as it fits the console: intervals beside the numbers, or below them, or in two halves."""
    for fold in (None, _STUB):
        for between in (" ", "\n"):
            grid = _grid(table, between, fold)
            if console.measure(grid, options=console.options.update(width=10_000)).maximum <= console.width:
                yield grid
                return
    half = len(table.heads) // 2
    if not half:
        yield grid
        return
    for columns in (slice(half), slice(half, None)):
        yield from _fitting(table.part(columns=columns), console)


def _grid(table: Table, between: str, fold: int | None) -> Grid:
    grid = Grid(title=Text(table.title, "italic"), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False)
    grid.add_column(Text(table.stub), no_wrap=fold is None, max_width=fold)
    for head in table.heads:
        grid.add_column(Text(head), justify="right", overflow="fold")
    group = ""
    for number, (row, cells) in enumerate(zip(table.rows, table.cells, strict=True)):
        if table.groups and table.groups[number] != group:
            group = table.groups[number]
            if number:
                grid.add_section()
            grid.add_row(Text(group, "italic"))
        grid.add_row(Text(row), *(_text(cell, between) for cell in cells))
    return grid


def _text(cell: Cell | None, between: str) -> Text:
    if cell is None:
        return Text("-", "dim")
    beside = " ".join([*([cell.interval] if cell.interval else []), *([] if cell.n is None else [f"n={cell.n}"])])
    return Text.assemble(
        (cell.value, _STYLES[cell.mark.rank]),
        _SIGNS[cell.mark.rank] + ("=" if cell.mark.tied else ""),
        (f"{between}{beside}" if beside else "", "dim"),
        # A p-value on the same line would make four columns wider than a terminal.
        f"\n{cell.note}" if cell.note else "",
    )
