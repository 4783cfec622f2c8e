"""LaTeX for a paper: every number of a table is that of the summary, titles replace names, and `main.tex` compiles."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from instructedit.benchmark.results.records import RunFile, RunSummary
from instructedit.editors import InputError
from instructedit.reports.paper import Choice, paper_tables, write_paper
from instructedit.reports.tables.sources import group_of
from instructedit.reports.titles import row_title, task_title

TITLES = {"ft-l": "FT-L", "grace": "GRACE", "none": "no edit", "counterfact": "CounterFact"}


@pytest.fixture
def titled(run: RunFile) -> RunFile:
    return run.model_copy(update={"titles": TITLES})


def lines_of(text: str) -> dict[str, list[str]]:
    """Return the cells of each row of a table, by the row's title."""
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    rows = [line.strip().removesuffix(r"\\").split("&") for line in body.strip().splitlines()]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in rows}


def test_every_number_of_a_table_is_that_of_the_summary(titled: RunFile, summary: RunSummary) -> None:
    text = dict(paper_tables(group_of(titled, summary), Choice()))["single-task-counterfact"]
    found = lines_of(text)
    assert set(found) == {"no edit", "FT-L", "GRACE"}
    for row, title in (("ft-l", "FT-L"), ("grace", "GRACE")):
        for place, measure in enumerate(("reliability", "generalization", "locality")):
            (mean,) = (
                mean
                for mean in summary.means
                if (mean.editor, mean.task, mean.measure, mean.protocol, mean.subset)
                == (row, "counterfact", measure, "teacher_forced_exact", None)
            )
            value, ends = found[title][2 * place : 2 * place + 2]
            assert float(re.sub(r"[^\d.]", "", value)) == pytest.approx(100 * mean.mean, abs=0.05)
            low, high = map(float, re.findall(r"\d+\.\d+", ends))
            assert (low, high) == pytest.approx((100 * (mean.low or 0), 100 * (mean.high or 0)), abs=0.05)


def test_a_table_has_a_label_a_caption_and_its_sources(titled: RunFile, summary: RunSummary) -> None:
    text = dict(paper_tables(group_of(titled, summary), Choice()))["single-task-counterfact"]
    assert r"\label{tab:single-task-counterfact}" in text
    assert r"\caption{CounterFact, single-task: exact match, teacher forced (percent, with 95 \% intervals)" in text
    comments = [line for line in text.splitlines() if line.startswith("%")]
    assert any(titled.digest in line for line in comments) and any("abababab" in line for line in comments)


def test_rows_measures_and_intervals_are_chosen(titled: RunFile, summary: RunSummary) -> None:
    choice = Choice(("grace",), ("reliability",), "free_generation", intervals=False)
    tables = [text for _, text in paper_tables(group_of(titled, summary), choice)]
    (text,) = (text for text in tables if "CounterFact" in text)
    assert list(lines_of(text)) == ["GRACE"] and len(lines_of(text)["GRACE"]) == 1
    assert "free generation" in text and "intervals" not in text


def test_titles_of_rows_and_tasks(titled: RunFile) -> None:
    first = titled.spec.editors[0].model_copy(update={"name": "grace-deep", "method": "grace"})
    other = first.model_copy(update={"name": "mine"})
    spec = titled.spec.model_copy(update={"editors": (*titled.spec.editors, first, other)})
    run = titled.model_copy(update={"spec": spec})
    assert [row_title(run, row) for row in ("grace", "grace-deep", "mine")] == ["GRACE", "GRACE (deep)", "mine"]
    assert (task_title(run, "counterfact"), task_title(run, "convsent")) == ("CounterFact", "convsent")


def test_unknown_rows_are_refused_and_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--row: found 'grease', expected rows of the results: ft-l, grace, none"):
        write_paper(folder, tmp_path / "paper", Choice(("grease",)))
    assert not (tmp_path / "paper").exists()


def test_the_same_results_give_the_same_files(folder: Path, tmp_path: Path) -> None:
    first, second = (write_paper(folder, tmp_path / name)[0] for name in "ab")
    assert first[0].name == "main.tex"
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    for path in first[1:]:
        assert rf"\input{{{path.parent.name}/{path.stem}}}" in first[0].read_text(encoding="utf-8")


def test_a_figure_has_a_caption_for_readers_and_its_runs_as_comments(
    folder: Path, run: RunFile, tmp_path: Path
) -> None:
    spec = run.spec.model_copy(update={"setting": "direct"})
    (folder / "run.json").write_text(run.model_copy(update={"spec": spec}).model_dump_json(), encoding="utf-8")
    write_paper(folder, tmp_path / "paper")
    lines = (tmp_path / "paper" / "figures" / "tradeoff.tex").read_text(encoding="utf-8").splitlines()
    comments = [line for line in lines if line.startswith("%")]
    (caption,) = [
        line for line in lines if line.startswith(r"\caption{Reliability (the edit succeeds) against locality")
    ]
    assert "(gpt2, 2.2 M parameters)." in caption
    assert any(run.digest in line for line in comments)
    assert not any(run.digest in line for line in lines if line not in comments)
    assert r"\label{fig:tradeoff}" in lines


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_main_tex_compiles(folder: Path, tmp_path: Path) -> None:
    paths, _ = write_paper(folder, tmp_path / "paper")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "main.tex"]
    done = subprocess.run(command, cwd=paths[0].parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
