"""Where the command `instructedit` begins: before anything slow is imported."""

import errno
import sys

from instructedit.editors.models.threads import default_threads

from . import stopping
from .streams import Streams


def main() -> None:
    """Run the command line and exit with its code; no signal and no stream makes a traceback.

    Exit codes: 0; 1 for a result that is not valid or output that could not be printed; 2 for input that cannot be
    used; 130 and 143 after SIGINT and SIGTERM; 141 where the reader of standard output went away, as shells count it.
    """
    stopping.install()
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
