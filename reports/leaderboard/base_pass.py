"""The base pass: answers and scores of the unedited model, as digests, and compared with those of trusted runs."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from instructedit.benchmark.results.records import CaseRecord, Record, RunFile

from .findings import Findings, listed

DISCRETE = ("teacher_forced_token", "teacher_forced_exact", "free_generation")
"""Protocols that count correct tokens or answers: two machines agree on them exactly, unless two tokens tie."""
TOLERANCE = 1e-3
"""Allowed difference of a score of likelihoods: machines add in another order, and half precision rounds."""
_SAME = ("split", "limit", "model_fingerprint", "tokenizer_fingerprint", "dtype")
"""Fields in which the runs of equal base passes agree."""
_COMPARED = {
    "discrete": "scores of the row without edit",
    "forced": "scores under teacher forcing of the row without edit",
    "answers": "answers before the edit",
    "z_sent": "z_sent of the row without edit",
}


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


class BaseReader:
    """Collects the base pass from the lines of a run, in any order.

    Attributes:
        run: The run.
        found: By task, kind (a key of `_COMPARED`) and case the digest of answers or scores, or the z_sent of each
            probe.
    """

    def __init__(self, run: RunFile, records: Iterable[CaseRecord] = ()) -> None:
        self.run = run
        self.found: dict[str, dict[str, dict[str, Any]]] = {task: defaultdict(dict) for task in run.spec.tasks}
        # A row may evaluate some of the tasks only: the first one of each task.
        self._rows = {
            task: next((row.name for row in run.spec.editors if row.is_base and row.evaluates(task)), None)
            for task in run.spec.tasks
        }
        for record in records:
            self.take(record)

    def take(self, record: CaseRecord) -> None:
        """Add a line; a case counts once, whatever rows and stages it occurs in."""
        if record.status != "done":
            return
        found, case = self.found[record.task], record.case_id
        if case not in found["answers"]:
            found["answers"][case] = _sha256([[a.role, a.subset, a.prompt, a.before] for a in record.answers])
        if record.editor == self._rows[record.task] and case not in found["discrete"]:
            scores = [[s.probe, s.protocol, s.value] for s in record.scores if s.protocol in DISCRETE]
            found["discrete"][case] = _sha256(scores)
            found["forced"][case] = _sha256([score for score in scores if score[1] != "free_generation"])
            found["z_sent"][case] = [s.value for s in record.scores if s.protocol == "z_sent"]

    def passes(self) -> dict[str, BasePass]:
        """Return the base pass of each task."""
        generated = self.run.spec.generation.max_new_tokens > 0
        return {
            task: BasePass(
                cases=len(found["answers"]),
                answers=_over(found["answers"]) if generated else None,
                scores=_over(found["discrete"]) if self._rows[task] else None,
            )
            for task, found in self.found.items()
        }


def _sha256(value: object) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _over(cases: Mapping[str, str]) -> str:
    return hashlib.sha256("".join(f"{case} {cases[case]}\n" for case in sorted(cases)).encode()).hexdigest()


def _conditions(run: RunFile, task: str) -> tuple[Any, ...]:
    """Return what runs agree in whose base passes on a task are equal by right, but for the length of the texts."""
    spec = run.spec
    return *(getattr(spec, field) for field in _SAME), spec.data.get(task), spec.readers.get(task)


def _differ(one: Any, two: Any) -> bool:
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        return any(abs(a - b) > TOLERANCE for a, b in zip(one, two, strict=True))
    return bool(one != two)


def compare_base(base: BaseReader, references: Iterable[BaseReader], file: str, findings: Findings) -> None:
    """Compare the base pass of a run with that of trusted runs; `file` is the name of its file of cases."""
    run, tokens = base.run, base.run.spec.generation.max_new_tokens
    for task in run.spec.tasks:
        compared = False
        for other in (
            reference for reference in references if _conditions(run, task) == _conditions(reference.run, task)
        ):
            others, kinds = other.run.spec.generation.max_new_tokens, ["discrete", "z_sent"]
            if tokens != others:
                kinds = ["forced", "z_sent"]
                findings.note(
                    f"Answers and free generation of '{task}' in run {run.digest} were not compared with run "
                    f"{other.run.digest}: {tokens} new tokens here, {others} there."
                )
            elif tokens > 0:
                kinds.append("answers")
            for kind in kinds:
                ours, theirs = base.found[task][kind], other.found[task][kind]
                if ours and theirs:
                    compared = True
                    if wrong := [case for case in ours.keys() | theirs if _differ(ours.get(case), theirs.get(case))]:
                        expected = "those of the reference" + (f" within {TOLERANCE}" if kind == "z_sent" else "")
                        place = f"task '{task}', against run {other.run.digest}"
                        what = f"base pass, {_COMPARED[kind]}"
                        findings.add(file, what, expected, f"others in {listed(wrong)}", place)
        if not compared:
            findings.note(
                f"The base pass of '{task}' in run {run.digest} was not compared: the reference has no run of the same "
                "data, model and limit with a row without edit, or with answers of the same number of tokens."
            )
