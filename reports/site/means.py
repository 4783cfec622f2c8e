"""All means of all runs as one columnar table, which the browser sorts and filters."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, get_args

from instructedit.benchmark.results.records import Mean, Protocol, RunSpec
from instructedit.benchmark.results.suite_results import SeedMean

from ..tables.captions import DAGGER, PROTOCOLS
from ..tables.columns import column_of, interval, seed_sd
from ..tables.protocol_choice import PROTOCOL_WORDS
from .collect import Collected

NAMES: dict[Protocol, str] = {
    **PROTOCOL_WORDS,
    "edit_success": "edit success (ES)",
    "kl_divergence": "KL divergence",
    "ngram_entropy": "fluency, n-gram entropy",
}
"""Protocols as the site calls them, in the order in which it offers them."""
UNITS: dict[Protocol, str] = {
    **dict.fromkeys(get_args(Protocol), "percent"),
    "kl_divergence": "nats, lower is better",
    "reversion": "percent, lower is better",
    "ngram_entropy": "bits times 100",
}
OVER = "over subsets"
"""The subset of means over the subsets of a case."""
TEXTS = (
    *("runs", "label", "model", "split", "seeds", "stage"),
    *("task", "measure", "subset", "protocol", "editor", "interval"),
)
"""`interval` is the reason why there is none; empty if there is one."""
NUMBERS = ("mean", "low", "high", "sd", "n")
"""`low` and `high` are null where there is no interval, `sd` where there is one seed."""
_ROW = tuple[tuple[str, ...], tuple[float | None, ...]]


def table(site: Collected) -> dict[str, Any]:
    """Return the table: texts as indices into `values`, numbers rounded as in every other report.

    A row is a mean over the cases of a run, or over the seeds and cases of a suite's runs. Its `runs` are the digests
    it comes from, separated by spaces.
    """
    from pandas import DataFrame

    found = list(_rows(site))
    texts = DataFrame([texts for texts, _ in found], columns=TEXTS)
    used = set(texts["protocol"])
    coded = {}
    for name in TEXTS:
        codes, values = texts[name].factorize()
        coded[name] = {"values": values.tolist(), "codes": codes.tolist()}
    return {
        "size": len(found),
        "texts": coded,
        "numbers": {name: [values[place] for _, values in found] for place, name in enumerate(NUMBERS)},
        "protocols": [
            [name, UNITS[protocol], _digits(protocol), PROTOCOLS[protocol]]
            for protocol, name in NAMES.items()
            if name in used
        ],
    }


def _rows(site: Collected) -> Iterator[_ROW]:
    for group in site.suite.groups if site.suite else ():
        if len(group.seeds) > 1:
            seeds = ", ".join(map(str, group.seeds))
            shared = (" ".join(group.digests), group.label, group.run.provenance.model, group.run.spec.split, seeds)
            for mean in sorted(group.means, key=partial(_place, group.run.spec)):
                yield _row(shared, group.run.spec, mean, mean.row)
    for run in site.runs:
        spec = run.file.spec
        label = run.label if run.summary.valid else f"{run.label} (INVALID)"
        shared = (run.digest, label, run.file.provenance.model, spec.split, str(spec.seed))
        # The rows of one column are adjacent, as in the other tables, and in the order of the run.
        for number in sorted(run.summary.means, key=partial(_place, spec)):
            yield _row(shared, spec, number, number.editor)


def _place(spec: RunSpec, mean: Mean | SeedMean) -> tuple[Any, ...]:
    subset = mean.subset if isinstance(mean, Mean) else None
    return spec.tasks.index(mean.task), column_of(mean).order(), subset is not None, subset or ""


def _row(shared: Sequence[str], spec: RunSpec, mean: Mean | SeedMean, editor: str) -> _ROW:
    column = column_of(mean)
    subset = (mean.subset if isinstance(mean, Mean) else None) or OVER
    measure = f"{mean.measure}{DAGGER if mean.derived else ''}"
    ends = interval(column, mean.low, mean.high, method=mean.method) if mean.low is None else ""
    texts = (*shared, stage(spec, mean.stage), mean.task, measure, subset, NAMES[mean.protocol], editor, ends)
    # Rounded as in the tables, so that no page shows 6.2 where a table shows 6.3.
    sd = seed_sd(mean.per_seed) if isinstance(mean, SeedMean) else None
    found = (mean.mean, mean.low, mean.high, sd)
    values = (None if value is None else float(column.number(value)) for value in found)
    return texts, (*values, mean.n)


def stage(spec: RunSpec, name: str) -> str:
    """Return schedule and stage, or one of them if they have the same name."""
    return name if name == spec.schedule else f"{spec.schedule}, {name}"


def _digits(protocol: Protocol) -> int:
    return 3 if protocol == "kl_divergence" else 1
