"""A run on one screen: the numbers and decisions of its whole report, in whole-percent intervals, at any width."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from instructedit.benchmark.results.records import Comparison, EditorSpec, Mean, RunFile, RunSummary
from instructedit.benchmark.results.suite_results import SuiteSummary
from instructedit.benchmark.results.suite_summary import summarise_suite
from instructedit.reports.render import terminal
from instructedit.reports.render.literal import literal
from instructedit.reports.render.report import Block, Report
from instructedit.reports.tables.build import first_case, report_run
from instructedit.reports.tables.overview import run_overview, suite_overview
from instructedit.reports.tables.run_tables import run_report
from instructedit.reports.tables.suite_report import suite_report

from ..suites import write_index, write_run


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


NAMES = ("none", "in-context", "ft-l", "ft-m", "calinet", "grace", "ke", "a", "b", "c", "d")
TASKS = {"multi-task": ("recent", "counterfact", "convsent"), "hold-out": ("zsre",)}
READS = tuple({"measure": measure, "protocol": "teacher_forced_exact"} for measure in ("reliability", "portability"))


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> SuiteSummary:
    """Two settings: FT-M is right in all cases, the other editors in one of two, the unedited model in none."""
    rows = [EditorSpec(name=name, method=name) for name in NAMES]

    def value(row: str, _task: str, _seed: int, case: int) -> float:
        return {"none": 0.0, "ft-m": 1.0}.get(row, float(case % 2))

    out = tmp_path_factory.mktemp("suite")
    entries = [
        write_run(out, setting, rows, 0, value, cases=40, tasks=tasks, reads=dict.fromkeys(tasks, READS))
        for setting, tasks in TASKS.items()
    ]
    return summarise_suite(out, write_index(out, *entries))


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_suite_is_one_screen_with_its_runs_and_the_numbers_of_the_report(suite: SuiteSummary, width: int) -> None:
    screen = suite_overview(suite)
    lines = drawn(screen, width)
    assert max(map(len, lines)) <= width and (len(lines) <= 46 or width < 120)
    runs = [line for line in lines if suite.groups[0].digests[0] in line]
    assert len(runs) == 1 and "ft-m (6 of 6)" in runs[0] and "0 of 11 rows" in runs[0]
    assert sum(line.count("100.0*") for line in lines) == 2 * 4
    tables = {table.title: table for table in screen.blocks[1].tables}
    whole = {block.heading: block.tables[0] for block in suite_report(suite).blocks}
    assert list(tables) == [f"{setting}: {task}" for setting, tasks in TASKS.items() for task in tasks]
    for title, table in tables.items():
        for ours, theirs in zip(table.cells, whole[title].cells, strict=True):
            assert [cell and cell.value.strip("°") for cell in ours] == [cell and cell.value for cell in theirs]
            assert [cell and cell.mark for cell in ours] == [cell and cell.mark for cell in theirs]


def test_a_suite_of_many_settings_shows_a_row_for_each_of_them_alone(suite: SuiteSummary) -> None:
    names = [f"setting-{number}" for number in range(16)]
    groups = tuple(suite.groups[0].model_copy(update={"label": name}) for name in names)
    lines = drawn(suite_overview(suite.model_copy(update={"groups": groups})), 120)
    assert len(lines) <= 30
    assert [line.split()[0] for line in lines if line.startswith("setting-")] == names


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
