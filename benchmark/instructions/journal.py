"""The folder of a construction loop; `results.loop_results` has its files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from instructedit.editors import InputError
from instructedit.editors.files.atomic import sweep

from ..results.loop_results import LOOP, Candidate, LoopFile, Proposal, Trials, finished_rounds, round_folder
from ..results.records import read_record, unlike
from ..results.run_folder import StorageError, write_record
from .proposal import Reply


def proposal_of(reply: Reply, candidates: tuple[Candidate, ...], seed: int) -> Proposal:
    """Return the record of a reply."""
    return Proposal(
        prompt=reply.prompt,
        text=reply.text,
        model=reply.model,
        seed=seed,
        candidates=candidates,
        input_tokens=reply.input_tokens,
        output_tokens=reply.output_tokens,
        seconds=round(reply.seconds, 3),
        notes=reply.notes,
    )


class Journal:
    """The folder of a loop.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, file: LoopFile) -> None:
        """Write down what the loop is, or check that the folder holds this one.

        Raises:
            InputError: If it holds another one.
        """
        path = self.folder / LOOP
        if not path.is_file():
            write_record(path, file)
            return
        if what := unlike(read_record(path, LoopFile), file):
            raise InputError(f"{path}: belongs to another loop ({what}); choose another folder.")

    def round(self, number: int) -> Path:
        """Return the folder of a round."""
        return round_folder(self.folder, number)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes out of the folder.

        Raises:
            InputError: If another one works in it.
            StorageError: If it cannot be written to.
        """
        from instructedit.editors.hypernet.trainer import drop_saves  # it brings torch along

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

    def rounds(self) -> tuple[tuple[Proposal, Trials], ...]:
        """Return the finished rounds."""
        return finished_rounds(self.folder)
