"""Own facts: a file read into edit cases, with what was understood of each row."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from instructedit.editors import EditCase, EditRequest, InputError, Probe, Role
from instructedit.editors.writing_systems import Joint

from ...results.records import TaskData
from ..audit import NO_SUBJECT, OTHER_TARGET, REPEATED_RECORD
from ..base import TASKS, TaskCases
from ..fact_columns import Columns, Meaning, columns
from ..parse import MOST_ITEMS, Row, answers
from .files import TABLES, read_file
from .subject import shared_phrase

VERSION = "facts-1"
"""Version of the reader; a change that changes cases changes it."""
SOURCE = "file"
DERIVED = "edit: subject derived from what prompt and rephrases share"
NO_NAME = "edit: no subject"
SAME_AS_OLD = "edit: the target is the old answer"
_BAR = re.compile(r"(?<!\\)\|")
_JOINTS: dict[str, Joint] = {"none": "", "space": " ", " ": " "}
_PROBES: tuple[tuple[Role, Meaning, Meaning, Meaning], ...] = (
    ("portability", "portability", "portability_answer", "nested portability"),
    ("locality", "unrelated", "unrelated_answer", "nested unrelated"),
)


@dataclass(slots=True)
class FactRow:
    """One row of a file of facts.

    Attributes:
        index: Position among the rows, counted from 0 as in the case id.
        line: Line of a text table; None of other files.
        case: The edit and its probes; None if the row cannot be read.
        error: Why it cannot be read, one sentence.
        remarks: What is odd about it, or was left out or derived, in words.
        counts: The same by reason, as `TaskData.skipped` has them.
    """

    index: int
    line: int | None = None
    case: EditCase | None = None
    error: str | None = None
    remarks: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def note(self, reason: str, remark: str | None = None) -> None:
        """Add a reason, and what it is in this row; by default the reason without its first word."""
        self.counts[reason] += 1
        self.remarks.append(remark or reason)


@dataclass(frozen=True, slots=True)
class Facts:
    """A file of facts.

    Attributes:
        path: The file.
        task: Name of the task that its cases are of.
        sha256: Digest of its bytes.
        layout: Its layout in words.
        columns: Its columns: those that are read, and hints on the others.
        unread: Number of rows that have a column that is not read, by its name.
        rows: Its rows in order.
        empty: Rows without any text, which are left out.
    """

    path: Path
    task: str
    sha256: str
    layout: str
    columns: Columns
    unread: Mapping[str, int]
    rows: tuple[FactRow, ...]
    empty: int = 0

    @property
    def errors(self) -> tuple[str, ...]:
        """A sentence on each row that cannot be read; the file is usable if there is none."""
        return tuple(row.error for row in self.rows if row.error is not None)

    @property
    def cases(self) -> tuple[EditCase, ...]:
        """The cases of all rows that can be read."""
        return tuple(row.case for row in self.rows if row.case is not None)

    @property
    def counts(self) -> dict[str, int]:
        """What was left out, derived or found odd, by reason."""
        found = sum((row.counts for row in self.rows), Counter[str]())
        found.update({f"column '{name}' not read": count for name, count in self.unread.items()})
        if self.empty:
            found["row left out: empty"] = self.empty
        return dict(sorted(found.items()))

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on the file as a whole: columns that are not read, oddities, the name of the task."""
        notes = []
        if self.columns.unread:
            named = (f"'{name}'{f' ({hint})' if hint else ''}" for name, hint in self.columns.unread.items())
            notes.append(f"{self.path} has columns that are not read: {', '.join(named)}.")
        kinds = {OTHER_TARGET, REPEATED_RECORD, NO_SUBJECT, SAME_AS_OLD}
        if odd := [f"{text.partition(': ')[2]} ({n})" for text, n in self.counts.items() if text in kinds]:
            notes.append(f"{self.path}: {'; '.join(odd)}. `instructedit facts check` lists them by row.")
        if (plain := _plain_name(self.path)) != self.task:
            notes.append(f"{self.path}: there is a task '{plain}' already, so the facts are the task '{self.task}'.")
        return tuple(notes)


def facts_task(path: str | Path) -> str:
    """Return the name of the task that the facts of a file are: its stem in lower case, with `-` for other signs.

    Where a registered task has that name, `-facts` is appended.
    """
    name = _plain_name(path)
    return f"{name}-facts" if name in TASKS else name


def read_facts(path: str | Path) -> Facts:
    """Read a file of own facts: CSV, TSV, Parquet, JSON or JSON lines.

    Rows that cannot be read are kept with their error, so that all of them can be shown at once.

    Raises:
        InputError: If the file cannot be read or is broken, or has no column for prompt or target.
    """
    path = Path(path)
    file = read_file(path)
    names = dict.fromkeys(name for row in file.rows for name in row.fields)
    found = columns(names, str(path))
    task, split_bars = facts_task(path), path.suffix.lower() in TABLES
    rows = tuple(_Reader(row, found, task, split_bars).read() for row in file.rows)
    _compare(rows)
    unread = {name: sum(name in row.fields for row in file.rows) for name in found.unread}
    return Facts(path, task, file.sha256, file.layout, found, unread, rows, file.empty)


def load_facts(path: str | Path) -> TaskCases:
    """Return the cases of a file of own facts as those of a task.

    Raises:
        InputError: If the file or one of its rows cannot be read; the sentence is on the first one.
    """
    facts = read_facts(path)
    if errors := facts.errors:
        more = f" {len(errors) - 1} more rows cannot be read: `instructedit facts check {path}`." if errors[1:] else ""
        raise InputError(errors[0] + more)
    data = TaskData(
        task=facts.task,
        version=VERSION,
        source=SOURCE,
        revision=None,
        sha256={facts.path.name: facts.sha256},
        licence="",
        citation="",
        rows=len(facts.rows) + facts.empty,
        cases=len(facts.cases),
        skipped=facts.counts,
    )
    return TaskCases(facts.cases, data, facts.notes)


def _plain_name(path: str | Path) -> str:
    return re.sub(r"[^a-z0-9]+", "-", Path(path).stem.casefold())[:60].strip("-") or "facts"


@dataclass(slots=True)
class _Reader:
    """Reads one row."""

    row: Row
    columns: Columns
    task: str
    split_bars: bool
    """Whether `|` separates answers, as in tables."""
    found: FactRow = field(init=False)

    def read(self) -> FactRow:
        self.found = FactRow(self.row.index, self.row.line)
        try:
            self.found.case = self._case()
        except InputError as error:
            self.found.error = str(error)
        return self.found

    def _case(self) -> EditCase:
        prompt = self.row.text(self._name("prompt"))
        accepted = self._texts(self._name("target"), answer=True)
        if not accepted:
            raise self.row.error(self._name("target"), "an answer, or several")
        rephrases = self._rephrases(prompt)
        request = EditRequest(
            f"{self.task}/test/{self.row.index}",
            self.task,
            prompt,
            accepted[0],
            self._subject(prompt, rephrases),
            instruction=self._one("instruction"),
            old=self._old(accepted[0]),
            joint=self._joint(),
        )
        probes = [Probe("reliability", "edit", prompt, accepted)]
        probes += [Probe("generalization", "rephrase", text, accepted) for text in rephrases]
        for role, meaning, answer, nested in _PROBES:
            probes += self._probes(role, prompt, [*self._flat(meaning, answer), *self._nested(role, meaning, nested)])
        if len(probes) > MOST_ITEMS:
            raise InputError(f"{self._place()}: found {len(probes):,} probes, expected at most {MOST_ITEMS:,}.")
        return EditCase(request, tuple(replace(probe, joint=request.joint) for probe in probes))

    def _name(self, meaning: Meaning) -> str:
        """Return the name of a required column."""
        name = self.columns.name(meaning)
        assert name is not None
        return name

    def _place(self) -> str:
        return f"{self.row.file}, row {self.row.index}{f' (line {self.row.line})' if self.row.line else ''}"

    def _texts(self, name: str | None, *, answer: bool = False) -> tuple[str, ...]:
        """Return the texts of an optional field; of tables, answers are separated by `|`, unless it is escaped."""
        value = self.row.fields.get(name) if name is not None else None
        if answer and self.split_bars and isinstance(value, str):
            value = [part.replace("\\|", "|") for part in _BAR.split(value)]
        try:
            return answers(value)
        except InputError:
            assert name is not None
            raise self.row.error(name, "a text or a list of texts") from None

    def _one(self, meaning: Meaning) -> str | None:
        texts = self._texts(name := self.columns.name(meaning))
        if len(texts) > 1:
            raise self.row.error(str(name), "one text")
        return texts[0] if texts else None

    def _joint(self) -> Joint | None:
        name = self.columns.name("joint")
        value = self.row.fields.get(name) if name is not None else None
        if name is None or value is None:
            return None
        if not self.split_bars and value == "":
            return ""
        if value == "":
            return None
        if value not in _JOINTS:
            raise self.row.error(name, "'none' or 'space'")
        return _JOINTS[value]

    def _old(self, target: str) -> str | None:
        known = self._texts(self.columns.name("old"), answer=True)
        if target in known:
            self.found.note(SAME_AS_OLD, f"the target '{target}' is the old answer")
        return next((text for text in known if text != target), None)

    def _subject(self, prompt: str, rephrases: tuple[str, ...]) -> str:
        """Return the given subject, or else the phrase that prompt and rephrases share; empty if there is none."""
        if given := self._one("subject"):
            if given not in prompt:
                self.found.note(NO_SUBJECT, f"the prompt does not name the subject '{given}'")
            return given
        derived = shared_phrase(prompt, rephrases)
        if derived:
            self.found.note(DERIVED, f"subject '{derived}', which prompt and rephrases share")
        else:
            self.found.counts[NO_NAME] += 1
        return derived

    def _rephrases(self, prompt: str) -> tuple[str, ...]:
        given = dict.fromkeys(text for name in self.columns.names("rephrase") for text in self._texts(name))
        if prompt in given:
            self.found.note("generalization: rephrase that repeats the edit prompt left out")
        return tuple(text for text in given if text != prompt)

    def _flat(self, meaning: Meaning, answer: Meaning) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """Yield subset, prompt and answers of the probes that columns hold."""
        for key in dict.fromkeys(c.key for c in self.columns.read.values() if c.meaning in (meaning, answer)):
            name, answer_name = self.columns.name(meaning, key), self.columns.name(answer, key)
            if name is not None and isinstance(self.row.fields.get(name), Mapping):
                continue
            prompts = self._texts(name)
            if len(prompts) > 1:
                yield from ((meaning, *pair) for pair in self._paired(prompts, answer_name))
            elif prompts:
                yield meaning, prompts[0], self._texts(answer_name, answer=True)
            elif self._texts(answer_name):
                self.found.note(f"{meaning}: answer without a prompt left out")

    def _paired(self, prompts: tuple[str, ...], name: str | None) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield the prompts of a list with the answers of the list beside it."""
        value = self.row.fields.get(name) if name is not None else None
        if not value:
            value = [None] * len(prompts)
        if not isinstance(value, list) or len(value) != len(prompts):
            raise self.row.error(str(name), f"a list of {len(prompts)} answers, one for each prompt")
        for prompt, answer in zip(prompts, value, strict=True):
            yield prompt, answers(answer)

    def _nested(self, role: Role, meaning: Meaning, nested: Meaning) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """Yield subset, prompt and answers of the probes of KnowEdit's and EasyEdit's objects."""
        for name in (self.columns.name(nested), self.columns.name(meaning)):
            groups = self.row.fields.get(name) if name is not None else None
            if not groups or (name == self.columns.name(meaning) and not isinstance(groups, Mapping)):
                continue
            if not isinstance(groups, Mapping) or not all(isinstance(items or [], list) for items in groups.values()):
                raise self.row.error(str(name), 'an object of lists of {"prompt": ..., "ground_truth": ...}')
            for subset, items in groups.items():
                for item in items or ():
                    prompt = item.get("prompt") if isinstance(item, Mapping) else None
                    try:
                        texts, accepted = answers(prompt), answers(item.get("ground_truth")) if prompt else ()
                    except InputError:
                        texts, accepted = (), ()
                    if len(texts) == 1:
                        yield subset, texts[0], accepted
                    else:
                        self.found.note(f"{role}: malformed probe left out")

    def _probes(self, role: Role, prompt: str, entries: list[tuple[str, str, tuple[str, ...]]]) -> Iterator[Probe]:
        """Yield one probe for each subset and prompt with the answers of all its entries.

        Locality compares with the unedited model and needs no answer; a probe of portability without one is left out.
        """
        merged: dict[tuple[str, str], tuple[str, ...]] = {}
        for subset, text, accepted in entries:
            if text == prompt:
                self.found.note(f"{role}: probe that repeats the edit prompt left out")
            elif not accepted and role == "portability":
                self.found.note(f"{role}: probe without an answer left out", f"{role}: no answer to '{text}', left out")
            else:
                merged[subset, text] = answers([*merged.get((subset, text), ()), *accepted])
        for (subset, text), accepted in merged.items():
            yield Probe(role, subset, text, accepted)


def _compare(rows: tuple[FactRow, ...]) -> None:
    """Note rows that repeat or contradict an earlier one."""
    edits: dict[tuple[Any, ...], int] = {}
    targets: dict[str, FactRow] = {}
    for row in rows:
        if row.case is None:
            continue
        own = row.case.request
        key = own.prompt, own.target, own.subject
        first = targets.setdefault(own.prompt, row)
        assert first.case is not None
        if key in edits:
            row.note(REPEATED_RECORD, f"the same fact as row {edits[key]}")
        elif (other := first.case.request.target) != own.target:
            row.note(OTHER_TARGET, f"contradicts row {first.index}, whose target is '{other}'")
        edits.setdefault(key, row.index)
