"""The pages of the site. What does not depend on the reader's choices is static HTML."""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..render.html import environment
from ..render.report import Report, Table
from ..tables.captions import AGGREGATION, PROTOCOLS
from ..tables.columns import SECTIONS
from ..tables.overview import facts as main_facts
from ..tables.run_facts import header
from ..tables.run_tables import run_report
from ..tables.suite_report import suite_report
from .collect import Collected, SiteRun
from .figures import Figure
from .matrix import NOTE, squares
from .means import NAMES

HERE = Path(__file__).parent
ASSETS = ("style.css", "fold.js", "table.js", "data.js", "means.js", "cases.js", "case.js")
OVER_SEEDS = (
    "With several seeds it is the mean over seeds and cases with an interval over both; sd is the "
    "standard deviation of the means of the seeds, and n counts the cases scored under all of them."
)
_MAIN = tuple(title for title, protocols in SECTIONS if {"edit_success", "teacher_forced_exact"} & set(protocols))
"""Tables of a run that the overview shows."""
_LOUD = 3
"""Maximum number of warnings on every page; more are on the overview only, with a link to it."""


def static_pages(site: Collected, cases: Mapping[str, Sized], figures: Sequence[Figure]) -> Iterator[tuple[str, str]]:
    """Yield every page as its file name and its HTML; `cases` are by digest those of each run."""
    pages = environment(HERE / "templates", address=quote)
    reports = {run.digest: run_report(run.file, run.summary) for run in site.runs}
    pages.globals.update(
        title=site.title,
        warnings=site.warnings,
        loud=_LOUD,
        suite=site.suite is not None,
    )

    def page(name: str, template: str, **values: Any) -> tuple[str, str]:
        return name, pages.get_template(template).render(page=name, **values)

    used = {mean.protocol for run in site.runs for mean in run.summary.means}
    yield page(
        "index.html",
        "index.html",
        main=_once(fact for run in site.runs for fact in _main_facts(run)),
        facts=_once(fact for run in site.runs for fact in header(run.file) if fact[0] not in ("Run", "Setting")),
        runs=[(run, len(cases[run.digest]), _main(reports[run.digest])) for run in site.runs],
        figures=figures,
        aggregation=AGGREGATION,
        protocols=[PROTOCOLS[protocol] for protocol in NAMES if protocol in used],
    )
    for run in site.runs:
        report = reports[run.digest]
        found = {task: list(squares(run.file, run.summary, task)) for task in run.file.spec.tasks}
        yield page(
            f"run-{run.digest}.html",
            "report.html",
            report=report,
            facts=[*report.header, *_origin(run)],
            run=run,
            squares={task: tables for task, tables in found.items() if tables},
            square_note=NOTE,
        )
    if site.suite is not None:
        report = suite_report(site.suite)
        yield page("suite.html", "report.html", report=report, facts=report.header, run=None, squares={})
    several = {
        "models": len({run.file.provenance.model for run in site.runs}) > 1,
        "splits": len({run.file.spec.split for run in site.runs}) > 1,
        "stages": len({(run.file.spec.schedule, mean.stage) for run in site.runs for mean in run.summary.means}) > 1,
        "seeds": len({run.file.spec.seed for run in site.runs}) > 1,
    }
    seeds = site.suite is not None and any(len(group.seeds) > 1 for group in site.suite.groups)
    yield page(
        "means.html", "means.html", several=several, aggregation=AGGREGATION, across=OVER_SEEDS if seeds else None
    )
    yield page("cases.html", "cases.html")
    yield page("case.html", "case.html")


def _once(facts: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return facts of several runs; those that they share occur once, and those of one word are adjacent."""
    lines = dict.fromkeys(facts)
    words = list(dict.fromkeys(word for word, _ in lines))
    return sorted(lines, key=lambda line: words.index(line[0]))


def _main_facts(run: SiteRun) -> Iterator[tuple[str, str]]:
    """Yield model, data, setting and date; what failed is in the table of runs."""
    yield from (fact for fact in main_facts(run.file) if fact[0] != "Left out")
    yield "Date", run.file.provenance.started.partition("T")[0]


def _origin(run: SiteRun) -> Iterator[tuple[str, str]]:
    origin = run.file.provenance
    yield "Command", shlex.join(origin.command)
    yield "Started", origin.started
    yield "Machine", f"{origin.platform}, {origin.device}, {origin.threads} threads"
    yield from (("Licence", f"{data.task}: {data.licence}") for data in run.file.data)


def _main(report: Report) -> list[tuple[str, list[Table], tuple[str, ...]]]:
    """Return the tables of exact match and of edit success, and the lines under them, by task."""
    found = [
        (block.heading, [table for table in block.tables if table.title.startswith(_MAIN)], block.notes)
        for block in report.blocks
    ]
    return [(task, tables, notes) for task, tables, notes in found if tables]
