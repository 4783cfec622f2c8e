"""From a results folder to files, and the sentences for folders that hold none."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from instructedit.editors import InputError
from instructedit.reports.tables.build import report_run


def test_three_files_with_the_same_bytes_each_time(folder: Path) -> None:
    paths = report_run(folder)
    assert [path.relative_to(folder).as_posix() for path in paths] == [
        "report/table.md",
        "report/table.csv",
        "report/table.tex",
    ]
    first = [path.read_bytes() for path in paths]
    assert all(first)
    assert not any(b"\r" in content for content in first)
    assert [path.read_bytes() for path in report_run(folder)] == first


def test_terminal(folder: Path) -> None:
    console = Console(width=110, record=True, quiet=False, file=(folder / "out").open("w"))
    report_run(folder, console, full=True)
    assert "grace   94.7* [74.0, 99.9] n=19" in console.export_text()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("run.json", r"run\.json: cannot be read \(No such file"),
        ("summary.json", "not finished, there is no summary.json; the same run command resumes it"),
    ],
)
def test_a_missing_file_is_a_sentence(folder: Path, name: str, sentence: str) -> None:
    (folder / name).unlink()
    with pytest.raises(InputError, match=sentence):
        report_run(folder)
    assert not (folder / "report").exists()


def test_a_report_that_cannot_be_written_is_a_sentence(folder: Path) -> None:
    (folder / "report").write_text("mine")
    with pytest.raises(InputError, match=r"table\.md: cannot be written \(File exists\)"):
        report_run(folder)
    (folder / "report").unlink()
    (folder / "report" / "table.csv").mkdir(parents=True)
    with pytest.raises(InputError, match=r"table\.csv: cannot be written \(Is a directory\)"):
        report_run(folder)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"schema_version": 99, "novel": 1}, "schema version 99, but this program reads version 2"),
        ({"schema_version": None}, "schema version None"),
        ({"novel": 1}, "field 'novel': Extra inputs"),
        ({"digest": "f" * 16}, "run.json is of run 0123456789abcdef but summary.json of run ffff"),
    ],
)
def test_a_strange_summary_is_a_sentence(folder: Path, changes: dict[str, object], sentence: str) -> None:
    path = folder / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        report_run(folder)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_what_is_no_record_is_a_sentence(folder: Path, text: str) -> None:
    (folder / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"run\.json"):
        report_run(folder)


def test_a_report_needs_no_torch(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from instructedit.benchmark.results import integrity\n"
        "from instructedit.reports.tables.build import report_run; integrity.check_identity = lambda *_, **__: None\n"
        "report_run(Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(folder)], check=False).returncode == 0
