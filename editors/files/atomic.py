"""Atomic writes of files and folders, and removal of what killed processes leave.

New content is written next to its place under a name that ends in `.part`, synced to disk and renamed. The writing
process holds a lock on it, so that another process can tell leftovers from files that are being written.
"""

import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

LEFT_OVER = ("*.part", ".tmp*")
"""Patterns of files that a killed process may leave: partial ones, and those of safetensors."""


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write a file atomically; text in UTF-8, without conversion of line ends.

    Raises:
        OSError: If it cannot be written; the previous file is kept.
    """
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and not (path.is_file() or path.is_dir()):  # a device or a pipe
        path.write_bytes(data)
        return path
    with whole_file(path) as part:
        part.write_bytes(data)
    return path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield an empty file next to `path` that replaces it after the block, unless the block fails.

    It has the permissions of the user's new files, where safetensors would give them to the owner alone.

    Raises:
        OSError: If it cannot be written; the previous file is kept.
    """
    place = path.resolve() if path.is_symlink() else path
    _sweep_beside(place)
    part = _part_of(place)
    try:
        with part.open("xb") as made:
            _lock(made.fileno())
            mode = os.fstat(made.fileno()).st_mode & 0o777
            try:
                yield part
                part.chmod(mode)
                with part.open("rb") as written:  # the block may have replaced it
                    os.fsync(written.fileno())
                part.replace(place)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        error.filename = str(path)  # instead of the partial file's random name
        raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder next to `path` that replaces it after the block, unless the block fails.

    Raises:
        OSError: If it cannot be written.
    """
    _sweep_beside(path)
    part = _part_of(path)
    held = None
    try:
        part.mkdir()
        held = _claim(part)
        yield part
        before = _part_of(path) if path.exists() else None
        if before is not None:
            path.rename(before)  # a half-removed folder could not be told from a user's own
        try:
            part.rename(path)
        except OSError:
            if before is not None:
                before.rename(path)
            raise
        if before is not None:
            shutil.rmtree(before, ignore_errors=True)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if held is not None:
            os.close(held)


def sweep(folder: Path) -> None:
    """Remove what killed processes have left in a folder; the caller holds the folder's lock.

    Files that a live process is writing, or that cannot be removed, are kept.
    """
    for pattern in LEFT_OVER:
        for path in folder.glob(pattern):
            _remove(path)


def _sweep_beside(path: Path) -> None:
    for left in path.parent.glob(f".{escape(_short(path))}.*.part"):
        _remove(left)


def _part_of(path: Path) -> Path:
    return path.with_name(f".{_short(path)}.{secrets.token_hex(4)}.part")


def _short(path: Path) -> str:
    return path.name[:60]  # a name may be as long as a system allows


def _remove(path: Path) -> None:
    """Remove a file or a folder unless another process holds it."""
    if (held := _claim(path)) is None:
        return
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    os.close(held)


def _claim(path: Path) -> int | None:
    """Return a descriptor that locks a file or a folder; None if it cannot be locked."""
    try:
        held = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    if _lock(held):
        return held
    os.close(held)
    return None


def _lock(descriptor: int) -> bool:
    if sys.platform == "win32":  # no such locks: nothing is swept
        return False
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
