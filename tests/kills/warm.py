"""A process that has imported everything and forks for each life, so that a life does not cost five seconds of imports.

It reads a line of JSON for each life and answers with one. It never starts a thread: a fork keeps only the thread that
called it.
"""

import json
import os
import signal
import sys
import time
from importlib import import_module
from pathlib import Path

MODULES = (
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.llama.modeling_llama",
    "instructedit.cli.start",
    "instructedit.cli.main",
    "instructedit.benchmark.run.suite",
    "instructedit.benchmark.run.rescore",
    "instructedit.benchmark.instructions.loop",
    "instructedit.baselines.ftl",
    "instructedit.baselines.mend",
    "instructedit.reports.tables.build",
    "instructedit.reports.site.write",
    "instructedit.reports.leaderboard.pack",
    "matplotlib.figure",
    "openai",
    "scipy.stats",
)
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
"""What Python is about to do to a file, besides opening it for writing."""


def main() -> None:
    for name in MODULES:
        import_module(name)
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork would lose threads"
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(live(json.loads(line))) + "\n")
        sys.stdout.flush()


def live(order: dict) -> dict:
    """Fork a child that runs the command, end it as ordered, and tell how it ended.

    An order: `words` of the command, `log` for what it says, `root` of the files it writes, `environment`, `signal`,
    and either `after`, seconds, or `step`, the change of a file in front of which it ends itself.
    """
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        run(order)
    sent = False
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        seconds = time.monotonic() - begun
        if found:
            return {"code": os.waitstatus_to_exitcode(status), "seconds": seconds}
        if not sent and order.get("after") is not None and seconds >= order["after"]:
            os.kill(child, order["signal"])
            sent = True
        if seconds > 300:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)


def run(order: dict) -> None:
    code = 70
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(order["environment"])
        sys.argv = ["instructedit", *order["words"]]
        steps = count(order)
        from instructedit.cli.start import main

        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        with Path(order["log"] + ".steps").open("a") as file:
            file.write(f"{steps[0]}\n")
    except BaseException:
        import traceback

        traceback.print_exc()
    os._exit(code)


def count(order: dict) -> list[int]:
    """Count the changes of files below the root, and end the process in front of the one that was ordered."""
    steps, root = [0], order["root"]

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            counts = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            path, counts = (arguments[0], True) if event in CHANGES else (None, False)
        if not counts or not isinstance(path, str | os.PathLike) or not str(path).startswith(root):
            return
        steps[0] += 1
        if steps[0] == order.get("step"):
            os.kill(os.getpid(), order["signal"])

    sys.addaudithook(hook)
    return steps


if __name__ == "__main__":
    main()
