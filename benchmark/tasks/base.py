"""What a task is: one data set, read into edit cases, with everything it left out counted."""

import hashlib
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from instructedit.editors import EditCase, Registry

from ..results import TaskData
from .parse import Row, read_rows, rows_digest
from .sources import Folder, Source

Split = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class TaskCases:
    """The cases of one split.

    Attributes:
        cases: The cases, in the order of the file.
        data: What they were read from, and the count of what was left out or derived.
        notes: Sentences for the user where the file differs from the published one.
    """

    cases: tuple[EditCase, ...]
    data: TaskData
    notes: tuple[str, ...] = ()


class Task(ABC):
    """One data set.

    Attributes:
        name: Registered name.
        title: Name in tables.
        about: What its cases are, as a noun phrase; whoever writes instructions for it is told so.
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

    @abstractmethod
    def cases(self, rows: list[Row], split: Split, counts: Counter[str]) -> Iterator[EditCase]:
        """Yield a case for each row that can be one.

        Args:
            rows: The rows to read, all of the split that are wanted.
            split: Which split they are of; part of the case ids.
            counts: Takes the number of probes and rows that were skipped, merged or derived, by readable reason.

        Raises:
            InputError: If a required field is missing, mistyped or empty.
        """

    def load(self, source: Source, split: Split = "test", exclude: Collection[str] = ()) -> TaskCases:
        """Read one split.

        Args:
            source: Where the files are.
            split: `train` or `test`.
            exclude: Subjects whose rows are left out, compared by `subject_key`.

        Raises:
            InputError: If the file is missing or broken, or a required field of a row is.
        """
        source = Folder(self.folder) if self.folder else source
        name, path = source.find(self.files[split])
        content = path.read_bytes()
        rows = read_rows(content, path)
        counts: Counter[str] = Counter()
        barred = {subject_key(subject) for subject in exclude}
        kept = [row for row in rows if subject_key(row.text(self.subject_field)) not in barred]
        if len(kept) < len(rows):
            counts["row left out: its subject is tested"] = len(rows) - len(kept)
        cases = tuple(self.cases(kept, split, counts))
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
        )
        # the embedded world has names of the published files and sizes of its own
        notes = () if source.name == "embedded" else tuple(self._differences(name, split, rows))
        return TaskCases(cases, data, notes)

    def _differences(self, name: str, split: Split, rows: list[Row]) -> Iterator[str]:
        """Yield a sentence for each way in which a file is not the published one."""
        published = self.published_rows.get(split)
        if published is not None and len(rows) != published:
            yield f"{self.name}: {name} has {len(rows):,} rows; the published {split} split has {published:,}."
        digest = self.published_digests.get(name.rsplit("/", 1)[-1])
        if digest is not None and digest != rows_digest(rows):
            yield f"{self.name}: the rows of {name} are not those of the file that this reader was checked on."


TASKS: Registry[type[Task]] = Registry("task", "instructedit.tasks")
"""All tasks, ours and those of installed packages."""


def subject_key(subject: str) -> str:
    """Return a subject in the form in which two spellings of it are equal: NFC and case-folded."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", subject.strip()).casefold())


def subjects(cases: Iterable[EditCase]) -> frozenset[str]:
    """Return the keys of all subjects that are edited in some cases."""
    return frozenset(subject_key(case.request.subject) for case in cases)


def training_cases(task: Task, source: Source, test_subjects: Collection[str]) -> TaskCases:
    """Read a training split; records whose subject the run's own tasks test are left out and counted."""
    return task.load(source, "train", exclude=test_subjects)
