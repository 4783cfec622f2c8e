"""Write the tables of a Markdown page from result files, so that no number in it is typed by hand.

    python docs/runs/fill.py RESULTS docs/results.md README.md

Each table stands between two comments. The first says where it comes from, and the script replaces what is between:

    <!-- fill: SUITE | HEADING | TITLE [| rows=NAME,NAME] -->
    <!-- end -->

`SUITE` names an index in `RESULTS/suites`. `HEADING` is a block of that suite's report, e.g. `multi-task: recent`, and
`TITLE` the start of a table's title in it, e.g. `Exact match`; `START~PART` is a start and a part. Some titles are no
tables: `text` gives the sentences of the block, `notes` the lines below its tables (which edits did not take), and the
heading `runs` (without a title) lists the runs behind each setting.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from instructedit.benchmark.results.records import SUITES
from instructedit.benchmark.results.suite_results import SuiteSummary, find_suite
from instructedit.benchmark.results.suite_summary import summarise_suite
from instructedit.editors.errors import InputError
from instructedit.reports.render.markdown import escape, grid
from instructedit.reports.render.report import Block, Report, Table
from instructedit.reports.tables.suite_report import suite_report

MARKER = re.compile(r"(<!-- fill: ([^>]*?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


class Suites:
    """The suites of a folder of results, each summed up once."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self._found: dict[str, tuple[SuiteSummary, Report]] = {}

    def of(self, name: str) -> tuple[SuiteSummary, Report]:
        """Return a suite's numbers and its report.

        Raises:
            InputError: If there is no such suite, or it is not complete.
        """
        if name not in self._found:
            suite = find_suite(self.results / SUITES / name)
            if suite is None:
                raise InputError(f"{self.results}: no suite '{name}' in it.")
            summary = summarise_suite(*suite)
            if summary.warnings:
                raise InputError(f"Suite '{name}': {summary.warnings[0]}")
            self._found[name] = summary, suite_report(summary)
        return self._found[name]


def filled(text: str, suites: Suites, place: str) -> str:
    """Return a page with everything between its markers rewritten.

    Raises:
        InputError: If a marker names something that the results do not have.
    """

    def content(found: re.Match[str]) -> str:
        fields = [field.strip() for field in found[2].split("|")]
        try:
            return f"{found[1]}\n{_content(fields, suites)}\n\n{found[4]}"
        except InputError as error:
            raise InputError(f"{place}, marker '{found[2]}': {error}") from error

    return MARKER.sub(content, text)


def _content(fields: Sequence[str], suites: Suites) -> str:
    name, heading, *rest = fields
    summary, report = suites.of(name)
    if heading == "runs":
        return "\n".join(
            f"- {escape(group.label)}: "
            + ", ".join(f"seed {s} `{d}`" for s, d in zip(group.seeds, group.digests, strict=True))
            for group in summary.groups
        )
    block = _one(report.blocks, heading, lambda block: block.heading == heading)
    if rest[:1] == ["text"]:
        return "\n\n".join(map(escape, block.text))
    if rest[:1] == ["notes"]:
        return "\n".join(f"- {escape(note)}" for note in block.notes)
    title, *options = rest
    start, _, part = title.partition("~")
    tables = (*block.tables, *block.comparisons)
    table = _one(tables, title, lambda table: table.title.startswith(start) and part in table.title)
    for option in options:
        table = _rows(table, option.removeprefix("rows=").split(","))
    return "\n\n".join(filter(None, (escape(table.title), grid(table), escape(table.note))))


def _one(things, wanted, fits):
    found = [thing for thing in things if fits(thing)]
    if len(found) != 1:
        names = ", ".join(repr(thing.heading if isinstance(thing, Block) else thing.title) for thing in things)
        raise InputError(f"{len(found)} of {names} fit '{wanted}'; one was expected.")
    return found[0]


def _rows(table: Table, names: Sequence[str]) -> Table:
    if missing := [name for name in names if name not in table.rows]:
        raise InputError(f"no row '{missing[0]}' among {', '.join(table.rows)}.")
    chosen = [table.rows.index(name) for name in names]
    groups = tuple(table.groups[i] for i in chosen) if table.groups else ()
    return replace(table, rows=tuple(names), cells=tuple(table.cells[i] for i in chosen), groups=groups)


if __name__ == "__main__":
    results, *pages = map(Path, sys.argv[1:])
    known = Suites(results)
    try:
        texts = {page: filled(page.read_text(encoding="utf-8"), known, str(page)) for page in pages}
    except InputError as error:
        sys.exit(str(error))
    for page, text in texts.items():
        page.write_text(text, encoding="utf-8", newline="\n")
