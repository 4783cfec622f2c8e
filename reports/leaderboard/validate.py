"""Validate a submission: every number is computed again from its records, and every failed check is listed."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from instructedit.benchmark.results.integrity import FailedCheck, LineChecks, read_finished
from instructedit.benchmark.results.records import CaseRecord, Record, RunFile, RunSummary, parse_record
from instructedit.benchmark.results.resources import ChunkTime, Usage
from instructedit.benchmark.results.run_folder import RunFolder
from instructedit.benchmark.results.summary import summarise
from instructedit.benchmark.tasks.sources import Source, open_source
from instructedit.editors.errors import InputError

from .archive import MANIFEST, NOTHING, Archive, UnreadableError, digest, document, lines, open_archive
from .base_pass import BaseReader, compare_base
from .claims import compare, compare_summary
from .data_checks import Expected, check_coverage, expected_cases
from .findings import Findings, TooManyError
from .manifest import Manifest, entry_of
from .pack import L, parse_lines
from .record_checks import UNCHANGED, CaseText, check_record, check_text, forced_and_free
from .training import check_training

if TYPE_CHECKING:
    from .reruns import Rerun

R = TypeVar("R", bound=Record)
ROWS = 200
"""Maximum number of rows of a run: pairs of rows are compared. `unseen-instruction` has 16."""
LINES = 2_000_000
"""Maximum number of lines of a run; each line takes some 500 bytes of memory."""
LARGEST = 1_000_000
"""Maximum score; KL and entropy are some bits or nats. A sum of larger ones may exceed any float."""
KEPT = 2**30
"""Maximum number of bytes kept of the texts of all cases: one line of each. The largest published split has 0.5 GB."""
TIES = 1_000
"""One in so many correct answers under teacher forcing may be generated differently: two tokens tie by rounding.
Of 5,455 such answers of the embedded model none is."""
HALF_TIES = 50
"""The same in half precision, where a rounding step is ten thousand times as large. Not measured."""


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
    """Check a submission.

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
        with findings.reading(MANIFEST, "what can be checked"):
            verdict.manifest = _read_record(archive, MANIFEST, Manifest, findings)
            if verdict.manifest is not None:
                _check_files(archive, verdict.manifest, findings)
        for name in archive.runs:
            with findings.reading(f"runs/{name}", "what can be checked"):
                run = _read_record(archive, f"runs/{name}/run.json", RunFile, findings)
                if run is not None:
                    verdict.runs[name] = run
                    if _check_run(run, name, findings):
                        _check_results(verdict, run, name, source, references)
    except TooManyError:
        findings.note(f"Nothing was checked after the first {len(findings.found):,} findings.")
    return verdict


def reference_runs(path: Path) -> Iterator[BaseReader]:
    """Yield the base passes of the finished runs of a results folder, or of a submission.

    Raises:
        InputError: If there is no finished run, or a file of it cannot be read.
    """
    if path.is_dir() and not (path / MANIFEST).is_file():
        within = [path] if (path / "run.json").is_file() else sorted(file.parent for file in path.glob("*/run.json"))
        folders = [folder for folder in within if (folder / "summary.json").is_file()]
        if not folders:
            raise InputError(f"{path}: no finished run in it; a results folder or a submission was expected.")
        for folder in folders:
            run, _ = read_finished(folder)
            yield BaseReader(run, RunFolder(folder).records(run))
        return
    verdict = validate(path)
    if not verdict.accepted:
        raise InputError(f"{path}: not a submission that can be relied on. {verdict.findings.found[0]}")
    yield from verdict.bases.values()


def _read_record(archive: Archive, name: str, kind: type[R], findings: Findings) -> R | None:
    if name not in archive.sizes:
        findings.add(name, "file", f"a {kind.__name__}", "no such file")
        return None
    record: R | None = None
    with findings.reading(name, f"a {kind.__name__}"):
        record = parse_record(document(archive, name), kind, name)
    return record


def _check_files(archive: Archive, manifest: Manifest, findings: Findings) -> None:
    """Check that the manifest lists exactly the files and runs that are there, with their digests."""
    for name in sorted((archive.sizes.keys() | manifest.files.keys()) - {MANIFEST}):
        listed = manifest.files.get(name)
        if listed is None:
            findings.add(name, "file", f"a file that {MANIFEST} lists", "one that it does not")
        elif name not in archive.sizes:
            findings.add(name, "file", f"the file that {MANIFEST} lists", "no such file")
        else:
            with findings.reading(name, "a readable file"):
                found, size = digest(archive, name), archive.sizes[name]
                if (found, size) != (listed.sha256, listed.bytes):
                    expected = f"{listed.sha256} of {listed.bytes:,} bytes, from {MANIFEST}"
                    findings.add(name, "sha256", expected, f"{found} of {size:,} bytes")
    digests = Counter(entry.digest for entry in manifest.runs)
    if not digests:
        findings.add(MANIFEST, "runs", "at least one run", "none")
    for run in sorted(digests.keys() | set(archive.runs)):
        if digests[run] != 1:
            findings.add(MANIFEST, f"runs, {run}", "one entry", digests[run])
        if run not in archive.runs:
            findings.add(MANIFEST, f"runs, {run}", f"the files of runs/{run}", "none")


def _check_run(run: RunFile, name: str, findings: Findings) -> bool:
    """Check `run.json` by itself; return whether its results can be checked within bounds."""
    file, spec = f"runs/{name}/run.json", run.spec
    for what, found, unit in (("spec.editors", spec.editors, "rows"), ("spec.at", spec.at, "stages")):
        if len(found) > ROWS:
            findings.add(file, what, f"at most {ROWS} {unit}", len(found))
            return False
    if run.digest != name:
        findings.add(file, "digest", f"{name}, the name of its folder", run.digest)
    if spec.digest != run.digest:
        findings.add(file, "digest", f"{spec.digest}, the digest of its specification", run.digest)
    if spec.limit is not None and spec.limit < 1:
        findings.add(file, "spec.limit", "at least 1", spec.limit)
    for row, count in Counter(row.name for row in spec.editors).items():
        if count > 1:
            findings.add(file, "spec.editors", "each name once", f"{count} rows '{row}'")
    named = [(f"spec.editors, '{row.name}', tasks", row.tasks or ()) for row in spec.editors]
    for what, tasks in [*named, ("spec.edited", spec.edited or ())]:
        for task in tasks:
            if task not in spec.tasks:
                findings.add(file, what, ", ".join(spec.tasks), task)
    try:
        datetime.fromisoformat(run.provenance.started)
    except ValueError:
        findings.add(file, "provenance.started", "a date and time of ISO 8601", f"'{run.provenance.started}'")
    if not any(row.is_base for row in spec.editors):
        findings.note(f"Run {name} has no row without edit: less of its base pass can be checked.")
    return True


def _check_results(
    verdict: Verdict, run: RunFile, name: str, source: Source | None, references: Sequence[BaseReader]
) -> None:
    """Check the results of a run: its trainings and data, each line, the summary, and its entry in the manifest."""
    folder, archive, findings = f"runs/{name}", verdict.archive, verdict.findings
    check_training(run, f"{folder}/run.json", findings)
    expected = expected_cases(run, f"{folder}/run.json", source, findings)
    reader = _Lines(run, archive, f"{folder}/cases.jsonl.gz", expected, findings)
    summary = summarise(run, reader.records(), expected=0)
    verdict.bases[name], verdict.summaries[name] = reader.base, summary
    reader.check_forced()
    total = check_coverage(run, reader.seen, expected, reader.file, findings)
    claimed = _read_record(archive, f"{folder}/summary.json", RunSummary, findings)
    if claimed is not None:
        complete = sum(map(len, reader.seen.values())) == total
        computed = summary.model_copy(update={"complete": complete, "valid": True})
        compare_summary(claimed, computed, f"{folder}/summary.json", findings)
        reader.check_content(claimed, f"{folder}/summary.json")
        if not complete and claimed.complete == complete:
            findings.add(f"{folder}/summary.json", "complete", "a finished run", "one that is not")
    for entry in verdict.manifest.runs if verdict.manifest else ():
        if entry.digest != name:
            continue
        weights = {row.checkpoint: row.weights for row in entry.trained if row.weights is not None}
        times = _parse(archive, f"{folder}/timings.jsonl.gz", ChunkTime, findings)
        usage = _parse(archive, f"{folder}/usage.jsonl.gz", Usage, findings)
        computed_entry = entry_of(run, reader.base.passes(), times, usage, weights)
        compare(entry, computed_entry, MANIFEST, f"run {name}", findings)
    if references:
        compare_base(reader.base, references, reader.file, findings)


def _parse(archive: Archive, name: str, kind: type[L], findings: Findings) -> list[L]:
    """Parse a file of lines beside the records."""
    if name not in archive.sizes:
        findings.add(name, "file", f"lines of a {kind.__name__}", "no such file")
        return []
    with findings.reading(name, f"lines of a {kind.__name__}"):
        return parse_lines(lines(archive, name), kind)
    return []


class _Lines:
    """Reads and checks the lines of a run.

    Attributes:
        seen: The ids of the cases by row, task and stage.
        base: The base pass.
    """

    def __init__(
        self, run: RunFile, archive: Archive, file: str, expected: dict[str, Expected], findings: Findings
    ) -> None:
        self.run, self.archive, self.file, self.findings = run, archive, file, findings
        self.expected = expected
        self.seen: dict[tuple[str, str, str], set[str]] = {}
        self.base = BaseReader(run)
        self._texts: dict[str, CaseText] = {}
        self._implied: Counter[tuple[str, str]] = Counter()
        self._contradicted: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._content: tuple[str, int] | None = None

    def records(self) -> Iterator[CaseRecord]:
        """Yield the lines that the run can have, each checked; what is wrong with the others is a finding."""
        if self.file not in self.archive.sizes:
            self.findings.add(self.file, "file", "the records of the run", "no such file")
            return
        admission = LineChecks(
            self.run,
            {task: of_task.ids for task, of_task in self.expected.items()},
            {task: of_task.size for task, of_task in self.expected.items()},
        )
        rows = {row.name: row for row in self.run.spec.editors}
        content, number, kept = hashlib.sha256(), 0, 0
        try:
            for number, line in lines(self.archive, self.file):
                content.update(line)
                try:
                    record = parse_record(line, CaseRecord, "the line")
                except InputError as error:
                    self.findings.add(self.file, "content", "a CaseRecord", str(error)[:-1], f"line {number}")
                    continue
                place = f"line {number}, case '{record.case_id}', row '{record.editor}'"
                place += f", stage '{record.stage}'" if record.stage != "single" else ""
                # Nothing is kept of a line before it is known to be one that the run can have.
                if refused := _too_large(record) or admission.refused(record):
                    self.findings.add(self.file, *refused, place)
                    continue
                kept += sum(map(len, record.unscored)) + (0 if record.case_id in self._texts else len(line))
                if kept > KEPT or number > LINES:
                    limits = f"at most {LINES:,} lines, and {KEPT:,} bytes of one line of each case"
                    self.findings.add(self.file, "size", limits, f"more, up to line {number}")
                    return
                self.seen.setdefault((record.editor, record.task, record.stage), set()).add(record.case_id)
                for failed in (*check_record(record, rows[record.editor], self.run.spec), *self._check_text(record)):
                    self.findings.add(self.file, *failed, place)
                for implied, probe, agrees in forced_and_free(record, self.run.spec.generation.max_new_tokens):
                    self._implied[implied, record.editor] += 1
                    if not agrees:
                        self._contradicted[implied, record.editor].append(f"{place}, probe {probe}")
                self.base.take(record)
                yield record
            self._content = content.hexdigest(), number
        except UnreadableError as error:
            self.findings.add(self.file, "content", "a whole file of lines", error)

    def _check_text(self, record: CaseRecord) -> Iterator[FailedCheck]:
        """Yield where a line differs from the data, or from the first line of its case."""
        if of_task := self.expected.get(record.task):
            if case := of_task.cases.get(record.case_id):
                yield from check_text(record, CaseText.of_data(case))
        known = self._texts.get(record.case_id)
        if known is not None:
            yield from check_text(record, known)
        if known is None or (known.probes is None and record.status == "done"):
            self._texts[record.case_id] = CaseText.of_record(record)

    def check_forced(self) -> None:
        """Check that generated texts agree with teacher forcing, but for ties; the last thing after all lines."""
        ties = TIES if self.run.spec.dtype == "float32" else HALF_TIES
        # Row by row: rows that are always right would else make up for one that is not.
        for (implied, row), places in self._contradicted.items():
            total = self._implied[implied, row]
            if implied == UNCHANGED:  # no failed check: an edit may act after the answer, where no KL is read
                self.findings.note(
                    f"In run {self.run.digest}, row '{row}', {len(places)} of {total} texts are not those of before, "
                    "though the KL of their answers is exactly 0."
                )
            elif len(places) * ties > total:
                for place in places:
                    self.findings.add(self.file, "generated", implied, "another text", place)
            else:
                self.findings.note(
                    f"In run {self.run.digest}, row '{row}', {len(places)} of {total} texts do not agree with teacher "
                    f"forcing ({implied}): two tokens may have tied."
                )

    def check_content(self, claimed: RunSummary, file: str) -> None:
        """Check that the summary was made of these records, if it names any."""
        if (claimed.cases_sha256, claimed.lines) == (None, None):
            self.findings.note(f"{file}: sha256 and lines of cases.jsonl not recorded, an older version wrote it.")
        elif self._content is not None and (claimed.cases_sha256, claimed.lines) != self._content:
            expected = "{} of {:,} lines, from the records".format(*self._content)
            self.findings.add(file, "cases_sha256", expected, f"{claimed.cases_sha256} of {claimed.lines} lines")


def _too_large(record: CaseRecord) -> FailedCheck | None:
    large = [score.value for score in record.scores if abs(score.value) > LARGEST]
    return FailedCheck("value", f"at most {LARGEST:,}", str(large[0])) if large else None
