"""One report of several folders and suites, each run once; a folder of several suites as a whole."""

import re

from instructedit.benchmark.results.records import EditorSpec

from ...cli.command import call
from ..suites import write_index, write_run

ROWS = [EditorSpec(name=name, method=name) for name in ("none", "grace")]


def write(out, name, level, settings=("direct",)):
    entries = [write_run(out, setting, ROWS, 0, lambda row, *_: level * (row == "grace")) for setting in settings]
    return write_index(out, *entries, name=name)


def report(*words):
    return call("report", *words)


def test_suites_stand_one_below_the_other(tmp_path):
    write(tmp_path / "a", "first", 0.25, ("direct", "multi-task"))
    write(tmp_path / "b", "second", 0.75)
    code, out, _ = report(tmp_path / "a", tmp_path / "b", tmp_path / "a")
    assert code == 0
    for heading in ("first: direct: counterfact", "first: multi-task: counterfact", "second: direct: counterfact"):
        assert out.count(heading) == 1
    assert re.findall(r"grace +([\d.]+)(?: +([\d.]+))?", out) == [("25.0", "25.0"), ("75.0", "")]
    assert {path.name for path in (tmp_path / "a").glob("report.*")} == {"report.md", "report.csv", "report.tex"}
    assert not (tmp_path / "a" / "suite.json").exists() and not list((tmp_path / "b").glob("report.*"))


def test_a_folder_of_several_suites_is_reported_as_a_whole(tmp_path):
    write(tmp_path, "first", 0.25)
    write(tmp_path, "second", 0.75, ("multi-task",))
    code, out, _ = report(tmp_path)
    assert code == 0 and "first: direct: counterfact" in out and "second: multi-task: counterfact" in out
    code, out, _ = report(tmp_path / "suites" / "first")
    assert code == 0 and "multi-task" not in out


def test_one_run_of_several_in_a_folder_is_that_of_the_index(tmp_path):
    write_run(tmp_path, "multi-task", ROWS, 0, lambda *_: 0.5)
    write(tmp_path, "first", 0.25)
    code, out, _ = report(tmp_path)
    assert code == 0 and "direct" in out and "multi-task" not in out


def test_a_site_is_of_one_folder(tmp_path):
    code, out, err = report(tmp_path, tmp_path / "x", "--html", tmp_path / "site")
    assert (code, out) == (2, "") and "--html: a site is made of one DIR, found 2" in err
    assert not list(tmp_path.iterdir())
