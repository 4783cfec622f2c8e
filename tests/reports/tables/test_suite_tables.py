"""The report of a suite: verdicts that follow from intervals, and a view for what each setting asks."""

import csv
import io
import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from instructedit.benchmark.results.suite_results import SeedComparison, SuiteSummary
from instructedit.benchmark.results.suite_summary import summarise_suite
from instructedit.editors import InputError
from instructedit.reports.render import latex, markdown, terminal
from instructedit.reports.render.report import Block, Cell, Report, Table
from instructedit.reports.tables import longform
from instructedit.reports.tables.build import report_suite
from instructedit.reports.tables.suite_comparisons import verdict
from instructedit.reports.tables.suite_report import suite_report

from ..render.test_pdf import typeset
from ..suites import trained, write_index, write_run

TASKS = ("recent", "zsre")
LEVEL = {"recent": 0.6, "zsre": 0.8}


def _summary(out: Path) -> SuiteSummary:
    """Two seeds of four settings; the values of all ten cases of a cell are said by its row, task and seed."""

    def by_training(row: str, task: str, seed: int, _: int) -> float:
        own = row.endswith(f"@{task}")
        return LEVEL[task] + 0.1 * seed - (0.0 if own else 0.5) + (0.05 if row.startswith("instructedit") else 0.0)

    def by_instruction(row: str, _: str, seed: int, case: int) -> float:
        levels = {"mend": 0.3, "#seen-0": 0.5, "#seen-1": 0.6, "#unseen": 0.4, "#none": 0.2}
        return levels[row.removeprefix("instructedit")] + 0.02 * seed * (case % 2)

    def open_question(row: str, _: str, seed: int, case: int) -> float:
        return float((case + (row == "mend") + seed) % 2)

    single = [trained(f"{name}@{task}", task) for name in ("mend", "instructedit") for task in TASKS]
    told = ("seen-0", "seen-1", "unseen", "none")
    rows = [trained(f"instructedit#{condition}", "recent", instruction=condition) for condition in told]
    two = [trained("mend", *TASKS), trained("instructedit", *TASKS, instruction="seen")]
    more = [
        trained(f"{name}@{'+'.join(TASKS[:count])}", *TASKS[:count])
        for name in ("mend", "instructedit")
        for count in (1, 2)
    ]
    entries = []
    for seed in (0, 1):
        entries += [
            write_run(out, "multi-task", two, seed, open_question, tasks=TASKS),
            write_run(out, "single-task", single, seed, by_training, tasks=TASKS),
            write_run(out, "unseen-instruction", [trained("mend", "recent"), *rows], seed, by_instruction),
            write_run(out, "task-scaling", more, seed, by_training, tasks=TASKS),
        ]
    return summarise_suite(out, write_index(out, *entries))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("results")
    (out / "suite.json").write_text(_summary(out).model_dump_json(), encoding="utf-8")
    return out


@pytest.fixture(scope="module")
def suite(place: Path) -> SuiteSummary:
    return SuiteSummary.model_validate_json((place / "suite.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def report(suite: SuiteSummary) -> Report:
    return suite_report(suite)


def block(report: Report, heading: str) -> Block:
    (found,) = [block for block in report.blocks if block.heading == heading]
    return found


def ends_out(text: str) -> str:
    """Leave out intervals, which have tests of their own (`test_crossed.py`)."""
    return re.sub(r" ?\[[-+]?\d[^\]]*\]", "", text)


def words(table: Table) -> list[list[str]]:
    return [
        [
            row,
            *(
                ends_out(" ".join(filter(None, (cell.value, cell.interval, cell.note)))) if cell else "-"
                for cell in cells
            ),
        ]
        for row, cells in zip(table.rows, table.cells, strict=True)
    ]


@pytest.mark.parametrize(
    ("difference", "p", "protocol", "word"),
    [
        (0.1, 0.049, "teacher_forced_exact", "better"),
        (-0.1, 0.049, "teacher_forced_exact", "worse"),
        (0.1, 0.05, "teacher_forced_exact", "no difference shown"),
        (0.1, None, "edit_success", "not tested"),
        (0.1, 0.001, "kl_divergence", "worse"),
        (-0.1, 0.001, "kl_divergence", "better"),
        (1.5, 0.001, "ngram_entropy", ""),
    ],
)
def test_a_verdict_follows_from_the_adjusted_p(difference: float, p: float | None, protocol: str, word: str) -> None:
    comparison = SeedComparison.model_validate(
        {
            **{"question": "mend", "first": "a", "second": "b", "rows": ["a"], "others": ["b"], "task": "zsre"},
            **{"measure": "locality", "derived": False, "protocol": protocol, "per_seed": [difference]},
            **{"difference": difference, "low": -1.0, "high": 1.0, "n": 10, "p": 0.0001, "p_holm": p},
        }
    )
    assert verdict(comparison) == word


def test_the_question_is_answered_setting_by_setting(report: Report) -> None:
    answers = block(report, "Does InstructEdit beat MEND?")
    ours, theirs = "instructedit (instruction on edit and probes)", "mend (bare probes)"
    assert tuple(map(ends_out, answers.text)) == (
        f"multi-task: {ours} against {theirs}: better in 0, worse in 0, no difference shown in 2 of 2 comparisons "
        "(n = 10 cases, 2 seeds).",
        f"single-task: {ours} against {theirs}: better in 4, worse in 0, no difference shown in 0 of 4 comparisons "
        "(n = 10 cases, 2 seeds). Largest difference, better: reliability on recent, trained on recent, +5.0 points, "
        "n = 10.",
        f"unseen-instruction: {ours}, seen descriptions against {theirs}: better in 1, worse in 0, no difference "
        "shown in 0 of 1 comparisons (n = 10 cases, 2 seeds). Largest difference, better: reliability on counterfact, "
        "+25.0 points, n = 10.",
        f"unseen-instruction: {ours}, unseen description against {theirs}: better in 1, worse in 0, no difference "
        "shown in 0 of 1 comparisons (n = 10 cases, 2 seeds). Largest difference, better: reliability on counterfact, "
        "+10.0 points, n = 10.",
        f"task-scaling: {ours} against {theirs}: better in 4, worse in 0, no difference shown in 0 of 4 comparisons "
        "(n = 10 cases, 2 seeds). Largest difference, better: reliability on recent, trained on 1 task, +5.0 points, "
        "n = 10.",
    )
    assert [table.title for table in answers.tables] == [
        f"{label}: {ours} minus {theirs}, exact match (points), 2 seeds"
        for label in ("multi-task", "single-task", "unseen-instruction", "task-scaling")
    ]
    assert answers.tables[0].heads == ("Difference", "95 % interval", "n", "p", "Seeds", "Verdict")
    assert [line[-2:] for line in words(answers.tables[0])] == [["sd 0.0", "no difference shown"]] * 2
    assert answers.tables[3].rows[-1] == "Reliability: zsre, trained on 2 tasks"


def test_each_form_is_named_and_held_against_what_it_answers(tmp_path: Path) -> None:
    """Of ten cases each row gets another number right, so each difference names its two sides."""
    right = {"mend": 6, "mend-instructed": 4, "instructedit": 9, "instructedit-edit-only": 2}
    control = {"method": "mend", "instruction": "seen", "instructed_probes": "all but locality"}
    edit_only = {"method": "instructedit", "config": {"instruct": "edit only"}, "instructed_probes": "none"}
    rows = [
        trained("mend", "recent"),
        trained("mend-instructed", "recent", **control),
        trained("instructedit", "recent", instruction="seen"),
        trained("instructedit-edit-only", "recent", instruction="seen", **edit_only),
    ]
    entry = write_run(tmp_path, "multi-task", rows, 0, lambda row, _task, _seed, case: float(case < right[row]))
    answers = block(
        suite_report(summarise_suite(tmp_path, write_index(tmp_path, entry))), "Does InstructEdit beat MEND?"
    )
    published, edited = (
        "instructedit (instruction on edit and probes)",
        "instructedit-edit-only (instruction on the edit only)",
    )
    bare, told = "mend (bare probes)", "mend-instructed (instruction on the probes)"
    wanted = [(published, bare, "+30.0"), (published, told, "+50.0"), (edited, bare, "-40.0")]
    assert [(table.title.split(", exact")[0], table.cells[0][0].value) for table in answers.tables] == [
        (f"multi-task: {first} minus {second}", difference) for first, second, difference in wanted
    ]
    assert [text.split(": better in")[0] for text in answers.text] == [
        f"multi-task: {first} against {second}" for first, second, _ in wanted
    ]
    assert {table.rows for table in answers.tables} == {("Reliability: counterfact",)}


def test_trained_on_by_tested_on_with_drops_from_the_diagonal(report: Report) -> None:
    mend, ours = block(report, "single-task: trained on, tested on").tables
    assert mend.title == "mend: Reliability, exact match (%), 2 seeds"
    assert mend.heads == ("recent\nn = 10", "zsre\nn = 10")
    assert words(mend) == [
        ["recent", "65.0 sd 7.1", "35.0 sd 7.1, -50.0"],
        ["zsre", "15.0 sd 7.1, -50.0", "85.0 sd 7.1"],
    ]
    assert words(ours)[0][1] == "70.0 sd 7.1"


def test_scaling_is_by_number_of_tasks(report: Report) -> None:
    mend, _ = block(report, "task-scaling: trained on, tested on").tables
    assert mend.rows == ("1 task: recent", "2 tasks: recent+zsre")
    assert words(mend)[0][1:] == ["65.0 sd 7.1", "35.0 sd 7.1"]


def test_spread_over_descriptions_and_controls(report: Report) -> None:
    found = block(report, "unseen-instruction: descriptions and controls")
    (spread,) = found.tables
    assert spread.title.startswith("instructedit: mean, range and standard deviation over 3 descriptions")
    # Each gains half a point by the second seed; the deviation of 50, 60 and 40 is 10.
    assert words(spread) == [["counterfact", "50.5 40.5..60.5 sd 10.0"]]
    unseen, control = found.comparisons
    assert words(unseen) == [
        ["Reliability: counterfact", "-15.0", "", "10", "p=0.006", "sd 0.0", "worse"],
    ]
    assert words(control) == [
        ["Reliability: counterfact, none", "-35.0", "", "10", "p=0.006", "sd 0.0", "worse"],
    ]


def test_a_task_table_has_the_deviation_of_the_seeds(report: Report) -> None:
    (table,) = block(report, "single-task: recent").tables
    assert table.title == "Exact match, teacher forced (%), 2 seeds"
    assert words(table)[0] == ["mend@recent", "65.0 sd 7.1"]


def test_one_seed_is_said_to_be_one(tmp_path: Path) -> None:
    rows = [trained("mend", "recent"), trained("instructedit", "recent")]
    entry = write_run(tmp_path, "multi-task", rows, 0, lambda row, *_: 0.5 * (row == "mend"))
    report = suite_report(summarise_suite(tmp_path, write_index(tmp_path, entry)))
    (sentence,) = report.blocks[0].text
    assert "worse in 1" in sentence
    assert ends_out(sentence).endswith(
        "Largest difference, worse: reliability on counterfact, -50.0 points, n = 10. One seed does not "
        "cover other trainings."
    )
    (table,) = block(report, "multi-task: counterfact").tables
    assert table.title.endswith(", 1 seed")
    assert [cell and cell.note for row in table.cells for cell in row] == ["", ""]
    assert "Seeds" not in report.blocks[0].tables[0].heads


def test_rows_that_never_differ_are_said_to_be_equal(tmp_path: Path) -> None:
    rows = [trained("mend", "recent"), trained("instructedit", "recent")]
    entry = write_run(tmp_path, "multi-task", rows, 0, lambda _row, _task, _seed, case: float(case % 2))
    (sentence,) = suite_report(summarise_suite(tmp_path, write_index(tmp_path, entry))).blocks[0].text
    assert "no difference shown in 1 of 1 comparisons" in sentence
    assert "In 1 both have the same value in every case." in sentence


def test_stages_have_tables_of_their_own(suite: SuiteSummary) -> None:
    group = suite.groups[0]
    staged = [m.model_copy(update={"stage": s}) for s in ("after-10", "after-edit", "after-9") for m in group.means]
    changed = group.model_copy(update={"means": tuple(staged), "comparisons": ()})
    report = suite_report(suite.model_copy(update={"groups": (changed,)}))
    assert [table.title for table in block(report, "multi-task: recent").tables] == [
        "Exact match, teacher forced (%), 2 seeds, stage after-edit",
        "Exact match, teacher forced (%), 2 seeds, stage after-9",
        "Exact match, teacher forced (%), 2 seeds, stage after-10",
    ]


def test_files_and_terminal(place: Path, report: Report) -> None:
    paths = report_suite(place / "suite.json")
    assert [path.name for path in paths] == ["suite.md", "suite.csv", "suite.tex"]
    page = paths[0].read_text(encoding="utf-8")
    assert page.startswith("# Suite full\n")
    assert (
        "\n\nmulti-task: instructedit (instruction on edit and probes) against mend (bare probes): better in 0" in page
    )
    assert "| sd 0.0 | worse |" in page and "| Reliability: counterfact, none | -35.0 | [" in page
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in report_suite(place / "suite.json")] == before
    console = Console(width=100, file=io.StringIO(), record=True)
    report_suite(place / "suite.json", console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 100
    assert any("Against MEND" in line for line in lines)
    assert any(line.startswith("single-task ") for line in lines)
    assert not any(line.startswith("single-task: recent") for line in lines)  # its numbers are in the files alone
    with pytest.raises(InputError, match=r"absent\.json: cannot be read"):
        report_suite(place / "absent.json")


def test_every_number_is_a_row_of_the_csv_file(suite: SuiteSummary) -> None:
    rows = list(csv.DictReader(io.StringIO(longform.suite_csv(suite))))
    assert len(rows) == sum(len(group.means) + len(group.comparisons) for group in suite.groups)
    mean = next(row for row in rows if row["row"] == "mend@recent" and not row["question"])
    assert (mean["seeds"], mean["trained_on"], mean["n"], mean["verdict"]) == ("0 1", "recent", "10", "")
    assert float(mean["value"]) == pytest.approx(0.65)
    assert (float(mean["lowest_seed"]), float(mean["highest_seed"])) == pytest.approx((0.6, 0.7))
    assert float(mean["seed_sd"]) == pytest.approx(0.1 / 2**0.5)
    drop = next(row for row in rows if row["question"] == "drop")
    assert (drop["row"], drop["other"], drop["verdict"]) == ("mend@zsre", "mend@recent", "worse")


def test_a_wide_table_is_halved_rather_than_broken(report: Report) -> None:
    (table,) = block(report, "single-task: recent").tables
    cells = tuple(row * 6 for row in table.cells)
    wide = Report("Run x", (), (), (Block("b", (Table("Title", "Editor", table.heads * 6, table.rows, cells),)),), ())
    console = Console(width=60, file=io.StringIO(), record=True)
    terminal.draw(wide, console)
    page = console.export_text()
    assert page.count("Title") > 1
    assert page.count("sd 7.1") == 6 * len(table.rows)


def test_warnings_come_first(suite: SuiteSummary) -> None:
    warned = suite_report(suite.model_copy(update={"warnings": ("Run x is left out.",)}))
    assert markdown.render(warned).startswith("# Suite full\n\n> **Run x is left out.**")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_the_latex_file_is_typeset(place: Path, tmp_path: Path) -> None:
    report_suite(place / "suite.json")
    text = (place / "suite.tex").read_text(encoding="utf-8")
    (tmp_path / "table.tex").write_text(text, encoding="utf-8")
    typeset(tmp_path)


def test_no_float_is_longer_than_a_page() -> None:
    cells = ((Cell("1.0"),),)
    tables = tuple(Table(f"T{rows}", "Row", ("Head",), ("r",) * rows, cells * rows) for rows in (20, 20, 30, 100))
    page = latex.render(Report("Run x", (), (), (Block("b", tables),), ()))
    floats = page.split(r"\begin{table}")[1:]
    assert [part.count(r"r & $1.0$ \\") for part in floats] == [40, 30, 45, 45, 10]
