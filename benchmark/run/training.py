"""The training of an editor in a run: read from its checkpoint, resumed, or made."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from instructedit.editors import EDITORS, DamagedError, Editor, InputError, LanguageModel, TrainedEditor
from instructedit.editors.editor import EDITOR
from instructedit.editors.files.atomic import sweep
from instructedit.editors.files.state import parsed, read_object
from instructedit.editors.hypernet.saves import SAVED, drop_saves

from ..results.checkpoint import RECORD, Checkpoint
from ..results.records import EditorSpec, parse_record, read_record, unlike
from ..results.run_folder import StorageError, write_record
from ..setup.training_sets import Training


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
    """Return the trained editor: read from its checkpoint in `root`, or trained, from the last save if there is one.

    Metrics are logged to `track` too, which is `wandb` or `trackio`.

    Raises:
        InputError: If the folder holds the checkpoint of another training, or cannot be read.
        StorageError: If it cannot be written.
    """
    folder = root / checkpoint.folder_name
    with _locked(folder, lambda: report(f"waiting for another process that trains {training.name}")):
        sweep(folder)
        _write_or_compare(folder / RECORD, checkpoint, report)
        editor = training.editor
        if (found := _finished(editor, folder, report)) is not None:
            report(f"{training.name} is trained already: {folder}")
            return found
        train, validation = len(training.cases.train), len(training.cases.validation)
        report(f"training {training.name} ({train:,} cases, {validation:,} for validation)")
        with naming_storage_errors(folder):
            editor.fit(
                model, training.cases, folder, seed=checkpoint.seed, track=track, report=report, progress=progress
            )
        return editor


def editor_of_row(row: EditorSpec, root: Path) -> Editor[Any]:
    """Return the trained editor of a finished run's row, read from its checkpoint in `root`.

    Raises:
        InputError: If it is not there, or the folder holds another one.
        DamagedError: If a file is not what was written.
    """
    assert row.training is not None
    wanted = row.training.checkpoint
    folder = root / wanted
    if not (folder / RECORD).is_file():
        raise InputError(
            f"{folder}: the trained editor of the row '{row.name}' is not there; name the folder of checkpoints with "
            "--checkpoints."
        )
    # The name is the digest of everything that decides the weights.
    if (name := read_record(folder / RECORD, Checkpoint).folder_name) != wanted:
        raise InputError(
            f"{folder / RECORD}: is of the checkpoint {name}, but the run was made with {wanted}; name the right "
            "folder of checkpoints with --checkpoints."
        )
    return EDITORS.get(row.method).load(folder)


@contextmanager
def naming_storage_errors(folder: Path) -> Iterator[None]:
    """Turn an `OSError` while a training writes into a sentence on how it is resumed.

    Raises:
        StorageError: In place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        how = "resumes from its last save" if (folder / SAVED).is_file() else "starts it again"
        raise StorageError(
            f"{error.filename or folder}: the training cannot be written ({error.strerror or error}); the same command "
            f"{how}."
        ) from error


def _finished(editor: TrainedEditor[Any], folder: Path, report: Callable[[str], None]) -> Editor[Any] | None:
    """Return the finished editor of a folder; None if there is none, or it is damaged, which is reported."""
    if not editor.saved(folder):
        return None
    try:
        found = type(editor).load(folder)
        if found.config != editor.config:
            raise DamagedError(folder / EDITOR, f"it has another configuration than {RECORD}")
    except DamagedError as error:
        report(f"note: {error} It is trained again.")
        with naming_storage_errors(folder):
            (folder / EDITOR).unlink()
        return None
    drop_saves(folder)
    return found


def _write_or_compare(path: Path, expected: Checkpoint, report: Callable[[str], None]) -> None:
    """Write a checkpoint's record, or compare it with the expected one.

    The folder's name is the digest of the record, so a record that is damaged or missing can be written again.

    Raises:
        InputError: If the folder belongs to another training.
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
def _locked(folder: Path, wait: Callable[[], None]) -> Iterator[None]:
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
