"""Reads the lines of a submitted run: each is checked by itself, and all against what teacher forcing implies."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator

from instructedit.benchmark.results.integrity import LineChecks
from instructedit.benchmark.results.records import CaseRecord, RunFile, parse_record
from instructedit.editors.errors import InputError

from .archive import Archive, UnreadableError, lines
from .base_pass import BaseReader
from .findings import Findings
from .line_checks import by_probe, check_line
from .run_checks import Expected

LINES = 2_000_000
"""Maximum number of lines of a run; each line takes some 500 bytes of memory."""
KEPT = 2**30
"""Maximum number of bytes kept of the texts of all cases: one line of each. The largest published split has 0.5 GB."""
TIES = 1_000
"""One in so many correct answers under teacher forcing may be generated differently: two tokens tie by rounding.
Of 5,455 such answers of the embedded model none is."""
HALF_TIES = 50
"""The same in half precision, where a rounding step is ten thousand times as large. Not measured."""
STARTS_WITH_ANSWER = "the text to begin with the answer, exact match under teacher forcing being 1"
UNCHANGED = "the text of before the edit, KL being 0"


class Lines:
    """Reads and checks the lines of a run.

    Attributes:
        seen: The ids of the cases by row, task and stage.
        base: The base pass.
        content: sha256 and number of all lines, once they have been read to the end.
    """

    def __init__(
        self, run: RunFile, archive: Archive, file: str, expected: dict[str, Expected], findings: Findings
    ) -> None:
        self.run, self.archive, self.file, self.findings = run, archive, file, findings
        self.expected = expected
        self.seen: dict[tuple[str, str, str], set[str]] = defaultdict(set)
        self.base = BaseReader(run)
        self.content: tuple[str, int] | None = None
        self._first: dict[str, CaseRecord] = {}
        self._implied: Counter[tuple[str, str]] = Counter()
        self._contradicted: dict[tuple[str, str], list[str]] = defaultdict(list)

    def records(self) -> Iterator[CaseRecord]:
        """Yield the lines that the run can have, each checked; what is wrong with the others is a finding."""
        if self.file not in self.archive.sizes:
            self.findings.add(self.file, "file", "the records of the run", "no such file")
            return
        admission = LineChecks(self.run, {task: of_task.ids for task, of_task in self.expected.items()})
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
                if refused := admission.refused(record):
                    self.findings.add(self.file, *refused, place)
                    continue
                kept += sum(map(len, record.unscored)) + (0 if record.case_id in self._first else len(line))
                if kept > KEPT or number > LINES:
                    limits = f"at most {LINES:,} lines, and {KEPT:,} bytes of one line of each case"
                    self.findings.add(self.file, "size", limits, f"more, up to line {number}")
                    return
                self._check(record, place)
                yield record
            self.content = content.hexdigest(), number
        except UnreadableError as error:
            self.findings.add(self.file, "content", "a whole file of lines", error)

    def _check(self, record: CaseRecord, place: str) -> None:
        row = next(row for row in self.run.spec.editors if row.name == record.editor)
        first = self._first.get(record.case_id)
        if first is None or first.status != "done":
            self._first[record.case_id] = record.model_copy(update={"scores": ()})
        of_task = self.expected.get(record.task)
        case = of_task.cases.get(record.case_id) if of_task else None
        for found in check_line(record, row, self.run.spec, first or record, case):
            self.findings.add(self.file, *found, place)
        for implied, probe, agrees in forced_and_free(record, self.run.spec.generation.max_new_tokens):
            self._implied[implied, record.editor] += 1
            if not agrees:
                self._contradicted[implied, record.editor].append(f"{place}, probe {probe}")
        self.seen[record.editor, record.task, record.stage].add(record.case_id)
        self.base.take(record)

    def check_forced(self) -> None:
        """Check that generated texts agree with teacher forcing, but for ties; the last thing after all lines."""
        ties = TIES if self.run.spec.dtype == "float32" else HALF_TIES
        # Row by row: rows that are always right would else make up for one that is not.
        for (implied, row), places in self._contradicted.items():
            total = self._implied[implied, row]
            some = f"In run {self.run.digest}, row '{row}', {len(places)} of {total} texts"
            if implied == UNCHANGED:  # no failed check: an edit may act after the answer, where no KL is read
                self.findings.note(f"{some} are not those of before, though the KL of their answers is exactly 0.")
            elif len(places) * ties > total:
                for place in places:
                    self.findings.add(self.file, "generated", implied, "another text", place)
            else:
                self.findings.note(f"{some} do not agree with teacher forcing ({implied}): two tokens may have tied.")


def forced_and_free(record: CaseRecord, max_new_tokens: int) -> Iterator[tuple[str, int, bool]]:
    """Yield what teacher forcing implies for each generated text, the probe, and whether the text agrees.

    Exact match under teacher forcing is greedy decoding of the answer's tokens. Where it is 1, the generated text
    begins with the first accepted answer, or is a prefix of it if the maximum number of new tokens cut it off. Only
    two tokens that tie within rounding can break this. A KL of exactly 0 means that the edit does not reach the
    answer, and seldom the text after it. An exact match in locality implies nothing: it is read after the answer of
    the data, not after the model's own text.
    """
    values = by_probe(record)
    for number, answer in enumerate(record.answers):
        own = values.get(number, {})
        if answer.generated is None:
            continue
        if answer.role == "locality":
            if own.get("kl_divergence") == 0.0:
                yield UNCHANGED, number, answer.generated == answer.before
        elif own.get("teacher_forced_exact") == 1.0 and answer.accepted:
            agrees = _starts_with(answer.generated, answer.accepted[0].strip(), max_new_tokens)
            yield STARTS_WITH_ANSWER, number, agrees


def _starts_with(text: str, answer: str, max_new_tokens: int) -> bool:
    # Half a character at the cut is written as U+FFFD. A token has at least one byte, and a leading space may go.
    written = text.strip().rstrip("\ufffd")
    cut_off = len(text.encode("utf-8", "replace")) + 1 >= max_new_tokens
    return written.startswith(answer) or (cut_off and answer.startswith(written))
