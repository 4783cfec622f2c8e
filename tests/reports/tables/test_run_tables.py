"""Tables of a run by task, subset and protocol, and each format as a whole against a file that was read by a person."""

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from instructedit.benchmark.results.records import RunFile, Score
from instructedit.benchmark.results.summary import summarise
from instructedit.editors import InputError
from instructedit.reports.render.formats import write
from instructedit.reports.render.html import render
from instructedit.reports.render.report import Block, Cell, Report, Table
from instructedit.reports.tables.build import make_table

from ..conftest import line

GOLDEN = Path(__file__).with_name("golden")


def printed(sheet, form: str, out: Path | None = None) -> str:
    console = Console(width=110, file=io.StringIO())
    write(sheet, form, out, console)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("terminal", "tasks.txt"),
        ("markdown", "tasks.md"),
        ("csv", "tasks.csv"),
        ("json", "tasks.json"),
        ("html", "tasks.html"),
        ("latex", "tasks.tex"),
    ],
)
def test_each_format_as_a_whole(folder: Path, form: str, name: str) -> None:
    text = "\n".join(line.rstrip() for line in printed(make_table("tasks", [folder]), form).split("\n"))
    if os.environ.get("INSTRUCTEDIT_WRITE_GOLDEN"):
        (GOLDEN / name).write_text(text, encoding="utf-8", newline="\n")
    assert text == (GOLDEN / name).read_text(encoding="utf-8")
    if form != "terminal":
        assert printed(make_table("tasks", [folder]), form, folder / "file") == ""
        assert "\n".join(line.rstrip() for line in (folder / "file").read_text(encoding="utf-8").split("\n")) == text


def test_tasks_shows_the_chosen_protocol_alone(folder: Path) -> None:
    report = make_table("tasks", [folder], "free_generation").report
    titles = [[table.title for table in block.tables] for block in report.blocks]
    assert titles == [["Free generation (%)", "Drift and fluency"], ["Sentiment (%)", "Drift and fluency"]]


def test_protocols_of_one_measure_stand_in_columns_of_their_own(folder: Path) -> None:
    facts, attitude = make_table("protocols", [folder]).report.blocks
    (table,) = facts.tables
    assert table.title == "Reliability (%), each protocol"
    assert table.heads == ("Exact match, teacher forced", "Free generation")
    # ft-l is right in 10 of 20, and half as right when it speaks freely.
    assert [cell.value for cell in table.cells[1] if cell] == ["50.0", "25.0"]
    (table,) = attitude.tables
    assert table.heads == ("Edit success\nn = 20", "Z_sent\nn = 20", "Z_topic\nn = 20")


def test_subsets_are_columns(tmp_path: Path, run: RunFile) -> None:
    fact = {"measure": "portability", "protocol": "teacher_forced_exact"}
    lines = [
        line(
            *(run, "counterfact", index, editor),
            [
                Score(subset="Reasoning", value=float(index < 5), **fact),
                *([Score(subset="Subject_Aliasing", value=1.0, **fact)] if index < 4 else []),
            ],
        )
        for editor in ("ft-l", "grace")
        for index in range(20)
    ]
    (tmp_path / "run.json").write_text(run.model_dump_json(), encoding="utf-8")
    (tmp_path / "summary.json").write_text(summarise(run, lines).model_dump_json(), encoding="utf-8")
    sheet = make_table("subsets", [tmp_path])
    ((table,),) = [block.tables for block in sheet.report.blocks]
    assert table.title == "Portability, exact match, teacher forced (%), by subset of the probes"
    assert table.heads == ("Reasoning\nn = 20", "Subject_Aliasing\nn = 4")
    assert [cell and cell.value for cell in table.cells[1]] == ["25.0", "100.0"]
    assert not any(cell and cell.mark.rank for row in table.cells for cell in row)


def test_rows_of_two_runs_are_told_apart(tmp_path: Path, folder: Path, run: RunFile) -> None:
    other = run.model_copy(update={"spec": run.spec.model_copy(update={"seed": 8}), "digest": "f" * 16})
    second = tmp_path / "second"
    second.mkdir()
    (second / "run.json").write_text(other.model_dump_json(), encoding="utf-8")
    text = (folder / "summary.json").read_text(encoding="utf-8").replace(run.digest, other.digest)
    (second / "summary.json").write_text(text, encoding="utf-8")
    sheet = make_table("tasks", [folder, second])
    table = sheet.report.blocks[0].tables[0]
    names = [
        f"{editor} ({digest[:8]})" for digest in (run.digest, other.digest) for editor in ("none", "ft-l", "grace")
    ]
    assert list(table.rows) == names
    assert {record["run"] for record in sheet.records} == {run.digest, other.digest}
    # The best was not compared with the rows of the other run.
    assert not any(cell and cell.mark.rank for row in table.cells for cell in row)
    assert any("Rows of two runs are not compared" in note for note in sheet.report.footer)


def test_a_shared_n_goes_into_the_head_of_its_column() -> None:
    cells = ((Cell("1", n=5), Cell("2", n=5), None), (Cell("3", n=5), Cell("4", n=6), Cell("5")))
    table = Table("title", "stub", ("a", "b", "c"), ("x", "y"), cells).share_n()
    assert table.heads == ("a\nn = 5", "b", "c")
    assert [[cell and cell.n for cell in line] for line in table.cells] == [[None, 5, None], [None, 6, None]]


def test_html_shows_text_of_the_data_and_never_obeys_it() -> None:
    evil = '<script>alert("1")</script>&\'<b>'
    table = Table(evil, evil, (f"{evil}\n{evil}",), (evil,), ((Cell(evil, evil, 1, evil),),), (evil,))
    report = Report(evil, (evil,), ((evil, evil),), (Block(evil, (table,), text=(evil,)),), (evil,))
    page = render(report)
    assert "<script" not in page
    assert "<b>" not in page
    # Title, heading, warning, header (2), block (2), caption, stub, head (2), group, row, cell (3), footer.
    assert page.count("&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;&amp;&#39;&lt;b&gt;") == 17
    assert "http" not in page


@pytest.mark.parametrize(
    ("form", "out", "words"),
    [
        ("pdf", None, "--format: 'pdf' is not known; expected one of terminal, markdown, csv, json, html, latex"),
        ("terminal", "x.txt", "a file needs --format markdown, csv"),
        ("csv", "no/such/x.csv", r"x\.csv: cannot be written \(No such file"),
    ],
)
def test_a_format_or_file_that_cannot_be_is_a_sentence(folder: Path, form, out, words) -> None:
    with pytest.raises(InputError, match=words):
        printed(make_table("tasks", [folder]), form, out and folder / out)
