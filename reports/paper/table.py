r"""One task's numbers as a LaTeX table; needs the packages booktabs and graphicx."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from instructedit.benchmark.results.records import Measure
from instructedit.benchmark.results.suite_results import SuiteGroup

from ..render.latex import floated
from ..render.report import Table
from ..tables.captions import DAGGER
from ..tables.columns import Column
from ..tables.overview import main_columns
from ..tables.protocol_choice import WORDS, protocol_for, short
from ..tables.scores import Scores, staged_scores
from ..titles import model_title, row_title, task_title


@dataclass(frozen=True, slots=True)
class Choice:
    """What a table shows; empty: all rows, all measures, exact match or edit success."""

    rows: Collection[str] = ()
    measures: Collection[Measure] = ()
    protocol: str | None = None
    intervals: bool = True


class PaperTable(NamedTuple):
    """A table: the name of its file and label, and its LaTeX."""

    name: str
    text: str


def paper_tables(group: SuiteGroup, choice: Choice) -> Iterator[PaperTable]:
    """Yield a table for each task and stage of a setting that has a chosen number."""
    for task in group.run.spec.tasks:
        for stage, _, scores in staged_scores(group, task):
            rows = [row for row in scores.rows if row in choice.rows or not choice.rows]
            if (columns := _columns(scores, choice)) and rows:
                name = f"{group.label}-{task}{'' if stage == 'single' else f'-{stage}'}"
                name = name.replace("_", "-").replace(" ", "-")
                table = _table(group, scores, columns, rows, intervals=choice.intervals)
                caption = _caption(group, (task, stage), columns, table, choice)
                lines = [*(f"% {line}" for line in _sources(group)), *floated(caption, [table], f"tab:{name}"), ""]
                yield PaperTable(name, "\n".join(lines))


def _columns(scores: Scores, choice: Choice) -> list[Column]:
    columns = scores.columns()
    if choice.protocol is None:
        found = main_columns(columns)
    else:
        attitude = any(column.protocol == "edit_success" for column in columns)
        found = [c for c in columns if c.protocol == protocol_for(choice.protocol, c.measure, attitude=attitude)]
    return [column for column in found if column.measure in choice.measures or not choice.measures]


def _table(
    group: SuiteGroup, scores: Scores, columns: Sequence[Column], rows: Sequence[str], *, intervals: bool
) -> Table:
    """Return the chosen columns and rows, without what a paper has in its text."""
    table = scores.table("", {column: _head(column) for column in columns})
    lines = dict(zip(table.rows, table.cells, strict=True))
    cells = tuple(
        tuple(cell and replace(cell, note="", interval=cell.interval if intervals else "") for cell in lines[row])
        for row in rows
    )
    return replace(table, rows=tuple(row_title(group.run, row) for row in rows), cells=cells, note="").share_n()


def _head(column: Column) -> str:
    protocol = f" {short(column.protocol)}" if column.protocol == "edit_success" else ""
    return f"{column.measure.capitalize()}{protocol}{DAGGER if column.derived else ''}"


def _caption(group: SuiteGroup, place: tuple[str, str], columns: Sequence[Column], table: Table, choice: Choice) -> str:
    """Return a caption that a paper may keep: what, how read, on which model and cases, and what the marks mean."""
    run, seeds = group.run, len(group.seeds)
    kinds = " and ".join(dict.fromkeys(WORDS[column.protocol] for column in columns))
    (task, stage), count = place, place[1].removeprefix("after-")
    edits = {
        "single": "each case edited alone",
        "batch": "joint edits",
        "after-edit": "edits one after the other, each case right after its own edit",
        "after-all": "edits one after the other, all cases after the last edit",
    }
    parts = [
        f"{task_title(run, task)}, {run.spec.setting}: {kinds} (percent"
        + (", with 95 % intervals)" if choice.intervals else ")"),
        f"of {model_title(run)}, "
        + edits.get(stage, f"edits one after the other, the cases edited so far after {count} edits")
        + (f", {seeds} seeds." if seeds > 1 else "."),
        _marks({cell.mark.rank for line in table.cells for cell in line if cell}),
        *([f"{DAGGER} Prompts made by a rule."] if any(column.derived for column in columns) else []),
    ]
    return " ".join(parts)


def _marks(ranks: Collection[int]) -> str:
    """Return what the marks of a table mean, or why it has none."""
    if not any(ranks):
        return "No editor is shown to be better than the others (paired tests over the same cases, Holm-adjusted)."
    second = "; underlined: second, where shown to be better than the rest" if 2 in ranks else ""
    return (
        f"Bold: best, or not shown to be worse than the best{second} (paired tests over the same cases, Holm-adjusted)."
    )


def _sources(group: SuiteGroup) -> list[str]:
    """Return where the numbers are from, as comments."""
    run, origin = group.run, group.run.provenance
    return [
        f"Runs {', '.join(group.digests)} of {run.name}, instructedit-bench {origin.version}, "
        f"started {origin.started}.",
        f"Model {origin.model}, weights {run.spec.model_fingerprint[:16]}, {run.spec.dtype}.",
        *(
            f"Data {data.task} from {data.source}: "
            + ", ".join(f"{name} {digest[:16]}" for name, digest in data.sha256.items())
            for data in run.data
        ),
    ]
