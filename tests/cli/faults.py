"""Stops a process at a chosen point of its writing, or fills the disk there; in process, to try every point."""

import errno
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from instructedit.editors.files import state

Kind = tuple[str, str]
"""What is done (`write`, `save`, `fsync`, `replace`, `mkdir`, `unlink`), and to which kind of file."""
FILLING = ("write", "save", "mkdir", "fsync")


class KilledError(BaseException):
    """The process ends here; nothing of it tidies up behind it."""


class Faults:
    """Counts what is done below a folder, and strikes at the first of one kind.

    Args:
        root: The folder.
        at: The kind; None strikes never.
        full: Whether the disk is full from there on; else the process is killed.
    """

    def __init__(self, root: Path, at: Kind | None = None, *, full: bool = False) -> None:
        self.root, self.at, self.full = str(root), at, full
        self.kinds: list[Kind] = []
        self.struck = False

    def hit(self, what: str, path: str | os.PathLike[str], half: Callable[[], object] = lambda: None) -> None:
        """Take note that something is about to be done; a strike leaves what `half` does."""
        name = os.fspath(path)
        if not name.startswith(f"{self.root}{os.sep}"):
            return
        if self.struck:
            if not self.full:
                raise KilledError
            if what in FILLING:
                raise OSError(errno.ENOSPC, "No space left on device", name)
            return
        kind = (what, kind_of(name))
        if kind not in self.kinds:
            self.kinds.append(kind)
            if kind == self.at:
                self.struck = True
                half()
                raise OSError(errno.ENOSPC, "No space left on device", name) if self.full else KilledError


def kind_of(path: str) -> str:
    """Return the name of a file without what is drawn or counted in it."""
    name = re.sub(r"^\.(.+)\.[0-9a-f]{8}\.part$", r"\1", Path(path).name)
    return re.sub(r"[0-9a-f]{16}|-\d+\.", "N.", name)


class _File:
    """A file that is written half of what a strike hits."""

    def __init__(self, file, path, faults):
        self._file, self._path, self._faults = file, path, faults

    def write(self, content):
        def half():
            self._file.write(content[: len(content) // 2])
            self._file.flush()

        self._faults.hit("write", self._path, half)
        return self._file.write(content)

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


@contextmanager
def striking(faults: Faults) -> Iterator[Faults]:
    """Put everything that writes under the eyes of `faults`."""
    opened, saved = io.open, state.save_file

    def open_(file, mode="r", *arguments, **options):
        found = opened(file, mode, *arguments, **options)
        named = isinstance(file, str | os.PathLike) and os.fspath(file).startswith(faults.root)
        return _File(found, file, faults) if named and set(mode) & set("wax") else found

    def save_file(tensors, path, metadata=None):
        faults.hit("save", path, lambda: (Path(path).parent / ".tmpabcdef").write_bytes(b"half"))
        saved(tensors, path, metadata=metadata)

    def wrapped(name, what):
        inner = getattr(os, name)

        def call(path, *arguments, **options):
            faults.hit(what, Path(f"/proc/self/fd/{path}").readlink() if isinstance(path, int) else path)
            return inner(path, *arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "rename", "mkdir", "unlink", "fsync"):
            patch.setattr(os, name, wrapped(name, name))
        patch.setattr(io, "open", open_)
        patch.setattr(state, "save_file", save_file)
        yield faults


def kinds_of(work: Callable[[Path], object], out: Path) -> list[Kind]:
    """Do some work and return every kind of thing that it does to files."""
    with striking(Faults(out)) as faults:
        work(out)
    return faults.kinds


def strike(work: Callable[[Path], object], out: Path, at: Kind, *, full: bool = False) -> BaseException:
    """Do some work up to a kind of thing, and return what came of it."""
    with striking(Faults(out, at, full=full)) as faults:
        try:
            work(out)
        except (KilledError, Exception) as error:
            found: BaseException = error
        else:
            raise AssertionError(f"nothing came of {at}")
    assert faults.struck
    return found
