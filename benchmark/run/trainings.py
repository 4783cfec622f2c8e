"""What trained editors learn from, and where their checkpoints are kept.

A training set holds no subject that any task of the run tests, neither as what is edited nor in a probe. It is named by
its content, and a checkpoint by everything that decides its weights: settings, limits and presets that come to the same
training share it.
"""

import json
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from instructedit.editors import (
    DamagedError,
    EditCase,
    Editor,
    EditRequest,
    InputError,
    LanguageModel,
    TrainedEditor,
    TrainingSet,
)
from instructedit.editors.editor import EDITOR
from instructedit.editors.files.atomic import sweep
from instructedit.editors.files.state import parsed, read_object
from instructedit.editors.hypernet.saves import SAVED, drop_saves

from ..results.checkpoint import RECORD, Checkpoint
from ..results.records import TrainingSpec, parse_record, unlike
from ..results.run_folder import StorageError, write_record
from ..setup.sampling import divide, rank
from ..setup.settings import Arm
from ..tasks.base import TaskCases, make_task, training_cases
from ..tasks.sources import Source


class TrainingCases:
    """The training cases of a run's tasks, each file read once.

    Args:
        source: Where the files are.
        tested: Keys of the subjects that are tested.
        names: The same subjects as they are written.
        options: Options of tasks by name.
    """

    def __init__(
        self,
        source: Source,
        tested: Collection[str],
        names: Collection[str],
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._source = source
        self.options = options or {}
        self._tested = tested
        self._names = _Names(names)
        self._found: dict[str, TaskCases] = {}

    def of(self, task: str) -> TaskCases:
        """Return the training cases of a task: no row about a tested subject, no probe that names one."""
        if task not in self._found:
            found = training_cases(make_task(task, self.options), self._source, self._tested)
            counts = Counter(found.data.skipped)
            cases = tuple(self._without_tested(case, counts) for case in found.cases)
            data = found.data.model_copy(update={"skipped": dict(sorted(counts.items()))})
            self._found[task] = replace(found, cases=cases, data=data)
        return self._found[task]

    def size(self, task: str) -> int:
        """Return how many training cases a task has."""
        return len(self.of(task).cases)

    def _without_tested(self, case: EditCase, counts: Counter[str]) -> EditCase:
        own = case.request.subject
        kept = tuple(p for p in case.probes if p.role == "reliability" or not self._names.within(p.prompt, but=own))
        if left_out := len(case.probes) - len(kept):
            counts["probe left out: it names a tested subject"] += left_out
        return replace(case, probes=kept)


class _Names:
    """Finds names in texts, as whole words with their capitals."""

    def __init__(self, names: Collection[str]) -> None:
        self._by_first: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        for name in names:
            if words := _words(name):
                self._by_first[words[0]].add(words)

    def within(self, text: str, but: str) -> bool:
        """Tell whether a text holds a name, one that is part of `but` aside."""
        words = _words(text.replace(but, " "))
        return any(
            words[place : place + len(name)] == name
            for place, word in enumerate(words)
            for name in self._by_first.get(word, ())
        )


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", unicodedata.normalize("NFC", text)))


def training_set(
    arm: Arm,
    cases: TrainingCases,
    share: float,
    instruct: Callable[[EditRequest, int], EditRequest] | None = None,
) -> TrainingSet:
    """Return what an arm's editors learn from.

    Tasks stand in alphabetical order, so that arms that name them in another order share their trainings.

    Args:
        arm: The arm.
        cases: Training cases of all tasks.
        share: Share of each task that is kept for validation.
        instruct: Gives a request one of the instructions for training; None for editors that read none.

    Raises:
        InputError: If a task has too few cases, or its weight is missing.
    """
    parts = {task: divide(cases.of(task).cases, arm.limits.get(task), share) for task in sorted(arm.train)}
    for task, (train, validation) in parts.items():
        if not train or not validation:
            raise InputError(
                f"Training on {arm.label}: '{task}' has {len(train)} cases to train on and {len(validation)} for "
                f"validation, expected one of each at least.{_share_for(cases.of(task).cases, share)}"
            )
    return TrainingSet(
        train=tuple(case for train, _ in parts.values() for case in train),
        validation=tuple(case for _, validation in parts.values() for case in validation),
        weights=_weights(arm, {task: len(train) for task, (train, _) in parts.items()}),
        instruct=instruct,
    )


def _share_for(cases: Sequence[EditCase], share: float) -> str:
    """Return a sentence on which shares for validation divide some cases; empty if this one does, or none."""
    ranks = sorted(rank(case.request.subject) for case in cases)
    if not ranks or ranks[0] < share <= ranks[-1]:
        return ""
    above, most = math.floor(ranks[0] * 1000 + 1) / 1000, math.floor(ranks[-1] * 1000) / 1000
    if above > most:
        return ""
    return (
        " Which subjects are kept for validation follows from their names, so that no limit or setting moves one; for "
        f"these a 'validation' from {above:.3f} to {most:.3f} keeps at least one and trains on at least one."
    )


def _weights(arm: Arm, counts: Mapping[str, int]) -> dict[str, float]:
    """Return the share of each task in what is drawn; they sum to 1."""
    match arm.sampling:
        case "balanced":
            weights: Mapping[str, float] = dict.fromkeys(counts, 1.0)
        case "proportional":
            weights = counts
        case given:
            if missing := [task for task in counts if task not in given]:
                raise InputError(f"Option 'sampling' gives no weight to '{missing[0]}', which is trained on.")
            weights = {task: given[task] for task in counts}
    total = math.fsum(weights.values())
    return {task: weight / total for task, weight in weights.items()}


@dataclass(frozen=True, slots=True)
class Training:
    """One training of a run.

    Attributes:
        rows: Rows of the run that edit with the result.
        editor: The untrained editor.
        arm: What it is trained on.
        cases: The cases of it.
    """

    rows: tuple[str, ...]
    editor: TrainedEditor[Any]
    arm: Arm
    cases: TrainingSet

    @property
    def name(self) -> str:
        """What is trained on what, for messages."""
        return f"{self.rows[0].partition('@')[0].partition('#')[0]} on {'+'.join(self.arm.train)}"

    def checkpoint(self, base: str, tokenizer: str, seed: int, bank: str | None) -> Checkpoint:
        """Return what decides the weights.

        Args:
            base: Fingerprint of the base model.
            tokenizer: Fingerprint of its tokenizer.
            seed: Seed of the training.
            bank: Digest of the instruction bank.
        """
        return Checkpoint(
            editor=self.editor.name,
            version=self.editor.version,
            config=self.editor.config.model_dump(mode="json"),
            base=base,
            tokenizer=tokenizer,
            training=self.cases.digest,
            instructions=bank if self.editor.instructed else None,
            seed=seed,
        )

    def spec(self, checkpoint: str, bank: str | None) -> TrainingSpec:
        """Return what `run.json` says of it."""
        count = {
            part: Counter(case.request.task for case in cases)
            for part, cases in (("train", self.cases.train), ("validation", self.cases.validation))
        }
        return TrainingSpec(
            label=self.arm.label,
            tasks=self.arm.train,
            weights=dict(self.cases.weights),
            limits=dict(self.arm.limits),
            cases=dict(count["train"]),
            validation=dict(count["validation"]),
            digest=self.cases.digest,
            instructions=bank if self.editor.instructed else None,
            checkpoint=checkpoint,
        )


def trained(
    training: Training,
    model: LanguageModel,
    checkpoint: Checkpoint,
    root: Path,
    *,
    report: Callable[[str], None] = lambda _: None,
    progress: bool = False,
    track: str | None = None,
) -> Editor[Any]:
    """Return the trained editor: read from its checkpoint, or trained, or trained on from where it stopped.

    Args:
        training: What is trained on what.
        model: The base model.
        checkpoint: What decides the weights.
        root: Folder of all checkpoints.
        report: Takes sentences for the user.
        progress: Whether to show a progress bar.
        track: `wandb` or `trackio` to send the metrics there.

    Raises:
        InputError: If the folder holds the checkpoint of another training, or cannot be read.
        StorageError: If it cannot be written.
    """
    folder = root / checkpoint.name
    with _alone(folder, lambda: report(f"waiting for another process that trains {training.name}")):
        sweep(folder)
        _record(folder / RECORD, checkpoint, report)
        editor = training.editor
        if (found := _finished(editor, folder, report)) is not None:
            report(f"{training.name} is trained already: {folder}")
            return found
        train, validation = len(training.cases.train), len(training.cases.validation)
        report(f"training {training.name} ({train:,} cases, {validation:,} for validation)")
        with keeping(folder):
            editor.fit(
                model, training.cases, folder, seed=checkpoint.seed, track=track, report=report, progress=progress
            )
        return editor


def _finished(editor: TrainedEditor[Any], folder: Path, report: Callable[[str], None]) -> Editor[Any] | None:
    """Return the finished editor of a folder; None where there is none, or one that has to be trained again."""
    if not editor.saved(folder):
        return None
    try:
        found = type(editor).load(folder)
        if found.config != editor.config:
            raise DamagedError(folder / EDITOR, f"it has another configuration than {RECORD}")
    except DamagedError as error:
        report(f"note: {error} It is trained again.")
        with keeping(folder):
            (folder / EDITOR).unlink()
        return None
    if found.weights_sha256 is None and found.state():
        report(f"note: {folder / EDITOR}: sha256 of the weights not recorded, an older version wrote it.")
    drop_saves(folder)
    return found


@contextmanager
def keeping(folder: Path) -> Iterator[None]:
    """Turn what the system says while a training writes into a sentence on how it goes on."""
    try:
        yield
    except OSError as error:
        on = "goes on from its last save" if (folder / SAVED).is_file() else "starts it again"
        raise StorageError(
            f"{error.filename or folder}: the training cannot be written ({error.strerror or error}); the same command "
            f"{on}."
        ) from error


def _record(path: Path, expected: Checkpoint, report: Callable[[str], None]) -> None:
    """Write down what a checkpoint is of, or hold it against what is expected.

    The folder's name is the digest of the record, so that one that is damaged or not there can be written again.

    Raises:
        InputError: If the folder is of another training.
        StorageError: If it cannot be written.
    """
    try:
        content = read_object(path)
        with parsed(path):
            found = parse_record(json.dumps(content), Checkpoint, RECORD)
    except DamagedError as error:
        if path.exists() or (path.parent / EDITOR).exists():
            report(f"note: {error} It is written again.")
        write_record(path, expected)
        return
    if what := unlike(found, expected):
        raise InputError(
            f"{path}: is of another training ({what}); remove the folder or choose another one for the checkpoints."
        )


@contextmanager
def _alone(folder: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold a checkpoint's lock, so that two processes share one training."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f".{folder.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            wait()
            lock.acquire()
    except OSError as error:
        raise StorageError(f"{folder}: checkpoints cannot be written ({error.strerror}).") from error
    try:
        yield
    finally:
        lock.release()
