"""Validate a submission: every number is computed again from its records, and every failed check is listed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from instructedit.benchmark.results.frames import finished_runs
from instructedit.benchmark.results.integrity import read_finished
from instructedit.benchmark.results.records import CaseRecord, FileRecord, RunFile, RunSummary, parse_record
from instructedit.benchmark.results.resources import ChunkTime, Usage
from instructedit.benchmark.results.run_folder import RunFolder
from instructedit.benchmark.results.summary import summarise
from instructedit.benchmark.tasks.sources import Source, open_source
from instructedit.editors.errors import InputError

from .archive import MANIFEST, NOTHING, Archive, digest, document, lines, open_archive
from .base_pass import BaseReader, compare_base
from .findings import Findings, TooManyError
from .lines import Lines
from .manifest import Manifest, PackedFile, RunEntry, entry_of
from .pack import L, parse_lines
from .run_checks import check_coverage, check_run, expected_cases

if TYPE_CHECKING:
    from .reruns import Rerun

R = TypeVar("R", bound=FileRecord)
T = TypeVar("T")


@dataclass
class Verdict:
    """A submission, and the result of its validation."""

    path: Path
    archive: Archive = NOTHING
    manifest: Manifest | None = None
    findings: Findings = field(default_factory=Findings)
    runs: dict[str, RunFile] = field(default_factory=dict)
    """The runs whose `run.json` could be read, by digest."""
    bases: dict[str, BaseReader] = field(default_factory=dict)
    """Base passes by run."""
    summaries: dict[str, RunSummary] = field(default_factory=dict)
    """By run, computed from the records."""
    rerun: "Rerun | None" = None
    """How a sample of it came out when it was run again."""
    contradictions: tuple[str, ...] = ()
    """A sentence on each other submission that has other answers of the same run."""

    @property
    def accepted(self) -> bool:
        """Whether all checks pass."""
        return not self.findings.found

    @cached_property
    def id(self) -> str:
        """Twelve hexadecimal digits of the sha256 of the manifest."""
        return digest(self.archive, MANIFEST)[:12]

    def records(self, run: str) -> Iterator[CaseRecord]:
        """Yield the lines of a run of an accepted submission."""
        for _, line in lines(self.archive, f"runs/{run}/cases.jsonl.gz"):
            yield parse_record(line, CaseRecord, run)

    @property
    def author(self) -> tuple[str, tuple[str, ...]]:
        """What versions of a submission have in common: name and authors."""
        assert self.manifest is not None
        return self.manifest.name, self.manifest.authors

    @property
    def date(self) -> datetime:
        """Start of its last run; UTC where no offset is given."""
        starts = [datetime.fromisoformat(run.provenance.started) for run in self.runs.values()]
        return max(start if start.tzinfo else start.replace(tzinfo=UTC) for start in starts)


def validate(path: Path, data: str | None = None, against: Path | Sequence[BaseReader] = ()) -> Verdict:
    """Check a submission: compute again what it claims, and compare.

    Nothing in it is executed or unpacked to disk. Its data are read again where they are part of the package, or are
    given.

    Args:
        path: A zip file or a folder.
        data: Where the data are: a folder in KnowEdit's layout, or `hub[:OWNER/NAME[@REVISION]]`.
        against: A trusted results folder or submission of the same data and model, or what `reference_runs` read
            from it: the base pass has to be the same there.

    Raises:
        InputError: If there is no submission, no such data, or nothing to compare with.
    """
    source = open_source(data) if data is not None else None
    references = list(reference_runs(against)) if isinstance(against, Path) else against
    verdict = Verdict(path)
    findings = verdict.findings
    try:
        if (archive := open_archive(path, findings)) is None:
            return verdict
        verdict.archive = archive
        verdict.manifest = _record(archive, MANIFEST, Manifest, findings)
        entries = []
        for name in archive.runs:
            with findings.reading(f"runs/{name}", "what can be checked"):
                run = _record(archive, f"runs/{name}/run.json", RunFile, findings)
                if run is not None:
                    verdict.runs[name] = run
                    if check_run(run, name, f"runs/{name}/run.json", findings):
                        entries.append(_check_results(verdict, run, name, source, references))
        if (manifest := verdict.manifest) is not None:
            with findings.reading(MANIFEST, "what can be checked"):
                computed = {"files": _files(archive, findings), "runs": tuple(entries)}
                findings.compare(MANIFEST, manifest, manifest.model_copy(update=computed))
    except TooManyError:
        findings.note(f"Nothing was checked after the first {len(findings.found):,} findings.")
    return verdict


def reference_runs(path: Path) -> Iterator[BaseReader]:
    """Yield the base passes of the finished runs of a results folder, or of a submission.

    Raises:
        InputError: If there is no finished run, or a file of it cannot be read.
    """
    if path.is_dir() and not (path / MANIFEST).is_file():
        for folder in finished_runs(path):
            run, _ = read_finished(folder)
            yield BaseReader(run, RunFolder(folder).records(run))
        return
    verdict = validate(path)
    if not verdict.accepted:
        raise InputError(f"{path}: not a submission that can be relied on. {verdict.findings.found[0]}")
    yield from verdict.bases.values()


def _read(archive: Archive, name: str, what: str, read: Callable[[], T], findings: Findings) -> T | None:
    """Return what is read from a file; None if it is missing or wrong, which is a finding."""
    if name not in archive.sizes:
        findings.add(name, "file", what, "no such file")
        return None
    found: T | None = None
    with findings.reading(name, what):
        found = read()
    return found


def _record(archive: Archive, name: str, kind: type[R], findings: Findings) -> R | None:
    def read() -> R:
        return parse_record(document(archive, name), kind, name)

    return _read(archive, name, f"a {kind.__name__}", read, findings)


def _read_lines(archive: Archive, name: str, kind: type[L], findings: Findings) -> list[L]:
    def read() -> list[L]:
        return parse_lines(lines(archive, name), kind)

    return _read(archive, name, f"lines of a {kind.__name__}", read, findings) or []


def _files(archive: Archive, findings: Findings) -> dict[str, PackedFile]:
    """Return what the manifest has to say of each file."""
    found = {}
    for name in sorted(archive.sizes.keys() - {MANIFEST}):
        with findings.reading(name, "a readable file"):
            found[name] = PackedFile(sha256=digest(archive, name), bytes=archive.sizes[name])
    return found


def _check_results(
    verdict: Verdict, run: RunFile, name: str, source: Source | None, references: Sequence[BaseReader]
) -> RunEntry:
    """Check the results of a run: its data, each line, and the summary; return its entry in the manifest."""
    folder, archive, findings = f"runs/{name}", verdict.archive, verdict.findings
    expected = expected_cases(run, f"{folder}/run.json", source, findings)
    reader = Lines(run, archive, f"{folder}/cases.jsonl.gz", expected, findings)
    summary = summarise(run, reader.records(), expected=0)
    verdict.bases[name], verdict.summaries[name] = reader.base, summary
    reader.check_forced()
    check_coverage(run, reader.seen, expected, reader.file, findings)
    claimed = _record(archive, f"{folder}/summary.json", RunSummary, findings)
    if claimed is not None:
        content: tuple[str | None, int | None] = claimed.cases_sha256, claimed.lines
        if content == (None, None):
            findings.note(f"{folder}/summary.json: sha256 of cases.jsonl not recorded, an older version wrote it.")
        else:
            content = reader.content or content
        update = {"complete": True, "valid": True, "cases_sha256": content[0], "lines": content[1]}
        computed = summary.model_copy(update={**update, "content": claimed.content})
        findings.compare(f"{folder}/summary.json", claimed, computed)
    if references:
        compare_base(reader.base, references, reader.file, findings)
    trained = (row for entry in (verdict.manifest.runs if verdict.manifest else ()) for row in entry.trained)
    weights = {row.checkpoint: row.weights for row in trained if row.weights is not None}
    times = _read_lines(archive, f"{folder}/timings.jsonl.gz", ChunkTime, findings)
    usage = _read_lines(archive, f"{folder}/usage.jsonl.gz", Usage, findings)
    return entry_of(run, reader.base.passes(), times, usage, weights)
