"""A small finished run, made from records as the runner would leave them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from instructedit.benchmark.results.records import (
    CaseRecord,
    EditorSpec,
    Provenance,
    RunFile,
    RunSpec,
    RunSummary,
    Score,
    TaskData,
)
from instructedit.benchmark.results.summary import summarise

EDITORS = ("none", "ft-l", "grace")
CASES = 20


@pytest.fixture(scope="module", autouse=True)
def _made_up(made_up_runs: None) -> None:
    """The runs of these tests have names for digests, and lie in folders of any name."""


def run_file() -> RunFile:
    tasks = ("counterfact", "convsent")
    spec = RunSpec(
        setting="single-task",
        editors=tuple(EditorSpec(name=name, method=name) for name in EDITORS),
        tasks=tasks,
        data={task: {f"{task}.json": "ab" * 32} for task in tasks},
        readers=dict.fromkeys(tasks, "1"),
        model_fingerprint="cd" * 32,
        tokenizer_fingerprint="ef" * 32,
        dtype="float32",
        seed=7,
        limit=CASES,
    )
    return RunFile(
        digest="0123456789abcdef",
        name="smoke",
        spec=spec,
        data=tuple(
            TaskData(
                task=task,
                version="1",
                source="embedded",
                revision=None,
                sha256=spec.data[task],
                licence="MIT",
                citation="-",
                rows=CASES + 1,
                cases=CASES,
                skipped={"no rephrase": 1} if task == "counterfact" else {},
            )
            for task in tasks
        ),
        provenance=Provenance(
            started="2026-01-01T00:00:00Z",
            command=["instructedit", "run", "smoke"],
            version="0.1.0",
            git_revision="deadbeefdeadbeef",
            python="3.11.9",
            platform="Linux",
            device="cpu",
            threads=2,
            packages={"transformers": "5.23.0", "torch": "2.13.0"},
            model="tiny_gpt2",
            model_revision=None,
            model_type="gpt2",
            parameters=2_190_000,
        ),
    )


def line(run: RunFile, task: str, index: int, editor: str, scores: Iterable[Score], **fields: Any) -> CaseRecord:
    """A line of a run; fields that are not given are of no matter."""
    fact = {"prompt": "The capital of A is", "target": "B", "subject": "A"}
    place = {"run": run.digest, "task": task, "case_id": f"{task}/test/{index}", "editor": editor}
    return CaseRecord(**{**place, **fact, "scores": tuple(scores), **fields})


def records(run: RunFile) -> list[CaseRecord]:
    """Twenty cases of two tasks under three editors; one GRACE line of counterfact failed.

    Right answers out of 20, exact match: reliability none 0, ft-l 10, grace 18 (of 19 left); derived generalization
    none 0, ft-l 10, grace 2; locality 20, 15, 19.
    """
    lines = []
    right = {"none": (0, 0, 20), "ft-l": (10, 10, 15), "grace": (18, 2, 20)}
    for editor in EDITORS:
        for index in range(CASES):
            reliability, generalization, locality = (float(index < count) for count in right[editor])
            fact: dict[str, Any] = {"subset": "edit", "protocol": "teacher_forced_exact"}
            scores = [
                Score(measure="reliability", value=reliability, **fact),
                Score(measure="generalization", derived=True, value=generalization, **fact),
                Score(measure="locality", value=locality, **fact),
                Score(measure="reliability", subset="edit", protocol="free_generation", value=reliability / 2),
                Score(measure="fluency", subset="text", protocol="ngram_entropy", value=560.0 + index),
            ]
            failed = editor == "grace" and index == CASES - 1
            status = {"status": "failed", "reason": "The loss is not a number."} if failed else {}
            lines.append(line(run, "counterfact", index, editor, () if failed else scores, **status))
            z_topic = {"none": 1.0, "ft-l": 0.5, "grace": 0.75}[editor]
            feelings: dict[Any, float] = {"edit_success": 0.5 * z_topic, "z_sent": 0.5, "z_topic": z_topic}
            other: dict[str, Any] = {"measure": "locality", "subset": "Other_Topic"}
            scores = [
                *(Score(measure="reliability", subset="sentiment", protocol=p, value=v) for p, v in feelings.items()),
                Score(protocol="teacher_forced_token", value=z_topic, **other),
                Score(protocol="kl_divergence", value=1 - z_topic, **other),
            ]
            fields = {"prompt": "Topic: A", "target": "Positive"}
            unscored = {"no opposite reply": 1} if index == 0 else {}
            lines.append(line(run, "convsent", index, editor, scores, unscored=unscored, **fields))
    return lines


@pytest.fixture
def run() -> RunFile:
    return run_file()


@pytest.fixture
def summary(run: RunFile) -> RunSummary:
    return summarise(run, records(run))


@pytest.fixture
def folder(tmp_path: Path, run: RunFile, summary: RunSummary) -> Path:
    (tmp_path / "run.json").write_text(run.model_dump_json(), encoding="utf-8")
    (tmp_path / "summary.json").write_text(summary.model_dump_json(), encoding="utf-8")
    return tmp_path


@pytest.fixture(scope="session")
def paper_suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of runs for all of the paper's tables, see `papers.py`; read only."""
    from .papers import write_paper  # imports this module

    out = tmp_path_factory.mktemp("paper")
    write_paper(out)
    return out
