"""The command `rescore`: saved answers under another rule."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option, echo

from instructedit.editors.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from instructedit.benchmark.run.rescore import Moved


def rescore(
    directory: Annotated[
        Path, Argument(metavar="RUN", help="Folder of a finished run, or a suite of one run: suites/NAME.")
    ],
    rule: Annotated[
        str | None,
        Option(help="normalised (default: the present version of the rule of runs), exact, starts-with or contains."),
    ] = None,
    metric: Annotated[
        str | None,
        Option(
            metavar="MODULE:NAME",
            help="Instead of a rule: a function of a text and its accepted answers that gives 0 to 1, or a class of "
            "evaluate.Metric.",
        ),
    ] = None,
    out: Annotated[
        Path | None, Option(metavar="DIR", help="Folder of all runs for the result; by default that of RUN.")
    ] = None,
) -> None:
    """Score the saved answers of a run again by another rule, without a model; the run itself is not changed."""
    from rich.console import Console

    from instructedit.benchmark.results.records import find_run
    from instructedit.benchmark.run.rescore import rescore
    from instructedit.benchmark.scoring.rules import DEFAULT, Rule
    from instructedit.reports.tables.build import report_run
    from instructedit.reports.tables.sources import read_suites

    if rule is not None and metric is not None:
        raise InputError("--rule and --metric exclude each other; give one of them.")
    if metric is not None and ":" not in metric:
        raise InputError(f"--metric: found '{metric}', expected module:name.")
    if metric is not None and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # a file beside the user, as for `python -m`
    suites = read_suites([directory])
    runs = [place / entry.digest for place, suite in suites for entry in suite.runs]
    source = runs[0] if len(runs) == 1 else find_run(directory)  # which says that there are several
    folder, moved = rescore(source, Rule.named(metric or rule or DEFAULT), out)
    _draw(moved, Console())
    paths = report_run(folder)
    echo(f"Results: {folder}\nReport:  {', '.join(map(str, paths))}")


def _draw(moved: "Sequence[Moved]", console: "Console") -> None:
    """Print a line for each row, task and measure with a score that moved, and how many did not."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for name in ("task", "editor", "measure"):
        table.add_column(name, overflow="fold")
    for name in ("scores", "up", "down", "before", "after"):
        table.add_column(name, justify="right", no_wrap=True)
    changed = [own for own in moved if own.up or own.down]
    for own in changed:
        scale = 1 if own.protocol == "ngram_entropy" else 100
        name = own.measure + ("†" if own.derived else "") + (f", {own.stage}" if own.stage != "single" else "")
        numbers = (f"{scale * own.before:.1f}", f"{scale * own.after:.1f}")
        table.add_row(own.task, own.editor, name, f"{own.scores:,}", f"{own.up:,}", f"{own.down:,}", *numbers)
    if changed:
        console.print(table)
    scores, up, down = (sum(getattr(own, name) for own in moved) for name in ("scores", "up", "down"))
    console.print(f"{up + down:,} of {scores:,} scores moved: {up:,} up, {down:,} down.", highlight=False)
