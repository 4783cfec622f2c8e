"""What stands in which cell, and how each renderer writes it."""

import io
import re
from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest
from rich.console import Console

from instructedit.benchmark.results.records import Consistency, Mean, Method, RunFile, RunSummary
from instructedit.benchmark.results.summary import summarise
from instructedit.reports.render import latex, markdown, terminal
from instructedit.reports.render.report import Report, Table
from instructedit.reports.tables import longform
from instructedit.reports.tables.captions import METHODS, intervals
from instructedit.reports.tables.run_facts import rows
from instructedit.reports.tables.run_tables import run_report

from ..conftest import records
from ..suites import trained


@pytest.fixture
def report(run: RunFile, summary: RunSummary) -> Report:
    return run_report(run, summary)


def section(report: Report, task: str, title: str) -> Table:
    (block,) = [block for block in report.blocks if block.heading == task]
    (table,) = [table for table in (*block.tables, *block.comparisons) if table.title.startswith(title)]
    return table


def text_of(report: Report, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    terminal.draw(report, console)
    return "\n".join(line.rstrip() for line in console.export_text().splitlines())


def test_no_table_mixes_protocols_of_matching(report: Report) -> None:
    titles = [table.title for table in report.blocks[0].tables]
    assert titles == ["Exact match, teacher forced (%)", "Free generation (%)", "Drift and fluency"]
    assert [table.title for table in report.blocks[1].tables] == [
        "Sentiment (%)",
        "Token share, teacher forced (%)",
        "Drift and fluency",
    ]


def test_n_is_in_the_head_only_where_all_rows_share_it(report: Report) -> None:
    exact = section(report, "counterfact", "Exact")
    assert exact.heads == ("Reliability", "Generalization†", "Locality")
    assert [[cell and cell.n for cell in row] for row in exact.cells] == [[20] * 3, [20] * 3, [19] * 3]
    sentiment = section(report, "convsent", "Sentiment")
    assert sentiment.heads == ("Reliability ES\nn = 20", "Reliability z_sent\nn = 20", "Reliability z_topic\nn = 20")
    assert all(cell and cell.n is None for row in sentiment.cells for cell in row)


def test_best_is_shown_to_be_better_and_never_the_control(report: Report) -> None:
    best = {
        (block.heading, head.partition("\n")[0], row)
        for block in report.blocks
        for table in block.tables
        for row, cells in zip(table.rows, table.cells, strict=True)
        for head, cell in zip(table.heads, cells, strict=True)
        if cell and cell.mark.rank == 1 and not cell.mark.tied
    }
    assert best == {
        ("counterfact", "Reliability", "grace"),
        ("counterfact", "Generalization†", "ft-l"),
    }  # on ConvSent nobody is better than the unedited model: grace is best of those that are worse


def test_a_tie_and_a_second_are_marked_as_such(report: Report) -> None:
    exact = section(report, "counterfact", "Exact")
    words = [[cell and cell.mark.word for cell in row] for row in exact.cells]
    # Locality is 100 against 75, but four cases make the difference: sixteen sign patterns cannot tell it from chance.
    # Generalization 10 against 0 of 20 is shown, 2 against 0 is not.
    assert words == [["", "", ""], ["second", "best", ""], ["best", "", ""]]
    assert exact.note == ("n is too small to tell the best rows apart, none is marked: Locality (2 of 2 rows tie).")
    assert exact.note in text_of(report, 400) and exact.note in markdown.render(report)
    assert "none is marked: Locality (2 of 2 rows tie)." in latex.render(report)
    sentiment = section(report, "convsent", "Sentiment")
    assert not any(cell and cell.mark.rank for row in sentiment.cells for cell in row)
    assert sentiment.note == ""
    fluency = section(report, "counterfact", "Drift")
    assert not any(cell and cell.mark.rank for row in fluency.cells for cell in row)


def test_one_editing_row_wins_against_nobody(run: RunFile) -> None:
    spec = run.spec.model_copy(update={"editors": run.spec.editors[:2]})
    alone = run.model_copy(update={"spec": spec})
    report = run_report(alone, summarise(alone, [r for r in records(run) if r.editor != "grace"]))
    assert not any(c and c.mark.rank for b in report.blocks for t in b.tables for row in t.cells for c in row)
    assert report.blocks[0].comparisons == ()  # no pair without the control


def test_a_missing_number_is_a_dash(run: RunFile) -> None:
    kept = [r for r in records(run) if (r.editor, r.task) != ("ft-l", "convsent")]
    report = run_report(run, summarise(run, kept))
    assert section(report, "convsent", "Sentiment").cells[1] == (None, None, None)
    assert "| ft-l | - | - | - |" in markdown.render(report)
    assert "ft-l & -- & & -- & & -- & \\\\" in latex.render(report)


def test_the_control_is_known_by_its_method(run: RunFile, summary: RunSummary) -> None:
    methods = {"none": "grace", "ft-l": "none", "grace": "grace"}
    editors = tuple(e.model_copy(update={"method": methods[e.name]}) for e in run.spec.editors)
    report = run_report(run.model_copy(update={"spec": run.spec.model_copy(update={"editors": editors})}), summary)
    assert section(report, "counterfact", "Paired").rows == ("none vs grace",)
    exact = section(report, "counterfact", "Exact")
    words = [[cell and cell.mark.word for cell in row] for row in exact.cells]
    # ft-l is the one to beat: reliability 0 and 18 against its 10, generalization 0 and 2 against its 10.
    assert words == [[""] * 3, [""] * 3, ["best", "", ""]]
    assert "Control, without any edit: 'ft-l'; never marked, paired only in summary.json." in report.footer


def test_the_split_is_named_everywhere(run: RunFile, summary: RunSummary) -> None:
    run = run.model_copy(update={"spec": run.spec.model_copy(update={"split": "train"})})
    report = run_report(run, summary)
    words = "single-task, split train, schedule single"
    assert all(words in page for page in (markdown.render(report), latex.render(report), text_of(report, 110)))
    assert set(pd.read_csv(io.StringIO(longform.run_csv(run, summary)))["split"]) == {"train"}


def test_failed_cases_are_named_under_their_editor(run: RunFile, summary: RunSummary) -> None:
    counts = summary.counts | {"counterfact": {"done": 59, "failed": 1, "failed under grace": 1, "skipped": 0}}
    notes = run_report(run, summary.model_copy(update={"counts": counts})).footer
    assert "counterfact, lines (a case under an editor): done 59, failed 1, failed under grace 1, skipped 0." in notes
    assert any("failed or skipped case is left out of its editor's means" in note for note in notes)
    assert "counterfact, of the whole file, before any limit: no rephrase 1." in notes
    sound = summary.model_copy(update={"counts": {"counterfact": {"done": 60, "failed": 0, "skipped": 0}}})
    assert not any("is left out of" in note for note in run_report(run, sound).footer)


def test_a_row_without_any_number_is_a_warning(run: RunFile) -> None:
    lost = [
        r.model_copy(update={"status": "failed", "reason": "No.", "scores": ()}) if r.editor == "ft-l" else r
        for r in records(run)
    ]
    assert run_report(run, summarise(run, lost)).warnings == (
        "'ft-l' has no number for counterfact: 20 cases failed, none was scored.",
        "'ft-l' has no number for convsent: 20 cases failed, none was scored.",
    )


def test_training_and_instruction_of_a_row_are_named(run: RunFile) -> None:
    editors = (
        trained("mend@recent", "recent", only=["convsent"]),
        trained("instructedit#seen-0", "recent", "zsre", instruction="seen-0"),
        trained("instructedit#unseen", "recent", "zsre", instruction="unseen"),
        trained("instructedit#none", "recent", "zsre", instruction="none", only=["counterfact"]),
    )
    assert list(rows(editors)) == [
        ("Training", "mend@recent: recent 90 (and 10 for validation), 100 % of draws"),
        (
            "Training",
            "instructedit#*: recent 90 (and 10 for validation), 50 % of draws, zsre 90 (and 10 for validation), 50 % "
            "of draws",
        ),
        ("Trained for", "mend@recent, instructedit#*: one request per edit"),
        ("Form", "instructedit#*: instruction on edit and probes"),
        ("Tested on", "mend@recent: convsent; instructedit#none: counterfact"),
    ]


def test_stages_never_share_a_table(run: RunFile, summary: RunSummary) -> None:
    staged = {
        field: tuple(
            n.model_copy(update={"stage": stage})
            for stage in ("after-all", "after-10", "after-9")
            for n in getattr(summary, field)
        )
        for field in ("means", "comparisons")
    }
    block = run_report(run, summary.model_copy(update=staged)).blocks[0]
    exact = [table for table in block.tables if table.title.startswith("Exact")]
    assert [table.title for table in exact] == [
        "Exact match, teacher forced (%), stage after-9",
        "Exact match, teacher forced (%), stage after-10",
        "Exact match, teacher forced (%), stage after-all",
    ]
    first, second = (
        [[cell and replace(cell, link="") for cell in line] for line in table.cells] for table in exact[:2]
    )
    assert first == second
    assert [table.title.rpartition(", ")[2] for table in block.comparisons] == [
        "stage after-9",
        "stage after-10",
        "stage after-all",
    ]


def test_small_negative_numbers_are_not_minus_zero(run: RunFile, summary: RunSummary) -> None:
    changed = [c.model_copy(update={"difference": -1e-9}) for c in summary.comparisons]
    report = run_report(run, summary.model_copy(update={"comparisons": tuple(changed)}))
    cell = section(report, "counterfact", "Paired").cells[0][0]
    assert cell is not None
    assert cell.value == "+0.0"


EXACT_NARROW = """\
grace               94.7*               10.5               100.0
        [74.0, 99.9] n=19   [1.3, 33.1] n=19  [82.4, 100.0] n=19
"""

PAIRED_MARKDOWN = """\
### Paired differences, exact match (points, first minus second)

| Editors | Reliability, n = 19 | Generalization†, n = 19 | Locality, n = 19 |
| --- | ---: | ---: | ---: |
| ft-l vs grace | -42.1 [-62.7, -13.5] p=0.008 | +42.1 [+13.5, +62.7] p=0.016 | -21.1 [-40.4, +2.3] p=0.250 |
"""


def test_a_narrow_terminal_stacks_and_cuts_nothing(report: Report) -> None:
    page = text_of(report, 80)
    assert EXACT_NARROW in page
    assert "…" not in page
    assert max(map(len, page.splitlines())) <= 80


def test_markdown(report: Report) -> None:
    page = markdown.render(report)
    assert PAIRED_MARKDOWN in page
    assert "| ft-l | <ins>50.0</ins> [27.2, 72.8] n=20 | **50.0** [27.2, 72.8] n=20 | 75.0 [50.9, 91.3] n=20 |" in page
    # All cases are 0.25, and KL has no bound.
    assert "| grace | 0.250 no interval |" in page
    assert "| none | 0.000 by definition |" in page


def test_latex_is_balanced_and_escaped(report: Report) -> None:
    page = latex.render(report)
    begun, ended = (Counter(part.partition("}")[0] for part in page.split(word)[1:]) for word in ("\\begin{", "\\end{"))
    assert begun == ended
    assert page.count("{") == page.count("}")
    assert "tiny\\_gpt2" in page
    for line in page.splitlines()[1:]:
        assert "%" not in line.replace("\\%", "").removesuffix("{%")


def test_latex_names_cannot_break_out(run: RunFile, summary: RunSummary) -> None:
    evil = r"50% a_b & \input{x} #1 $y$ [z] <~^|>"
    provenance = run.provenance.model_copy(update={"model": evil})
    page = latex.render(run_report(run.model_copy(update={"provenance": provenance}), summary))
    assert (
        r"50\% a\_b \& \textbackslash{}input\{x\} \#1 \$y\$ {[}z] "
        r"\textless{}\textasciitilde{}\textasciicircum{}\textbar{}\textgreater{}"
    ) in page


def test_csv_reads_back_as_it_was(run: RunFile, summary: RunSummary) -> None:
    frame = pd.read_csv(io.StringIO(longform.run_csv(run, summary)), keep_default_na=False)
    assert tuple(frame.columns) == longform.FIELDS
    assert set(frame["run"]) == {run.digest}
    rows = frame[list(Mean.model_fields)].to_dict("records")
    read = [Mean.model_validate({key: None if value == "" else value for key, value in row.items()}) for row in rows]
    assert len(read) == len(summary.means)
    for ours, theirs in zip(read, summary.means, strict=True):
        # pandas' default parser may be off in the last digit
        assert ours.model_dump() == {
            key: pytest.approx(value, rel=1e-14) if isinstance(value, float) else value
            for key, value in theirs.model_dump().items()
        }


def test_trouble_is_loud_everywhere(run: RunFile, summary: RunSummary) -> None:
    broken = summary.model_copy(update={"valid": False, "invalid_reason": "The weights changed.", "complete": False})
    report = run_report(run, broken)
    page = text_of(report, 120)
    assert page.startswith("!!! INVALID RUN, DO NOT USE THESE NUMBERS: The weights changed.\n!!! INCOMPLETE RUN")
    assert page.count("INVALID RUN") == 2
    assert "> **INVALID RUN, DO NOT USE THESE NUMBERS: The weights changed.**" in markdown.render(report)
    floats = latex.render(report).split(r"\begin{table}")[1:]
    assert all("INVALID RUN" in part for part in floats)
    assert ",False,False," in longform.run_csv(run, broken)


def test_a_sound_run_warns_of_nothing(report: Report) -> None:
    assert report.warnings == ()


def test_a_word_of_the_header_is_apart_from_its_value(report: Report) -> None:
    text = text_of(replace(report, header=(("Run", "one"), ("Task options", "convsent: edit = reply"))), 80)
    assert text.startswith("Run          one\nTask options convsent: edit = reply\n")


@pytest.mark.parametrize("method", METHODS)
def test_how_intervals_are_made_is_understood_of_each_method_alone(method: Method) -> None:
    """A footer names the methods that its table has; one must not lean on another that is not there."""
    (sentence,) = intervals([method])
    assert not re.search(r"elsewhere|\bother differences|that variance", sentence)


def test_what_teacher_forcing_does_not_find_is_said(run: RunFile, summary: RunSummary) -> None:
    sound = Consistency(editor="none", task="counterfact", probes=9, free=5, otherwise=0)
    example = {"case_id": "counterfact/test/7", "prompt": "丁国的首都是", "accepted": "黑山", "generated": "黑山。"}
    broken = sound.model_copy(update={"otherwise": 4, **example})
    notes = run_report(run, summary.model_copy(update={"consistency": (sound,)})).footer
    assert not any("teacher forcing" in note and "counterfact" in note for note in notes)
    notes = run_report(run, summary.model_copy(update={"consistency": (broken,)})).footer
    (said,) = (note for note in notes if note.startswith("counterfact, 'none': 4 of 5 probes with one accepted answer"))
    assert all(repr(text) in said for text in ("丁国的首都是", "黑山", "黑山。")) and "(counterfact/test/7)" in said


def test_the_rule_that_joins_texts_is_named_where_it_decides(run: RunFile, summary: RunSummary) -> None:
    assert "Texts" not in dict(run_report(run, summary).header)
    spec = run.spec.model_copy(update={"joints": "scripts-1"})
    assert spec.digest != run.spec.digest
    assert "scripts-1" in dict(run_report(run.model_copy(update={"spec": spec}), summary).header)["Texts"]
