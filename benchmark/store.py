"""A run's folder: `run.json` first, then a line per case, editor and stage, flushed at once.

What is on disk is never computed again.
"""

import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from sys import intern
from typing import NamedTuple

from filelock import FileLock, Timeout
from pydantic import BaseModel

from instructedit.editors import InputError

from .results import CaseRecord, RunFile, parse_record, read_record


class StorageError(InputError):
    """Results cannot be written (a full disk, no permission). What was written before is safe."""


class Key(NamedTuple):
    """What a line of `cases.jsonl` is the only one of."""

    case: str
    editor: str
    stage: str


def key_of(record: CaseRecord) -> Key:
    """Return the key of a line."""
    # Keys are kept, and each line that is read brings strings of its own: equal ones are kept once.
    return Key(intern(record.case_id), intern(record.editor), intern(record.stage))


def write_record(path: Path, record: BaseModel) -> Path:
    """Write a record to a file of its own, whole or not at all, and make its folder.

    Raises:
        StorageError: If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _write(path, record)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror}).") from error


def _write(path: Path, record: BaseModel) -> Path:
    part = path.with_suffix(".part")
    part.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    part.replace(path)
    return path


class Store:
    """The folder of one run.

    Args:
        folder: The run's own folder, named by its digest.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cases = folder / "cases.jsonl"
        self.timings = folder / "timings.jsonl"
        self.usage = folder / "usage.jsonl"

    @contextmanager
    def open(self, run: RunFile) -> Iterator[None]:
        """Take the folder for this process and write `run.json` if it is not there.

        Raises:
            InputError: If another process writes this run, or the folder holds another one.
            StorageError: If the folder cannot be written to.
        """
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock", timeout=0)
        with self._writing():
            try:
                lock.acquire()
            except Timeout as error:
                raise InputError(
                    f"{self.folder}: another process is writing this run; wait for it or stop it."
                ) from error
        try:
            self._start(run)
            yield
        finally:
            lock.release()

    def _start(self, run: RunFile) -> None:
        path = self.folder / "run.json"
        if path.is_file():
            known = read_record(path, RunFile)
            if known.digest != run.digest:
                raise InputError(f"{path}: holds the run {known.digest}, but {run.digest} was expected.")
            return
        self.write("run.json", run)

    def changes(self, run: RunFile) -> list[str]:
        """Return what is now another than when the run was begun, each as `NAME WAS (now IS)`."""
        begun, now = (record.provenance for record in (read_record(self.folder / "run.json", RunFile), run))
        pairs = {
            "instructedit-bench": (begun.version, now.version),
            "the commit": (begun.git_revision, now.git_revision),
            "the device": (begun.device, now.device),
            **{f"the rule of {name}": (begun.rules.get(name), rule) for name, rule in now.rules.items()},
            **{name: (begun.packages.get(name), now.packages.get(name)) for name in {**begun.packages, **now.packages}},
        }
        return [f"{name} {was} (now {found})" for name, (was, found) in pairs.items() if was != found]

    def write(self, name: str, record: BaseModel) -> Path:
        """Write a record to a file of its own: whole, or not at all.

        Raises:
            StorageError: If it cannot be written.
        """
        with self._writing():
            return _write(self.folder / name, record)

    def mend(self) -> int:
        """Cut half-written last lines off, left by a kill or a full disk; return the bytes cut off `cases.jsonl`."""
        return [self._mend(path) for path in (self.usage, self.timings, self.cases)][-1]

    def _mend(self, path: Path) -> int:
        if not path.is_file() or not (size := path.stat().st_size):
            return 0
        # Mapped, because only the end is looked at, and the lines of 10,000 cases are hundreds of megabytes.
        with path.open("rb") as lines, mmap.mmap(lines.fileno(), 0, access=mmap.ACCESS_READ) as content:
            whole = content.rfind(b"\n") + 1
        if whole < size:
            with self._writing(), path.open("r+b") as file:
                file.truncate(whole)
        return size - whole

    def records(self) -> Iterator[CaseRecord]:
        """Yield all finished lines, one at a time: as records the lines of one case take a tenth of a megabyte.

        Raises:
            InputError: If a line is no record of this version.
        """
        if self.cases.is_file():
            with self.cases.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    yield parse_record(line, CaseRecord, f"{self.cases}, line {number}")

    def append(self, records: Iterable[BaseModel], timings: Iterable[BaseModel] = ()) -> None:
        """Append lines and make sure that they are on disk.

        Raises:
            StorageError: If they cannot be written.
        """
        for path, lines in ((self.cases, records), (self.timings, timings)):
            self._append(path, lines)

    def append_usage(self, usage: BaseModel) -> None:
        """Append what one start of the program took.

        Raises:
            StorageError: If it cannot be written.
        """
        self._append(self.usage, [usage])

    def _append(self, path: Path, lines: Iterable[BaseModel]) -> None:
        with self._writing(), path.open("a", encoding="utf-8") as file:
            for line in lines:
                file.write(line.model_dump_json() + "\n")
                file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kept = "all finished cases are safe, and the same command goes on from them" if self.cases.is_file() else ""
            raise StorageError(
                f"{self.folder}: results cannot be written ({error.strerror})" + (f"; {kept}." if kept else ".")
            ) from error
