"""Ctrl-C and SIGTERM: one sentence and the exit code of the signal, never a traceback.

Finished results are always on disk, so a process may end anywhere. During a command the handler raises, so that the
current line is completed and progress bars are closed. Before a command and during an import a library might swallow
the exception, and nothing is being written: the process ends at once. It also ends at once at a second signal, and
where a callback swallows the exception.
"""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

SENTENCE = "instructedit: stopped; finished results are on disk, re-running the same command resumes."


class Terminated(KeyboardInterrupt):
    """Raised for SIGTERM."""


class _State:
    """State that the signal handler reads; a handler has no other way to receive it."""

    working = False
    """Whether a command is running."""
    signal = 0
    """The signal that was raised; 0 if none was."""


def install() -> None:
    """Handle SIGINT and SIGTERM from now on; until `work` is called they end the process at once."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup or in a shell's background
            signal.signal(number, _handle)
    inner = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if _State.signal:
            leave(_State.signal)
        inner(unraisable)

    sys.unraisablehook = hook


def work() -> None:
    """Raise signals as exceptions from now on: a command is running."""
    _State.working = True


def rest() -> None:
    """Restore the system's handling of signals: all work is done."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is _handle:
            signal.signal(number, signal.SIG_DFL)


def stopped_by(error: BaseException) -> int:
    """Return the signal that caused an exception, even if a library replaced the exception; 0 for none."""
    if isinstance(error, Terminated):
        return signal.SIGTERM
    if isinstance(error, KeyboardInterrupt):
        return _State.signal or signal.SIGINT
    return 0 if isinstance(error, SystemExit) else _State.signal


def leave(number: int) -> NoReturn:
    """Print the sentence and end the process at once, with exit code 128 plus the signal's number."""
    try:
        os.write(2, f"{SENTENCE}\n".encode())
    finally:
        os._exit(128 + number)


def _handle(number: int, frame: FrameType | None) -> None:
    if not _State.working or _State.signal or _importing(frame):
        leave(number)
    _State.signal = number
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
