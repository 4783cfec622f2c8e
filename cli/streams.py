"""Standard output and error that never fail: a closed pipe, a full disk or an encoding ends no work.

What cannot be written is dropped and remembered. Results are files, and no run is worth less because the terminal that
watched it is gone.
"""

import codecs
import io
import os
import sys
from typing import Any, TextIO

ASCII = "plain-ascii"
"""ASCII by another name: for a stream that says `ascii`, typer would write UTF-8."""


def _ascii(name: str) -> codecs.CodecInfo | None:
    plain = codecs.lookup("ascii")
    found = codecs.CodecInfo(plain.encode, plain.decode, incrementalencoder=plain.incrementalencoder, name=ASCII)
    return found if name.replace("_", "-") == ASCII else None


class _Lenient(io.RawIOBase):
    """A file descriptor that takes everything; the first error is kept, and nothing is tried after it."""

    def __init__(self, descriptor: int) -> None:
        self._file = io.FileIO(descriptor, "w", closefd=False)
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write what can be written; say that all was."""
        view = memoryview(data).cast("B")
        done = 0
        while self.error is None and done < len(view):
            try:
                done += self._file.write(view[done:]) or 0
            except OSError as error:
                self.error = error
        return len(view)

    def writable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def fileno(self) -> int:
        """See `io.RawIOBase`."""
        return self._file.fileno()

    def isatty(self) -> bool:
        """See `io.RawIOBase`."""
        return self._file.isatty()


class Streams:
    """Puts lenient streams in the place of `sys.stdout` and `sys.stderr`."""

    def __init__(self) -> None:
        for descriptor in (0, 1, 2):  # else the first file that is opened takes the number, and what is printed
            try:
                os.fstat(descriptor)
            except OSError:
                os.open(os.devnull, os.O_RDWR)
        codecs.register(_ascii)
        self._raw = _Lenient(1)
        sys.stdout = _text(self._raw, sys.stdout, "replace")
        sys.stderr = _text(_Lenient(2), sys.stderr, "backslashreplace")

    def finish(self) -> OSError | None:
        """Write what is still held back; return why standard output could not be written, if it could not."""
        sys.stdout.flush()
        sys.stderr.flush()
        return self._raw.error


def _text(raw: _Lenient, was: TextIO | None, errors: str) -> io.TextIOWrapper:
    """Return a stream that replaces the characters which its encoding lacks."""
    encoding = was.encoding if was is not None else "utf-8"
    if codecs.lookup(encoding).name == "ascii":
        encoding = ASCII
    interactive = errors != "replace" or raw.isatty()  # what is said on standard error must not wait
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors=errors, line_buffering=interactive)
