"""The site as files: whole, the same every time, and free of markup that comes from the data."""

import hashlib
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from typer.testing import CliRunner

from instructedit.cli.main import app
from instructedit.editors.errors import InputError
from instructedit.reports.render.html import shown
from instructedit.reports.site.write import write_site

from ..suites import trained, write_index
from ..suites import write_run as write_suite_run
from .reading import Page, data
from .runs import HOSTILE, make_case, make_run, ordinary, write_run

POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'"


def pages(site):
    return {path.name: Page(path) for path in sorted(site.glob("*.html"))}


def digest(folder):
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    return found.hexdigest()


def test_files_of_a_site(site):
    files = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    assert files == {
        *("index.html", "run-0123456789abcdef.html", "means.html", "cases.html", "case.html"),
        *(f"assets/{name}" for name in ("style.css", "fold.js", "table.js", "data.js")),
        *(f"assets/{name}" for name in ("means.js", "cases.js", "case.js")),
        *("data/site.js", "data/means.js", "data/0123456789abcdef/index.js", "data/0123456789abcdef/0.js"),
    }


def test_same_files_same_bytes(tmp_path, site):
    write_site(ordinary(tmp_path / "elsewhere"), tmp_path / "again")
    assert digest(tmp_path / "again") == digest(site)


def test_every_address_leads_to_a_file_of_the_site(site, hostile_site):
    for folder in (site, hostile_site):
        for name, page in pages(folder).items():
            for address in page.addresses:
                path = unquote(re.split("[?#]", address)[0])
                assert not path or (folder / path).is_file(), f"{name}: {address}"


def test_no_page_runs_what_is_not_a_file_of_its_own(site, hostile_site):
    for folder in (site, hostile_site):
        for page in pages(folder).values():
            policies = [attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv")]
            assert policies == [POLICY]
            for tag, attrs in page.tags:
                assert tag != "script" or set(attrs) == {"src", "defer"}
                assert tag not in {"iframe", "object", "embed", "base", "svg", "style"}
                assert not [key for key in attrs if key.startswith("on") or key == "style"]
            assert not re.search(r"https?://", " ".join(page.addresses))


def test_hostile_texts_are_text(hostile_site):
    found = pages(hostile_site)
    overview, report = found["index.html"].text, found["run-0123456789abcdef.html"].text
    for text in HOSTILE[:3]:
        assert text in overview
        assert text in report
    assert not any(tag in {"img", "svg"} for page in found.values() for tag, _ in page.tags)


def test_scripts_of_the_site_make_no_markup_from_strings(site):
    for path in (site / "assets").glob("*.js"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|fetch\(", text
        )


def test_control_characters_are_shown_by_their_code():
    assert shown("a\u202eb<i>\u0000") == (
        '<bdi>a<span class="control">U+202E</span>b&lt;i&gt;<span class="control">U+0000</span></bdi>'
    )


def test_browser_shows_the_same_characters_by_their_code(site):
    script = (site / "assets" / "data.js").read_text(encoding="utf-8")
    (theirs,) = re.findall(r"const CONTROL = /\((\[.*?\])\)/u;", script)
    pattern = re.compile(theirs)
    codes = (*range(0x2100), *range(0xD700, 0xE100), *range(0xFE00, 0x10000))
    ours = {code for code in codes if "control" in shown(chr(code))}
    assert {code for code in codes if pattern.search(chr(code))} == ours
    assert ours >= {0x00, 0x1B, 0x202E, 0x2028, 0x2066, 0xD800, 0xDFFF, 0xFEFF}
    assert not ours & {ord(character) for character in "\t\n aé\u200d"}


def test_overview_needs_no_script(site):
    page = pages(site)["index.html"]
    assert not any(tag == "script" for tag, _ in page.tags)
    text = " ".join(page.text.split())
    assert "0123456789abcdef single-task single test 7 zsre 3 3 1 complete" in text
    # FT-L is right in two of three cases; the failed case leaves GRACE two.
    assert re.search(r"ft-l 66\.7=? \[\S+ \S+\] n=3 ", text)
    assert re.search(r"grace 100\.0=? \[\S+ \S+\] n=2 ", text)
    assert "Exact match, teacher forced: every answer token is the most likely one" in text


def test_invalid_run_is_said_on_every_page_with_numbers(tmp_path):
    run = make_run()
    lines = [make_case(run, "zsre/test/0", row.name, right=True, kept=True) for row in run.spec.editors]
    from instructedit.benchmark.results.summary import summarise

    summary = summarise(run, lines).model_copy(update={"valid": False, "invalid_reason": "Weights changed."})
    write_site(write_run(tmp_path / "run", run, lines, summary), tmp_path / "site")
    for page in pages(tmp_path / "site").values():
        assert "DO NOT USE THESE NUMBERS: Weights changed." in page.text


def test_figures_are_copied_and_shown(tmp_path):
    folder = ordinary(tmp_path / "run")
    (folder / "figures").mkdir()
    name = 'a "b" <c> #1.svg'
    (folder / "figures" / name).write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / "figures" / "notes.txt").write_text("no figure")
    (folder / "figures" / name).with_suffix(".md").write_text("# Heading\n\nWhat <b>it</b>\nshows.\n\nAnd what not.\n")
    (folder / "figures" / name).with_suffix(".csv").write_text("x,y\n")
    write_site(folder, tmp_path / "site")
    copied = {path.name for path in (tmp_path / "site" / "figures").iterdir()}
    assert copied == {name.replace(".svg", ending) for ending in (".svg", ".md", ".csv")}
    page = pages(tmp_path / "site")["index.html"]
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert "What <b>it</b> shows." in page.text
    assert "And what not." in page.text
    assert "Heading" not in page.text
    assert f"figures/{name.replace('.svg', '.csv')}" in map(unquote, page.addresses)
    assert [unquote(attrs["src"]) for attrs in images] == [f"figures/{name}"]
    assert images[0]["alt"] == 'A "b" <c> #1; described below'


def test_figures_are_drawn_with_the_site(tmp_path):
    for name in ("a" * 16, "b" * 16):
        run = make_run(name)
        run = run.model_copy(update={"spec": run.spec.model_copy(update={"setting": "direct"})})
        lines = [make_case(run, "zsre/test/0", row.name, right=True, kept=True) for row in run.spec.editors]
        write_run(tmp_path / "runs" / name, run, lines)
    write_site(tmp_path / "runs" / ("a" * 16), tmp_path / "one")
    assert {path.name for path in (tmp_path / "one" / "figures").glob("*.svg")} == {"tradeoff.svg"}
    page = pages(tmp_path / "one")["index.html"]
    assert "figures/tradeoff.svg" in page.addresses
    assert "Reliability (the edit succeeds) against locality" in page.text
    assert not (tmp_path / "runs" / ("a" * 16) / "figures").exists()
    write_site(tmp_path / "runs", tmp_path / "two")
    names = {path.name for path in (tmp_path / "two" / "figures").glob("*.svg")}
    assert names == {"tradeoff-aaaaaaaa.svg", "tradeoff-bbbbbbbb.svg"}


def test_overview_names_model_data_and_date(site):
    text = " ".join(pages(site)["index.html"].text.split())
    for fact in ("Model tiny_gpt2, gpt2, 2.2 M parameters", "Cases zsre 3 of 3", "Date 2026-01-01"):
        assert fact in text


def test_site_is_replaced_as_a_whole(tmp_path, site):
    out = tmp_path / "site"
    write_site(ordinary(tmp_path / "run"), out)
    (out / "data" / "0123456789abcdef" / "99.js").write_text("of an older site")
    write_site(tmp_path / "run", out)
    assert digest(out) == digest(site)
    assert not (tmp_path / "site.part").exists()


def test_folder_of_something_else_is_left_alone(tmp_path):
    folder = ordinary(tmp_path / "run")
    with pytest.raises(InputError, match="a new or an empty folder was expected"):
        write_site(folder, folder)
    assert (folder / "cases.jsonl").is_file()


def test_broken_run_leaves_the_site_as_it_was(tmp_path, site):
    folder, out = ordinary(tmp_path / "run"), tmp_path / "site"
    write_site(folder, out)
    with (folder / "cases.jsonl").open("a") as file:
        file.write("{\n")
    with pytest.raises(InputError, match="line 10: not valid JSON"):
        write_site(folder, out)
    assert digest(out) == digest(site)
    assert not (tmp_path / "site.part").exists()


def test_folder_of_runs(tmp_path):
    for name in ("a" * 16, "b" * 16):
        run = make_run(name)
        lines = [make_case(run, "zsre/test/0", row.name, right=True, kept=True) for row in run.spec.editors]
        write_run(tmp_path / "runs" / name, run, lines)
    (tmp_path / "runs" / ("a" * 16) / "summary.json").rename(tmp_path / "kept")
    write_site(tmp_path / "runs", tmp_path / "one")
    overview = pages(tmp_path / "one")["index.html"].text
    assert f"Run {'a' * 16} is left out: it is not finished." in overview
    (tmp_path / "kept").rename(tmp_path / "runs" / ("a" * 16) / "summary.json")
    write_site(tmp_path / "runs", tmp_path / "two")
    assert [run for run, _ in data(tmp_path / "two", "site")["runs"]] == ["a" * 16, "b" * 16]
    assert {f"run-{'a' * 16}.html", f"run-{'b' * 16}.html"} <= set(pages(tmp_path / "two"))


def test_folder_without_a_run(tmp_path):
    with pytest.raises(InputError, match="no finished run in it"):
        write_site(tmp_path, tmp_path / "site")


def test_command_writes_the_site_of_a_suite(tmp_path):
    rows = [trained("mend", "recent"), trained("instructedit", "recent")]
    entries = [
        write_suite_run(tmp_path, "multi-task", rows, seed, lambda row, *_: float(row == "mend")) for seed in (0, 1)
    ]
    write_index(tmp_path, *entries)
    out = tmp_path / "site"
    result = CliRunner().invoke(app, ["report", str(tmp_path), "--html", str(out)])
    assert result.exit_code == 0, result.output
    assert result.output.strip() == f"Site: {out / 'index.html'}"
    found = pages(out)
    assert "Does InstructEdit beat MEND?" in found["suite.html"].text
    assert {f"run-{entry.digest}.html" for entry in entries} <= set(found)


def test_index_of_another_suite_is_refused(tmp_path):
    from instructedit.benchmark.results.run_folder import write_record
    from instructedit.benchmark.results.suite_summary import summarise_suite

    entries = [
        write_suite_run(tmp_path, "multi-task", [trained("mend", "recent")], seed, lambda *_: 1.0) for seed in (0, 1)
    ]
    summary = summarise_suite(tmp_path, write_index(tmp_path, *entries))
    write_record(tmp_path / "suite.json", summary.model_copy(update={"name": "other"}))
    with pytest.raises(InputError, match="field 'name': 'other', 'full' was expected"):
        write_site(tmp_path, tmp_path / "site")


def test_a_site_is_written_in_the_working_folder_and_removes_nothing_beside_it(tmp_path, monkeypatch):
    run = ordinary(tmp_path / "run")
    (tmp_path / "site").mkdir()
    (tmp_path / "site.part").mkdir()
    (tmp_path / "site.part" / "mine").touch()
    monkeypatch.chdir(tmp_path / "site")
    write_site(run, Path())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "site", "site.part"]
    assert (tmp_path / "site" / "index.html").is_file()
    assert (tmp_path / "site.part" / "mine").is_file()
    assert (tmp_path / "site").stat().st_mode & 0o777 == 0o755
