"""What the unedited model says: as digests in the manifest, and compared with what it says in runs that are trusted."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from instructedit.benchmark.results.guard import Admission, read_finished
from instructedit.benchmark.results.records import CaseRecord, Record, RunFile, parse_record
from instructedit.editors.errors import InputError

from .archive import MANIFEST, UnreadableError, document, lines, open_archive
from .findings import Findings, listed

DISCRETE = ("teacher_forced_token", "teacher_forced_exact", "free_generation")
"""Protocols that count right tokens or answers: two machines agree on them exactly, unless two tokens tie."""
ALIKE = 1e-3
"""How far a score of likelihoods may be from ours: machines add in another order, and half precision rounds."""


class BasePass(Record):
    """What the unedited model says to the cases of a task, as digests.

    A digest is the sha256 over the lines `CASE DIGEST`, sorted by case id, where DIGEST is the sha256 over the
    canonical JSON of what stands below for that case.
    """

    cases: int
    """Cases that were scored under some row."""
    answers: str | None
    """Per case `[role, subset, prompt, before]` of each probe in its order. None where nothing was generated."""
    scores: str | None
    """Per case `[probe, protocol, value]` of each score of the first row of the method `none` that is of one of the
    protocols `DISCRETE`, in their order. None where no such row is in the run."""


class BaseReader:
    """Gathers what the unedited model said from the lines of a run, in any order.

    Attributes:
        answers: Digest of the answers by task and case.
        scores: Digest of the scores of the row without edit by task and case.
        forced: The same of its scores under teacher forcing alone.
        floats: The other scores of that row by case, in the order of its probes.
    """

    def __init__(self, run: RunFile) -> None:
        tasks = run.spec.tasks
        self.answers: dict[str, dict[str, str]] = {task: {} for task in tasks}
        self.scores: dict[str, dict[str, str]] = {task: {} for task in tasks}
        self.forced: dict[str, dict[str, str]] = {task: {} for task in tasks}
        self.floats: dict[str, dict[str, list[float]]] = {task: {} for task in tasks}
        self._generated = run.spec.generation.max_new_tokens > 0
        # A row may be of some tasks only: the first one of each.
        self._unedited = {
            task: next((row.name for row in run.spec.editors if row.is_base and row.evaluates(task)), None)
            for task in tasks
        }

    def take(self, record: CaseRecord) -> None:
        """Take a line in; a case counts once, whatever rows and stages it stands in."""
        if record.status != "done":
            return
        if record.case_id not in self.answers[record.task]:
            said = [[answer.role, answer.subset, answer.prompt, answer.before] for answer in record.answers]
            self.answers[record.task][record.case_id] = _sha256(said)
        if record.editor == self._unedited[record.task] and record.case_id not in self.scores[record.task]:
            scores = [[s.probe, s.protocol, s.value] for s in record.scores if s.protocol in DISCRETE]
            self.scores[record.task][record.case_id] = _sha256(scores)
            self.forced[record.task][record.case_id] = _sha256([s for s in scores if s[1] != "free_generation"])
            self.floats[record.task][record.case_id] = [s.value for s in record.scores if s.protocol == "z_sent"]

    def passes(self) -> dict[str, BasePass]:
        """Return the base pass of each task."""
        return {
            task: BasePass(
                cases=len(answers),
                answers=_over(answers) if self._generated else None,
                scores=_over(self.scores[task]) if self._unedited[task] else None,
            )
            for task, answers in self.answers.items()
        }


def _sha256(value: object) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _over(cases: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(f"{case} {cases[case]}\n" for case in sorted(cases)).encode()).hexdigest()


Reference = tuple[RunFile, BaseReader]
"""A run that is trusted, and what its lines say of the unedited model."""


def same_model(run: RunFile, other: RunFile, task: str) -> bool:
    """Tell whether the unedited model was asked the same of a task in two runs, but for the length of its texts."""
    ours, theirs = run.spec, other.spec
    return all(
        getattr(ours, field) == getattr(theirs, field)
        for field in ("split", "limit", "model_fingerprint", "tokenizer_fingerprint", "dtype")
    ) and (ours.data.get(task), ours.readers.get(task)) == (theirs.data.get(task), theirs.readers.get(task))


def compare_base(
    run: RunFile,
    base: BaseReader,
    references: Iterable[Reference],
    file: str,
    findings: Findings,
) -> None:
    """Compare what the unedited model says with what it says in runs that are trusted.

    Args:
        run: The run.
        base: What its lines say of the unedited model.
        references: Trusted runs.
        file: Name of its file of cases.
        findings: Takes the cases in which the two differ.
    """
    for task in run.spec.tasks:
        alike = [(other, reader) for other, reader in references if same_model(run, other, task)]
        checked = []
        for other, reader in alike:
            place = f"task '{task}', against run {other.digest}"
            tokens, others = run.spec.generation.max_new_tokens, other.spec.generation.max_new_tokens
            pairs = [("scores under teacher forcing of the row without edit", base.forced[task], reader.forced[task])]
            if tokens == others:
                pairs = [("scores of the row without edit", base.scores[task], reader.scores[task])]
                if tokens:
                    pairs.append(("answers before the edit", base.answers[task], reader.answers[task]))
            else:
                findings.note(
                    f"Answers and free generation of '{task}' in run {run.digest} were not compared with run "
                    f"{other.digest}: {tokens} new tokens here, {others} there."
                )
            for what, ours, theirs in pairs:
                if not ours or not theirs:
                    continue
                checked.append(what)
                if wrong := sorted(case for case in ours.keys() | theirs.keys() if ours.get(case) != theirs.get(case)):
                    findings.add(
                        file, f"base pass, {what}", "those of the reference", f"others in {listed(wrong)}", place
                    )
            _compare_floats(base.floats[task], reader.floats[task], file, place, findings)
        if not checked:
            findings.note(
                f"The base pass of '{task}' in run {run.digest} was not compared: the reference has no run of the same "
                "data, model and limit with a row without edit, or with answers of as many tokens."
            )


def _compare_floats(
    ours: Mapping[str, list[float]], theirs: Mapping[str, list[float]], file: str, place: str, findings: Findings
) -> None:
    far = [
        case
        for case in sorted(ours.keys() & theirs.keys())
        if len(ours[case]) != len(theirs[case])
        or any(abs(a - b) > ALIKE for a, b in zip(ours[case], theirs[case], strict=False))
    ]
    if far:
        expected = f"those of the reference within {ALIKE}"
        findings.add(file, "base pass, z_sent of the row without edit", expected, f"others in {listed(far)}", place)


def reference_runs(path: Path) -> Iterator[Reference]:
    """Yield the finished runs of a results folder or of a submission, and what the unedited model says in each.

    Raises:
        InputError: If there is no finished run, or a file of it cannot be read.
    """
    if path.is_dir() and not (path / MANIFEST).is_file():
        within = [path] if (path / "run.json").is_file() else sorted(file.parent for file in path.glob("*/run.json"))
        folders = [folder for folder in within if (folder / "summary.json").is_file()]
        if not folders:
            raise InputError(f"{path}: no finished run in it; a results folder or a submission was expected.")
        for folder in folders:
            run, records = read_finished(folder)[0], folder / "cases.jsonl"
            try:
                with records.open("rb") as file:
                    yield run, _base(run, enumerate(file, start=1), str(records))
            except OSError as error:
                raise InputError(f"{records}: cannot be read ({error.strerror}).") from error
        return
    findings = Findings()
    archive = open_archive(path, findings)
    if archive is None or findings.found:
        raise InputError(f"{path}: not a readable submission. {findings.found[0]}")
    for name in sorted({name.split("/")[1] for name in archive.sizes if name.startswith("runs/")}):
        place = f"runs/{name}/run.json"
        try:
            run = parse_record(document(archive, place), RunFile, f"{path}, {place}")
            yield run, _base(run, lines(archive, f"runs/{name}/cases.jsonl.gz"), f"{path}, runs/{name}/cases.jsonl.gz")
        except (UnreadableError, KeyError) as error:
            raise InputError(f"{path}, runs/{name}: cannot be read ({error}).") from error


def _base(run: RunFile, numbered: Iterator[tuple[int, bytes]] | enumerate[bytes], place: str) -> BaseReader:
    base, admission = BaseReader(run), Admission(run)
    for number, line in numbered:
        where = f"{place}, line {number}"
        base.take(admission.checked(parse_record(line, CaseRecord, where), where))
    return base
