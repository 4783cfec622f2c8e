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


@pytest.mark.skipif(not EMBEDDED_MODEL.is_dir(), reason="needs the shipped model")
def test_it_is_listed_runs_by_the_command_line_and_keeps_the_contract(run, tmp_path):
    lists = ["list", "editors"], ["list", "options", "one-step"]
    words = ["run", "quickstart", "--editor", "one-step", "--task", "zsre", "--limit", "1", "--out", str(tmp_path)]
    contract = ["-q", "-p", "no:cacheprovider", "tests/editors/test_contract.py", "--editor", "one-step"]
    said = run("-c", commands(*lists, words, after=f"import pytest; pytest.main({contract!r})"), folder=ROOT)
    said = said.splitlines()

    listed = {line.split()[0]: line for line in said[: said.index("one-step: One step (example)")]}
    assert {"one-step", "grace"} <= listed.keys()
    assert listed["one-step"].endswith("One step (example)")
    assert "blocks = [-1]  (list of whole number or number)" in said
    assert "rate = 0.1  (number)" in said

    (path,) = tmp_path.glob("*/cases.jsonl")
    (record,) = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert (record["editor"], record["status"]) == ("one-step", "done")
    assert record["scores"]

    assert re.search(r"^\d+ passed", said[-1]), said
