"""Every mean of a run as one CSV row with all its keys, in the units of the records (shares, not percent)."""

import csv
import io

from instructedit.benchmark.results import RunFile, RunSummary

FIELDS = (
    *("run", "valid", "complete", "model", "weights", "setting", "split", "schedule"),
    *("seed", "editor", "task", "reader"),
    *("stage", "measure", "subset", "derived", "protocol", "mean", "low", "high", "n"),
)
"""Columns; an empty `subset` is the mean over subsets."""


def render(run: RunFile, summary: RunSummary) -> str:
    """Return the CSV file: numbers with all their digits, so that they read back as they were."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    shared = {
        "run": run.digest,
        "valid": summary.valid,
        "complete": summary.complete,
        "model": run.provenance.model,
        "weights": run.spec.model_fingerprint,
        "setting": run.spec.setting,
        "split": run.spec.split,
        "schedule": run.spec.schedule,
        "seed": run.spec.seed,
    }
    for mean in summary.means:
        writer.writerow({**shared, "reader": run.spec.readers.get(mean.task), **mean.model_dump()})
    return text.getvalue()
