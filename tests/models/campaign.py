"""Checks of many architectures, a line for each: `python -m tests.models.campaign NAME ...`, without names of all."""

import argparse
import contextlib
import io
import json
import multiprocessing
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import zoo  # first: it sets the environment  # isort: skip

from transformers import logging as transformers_logging

from .check import check
from .page import Result

LIMIT = 240
"""Seconds for one architecture."""


def _child(name: str, pipe: Any) -> None:
    warnings.simplefilter("ignore")
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    with contextlib.redirect_stdout(io.StringIO()):  # some models print
        result = check(name)
    pipe.send(asdict(result))
    pipe.close()


def campaign(names: Sequence[str], limit: float = LIMIT) -> Iterator[Result]:
    """Check architectures one after another, each in a process of its own with a time limit."""
    context = multiprocessing.get_context("fork")
    for name in names:
        receive, send = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(name, send))
        process.start()
        send.close()
        result = Result(name, "traceback", {"check": "traceback: the process ended by itself"})
        if receive.poll(limit):
            with contextlib.suppress(EOFError):
                result = Result(**receive.recv())
        else:
            process.kill()
            result = Result(name, "traceback", {"check": f"traceback: not done after {limit} s"}, seconds=limit)
        process.join()
        yield result


def main(arguments: Sequence[str]) -> None:
    """Check the named architectures, or all; `--json FILE` writes the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    results = []
    for result in campaign(options.names or zoo.names()):
        results.append(result)
        sys.stdout.write(f"{result.line()}\n")
        sys.stdout.flush()
        if options.json:
            options.json.write_text(json.dumps([asdict(found) for found in results], indent=1), encoding="utf-8")
    counts = Counter(found.verdict for found in results)
    sys.stdout.write(", ".join(f"{count} {kind}" for kind, count in counts.items()) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
