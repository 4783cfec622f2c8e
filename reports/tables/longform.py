"""Every mean of a run as one CSV row with all its keys, in the units of the records (shares, not percent)."""

import csv
import io

from instructedit.benchmark.results.records import RunFile, RunSummary
from instructedit.benchmark.results.suite_results import SeedComparison, SeedMean, SuiteSummary

from .columns import seed_sd
from .versus import verdict

FIELDS = (
    *("run", "valid", "complete", "model", "weights", "setting", "split", "schedule"),
    *("seed", "editor", "task", "reader"),
    *("stage", "measure", "subset", "derived", "protocol", "mean", "low", "high", "method", "n"),
)
"""Columns; an empty `subset` is the mean over subsets."""
SUITE_FIELDS = (
    *("suite", "label", "setting", "schedule", "split", "model", "weights", "seeds", "question", "row", "other"),
    *("trained_on", "instruction", "task", "stage", "measure", "derived", "protocol"),
    *("value", "low", "high", "method", "lowest_seed", "highest_seed", "seed_sd", "n", "p", "p_holm", "verdict"),
)
"""Columns of a suite; a mean has no `question`, no `other` and no `verdict`, and one seed no `seed_sd`."""


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


def render_suite(summary: SuiteSummary) -> str:
    """Return the CSV file of a suite: every mean over seeds, then every comparison, group by group."""
    text = io.StringIO()
    writer = csv.DictWriter(text, SUITE_FIELDS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for group in summary.groups:
        spec = group.run.spec
        shared = {
            "suite": summary.name,
            "label": group.label,
            "setting": spec.setting,
            "schedule": spec.schedule,
            "split": spec.split,
            "model": group.run.provenance.model,
            "weights": spec.model_fingerprint,
            "seeds": " ".join(map(str, group.seeds)),
        }
        rows = {row.name: row for row in spec.editors}
        numbers: tuple[SeedMean | SeedComparison, ...] = (*group.means, *group.comparisons)
        for number in numbers:
            ends = {
                "lowest_seed": min(number.per_seed),
                "highest_seed": max(number.per_seed),
                "seed_sd": seed_sd(number.per_seed),
            }
            if isinstance(number, SeedMean):
                row = rows[number.row]
                named = {"row": number.row, "value": number.mean, "instruction": row.instruction}
            else:
                row = rows[number.rows[0]]
                named = {"row": number.first, "other": number.second, "value": number.difference}
                named["verdict"] = verdict(number)
            trained = row.training.label if row.training else None
            writer.writerow({**shared, **number.model_dump(), **named, **ends, "trained_on": trained})
    return text.getvalue()
