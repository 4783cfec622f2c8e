"""The files of a construction loop. Each is written whole, as soon as what it holds is known.

loop.json       the configuration, and what the numbers depend on besides
unseen.json     the description that is kept from training
requests.jsonl  what each request to a server has cost, and what came
round-N/        proposal.json, then trials.json
controls.json   trials of the hand-written bank and of random words, on the same cases
final.json      the same and the chosen descriptions on the test split
bank.json       the bank that `instructedit run --instructions` takes
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from instructedit.editors import InputError
from instructedit.editors.files.atomic import sweep

from ..results.records import SCHEMA_VERSION, Record, read_record, unlike
from ..results.run_folder import StorageError, write_record
from .proposal import Reply
from .records import LoopConfig, Trial

LOOP, UNSEEN, PROPOSAL, TRIALS = "loop.json", "unseen.json", "proposal.json", "trials.json"
REQUESTS = "requests.jsonl"
CONTROLS, FINAL, BANK = "controls.json", "final.json", "bank.json"


class JournalFile(Record):
    """Base of the files of a loop."""

    schema_version: Literal[2] = SCHEMA_VERSION


class LoopFile(JournalFile):
    """What decides a loop's numbers."""

    config: LoopConfig
    model: str
    """Fingerprint of the base model."""
    data: str
    """Digest of the cases that are learnt from, tried on and tested on, and of what the proposer is told of them."""
    editor: dict[str, object]
    """Configuration of the trial editor."""
    bank: str
    """Digest of the bank that the hand-written instructions come from."""
    proposer: str
    """The model that writes, or `offline`."""
    settings: dict[str, object]
    """What decides its answers besides."""


class Candidate(Record):
    """One proposed description, and why it is not tried, if it is not."""

    text: str
    complaint: str | None = None


class Proposal(JournalFile):
    """What a proposer was asked and answered in one round."""

    prompt: str
    text: str
    """The answer as it came."""
    model: str
    seed: int
    candidates: tuple[Candidate, ...]
    input_tokens: int
    output_tokens: int
    seconds: float
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, reply: Reply, candidates: tuple[Candidate, ...], seed: int) -> "Proposal":
        """Return the record of a reply."""
        return cls(
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

    @property
    def admitted(self) -> tuple[str, ...]:
        """The descriptions that are tried."""
        return tuple(candidate.text for candidate in self.candidates if candidate.complaint is None)


class Trials(JournalFile):
    """The trials of one round, or of the controls."""

    trials: tuple[Trial, ...]
    seconds: float


class Unseen(JournalFile):
    """The description that is kept from training, and from every proposer."""

    text: str
    source: Literal["bank", "grammar"]


class Final(JournalFile):
    """What the loop came to on the test split."""

    groups: dict[str, tuple[Trial, ...]]
    """`chosen`, `hand-written` (where the bank has the task), `random`, `first round`, `unseen`."""
    best: dict[int, Trial]
    """By number of a round the description that did best in its trials; rounds without any are left out."""
    seconds: float


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
        return self.folder / f"round-{number}"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes out of the folder.

        Raises:
            InputError: If another one works in it.
            StorageError: If it cannot be written to.
        """
        from instructedit.editors.hypernet.saves import drop_saves  # it brings torch along

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
        found: list[tuple[Proposal, Trials]] = []
        while (self.round(len(found)) / TRIALS).is_file():
            place = self.round(len(found))
            found.append((read_record(place / PROPOSAL, Proposal), read_record(place / TRIALS, Trials)))
        return tuple(found)
