"""Submissions of made-up runs, and how to tamper with them."""

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from instructedit.benchmark.results import statistics
from instructedit.benchmark.results.records import CaseRecord, RunFile
from instructedit.benchmark.results.resources import ChunkTime, Usage
from instructedit.benchmark.results.summary import summarise
from instructedit.reports.leaderboard.archive import MANIFEST, compress
from instructedit.reports.leaderboard.base_pass import BaseReader
from instructedit.reports.leaderboard.manifest import entry_of
from instructedit.reports.leaderboard.pack import pack

from .made import spec_of, write


@pytest.fixture(scope="package", autouse=True)
def few_resamples() -> Iterator[None]:
    """Intervals of 200 resamples: they are computed some hundred times here, alike on both sides."""
    patch = pytest.MonkeyPatch()
    patch.setattr(statistics, "RESAMPLES", 200)
    yield
    patch.undo()


@dataclass
class Files:
    """The files of a submission of one run, to be changed.

    Attributes:
        files: Content by name.
    """

    files: dict[str, bytes]

    @property
    def run(self) -> str:
        (name,) = {name.split("/")[1] for name in self.files if name.startswith("runs/")}
        return name

    def name(self, file: str) -> str:
        return file if file == MANIFEST else f"runs/{self.run}/{file}"

    def json(self, file: str) -> Any:
        return json.loads(self.files[self.name(file)])

    def put(self, file: str, value: Any) -> None:
        self.files[self.name(file)] = json.dumps(value).encode()

    @property
    def lines(self) -> list[Any]:
        content = gzip.decompress(self.files[self.name("cases.jsonl.gz")])
        return [json.loads(line) for line in content.splitlines()]

    @lines.setter
    def lines(self, lines: list[Any]) -> None:
        self.files[self.name("cases.jsonl.gz")] = compress("".join(json.dumps(line) + "\n" for line in lines).encode())

    def change(self, file: str, change: Callable[[Any], Any]) -> None:
        """Change a JSON document in place."""
        value = self.json(file)
        change(value)
        self.put(file, value)

    def each(self, change: Callable[[Any], Any]) -> None:
        """Change every line in place."""
        lines = self.lines
        for line in lines:
            change(line)
        self.lines = lines

    def one(self, change: Callable[[Any], Any], row: str = "ft-l", task: str = "counterfact") -> None:
        """Change the first line of a row and task in place."""
        lines = self.lines
        change(next(line for line in lines if line["editor"] == row and line["task"] == task))
        self.lines = lines

    def seal(self) -> None:
        """Make the digests of files in the manifest right again."""
        manifest = self.json(MANIFEST)
        manifest["files"] = {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for name, content in sorted(self.files.items())
            if name != MANIFEST
        }
        self.put(MANIFEST, manifest)

    def consistent(self) -> None:
        """Compute everything again that follows from `run.json` and the lines, as a clever cheat would."""
        old, run = self.run, self.json("run.json")
        run["digest"] = RunFile.model_validate(run).spec.digest
        self.put("run.json", run)
        self.files = {name.replace(old, run["digest"]): content for name, content in self.files.items()}
        self.each(lambda line: line.update(run=run["digest"]))
        file = RunFile.model_validate(run)
        records = [CaseRecord.model_validate(line) for line in self.lines]
        summary = summarise(file, records, expected=len(records))
        self.put("summary.json", summary.model_dump(mode="json"))
        base = BaseReader(file)
        for record in records:
            base.take(record)
        times = gzip.decompress(self.files[self.name("timings.jsonl.gz")]).splitlines()
        usage = gzip.decompress(self.files[self.name("usage.jsonl.gz")]).splitlines()
        entry = entry_of(
            file,
            base.passes(),
            [ChunkTime.model_validate_json(line) for line in times],
            [Usage.model_validate_json(line) for line in usage],
            {},
        )
        self.change(MANIFEST, lambda manifest: manifest.update(runs=[entry.model_dump(mode="json")]))
        self.seal()

    def write(self, out: Path) -> Path:
        for name, content in self.files.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(content)
        return out


@pytest.fixture(scope="package")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three rows on two tasks, three cases each."""
    return write(tmp_path_factory.mktemp("results"), spec_of())


@pytest.fixture(scope="package")
def packed(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as a submission, in a folder."""
    out = tmp_path_factory.mktemp("packed") / "submission"
    pack(results, out, name="Ours", authors=["Ada"], notes="A note.")
    return out


@pytest.fixture
def files(packed: Path) -> Files:
    """The files of the submission, to be tampered with."""
    return Files(
        {path.relative_to(packed).as_posix(): path.read_bytes() for path in packed.rglob("*") if path.is_file()}
    )
