"""The base pass: answers and scores of the unedited model, as digests, and compared with those of trusted runs."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from instructedit.benchmark.results.integrity import LineChecks, read_finished
from instructedit.benchmark.results.records import CaseRecord, Record, RunFile, parse_record
from instructedit.benchmark.results.run_folder import RunFolder
from instructedit.editors.errors import InputError

from .archive import MANIFEST, UnreadableError, document, lines, open_archive
from .findings import Findings, listed

DISCRETE = ("teacher_forced_token", "teacher_forced_exact", "free_generation")
"""Protocols that count correct tokens or answers: two machines agree on them exactly, unless two tokens tie."""
TOLERANCE = 1e-3
"""Allowed difference of a score of likelihoods: machines add in another order, and half precision rounds."""


class BasePass(Record):
    """Answers and scores of the unedited model on the cases of a task, as digests.

    A digest is the sha256 over the lines `CASE DIGEST`, sorted by case id, where DIGEST is the sha256 over the
    canonical JSON described below for that case.
    """

    cases: int
    """Cases that were scored under some row."""
    answers: str | None
    """Per case `[role, subset, prompt, before]` of each probe in order. None if nothing was generated."""
    scores: str | None
    """Per case `[probe, protocol, value]` of each score of the first row of the method `none` in one of the protocols
    `DISCRETE`, in order. None if the run has no such row."""


class _Unedited(NamedTuple):
    """Scores of the row without edit on a case."""

    discrete: str
    """Digest of the scores in the protocols `DISCRETE`."""
    forced: str
    """Digest of those under teacher forcing."""
    sentiment: tuple[float, ...]
    """z_sent of each probe."""


class BaseReader:
    """Collects the base pass from the lines of a run, in any order.

    Args:
        run: The run.
        records: Lines to begin with.

    Attributes:
        answers: Digest of the answers by task and case.
        unedited: Scores of the row without edit by task and case.
    """

    def __init__(self, run: RunFile, records: Iterable[CaseRecord] = ()) -> None:
        spec = run.spec
        self.answers: dict[str, dict[str, str]] = {task: {} for task in spec.tasks}
        self.unedited: dict[str, dict[str, _Unedited]] = {task: {} for task in spec.tasks}
        self._generated = spec.generation.max_new_tokens > 0
        # A row may evaluate some of the tasks only: the first one of each task.
        self._rows = {
            task: next((row.name for row in spec.editors if row.is_base and row.evaluates(task)), None)
            for task in spec.tasks
        }
        for record in records:
            self.take(record)

    def take(self, record: CaseRecord) -> None:
        """Add a line; a case counts once, whatever rows and stages it occurs in."""
        if record.status != "done":
            return
        answers, unedited = self.answers[record.task], self.unedited[record.task]
        if record.case_id not in answers:
            answers[record.case_id] = _sha256([[a.role, a.subset, a.prompt, a.before] for a in record.answers])
        if record.editor == self._rows[record.task] and record.case_id not in unedited:
            scores = [[s.probe, s.protocol, s.value] for s in record.scores if s.protocol in DISCRETE]
            unedited[record.case_id] = _Unedited(
                _sha256(scores),
                _sha256([score for score in scores if score[1] != "free_generation"]),
                tuple(s.value for s in record.scores if s.protocol == "z_sent"),
            )

    def passes(self) -> dict[str, BasePass]:
        """Return the base pass of each task."""
        return {
            task: BasePass(
                cases=len(answers),
                answers=_over(answers) if self._generated else None,
                scores=_over(self._scores(task, "discrete")) if self._rows[task] else None,
            )
            for task, answers in self.answers.items()
        }

    def differing(self, other: "BaseReader", task: str, *, generated: bool) -> dict[str, list[str]]:
        """Return the cases of a task whose digests differ from those of another run, by what was compared.

        Args:
            other: The other run.
            task: The task.
            generated: Whether texts of the two runs are comparable.
        """
        kind = "discrete" if generated else "forced"
        what = "scores of the row without edit" if generated else "scores under teacher forcing of the row without edit"
        pairs = {what: (self._scores(task, kind), other._scores(task, kind))}
        if generated and self._generated:
            pairs["answers before the edit"] = self.answers[task], other.answers[task]
        return {
            what: [case for case in ours.keys() | theirs.keys() if ours.get(case) != theirs.get(case)]
            for what, (ours, theirs) in pairs.items()
            if ours and theirs
        }

    def far(self, other: "BaseReader", task: str) -> list[str]:
        """Return the cases whose z_sent without edit differs from that of another run by more than rounding."""
        ours, theirs = self.unedited[task], other.unedited[task]
        pairs = {case: (ours[case].sentiment, theirs[case].sentiment) for case in ours.keys() & theirs.keys()}
        return [
            case
            for case, (one, two) in pairs.items()
            if len(one) != len(two) or any(abs(a - b) > TOLERANCE for a, b in zip(one, two, strict=True))
        ]

    def _scores(self, task: str, kind: str) -> dict[str, str]:
        return {case: getattr(scores, kind) for case, scores in self.unedited[task].items()}


Reference = tuple[RunFile, BaseReader]
"""A trusted run and its base pass."""


def _sha256(value: object) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _over(cases: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(f"{case} {cases[case]}\n" for case in sorted(cases)).encode()).hexdigest()


def _comparable(run: RunFile, other: RunFile, task: str) -> bool:
    """Tell whether the base passes of two runs on a task are equal by right, but for the length of the texts."""
    ours, theirs = run.spec, other.spec
    same = ("split", "limit", "model_fingerprint", "tokenizer_fingerprint", "dtype")
    return all(getattr(ours, field) == getattr(theirs, field) for field in same) and (
        (ours.data.get(task), ours.readers.get(task)) == (theirs.data.get(task), theirs.readers.get(task))
    )


def compare_base(
    run: RunFile, base: BaseReader, references: Iterable[Reference], file: str, findings: Findings
) -> None:
    """Compare the base pass of a run with that of trusted runs.

    Args:
        run: The run.
        base: Its base pass.
        references: Trusted runs.
        file: Name of its file of cases.
        findings: Receives the cases in which the two differ.
    """
    tokens = run.spec.generation.max_new_tokens
    for task in run.spec.tasks:
        compared = False
        for other, reader in references:
            if not _comparable(run, other, task):
                continue
            place, others = f"task '{task}', against run {other.digest}", other.spec.generation.max_new_tokens
            if tokens != others:
                findings.note(
                    f"Answers and free generation of '{task}' in run {run.digest} were not compared with run "
                    f"{other.digest}: {tokens} new tokens here, {others} there."
                )
            for what, wrong in base.differing(reader, task, generated=tokens == others).items():
                compared = True
                if wrong:
                    found = f"others in {listed(wrong)}"
                    findings.add(file, f"base pass, {what}", "those of the reference", found, place)
            if far := base.far(reader, task):
                what, expected = (
                    "base pass, z_sent of the row without edit",
                    f"those of the reference within {TOLERANCE}",
                )
                findings.add(file, what, expected, f"others in {listed(far)}", place)
        if not compared:
            findings.note(
                f"The base pass of '{task}' in run {run.digest} was not compared: the reference has no run of the same "
                "data, model and limit with a row without edit, or with answers of the same number of tokens."
            )


def reference_runs(path: Path) -> Iterator[Reference]:
    """Yield the finished runs of a results folder or of a submission with their base passes.

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
            yield run, BaseReader(run, RunFolder(folder).records(run))
        return
    findings = Findings()
    archive = open_archive(path, findings)
    if archive is None or findings.found:
        raise InputError(f"{path}: not a readable submission. {findings.found[0]}")
    for name in archive.runs:
        place, cases = f"runs/{name}/run.json", f"{path}, runs/{name}/cases.jsonl.gz"
        try:
            run = parse_record(document(archive, place), RunFile, f"{path}, {place}")
            admission = LineChecks(run)
            numbered = lines(archive, f"runs/{name}/cases.jsonl.gz")
            placed = ((line, f"{cases}, line {number}") for number, line in numbered)
            records = (admission.checked(parse_record(line, CaseRecord, at), at) for line, at in placed)
            yield run, BaseReader(run, records)
        except (UnreadableError, KeyError) as error:
            raise InputError(f"{path}, runs/{name}: cannot be read ({error}).") from error
