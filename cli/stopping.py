"""Ctrl-C and SIGTERM: one sentence and the exit code of the signal, never a traceback.

What is finished is on disk at any time, so a process may end anywhere. In a command the handler raises, so that the
line that is being written is finished and bars are closed. Before a command, and while a module is imported, nothing
is being written, and a library may swallow or reword what is raised there: the process ends at once. So it does at a
second signal, and where what was raised is swallowed by a callback.
"""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

SENTENCE = "instructedit: stopped; what is finished is on disk, the same command goes on from it."


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where Ctrl-C would be."""


class _State:
    """What the handler has to know of the process."""

    working = False
    """Whether a command runs."""
    signal = 0
    """The signal that was raised; 0 for none."""


def install() -> None:
    """Handle SIGINT and SIGTERM from now on, by leaving at once."""
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
    """A command runs from now on: signals are raised in it."""
    _State.working = True


def rest() -> None:
    """All work is done: a signal ends the process as the system does."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is _handle:
            signal.signal(number, signal.SIG_DFL)


def stopped_by(error: BaseException) -> int:
    """Return the signal that an exception comes from, also where a library made another exception of it; 0 for none."""
    if isinstance(error, Terminated):
        return signal.SIGTERM
    if isinstance(error, KeyboardInterrupt):
        return _State.signal or signal.SIGINT
    return 0 if isinstance(error, SystemExit) else _State.signal


def leave(number: int) -> NoReturn:
    """Say the sentence and end the process at once, with 128 and the signal's number as shells count it."""
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
