"""A real package of somebody else adds a task with its data; instructions are made for it, and a run takes them."""

import json

import pytest

from instructedit.benchmark.setup.banks import read_bank
from instructedit.benchmark.setup.config import EMBEDDED_MODEL

from .outside import commands, example, install

CHAPTER = ("tasks.md", "A data set of your own")
PRESET = """
limit = 2
[[runs]]
setting = "multi-task"
[editors.instructedit]
blocks = [-1]
training = { steps = 2, batch = 2, accumulate = 1, warmup = 2, validate_every = 2, validation_cases = 4, patience = 2 }
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    package = source / "capitals"
    package.mkdir()
    (package / "__init__.py").write_text(example(*CHAPTER, "python"), encoding="utf-8")
    (source / "pyproject.toml").write_text(example(*CHAPTER, "toml"), encoding="utf-8")
    (record,) = json.loads(example(*CHAPTER, "json"))
    for split, count in (("train", 12), ("test", 3)):
        rows = [json.loads(json.dumps(record).replace("Kazakhstan", f"{split.title()}land {n}")) for n in range(count)]
        (package / f"{split}.json").write_text(json.dumps(rows), encoding="utf-8")
    return install(source, site)


@pytest.mark.skipif(not EMBEDDED_MODEL.is_dir(), reason="needs the shipped model")
def test_instructions_are_made_for_it_and_taken_by_a_run(run, tmp_path):
    (tmp_path / "tiny.toml").write_text(PRESET, encoding="utf-8")
    small = ["--preset", "tiny.toml", "--rounds", "1", "--candidates", "2", "--cases", "2", "--test-cases", "2"]
    loop = ["instructions", "optimize", "--task", "capitals", "--out", "loop", *small]
    asked = ["--setting", "single-task", "--task", "capitals", "--instructions", "loop/bank.json", "--out", "runs"]
    said = run("-c", commands(["list", "tasks"], loop, ["run", "tiny.toml", *asked]), folder=tmp_path)
    assert "Capitals; published rows: none" in said
    assert "Test: chosen against random" in said
    own = read_bank(tmp_path / "loop" / "bank.json").tasks["capitals"]
    assert own.title == "Capitals" and len(own.descriptions) == 3  # two candidates, and the one that is kept unseen
    assert not any("Astana" in text for text in own.descriptions)

    (path,) = tmp_path.glob("runs/*/cases.jsonl")
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert {(record["editor"], record["status"]) for record in records} == {("instructedit", "done")}
    assert all(record["case_id"].startswith("capitals/test/") and record["scores"] for record in records)
    assert {record["instruction"] for record in records} <= {
        f"Task: Capitals\nDescription: {text}" for text in own.descriptions
    }
