"""A run on one screen: the numbers and decisions of its whole report, in whole-percent intervals, at any width."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from instructedit.benchmark.results.records import Comparison, Mean, RunFile, RunSummary
from instructedit.reports.render import terminal
from instructedit.reports.render.literal import literal
from instructedit.reports.render.report import Block, Report
from instructedit.reports.tables.build import first_case, report_run
from instructedit.reports.tables.overview import run_overview
from instructedit.reports.tables.run_tables import run_report


def drawn(report: Report, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True)
    terminal.draw(report, console)
    return console.export_text().splitlines()


def test_each_task_has_one_table_with_the_numbers_of_the_report(run: RunFile, summary: RunSummary) -> None:
    screen, report = run_overview(run, summary), run_report(run, summary)
    assert [block.heading for block in screen.blocks] == list(run.spec.tasks)
    for short, whole in zip(screen.blocks, report.blocks, strict=True):
        (table,) = short.tables
        assert short.notes == tuple(note for note in whole.notes if note in short.notes) and not short.comparisons
        shown = {(head.split("\n")[0], row): cell for row, line in zip(table.rows, table.cells, strict=True)
                 for head, cell in zip(table.heads, line, strict=True)}  # fmt: skip
        full = {
            (head.split("\n")[0], row): cell
            for own in reversed(whole.tables)
            if own.title.startswith(("Exact match", "Sentiment"))
            for row, line in zip(own.rows, own.cells, strict=True)
            for head, cell in zip(own.heads, line, strict=True)
        }
        for key, cell in shown.items():
            same = full[key]
            assert (cell is None) == (same is None)
            if cell is not None and same is not None:
                assert cell.value.rstrip("°") == same.value and cell.mark == same.mark


def test_failed_cases_are_named_above_the_tables(run: RunFile, summary: RunSummary) -> None:
    assert ("Failed", "counterfact: grace 1") in run_overview(run, summary).header


def test_intervals_are_rounded_outwards(run: RunFile, summary: RunSummary) -> None:
    means = tuple(
        mean.model_copy(update={"low": 0.741, "high": 0.999}) if isinstance(mean, Mean) and mean.low else mean
        for mean in summary.means
    )
    screen = run_overview(run, summary.model_copy(update={"means": means}))
    found = {
        cell.interval
        for block in screen.blocks
        for table in block.tables
        for line in table.cells
        for cell in line
        if cell
    }
    assert "[74, 100]" in found and not any("." in interval for interval in found)


@pytest.mark.parametrize(("p", "marked"), [(0.5, True), (0.001, False)])
def test_a_number_that_is_not_shown_to_differ_from_the_unedited_model_is_marked(
    run: RunFile, summary: RunSummary, p: float, marked: bool
) -> None:
    control = next(row.name for row in run.spec.editors if row.method == "none")

    def decided(pair: Comparison) -> Comparison:
        return pair.model_copy(update={"p": p, "p_holm": p}) if control in (pair.editor, pair.other) else pair

    changed = summary.model_copy(update={"comparisons": tuple(map(decided, summary.comparisons))})
    (table, *_) = run_overview(run, changed).blocks[0].tables
    other = next(number for number, row in enumerate(table.rows) if row != control)
    cell = table.cells[other][0]
    assert cell is not None and cell.value.endswith("°") == marked
    assert all(cell is None or "°" not in cell.value for cell in table.cells[table.rows.index(control)])


@pytest.mark.parametrize("width", [80, 120, 200])
def test_it_fits(run: RunFile, summary: RunSummary, width: int) -> None:
    lines = drawn(run_overview(run, summary), width)
    assert max(map(len, lines)) <= width
    assert len(lines) < len(drawn(run_report(run, summary), width)) / 2


def test_a_report_prints_one_screen_or_all_and_writes_the_same_files(folder: Path) -> None:
    texts, files = [], []
    for full in (False, True):
        console = Console(width=120, file=io.StringIO(), record=True)
        files.append([path.read_bytes() for path in report_run(folder, console, full=full)])
        texts.append(console.export_text())
    assert files[0] == files[1]
    assert "Token share" in texts[1] and "Token share" not in texts[0]
    assert first_case(folder) == "CASE"
    (folder / "cases.jsonl").write_text('{"case_id": "zsre/test/4"}\n{}\n', encoding="utf-8")
    assert first_case(folder) == "zsre/test/4"


def test_characters_that_steer_a_terminal_are_shown_by_their_codes(run: RunFile, summary: RunSummary) -> None:
    assert literal("a\x1b[31mb\u202ec\td\n") == "a<U+001B>[31mb<U+202E>c\td\n"
    report = run_overview(run, summary)
    evil = replace(report, warnings=("\x1b[2J",), blocks=(Block("\x1b[H", (), notes=("\x07bell",), text=("\x9b",)),))
    page = "\n".join(drawn(evil, 80))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", page)
    assert all(code in page for code in ("<U+001B>[2J", "<U+0007>bell", "<U+009B>"))
