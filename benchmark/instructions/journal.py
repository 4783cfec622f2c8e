"""The folder of a construction loop; `results.loop_results` describes its files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from instructedit.editors import InputError
from instructedit.editors.files.atomic import sweep

from ..results.loop_results import FINAL, LOOP, LoopFile, Proposal, Trials, finished_rounds, round_folder
from ..results.records import FileRecord, read_record, unlike
from ..results.run_folder import StorageError, write_record

R = TypeVar("R", bound=FileRecord)


class Journal:
    """The folder of a loop. Each file is written whole as soon as its content is known, so a kill loses no result."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the folder within the context, and remove what an earlier kill left unfinished.

        Raises:
            InputError: If another process holds the lock.
            StorageError: If the folder cannot be written to.
        """
        from instructedit.editors.hypernet.saves import drop_saves  # imports torch

        lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise InputError(f"{self.folder}: another process works on this loop.") from error
        except OSError as error:
            raise StorageError(f"{self.folder}: the loop cannot be written ({error.strerror}).") from error
        try:
            for folder in (self.folder, *self.folder.glob("round-*")):
                sweep(folder)
            for folder in self.folder.glob("editors/*"):
                drop_saves(folder)
            yield
        finally:
            lock.release()

    def begin(self, file: LoopFile) -> None:
        """Write the loop's configuration; `InputError` if the folder holds another loop."""
        found = self.get(LOOP, LoopFile)
        if found is None:
            self.put(LOOP, file)
        elif difference := unlike(found, file):
            raise InputError(f"{self.folder / LOOP}: belongs to another loop ({difference}); choose another folder.")

    def get(self, name: str, kind: type[R], number: int | None = None) -> R | None:
        """Return the record in a file of the loop, or of one of its rounds; None if there is no such file."""
        path = self._path(name, number)
        return read_record(path, kind) if path.is_file() else None

    def put(self, name: str, record: R, number: int | None = None) -> R:
        """Write a record to a file of the loop, or of one of its rounds, and return it as it is read."""
        path = self._path(name, number)
        write_record(path, record)
        return read_record(path, type(record))

    def _path(self, name: str, number: int | None) -> Path:
        return (self.folder if number is None else round_folder(self.folder, number)) / name

    def rounds(self) -> tuple[tuple[Proposal, Trials], ...]:
        """Return the finished rounds."""
        return finished_rounds(self.folder)

    @property
    def tested(self) -> bool:
        """Whether the loop has ended and was tested."""
        return (self.folder / FINAL).is_file()
