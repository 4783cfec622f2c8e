"""The LaTeX files go through a real pdflatex, and no box is wider than its line; skipped where there is none."""

import shutil
import subprocess
from pathlib import Path

import pytest

from instructedit.reports.render.formats import FORMATS, Sheet
from instructedit.reports.reproduction.reproduce import reproduce
from instructedit.reports.tables.build import make_table, report_run

pytestmark = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")

PAGE = r"""\documentclass[a4paper]{article}
\usepackage[margin=2cm]{geometry}
\usepackage{booktabs,graphicx}
\begin{document}
\input{table}
\end{document}
"""


def typeset(folder: Path) -> str:
    """Typeset `table.tex` in a folder and return the log."""
    (folder / "page.tex").write_text(PAGE, encoding="utf-8")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    found = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout[-2000:]
    assert (folder / "page.pdf").read_bytes().startswith(b"%PDF")
    return found.stdout


def of_sheet(sheet: Sheet, folder: Path) -> str:
    (folder / "table.tex").write_text(FORMATS["latex"](sheet), encoding="utf-8")
    return typeset(folder)


@pytest.mark.parametrize("name", ["paper:table3", "paper:table1", "paper:seen-unseen", "paper:figure4c", "tasks"])
def test_a_table_is_typeset(paper_suite: Path, tmp_path: Path, name: str) -> None:
    assert "Overfull" not in of_sheet(make_table(name, [paper_suite]), tmp_path)


def test_a_comparison_of_several_pages_is_typeset(paper_suite: Path, tmp_path: Path) -> None:
    log = of_sheet(reproduce("paper:table3", [paper_suite]), tmp_path)
    assert "Overfull" not in log
    assert "Float too large" not in log


def test_the_report_of_a_run_is_typeset(folder: Path) -> None:
    report_run(folder)
    assert "Overfull" not in typeset(folder / "report")
