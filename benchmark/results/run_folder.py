"""A run's folder: `run.json` first, then a line per case, editor and stage, flushed at once.

Cases that are on disk are never computed again.
"""

import mmap
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout
from pydantic import BaseModel

from instructedit.editors.errors import DamagedError, InputError
from instructedit.editors.files.atomic import sweep, whole_file, write_whole

from .integrity import Key, LineChecks, changed, content_of, key_of, read_run
from .records import CaseRecord, Provenance, RunFile, RunSummary, parse_record, read_record


class StorageError(InputError):
    """Results cannot be written (full disk, no permission). Lines that were written before are safe."""


def record_text(record: BaseModel) -> str:
    """Return a record as the text of its file."""
    return record.model_dump_json(indent=1) + "\n"


def write_record(path: Path, record: BaseModel) -> Path:
    """Write a record to a file of its own atomically, and make its folder; `StorageError` if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_whole(path, record_text(record))
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror}).") from error


def differences(begun: Provenance, now: Provenance) -> list[str]:
    """Return in what two starts differ that numbers may depend on, each as `NAME WAS (now IS)`."""
    pairs = {
        "instructedit-bench": (begun.version, now.version),
        "the commit": (begun.git_revision, now.git_revision),
        "the device": (begun.device, now.device),
        "threads": (str(begun.threads), str(now.threads)),
        **{f"the rule of {name}": (begun.rules.get(name), rule) for name, rule in now.rules.items()},
        **{name: (begun.packages.get(name), now.packages.get(name)) for name in {**begun.packages, **now.packages}},
    }
    changes = [f"{name} {was} (now {found})" for name, (was, found) in pairs.items() if was != found]
    if begun.trial is not None and begun.trial != now.trial:
        changes.append("other ways of computing, as the model's trial found them")
    return changes


class RunFolder:
    """The folder of one run, named by its digest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cases = folder / "cases.jsonl"
        self.timings = folder / "timings.jsonl"
        self.usage = folder / "usage.jsonl"

    @contextmanager
    def open(self, run: RunFile, report: Callable[[str], None] = lambda _: None) -> Iterator[None]:
        """Lock the folder, remove temporary files of killed processes, and write `run.json` if it is missing.

        `report` takes a sentence on a file that is written again.

        Raises:
            InputError: If another process writes this run, or the folder holds another one.
            StorageError: If the folder cannot be written to.
        """
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock", timeout=0)
            try:
                lock.acquire()
            except Timeout as error:
                raise InputError(
                    f"{self.folder}: another process is writing this run; wait for it or stop it."
                ) from error
        try:
            for folder in (self.folder, self.folder / "edits"):
                sweep(folder)
            self._start(run, report)
            yield
        finally:
            lock.release()

    def _start(self, run: RunFile, report: Callable[[str], None]) -> None:
        path = self.folder / "run.json"
        if path.exists():
            try:
                known = read_run(path, named=False)
            except InputError as error:
                if isinstance(error.__cause__, OSError):
                    raise
                # The folder's name identifies the run; only its provenance is lost.
                what = str(error).removeprefix(f"{path}: ").removesuffix(".")
                report(f"note: {DamagedError(path, what)} It is written again, as of this start.")
            else:
                if known.digest != run.digest:
                    raise InputError(f"{path}: holds the run {known.digest}, but {run.digest} was expected.")
                return
        self.write("run.json", run)

    def changes(self, run: RunFile) -> list[str]:
        """Return what differs from when the run was started, each as `NAME WAS (now IS)`."""
        return differences(read_run(self.folder / "run.json", named=False).provenance, run.provenance)

    def write(self, name: str, record: BaseModel) -> Path:
        """Write a record to a file of its own atomically; raises as `append`."""
        return self.write_text(name, record_text(record))

    def write_text(self, name: str, text: str) -> Path:
        """Write a text to a file atomically; raises as `append`."""
        with self._writing():
            return write_whole(self.folder / name, text)

    def mend(self) -> int:
        """Truncate incomplete last lines, from a kill or a full disk; return the bytes removed from `cases.jsonl`."""
        return [self._mend(path) for path in (self.usage, self.timings, self.cases)][-1]

    def _mend(self, path: Path) -> int:
        if not path.is_file() or not (size := path.stat().st_size):
            return 0
        # Mapped, because only the end is read, and the lines of 10,000 cases are hundreds of megabytes.
        with (
            self._writing(),
            path.open("rb") as lines,
            mmap.mmap(lines.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            whole = content.rfind(b"\n") + 1
        if whole < size:
            with self._writing(), path.open("r+b") as file:
                file.truncate(whole)
        return size - whole

    def records(self, run: RunFile, ids: Mapping[str, Collection[str]] | None = None) -> Iterator[CaseRecord]:
        """Yield all finished lines, one at a time; `ids` has the cases of each task, where the data are available.

        Raises:
            InputError: If a line fails a check of `integrity.LineChecks`.
        """
        if not self.cases.exists():
            return
        admission = LineChecks(run, ids)
        try:
            with self.cases.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    place = f"{self.cases}, line {number}"
                    yield admission.checked(parse_record(line, CaseRecord, place), place)
        except OSError as error:
            raise InputError(f"{self.cases}: cannot be read ({error.strerror}).") from error

    def offsets(self, run: RunFile) -> dict[Key, int]:
        """Return where each line begins, in bytes, in the order of the file; lines are checked as by `records`.

        Raises:
            InputError: If the file is missing, or as `records`.
        """
        found, offset = {}, 0
        try:
            with self.cases.open("rb") as file:
                for record, line in zip(self.records(run), file, strict=True):
                    found[key_of(record)] = offset
                    offset += len(line)
        except OSError as error:
            raise InputError(f"{self.cases}: cannot be read ({error.strerror}).") from error
        return found

    def read(self, offsets: Iterable[int]) -> list[CaseRecord]:
        """Return the lines that begin at some offsets; `InputError` if one cannot be read."""
        try:
            with self.cases.open("rb") as file:
                return [parse_record(_line(file, offset), CaseRecord, str(self.cases)) for offset in offsets]
        except OSError as error:
            raise InputError(f"{self.cases}: cannot be read ({error.strerror}).") from error

    def check_unchanged(self, report: Callable[[str], None] = lambda _: None) -> None:
        """Refuse to resume from lines other than those that `summary.json` was computed from.

        Missing lines are computed again; a damaged summary is written again.

        Raises:
            InputError: If `cases.jsonl` has as many lines as it had, or more, and others.
        """
        path = self.folder / "summary.json"
        if not path.exists():
            return
        try:
            summary = read_record(path, RunSummary)
        except InputError as error:
            if isinstance(error.__cause__, OSError):
                raise
            report(f"note: {error} It is made again.")
            return
        if found := changed(self.cases, summary):
            content = content_of(self.cases)
            if content is None or content.lines >= (summary.lines or 0):
                raise InputError(found)
            report(
                f"note: {self.cases}: {content.lines} of the {summary.lines} lines of the finished run are there; the "
                "others are computed again."
            )

    def append(
        self, records: Sequence[BaseModel] = (), timings: Sequence[BaseModel] = (), usage: Sequence[BaseModel] = ()
    ) -> None:
        """Append lines and sync them; `usage` is of one start of the program. `StorageError` if it fails."""
        for path, lines in ((self.cases, records), (self.timings, timings), (self.usage, usage)):
            if not lines:
                continue
            with self._writing(), path.open("a", encoding="utf-8") as file:
                for line in lines:
                    file.write(line.model_dump_json() + "\n")
                    file.flush()
                os.fsync(file.fileno())

    def sort(self, found: Sequence[Key], order: Sequence[Key]) -> None:
        """Bring the lines, whose keys are `found`, into an order: that of one process, whatever computed them.

        Raises:
            StorageError: If the file cannot be written; the previous one is kept.
        """
        if list(found) == list(order):
            return
        with self._writing(), self.cases.open("rb") as file, whole_file(self.cases) as part:
            offsets = [0, *accumulate(map(len, file))]
            places = dict(zip(found, offsets, strict=False))
            with part.open("wb") as ordered:
                for key in order:
                    ordered.write(_line(file, places[key]))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            safe = "; all finished cases are safe, and the same command resumes the run" if self.cases.is_file() else ""
            raise StorageError(f"{self.folder}: results cannot be written ({error.strerror}){safe}.") from error


def _line(file: BinaryIO, offset: int) -> bytes:
    file.seek(offset)
    return file.readline()
