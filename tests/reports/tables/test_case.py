"""One case on the terminal, and the sentences for files that cannot be read."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from instructedit.benchmark.results.records import Answer, CaseRecord, RunFile
from instructedit.editors import InputError
from instructedit.reports.tables.case import Case, draw_case, load_case

from ..conftest import line, records, run_file


def write(folder: Path, lines: list[bytes]) -> None:
    (folder / "cases.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))


@pytest.fixture
def lines(run: RunFile) -> list[bytes]:
    return [record.model_dump_json().encode() for record in records(run)]


def page(*editors: str, controls: frozenset[str] = frozenset(("none",))) -> str:
    said = Answer(role="locality", subset="other", prompt="B is", accepted=("x",), before="in\nEurope", generated="far")
    case = [
        CaseRecord(run="r", task="t", case_id="t/0", editor=e, prompt="A", target="T", subject="S", answers=(said,))
        for e in editors
    ]
    console = Console(width=100, file=io.StringIO(), record=True)
    draw_case(Case(tuple(case), controls), console)
    return console.export_text()


def test_what_was_said_before_is_shown_where_no_control_says_it() -> None:
    assert [row.split()[0] for row in page("grace", "ft-l").splitlines()[-3:]] == ["before", "grace", "ft-l"]
    assert "in Europe" in page("grace")
    assert "in Europe" in page("none", controls=frozenset())
    assert "in Europe" not in page("none", "grace")


def test_a_case_has_a_record_for_each_editor(folder: Path, lines: list[bytes]) -> None:
    write(folder, lines)
    with (folder / "cases.jsonl").open("ab") as file:
        file.write(b'{"schema_version": 2, "ru')  # a killed run's last line
    case = load_case(folder, "counterfact/test/3")
    assert [record.editor for record in case.records] == ["none", "ft-l", "grace"]
    assert case.controls == {"none"}


def test_an_unknown_case_is_a_sentence(folder: Path, lines: list[bytes]) -> None:
    write(folder, lines)
    with pytest.raises(InputError, match=r"no case 'convsent/test/177' among 40\. Did you mean 'convsent/test/17'\?$"):
        load_case(folder, "convsent/test/177")
    with pytest.raises(InputError, match=r"no case '!' among 40\.$"):
        load_case(folder, "!")


def test_what_is_not_utf8_names_its_line(folder: Path, lines: list[bytes]) -> None:
    write(folder, [lines[0], lines[1].replace(b"Topic", b"\xff"), lines[2]])
    with pytest.raises(InputError, match=r"cases\.jsonl, line 2, column \d+: found the byte 0x"):
        load_case(folder, "counterfact/test/0")


def test_rows_name_their_stage_where_a_case_has_several() -> None:
    said = Answer(role="locality", subset="other", prompt="B is", accepted=("x",), generated="far")
    case = [line(run_file(), "t", 0, "mend", (), stage=stage, answers=(said,)) for stage in ("after-edit", "after-all")]
    console = Console(width=100, file=io.StringIO(), record=True)
    draw_case(Case(tuple(case), frozenset()), console)
    text = console.export_text()
    assert "mend, after-edit" in text
    assert "mend, after-all" in text
