"""Files and folders that are written whole or not at all, and what a killed process leaves of them.

What is new is made beside its place under a name that ends in `.part`, brought to disk and renamed. The process that
makes it holds a lock on it for as long as it lives, so that another one can tell what is left over from what is being
written.
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
"""What a kill may leave in a folder of ours: files in the making, and those of safetensors."""


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write a file whole or not at all; text in UTF-8, as it stands.

    Raises:
        OSError: If it cannot be written. What was there before stays.
    """
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and not (path.is_file() or path.is_dir()):  # a device or a pipe takes what is written to it
        path.write_bytes(data)
        return path
    with whole_file(path) as part:
        part.write_bytes(data)
    return path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield an empty file beside `path` that takes its place, once it is on disk, unless the block fails.

    It gets the permissions of any new file of the user's: those that safetensors writes are for their owner alone.

    Raises:
        OSError: If it cannot be written. What was there before stays.
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
                with part.open("rb") as written:  # it may be another file by now
                    os.fsync(written.fileno())
                part.replace(place)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        error.filename = str(path)  # which nobody would find in a name that is drawn
        raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` that takes its place, with what was there, unless the block fails.

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
            path.rename(before)  # at once: what is half removed could not be told from a folder of somebody else's
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

    What a live process is making there, or cannot be removed, stays.
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
    """Remove a file or a folder unless somebody holds it."""
    if (held := _claim(path)) is None:
        return
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    os.close(held)


def _claim(path: Path) -> int | None:
    """Return a descriptor that holds a file or a folder; None if another process holds it, or it cannot be held."""
    try:
        held = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    if _lock(held):
        return held
    os.close(held)
    return None


def _lock(descriptor: int) -> bool:
    if sys.platform == "win32":  # no such locks there: nothing is swept
        return False
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
