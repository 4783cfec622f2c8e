"""Reading a results folder: the only way results enter a report."""

from pathlib import Path

from instructedit.benchmark.results.decision import adjust
from instructedit.benchmark.results.guard import read_finished
from instructedit.benchmark.results.records import RunFile, RunSummary


def load(directory: Path) -> tuple[RunFile, RunSummary]:
    """Read `run.json` and `summary.json` of a run.

    Raises:
        InputError: As `guard.read_finished`.
    """
    run, summary = read_finished(directory)
    if any(pair.p_holm is None for pair in summary.comparisons):
        # A file of an older version; the p-values of a column are all there is to it.
        summary = summary.model_copy(update={"comparisons": adjust(summary.comparisons)})
    return run, summary
