"""What a task is: a data set read into edit cases, with everything that is left out counted."""

import hashlib
import re
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from instructedit.editors import EditCase, InputError, Registry
from instructedit.editors.files.jsonfile import read_bytes
from instructedit.editors.files.strict import complaint, validated
from instructedit.editors.writing_systems import Joint

from ..results.records import TaskData
from .audit import audit
from .parse import Row, read_rows, rows_digest
from .registry import TASKS as _TASKS
from .sources import Folder, Source

Split = Literal["train", "test"]
_BIBTEX = (resources.files("instructedit.benchmark.tasks") / "citations.bib").read_text(encoding="utf-8")
_CITATIONS = {re.split("[{,]", entry)[1]: entry.strip() for entry in _BIBTEX.split("\n\n")}
"""The papers that the data sets come from, as BibTeX entries."""


@dataclass(frozen=True, slots=True)
class TaskCases:
    """The cases of one split in the order of the file, what they were read from, and sentences for the user."""

    cases: tuple[EditCase, ...]
    data: TaskData
    notes: tuple[str, ...] = ()


class TaskOptions(BaseModel):
    """Base of the options of a task: frozen, and unknown keys are errors. Every option has a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    joint: Joint | None = None
    """Text between prompt and answer, `" "` or `""`; by default the writing system decides. A record's own field
    `joint` takes precedence."""

    def recorded(self) -> dict[str, Any]:
        """Return the options as a run records them: without `joint` where the text decides, as runs before it."""
        return self.model_dump(mode="json", exclude={"joint"} if self.joint is None else None)


class Task(ABC):
    """One data set.

    Args:
        options: Options of the task; None for the defaults.

    Attributes:
        name: Registered name.
        title: Name in tables.
        about: What its cases are, as a noun phrase; part of the prompt for new instructions.
        version: Version of the reader; a change of the reader that changes cases changes it.
        licence: Licence of the data.
        citation: BibTeX of the papers to cite.
        homepage: Where the data are published.
        files: Accepted file names of a split, the preferred one first.
        folder: Folder that the files are in, for data that come with a task's own package; by default they are looked
            for where the run's data are.
        published_rows: Rows of the published file of a split, where there is one.
        published_digests: `rows_digest` of published files by base name, where the complete file is known. It is over
            the rows, not over the bytes, because copies of these files differ in indentation and escapes.
        subject_field: Field that names what a record is about.
        fields: Fields of a record that the reader reads; inner ones as `outer.inner`, and `outer.*` where any name is
            read. All others are reported, and data of another task's layout are recognised by them.
        required: Fields that every record must have, one group for each layout that is read.
        ignored: Fields of the published files that the reader knows and does not need; they are not reported.
        test_share: For a data set of one file, the share of subjects whose rows are tested; the rows of all others
            train. None where each split has a file of its own.
        Options: Its options, which are part of a run's identity.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    about: ClassVar[str] = "edits of single facts"
    version: ClassVar[str]
    licence: ClassVar[str]
    citation: ClassVar[str]
    homepage: ClassVar[str]
    files: ClassVar[dict[Split, tuple[str, ...]]]
    folder: ClassVar[Path | None] = None
    published_rows: ClassVar[dict[Split, int]] = {}
    published_digests: ClassVar[dict[str, str]] = {}
    subject_field: ClassVar[str] = "subject"
    fields: ClassVar[tuple[str, ...]] = ()
    required: ClassVar[tuple[tuple[str, ...], ...]] = ()
    ignored: ClassVar[frozenset[str]] = frozenset({"case_id", "id", "joint"})
    test_share: ClassVar[float | None] = None
    Options: ClassVar[type[TaskOptions]] = TaskOptions

    def __init__(self, options: TaskOptions | None = None) -> None:
        self.options = self.Options() if options is None else options

    @abstractmethod
    def cases(self, rows: list[Row], split: Split, counts: Counter[str]) -> Iterator[EditCase]:
        """Yield a case for each row that can be one, and count by readable reason what is skipped, merged or derived.

        Raises:
            InputError: If a required field is missing, mistyped or empty.
        """

    def load(self, source: Source, split: Split = "test", exclude: Collection[str] = ()) -> TaskCases:
        """Read one split, without the rows of the subjects in `exclude`, which are compared by `subject_key`.

        Raises:
            InputError: If the file is missing or broken, or a required field of a row is.
        """
        source = Folder(self.folder) if self.folder else source
        name, path = source.find(self.files[split])
        content = read_bytes(path, "a JSON array of records")
        rows = read_rows(content, path)
        counts: Counter[str] = Counter()
        own = [row for row in rows if self._is_of(split, row)]
        if len(own) < len(rows):
            counts["row left out: its subject is of the other split"] = len(rows) - len(own)
        barred = {subject_key(subject) for subject in exclude}
        kept = [row for row in own if subject_key(row.text(self.subject_field)) not in barred]
        if len(kept) < len(own):
            counts["row left out: its subject is tested"] = len(own) - len(kept)
        cases = self._joined(self.cases(kept, split, counts), kept)
        odd = audit(kept, cases, counts, read=self.fields, ignored=self.ignored, task=self.name, name=name)
        data = TaskData(
            task=self.name,
            version=self.version,
            source=source.name,
            revision=source.revision,
            sha256={name: hashlib.sha256(content).hexdigest()},
            licence=self.licence,
            citation=self.citation,
            rows=len(rows),
            cases=len(cases),
            skipped=dict(sorted(counts.items())),
            options=self.options.recorded(),
        )
        # The embedded world has the published names and its own sizes.
        notes = () if source.name == "embedded" else tuple(self._differences(name, split, rows))
        return TaskCases(cases, data, notes + odd)

    def _joined(self, cases: Iterable[EditCase], rows: Collection[Row]) -> tuple[EditCase, ...]:
        """Set what joins prompts and answers: a record's own field `joint`, else the task's option; else unchanged."""
        own = {str(row.index): joint for row in rows if (joint := row.joint()) is not None}

        def joined(case: EditCase) -> EditCase:
            joint = own.get(case.request.case_id.rsplit("/", 1)[-1], self.options.joint)
            if joint is None:
                return case
            probes = tuple(replace(probe, joint=joint) for probe in case.probes)
            return EditCase(replace(case.request, joint=joint), probes)

        return tuple(map(joined, cases))

    def _is_of(self, split: Split, row: Row) -> bool:
        if self.test_share is None:
            return True
        digest = hashlib.sha256(f"split/{subject_key(row.text(self.subject_field))}".encode()).digest()
        tested = int.from_bytes(digest[:8]) < self.test_share * 2**64
        return tested == (split == "test")

    def _differences(self, name: str, split: Split, rows: list[Row]) -> Iterator[str]:
        published = self.published_rows.get(split)
        if published is not None and len(rows) != published:
            yield f"{self.name}: {name} has {len(rows):,} rows; the published {split} split has {published:,}."
        if self.test_share is not None:
            share = f"{self.test_share:.0%} of the subjects, by a hash of the name, are the test split"
            yield f"{self.name}: read {name}, {len(rows):,} rows; {share}, all others the training split."
        digest = self.published_digests.get(name.rsplit("/", 1)[-1])
        if digest is not None and digest != rows_digest(rows):
            yield f"{self.name}: the rows of {name} are not those of the file that this reader was checked on."


TASKS: Registry[type[Task]] = _TASKS
"""All tasks, those of installed packages included."""


def make_task(name: str, options: Mapping[str, Mapping[str, Any]] | None = None) -> Task:
    """Return a task with its options among those of all; `InputError` if it, or one of its options, is unknown."""
    task = TASKS.get(name)
    given = (options or {}).get(name, {})
    try:
        return task(validated(task.Options, given))
    except ValidationError as error:
        key, unknown, text = complaint(error, task.Options, given)
        if unknown:
            raise InputError(f"The task '{name}' has no option '{key}'.{text}") from error
        raise InputError(f"Option '{key}' of the task '{name}': {text}.") from error


def cite(*keys: str) -> str:
    """Return the BibTeX entries of some keys as one text that a `.bib` file can hold."""
    return "\n\n".join(_CITATIONS[key] for key in keys)


def subject_key(subject: str) -> str:
    """Return a subject in the form in which two spellings of it are equal: NFC and case-folded."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", subject.strip()).casefold())


def subjects(cases: Iterable[EditCase]) -> frozenset[str]:
    """Return the keys of all subjects that are edited in some cases."""
    return frozenset(subject_key(case.request.subject) for case in cases)
