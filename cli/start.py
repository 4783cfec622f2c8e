"""Entry point of the command `instructedit`: signals, streams and threads, before slow imports."""

import codecs
import errno
import io
import os
import sys
from typing import Any, TextIO

from . import stopping

ASCII = "plain-ascii"
"""ASCII by another name: typer writes UTF-8 to a stream that is called `ascii`."""


QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}
"""Settings of libraries, which read them when they are imported; a user's own win."""


def main() -> None:
    """Run the command line and exit with its code; neither a signal nor a stream causes a traceback.

    Exit codes: 0; 1 for a result that is not valid or output that could not be printed; 2 for input that cannot be
    used; 130 and 143 after SIGINT and SIGTERM; 141 where the reader of standard output closed it, as in shells.
    """
    stopping.install()
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from instructedit.editors.models.threads import default_threads  # not before signals are handled

    streams = Streams()
    default_threads()
    code = _run()
    stopping.rest()
    error = streams.finish()
    if error is not None and not code:
        if error.errno == errno.EPIPE:
            code = 141
        else:
            code = 1
            sys.stderr.write(f"instructedit: standard output cannot be written ({error.strerror}).\n")
            sys.stderr.flush()
    sys.exit(code)


def _run() -> int:
    from .main import app

    stopping.work()
    try:
        app(prog_name="instructedit")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        if number := stopping.stopped_by(error):
            stopping.leave(number)
        raise
    return 0


class Streams:
    """Replaces `sys.stdout` and `sys.stderr` by streams that never fail.

    A closed pipe, a full disk or a missing character does not stop a run: results are files. What cannot be written is
    dropped, and the first error is kept.
    """

    def __init__(self) -> None:
        for descriptor in (0, 1, 2):  # else the first opened file would get the number, and what is printed
            try:
                os.fstat(descriptor)
            except OSError:
                os.open(os.devnull, os.O_RDWR)
        codecs.register(_ascii)
        self._raw = _Lenient(1)
        sys.stdout = _text(self._raw, sys.stdout, "replace")
        sys.stderr = _text(_Lenient(2), sys.stderr, "backslashreplace")

    def finish(self) -> OSError | None:
        """Flush both streams; return why standard output could not be written, or None."""
        sys.stdout.flush()
        sys.stderr.flush()
        return self._raw.error


class _Lenient(io.RawIOBase):
    """A file descriptor that accepts everything; after the first error it writes nothing."""

    def __init__(self, descriptor: int) -> None:
        self._file = io.FileIO(descriptor, "w", closefd=False)
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while self.error is None and done < len(view):
            try:
                done += self._file.write(view[done:]) or 0
            except OSError as error:
                self.error = error
        return len(view)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return self._file.isatty()


def _ascii(name: str) -> codecs.CodecInfo | None:
    plain = codecs.lookup("ascii")
    found = codecs.CodecInfo(plain.encode, plain.decode, incrementalencoder=plain.incrementalencoder, name=ASCII)
    return found if name.replace("_", "-") == ASCII else None


def _text(raw: _Lenient, was: TextIO | None, errors: str) -> io.TextIOWrapper:
    """Return a text stream that replaces characters missing in its encoding."""
    encoding = was.encoding if was is not None else "utf-8"
    if codecs.lookup(encoding).name == "ascii":
        encoding = ASCII
    interactive = errors != "replace" or raw.isatty()  # standard error is never delayed
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors=errors, line_buffering=interactive)
