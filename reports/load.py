"""Reading a results folder: the only way results enter a report."""

from pathlib import Path

from instructedit.benchmark.decide import adjust
from instructedit.benchmark.results import RunFile, RunSummary, read_record
from instructedit.editors.errors import InputError


def load(directory: Path) -> tuple[RunFile, RunSummary]:
    """Read `run.json` and `summary.json` of a run.

    Raises:
        InputError: If the run is not finished, a file is missing, is no such record or has another schema version, or
            the two are of different runs.
    """
    run = read_record(directory / "run.json", RunFile)
    if not (directory / "summary.json").exists():
        raise InputError(
            f"{directory}: this run is not finished, there is no summary.json; the same run command goes on from where "
            "it is."
        )
    summary = read_record(directory / "summary.json", RunSummary)
    if run.digest != summary.digest:
        raise InputError(f"In {directory} run.json is of run {run.digest} but summary.json of run {summary.digest}.")
    if any(pair.p_holm is None for pair in summary.comparisons):
        # A file of an older version; the p-values of a column are all there is to it.
        summary = summary.model_copy(update={"comparisons": adjust(summary.comparisons)})
    return run, summary
