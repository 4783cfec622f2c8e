"""A submission against the laws: every number is computed again from its records, and every finding is listed."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from instructedit.benchmark.results.guard import Admission, Break, Content
from instructedit.benchmark.results.records import CaseRecord, Record, RunFile, RunSummary, parse_record
from instructedit.benchmark.results.resources import ChunkTime, Usage
from instructedit.benchmark.results.summary import summarise
from instructedit.benchmark.tasks.sources import Source, open_source
from instructedit.editors.errors import InputError

from .archive import MANIFEST, Archive, UnreadableError, digest, document, lines, open_archive
from .base import BaseReader, Reference, compare_base, reference_runs
from .claims import compare_entry, compare_summary
from .coverage import SHA256, Expected, check_coverage, expected_cases
from .findings import Findings
from .laws import SAME, Sheet, asked, check_beside, check_line, forced_and_free, sheet_of
from .manifest import Manifest, RunEntry, entry_of
from .pack import L, parse_line
from .training import check_training, note_exposure

R = TypeVar("R", bound=Record)
ROWS = 200
"""Most rows of a run: what is computed of their pairs grows with the square. `unseen-instruction` has 16."""
LINES = 2_000_000
"""Most lines of a run; each that is counted takes some 500 bytes."""
KEPT = 2**30
"""Most bytes that are kept of what all cases of a run ask: a line of each. The largest published split has 0.5 GB."""
LARGEST = 1_000_000
"""Largest score; KL and entropy are some bits or nats."""
TIES = 1_000
"""One in so many answers of a row that are right under teacher forcing may be written in another way: two tokens tie by
rounding. Of 5,455 such answers of the embedded model none is."""
HALF_TIES = 50
"""The same in half precision, where a step of rounding is ten thousand times as large. Not measured."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a submission.

    Attributes:
        path: Where it lies.
        manifest: Its manifest; None if it cannot be read.
        findings: Why it is refused, and notes.
        runs: The runs whose `run.json` could be read, by digest.
    """

    path: Path
    manifest: Manifest | None
    findings: Findings
    runs: dict[str, RunFile] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """Whether no law is broken."""
        return not self.findings.found


def validate(path: Path, data: str | None = None, against: Path | Sequence[Reference] = ()) -> Verdict:
    """Check a submission.

    Nothing of it is run or unpacked to disk. Its data are read again where they are part of the package, or are given.

    Args:
        path: A zip file or a folder.
        data: Where the data are: a folder in KnowEdit's layout, or `hub[:OWNER/NAME[@REVISION]]`.
        against: A results folder or a submission that is trusted, of the same data and model, or what `reference_runs`
            read of it: the unedited model has to say the same there.

    Raises:
        InputError: If there is no submission, no such data, or nothing to compare with.
    """
    source = open_source(data) if data is not None else None
    references = tuple(reference_runs(against)) if isinstance(against, Path) else tuple(against)
    findings = Findings()
    verdict = Verdict(path, None, findings)
    with findings.limited():
        archive = open_archive(path, findings)
        if archive is not None:
            with findings.caught(MANIFEST):
                manifest = _record(archive, MANIFEST, Manifest, findings)
                verdict = Verdict(path, manifest, findings)
                _check_files(archive, manifest, findings)
            for name in sorted({name.split("/")[1] for name in archive.sizes if name.startswith("runs/")}):
                with findings.caught(f"runs/{name}"):
                    _Run(name, archive, verdict.manifest, findings, source, references).check(verdict.runs)
    return verdict


def _record(archive: Archive, name: str, kind: type[R], findings: Findings) -> R | None:
    if name not in archive.sizes:
        findings.add(name, "file", f"a {kind.__name__}", "no such file")
        return None
    try:
        return parse_record(document(archive, name), kind, name)
    except (UnreadableError, InputError) as error:
        findings.add(name, "content", f"a {kind.__name__}", str(error).removesuffix("."))
        return None


def _check_files(archive: Archive, manifest: Manifest | None, findings: Findings) -> None:
    if manifest is None:
        return
    _check_names(manifest, findings)
    for name in sorted((archive.sizes.keys() | manifest.files.keys()) - {MANIFEST}):
        listed = manifest.files.get(name)
        if listed is None:
            findings.add(name, "file", f"a file that {MANIFEST} lists", "one that it does not")
        elif name not in archive.sizes:
            findings.add(name, "file", f"the file that {MANIFEST} lists", "no such file")
        else:
            try:
                found, size = digest(archive, name)
            except UnreadableError as error:
                findings.add(name, "content", "a readable file", error)
                continue
            if (found, size) != (listed.sha256, listed.bytes):
                expected = f"{listed.sha256} of {listed.bytes:,} bytes, from {MANIFEST}"
                findings.add(name, "sha256", expected, f"{found} of {size:,} bytes")
    digests = Counter(entry.digest for entry in manifest.runs)
    there = {name.split("/")[1] for name in archive.sizes if name.startswith("runs/")}
    if not digests:
        findings.add(MANIFEST, "runs", "at least one run", "none")
    for run in sorted(digests.keys() | there):
        if digests[run] != 1:
            findings.add(MANIFEST, f"runs, {run}", "one entry", digests[run])
        if run not in there:
            findings.add(MANIFEST, f"runs, {run}", f"the files of runs/{run}", "none")


def _check_names(manifest: Manifest, findings: Findings) -> None:
    if not manifest.name.strip():
        findings.add(MANIFEST, "name", "a name", f"'{manifest.name}'")
    if not manifest.authors or not all(author.strip() for author in manifest.authors):
        findings.add(MANIFEST, "authors", "who made it", ", ".join(f"'{a}'" for a in manifest.authors) or "nobody")
    for entry in manifest.runs:
        for trained in entry.trained:
            if trained.weights is not None and not SHA256.fullmatch(trained.weights):
                findings.add(
                    MANIFEST, f"trained, '{trained.row}', weights", "a sha256", trained.weights, f"run {entry.digest}"
                )


class _Run:
    """The check of one run of a submission."""

    def __init__(
        self,
        name: str,
        archive: Archive,
        manifest: Manifest | None,
        findings: Findings,
        source: Source | None,
        references: tuple[Reference, ...],
    ) -> None:
        self.name = name
        self.archive = archive
        self.entry = next((entry for entry in manifest.runs if entry.digest == name), None) if manifest else None
        self.findings = findings
        self.source = source
        self.references = references
        self.cases = f"runs/{name}/cases.jsonl.gz"
        self.seen: dict[tuple[str, str, str], set[str]] = {}
        self.sheets: dict[str, Sheet] = {}
        self.forced: Counter[tuple[str, str]] = Counter()
        self.untold: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.kept = 0
        self.content: Content | None = None

    def check(self, runs: dict[str, RunFile]) -> None:
        """Check everything that can be read; add the run to `runs`."""
        findings, file = self.findings, f"runs/{self.name}/run.json"
        run = _record(self.archive, file, RunFile, findings)
        if run is None:
            return
        runs[self.name] = run
        if len(run.spec.editors) > ROWS:
            findings.add(file, "spec.editors", f"at most {ROWS} rows", len(run.spec.editors))
            return
        if len(run.spec.at) > ROWS:
            findings.add(file, "spec.at", f"at most {ROWS} stages", len(run.spec.at))
            return
        self._check_identity(run, file)
        check_training(run, file, findings)
        note_exposure(run, findings)
        expected = expected_cases(run, file, self.source, findings)
        base = BaseReader(run)
        summary = summarise(run, self._records(run, expected, base), expected=0)
        self._check_forced(run)
        total = check_coverage(run, self.seen, expected, self.cases, findings)
        claimed = _record(self.archive, f"runs/{self.name}/summary.json", RunSummary, findings)
        if claimed is not None:
            complete = sum(map(len, self.seen.values())) == total
            computed = summary.model_copy(update={"complete": complete, "valid": True})
            compare_summary(claimed, computed, f"runs/{self.name}/summary.json", findings)
            self._check_content(claimed)
            if not complete and claimed.complete == complete:
                findings.add(f"runs/{self.name}/summary.json", "complete", "a finished run", "one that is not")
        if self.entry is not None:
            compare_entry(self.entry, self._entry(run, base, self.entry), MANIFEST, findings)
        if self.references:
            compare_base(run, base, self.references, self.cases, findings)

    def _check_content(self, claimed: RunSummary) -> None:
        """Check that the summary was made of these records; one of an older version does not say of which."""
        file, said = f"runs/{self.name}/summary.json", (claimed.cases_sha256, claimed.lines)
        if said == (None, None):
            self.findings.note(f"{file}: sha256 and lines of cases.jsonl not recorded, an older version wrote it.")
        elif self.content is not None and said != self.content:
            expected = f"{self.content.sha256} of {self.content.lines:,} lines, from the records"
            self.findings.add(file, "cases_sha256", expected, f"{said[0]} of {said[1]} lines")

    def _check_identity(self, run: RunFile, file: str) -> None:
        add = self.findings.add
        if run.digest != self.name:
            add(file, "digest", f"{self.name}, the name of its folder", run.digest)
        if run.spec.digest != run.digest:
            add(file, "digest", f"{run.spec.digest}, the digest of its specification", run.digest)
        if run.spec.limit is not None and run.spec.limit < 1:
            add(file, "spec.limit", "at least 1", run.spec.limit)
        names = Counter(row.name for row in run.spec.editors)
        for name, count in names.items():
            if count > 1:
                add(file, "spec.editors", "each name once", f"{count} rows '{name}'")
        for row in run.spec.editors:
            for task in row.tasks or ():
                if task not in run.spec.tasks:
                    add(file, f"spec.editors, '{row.name}', tasks", ", ".join(run.spec.tasks), task)
        for task in run.spec.edited or ():
            if task not in run.spec.tasks:
                add(file, "spec.edited", ", ".join(run.spec.tasks), task)
        try:
            datetime.fromisoformat(run.provenance.started)
        except ValueError:
            add(file, "provenance.started", "a date and time of ISO 8601", f"'{run.provenance.started}'")
        if not any(row.is_base for row in run.spec.editors):
            self.findings.note(f"Run {self.name} has no row without edit: less of its base pass can be checked.")

    def _records(self, run: RunFile, expected: dict[str, Expected], base: BaseReader) -> Iterator[CaseRecord]:
        """Yield the lines that can be counted, each checked; what is wrong with the others is a finding."""
        if self.cases not in self.archive.sizes:
            self.findings.add(self.cases, "file", "the records of the run", "no such file")
            return
        rows = {row.name: row for row in run.spec.editors}
        admission = Admission(
            run,
            {task: of_task.ids for task, of_task in expected.items()},
            {task: of_task.count for task, of_task in expected.items()},
        )
        content, count = hashlib.sha256(), 0
        try:
            for number, line in lines(self.archive, self.cases):
                content.update(line)
                count = number
                try:
                    record = parse_record(line, CaseRecord, "the line")
                except InputError as error:
                    self.findings.add(self.cases, "content", "a CaseRecord", str(error)[:-1], f"line {number}")
                    continue
                place = f"line {number}, case '{record.case_id}', row '{record.editor}'"
                place += f", stage '{record.stage}'" if record.stage != "single" else ""
                # Nothing is kept of a line before it is known to be one that the run can have.
                if refused := _too_large(record) or admission.refused(record):
                    self.findings.add(self.cases, *refused, place)
                    continue
                self.kept += sum(map(len, record.unscored)) + (0 if record.case_id in self.sheets else len(line))
                if self.kept > KEPT or number > LINES:
                    expected_size = f"at most {LINES:,} lines, and {KEPT:,} bytes of one line of each case"
                    self.findings.add(self.cases, "size", expected_size, f"more, up to line {number}")
                    return
                self.seen.setdefault((record.editor, record.task, record.stage), set()).add(record.case_id)
                for broken in check_line(record, rows[record.editor], run.spec):
                    self.findings.add(self.cases, *broken, place)
                self._check_sheets(record, expected.get(record.task), place)
                for law, probe, agree in forced_and_free(record, run.spec.generation.max_new_tokens):
                    self.forced[law, record.editor] += 1
                    if not agree:
                        self.untold[law, record.editor].append(f"{place}, probe {probe}")
                base.take(record)
                yield record
            self.content = Content(content.hexdigest(), count)
        except UnreadableError as error:
            self.findings.add(self.cases, "content", "a whole file of lines", error)

    def _check_sheets(self, record: CaseRecord, expected: Expected | None, place: str) -> None:
        """Check a line beside the data, and beside the first line of its case."""
        broken: list[Break] = []
        if expected is not None and expected.cases is not None and record.case_id in expected.cases:
            broken += check_beside(record, sheet_of(expected.cases[record.case_id], "in the data"), before=False)
        sheet = self.sheets.get(record.case_id)
        if sheet is not None:
            broken += check_beside(record, sheet)
        if sheet is None or (sheet.asked is None and record.status == "done"):
            probes = tuple(map(asked, record.answers)) if record.status == "done" else None
            whence = f"as under row '{record.editor}'"
            self.sheets[record.case_id] = Sheet((record.prompt, record.target, record.subject), probes, whence)
        for found in broken:
            self.findings.add(self.cases, *found, place)

    def _check_forced(self, run: RunFile) -> None:
        # Row by row: rows that are always right would else pay for one that is not.
        for (law, row), places in self.untold.items():
            total = self.forced[law, row]
            if law == SAME:
                # no law: an edit may act behind the answer, where no KL is read
                self.findings.note(
                    f"In run {run.digest}, row '{row}', {len(places)} of {total} texts are not those of before, though "
                    "the KL of their answers is exactly 0."
                )
            elif len(places) * (TIES if run.spec.dtype == "float32" else HALF_TIES) > total:
                for place in places:
                    self.findings.add(self.cases, "generated", law, "another text", place)
            else:
                self.findings.note(
                    f"In run {run.digest}, row '{row}', {len(places)} of {total} texts are not as teacher forcing has "
                    f"it ({law}): two tokens may have tied."
                )

    def _entry(self, run: RunFile, base: BaseReader, claimed: RunEntry) -> RunEntry:
        weights = {row.checkpoint: row.weights for row in claimed.trained if row.weights is not None}
        return entry_of(run, base.passes(), self._lines("timings", ChunkTime), self._lines("usage", Usage), weights)

    def _lines(self, what: str, kind: type[L]) -> list[L]:
        """Return the lines of a file beside the records; none if there is no `usage`, which older runs lack."""
        name = f"runs/{self.name}/{what}.jsonl.gz"
        if name not in self.archive.sizes:
            if kind is ChunkTime:
                self.findings.add(name, "file", "the times of the run", "no such file")
            return []
        found = []
        try:
            for number, line in lines(self.archive, name):
                found.append(parse_line(line, kind, f"line {number}"))
        except (UnreadableError, InputError) as error:
            self.findings.add(name, "content", f"lines of a {kind.__name__}", str(error).removesuffix("."))
        return found


def _too_large(record: CaseRecord) -> Break | None:
    """Return why a line cannot be counted whosever it is: a sum of such numbers may be beyond any float."""
    large = [score.value for score in record.scores if abs(score.value) > LARGEST]
    return Break("value", f"at most {LARGEST:,}", str(large[0])) if large else None
