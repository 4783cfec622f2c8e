"""A real package of somebody else adds an editor: it is built, installed and found, and nothing of ours is changed."""

import json
import re

import pytest

from instructedit.benchmark.setup.config import EMBEDDED_MODEL

from .outside import ROOT, commands, example, install


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Install the package, and return a function that runs commands which see it."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    chapter = ("guides/own-editor.md", "The package")
    (source / "one_step.py").write_text(example(*chapter, "python"), encoding="utf-8")
    (source / "pyproject.toml").write_text(example(*chapter, "toml"), encoding="utf-8")
    return install(source, site)


def test_it_and_its_options_are_listed_beside_ours(run, tmp_path):
    said = run("-c", commands(["list", "editors"], ["list", "options", "one-step"]), folder=tmp_path).splitlines()
    listed = {line.split()[0]: line for line in said[: said.index("one-step: One step (example)")]}
    assert {"one-step", "grace"} <= listed.keys()
    assert listed["one-step"].endswith("One step (example)")
    assert "blocks = [-1]  (list of whole number or number)" in said
    assert "rate = 0.1  (number)" in said


@pytest.mark.skipif(not EMBEDDED_MODEL.is_dir(), reason="needs the shipped model")
def test_it_runs_by_the_command_line_and_keeps_the_contract(run, tmp_path):
    words = ["run", "quickstart", "--editor", "one-step", "--task", "zsre", "--limit", "1", "--out", str(tmp_path)]
    contract = ["-q", "-p", "no:cacheprovider", "tests/editors/test_contract.py", "--editor", "one-step"]
    said = run("-c", commands(words, after=f"import pytest; pytest.main({contract!r})"), folder=ROOT)
    assert re.search(r"^\d+ passed", said.splitlines()[-1]), said
    (path,) = tmp_path.glob("*/cases.jsonl")
    (record,) = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert (record["editor"], record["status"]) == ("one-step", "done")
    assert record["scores"]
