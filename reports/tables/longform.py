"""Every mean of a run or suite as one CSV row with all its keys, in the units of the records (shares, not percent)."""

from collections.abc import Iterator
from typing import Any

from instructedit.benchmark.results.records import RunFile, RunSummary
from instructedit.benchmark.results.suite_results import SeedComparison, SeedMean, SuiteSummary

from ..render.formats import csv_text
from .columns import seed_sd
from .suite_comparisons import verdict

FIELDS = (
    *("run", "valid", "complete", "model", "weights", "setting", "split", "schedule"),
    *("seed", "editor", "task", "reader"),
    *("stage", "measure", "subset", "derived", "protocol", "mean", "low", "high", "method", "n"),
)
"""Columns of a run; an empty `subset` is the mean over subsets."""
SUITE_FIELDS = (
    *("suite", "label", "setting", "schedule", "split", "model", "weights", "seeds", "question", "row", "other"),
    *("trained_on", "instruction", "task", "stage", "measure", "derived", "protocol"),
    *("value", "low", "high", "method", "lowest_seed", "highest_seed", "seed_sd", "n", "p", "p_holm", "verdict"),
)
"""Columns of a suite; a mean has no `question`, no `other` and no `verdict`, and one seed no `seed_sd`."""


def run_csv(run: RunFile, summary: RunSummary) -> str:
    """Return the means of a run as CSV."""
    shared = {
        **{"run": run.digest, "valid": summary.valid, "complete": summary.complete, "seed": run.spec.seed},
        **_of_run(run),
    }
    rows = [{**shared, "reader": run.spec.readers.get(mean.task), **mean.model_dump()} for mean in summary.means]
    return csv_text(rows, FIELDS)


def suite_csv(summary: SuiteSummary) -> str:
    """Return the means over seeds and the comparisons of a suite as CSV, group by group."""
    return csv_text(list(_suite_rows(summary)), SUITE_FIELDS)


def _suite_rows(summary: SuiteSummary) -> Iterator[dict[str, Any]]:
    for group in summary.groups:
        shared = {"suite": summary.name, "label": group.label, **_of_run(group.run), "seeds": group.seeds}
        rows = {row.name: row for row in group.run.spec.editors}
        numbers: tuple[SeedMean | SeedComparison, ...] = (*group.means, *group.comparisons)
        for number in numbers:
            if isinstance(number, SeedMean):
                row = rows[number.row]
                named = {"row": number.row, "value": number.mean, "instruction": row.instruction}
            else:
                row = rows[number.rows[0]]
                named = {"row": number.first, "other": number.second, "value": number.difference}
                named["verdict"] = verdict(number)
            yield {
                **shared,
                **number.model_dump(),
                **named,
                "trained_on": row.training.label if row.training else None,
                "lowest_seed": min(number.per_seed),
                "highest_seed": max(number.per_seed),
                "seed_sd": seed_sd(number.per_seed),
            }


def _of_run(run: RunFile) -> dict[str, Any]:
    spec = run.spec
    names = {"setting": spec.setting, "split": spec.split, "schedule": spec.schedule}
    return {"model": run.provenance.model, "weights": spec.model_fingerprint, **names}
