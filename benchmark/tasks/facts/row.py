"""One row of a file of own facts, read into an edit and its probes."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from instructedit.editors import EditCase, EditRequest, InputError, Probe
from instructedit.editors.writing_systems import Joint

from ..audit import NO_SUBJECT
from ..fact_columns import Columns, Meaning
from ..layouts import Entry, Role, group_entries, merged
from ..parse import MOST_ITEMS, Row, answers
from .subject import shared_phrase

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
    """One row of a file of facts: its edit and probes, or the error that says why it cannot be read.

    `index` counts from 0 as in the case id; only text tables have a `line`. `remarks` say what is odd about it, or was
    left out or derived; `counts` has the same by reason, as `TaskData.skipped` does.
    """

    index: int
    line: int | None = None
    case: EditCase | None = None
    error: str | None = None
    remarks: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def note(self, reason: str, remark: str | None = None) -> None:
        """Add a reason, and what it is in this row: by default the reason, and nothing if it is empty."""
        self.counts[reason] += 1
        if remark != "":
            self.remarks.append(remark or reason)


def read_row(row: Row, columns: Columns, task: str, *, split_bars: bool) -> FactRow:
    """Return what is understood of a row; where it cannot be read, with the error instead of a case.

    `split_bars` tells whether `|` separates answers, as in tables.
    """
    found = FactRow(row.index, row.line)
    try:
        found.case = _Reader(row, columns, task, split_bars, found).case()
    except InputError as error:
        found.error = str(error)
    return found


@dataclass(slots=True)
class _Reader:
    row: Row
    columns: Columns
    task: str
    split_bars: bool
    found: FactRow

    def case(self) -> EditCase:
        prompt = self.row.text(str(self.columns.name("prompt")))
        accepted = self._texts(target := self.columns.name("target"), answer=True)
        if not accepted:
            raise self.row.error(str(target), "an answer, or several")
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
            entries = [*self._flat(meaning, answer), *self._nested(role, meaning, nested)]
            probes += merged(role, prompt, entries, self.found.note)
        if len(probes) > MOST_ITEMS:
            raise InputError(f"{self.row.place}: found {len(probes):,} probes, expected at most {MOST_ITEMS:,}.")
        return EditCase(request, tuple(replace(probe, joint=request.joint) for probe in probes))

    def _value(self, name: str | None) -> Any:
        return None if name is None else self.row.fields.get(name)

    def _texts(self, name: str | None, *, answer: bool = False) -> tuple[str, ...]:
        """Return the texts of an optional field; of tables, answers are separated by `|`, unless it is escaped."""
        value = self._value(name)
        if answer and self.split_bars and isinstance(value, str):
            value = [part.replace("\\|", "|") for part in _BAR.split(value)]
        try:
            return answers(value)
        except InputError:
            raise self.row.error(str(name), "a text or a list of texts") from None

    def _one(self, meaning: Meaning) -> str | None:
        texts = self._texts(name := self.columns.name(meaning))
        if len(texts) > 1:
            raise self.row.error(str(name), "one text")
        return texts[0] if texts else None

    def _joint(self) -> Joint | None:
        value = self._value(name := self.columns.name("joint"))
        if value is None or value == "":
            return None if value is None or self.split_bars else ""
        if value not in _JOINTS:
            raise self.row.error(str(name), "'none' or 'space'")
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

    def _flat(self, meaning: Meaning, answer: Meaning) -> Iterator[Entry]:
        """Yield the probes that columns hold."""
        for key in dict.fromkeys(c.key for c in self.columns.read.values() if c.meaning in (meaning, answer)):
            name, answer_name = self.columns.name(meaning, key), self.columns.name(answer, key)
            if isinstance(self._value(name), Mapping):
                continue
            prompts = self._texts(name)
            if len(prompts) > 1:
                yield from self._paired(meaning, prompts, answer_name)
            elif prompts:
                yield Entry(meaning, prompts[0], self._texts(answer_name, answer=True))
            elif self._texts(answer_name):
                self.found.note(f"{meaning}: answer without a prompt left out")

    def _paired(self, meaning: Meaning, prompts: tuple[str, ...], name: str | None) -> Iterator[Entry]:
        """Yield the probes of a list of prompts, with the answers of the list beside it."""
        value = self._value(name) or [None] * len(prompts)
        if not isinstance(value, list) or len(value) != len(prompts):
            raise self.row.error(str(name), f"a list of {len(prompts)} answers, one for each prompt")
        for prompt, answer in zip(prompts, value, strict=True):
            yield Entry(meaning, prompt, answers(answer))

    def _nested(self, role: Role, meaning: Meaning, nested: Meaning) -> Iterator[Entry]:
        """Yield the probes of KnowEdit's and EasyEdit's objects."""
        for name in (self.columns.name(nested), self.columns.name(meaning)):
            groups = self._value(name)
            if not groups or (name == self.columns.name(meaning) and not isinstance(groups, Mapping)):
                continue
            if not isinstance(groups, Mapping) or not all(isinstance(items or [], list) for items in groups.values()):
                raise self.row.error(str(name), 'an object of lists of {"prompt": ..., "ground_truth": ...}')
            yield from group_entries(role, groups, self.found.note)
