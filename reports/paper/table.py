r"""One task's numbers as a LaTeX table; needs the packages booktabs, siunitx and graphicx."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from instructedit.benchmark.results.records import Measure
from instructedit.benchmark.results.suite_results import SeedMean, SuiteGroup

from ..render.latex import escape
from ..render.report import Mark
from ..tables.columns import Column, column_of, interval
from ..tables.overview import main_columns
from ..tables.protocol_choice import WORDS, protocol_for, short
from ..tables.scores import Scores, staged_scores
from ..titles import model_title, row_title, task_title

_STYLES = ("{}", r"\bfseries {}", r"\itshape {}")
"""Markup of each rank; siunitx keeps numbers in bold and italics aligned."""


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
                yield PaperTable(name, _table(name, group, (task, stage), scores, columns, rows, choice))


def _columns(scores: Scores, choice: Choice) -> list[Column]:
    columns = scores.columns()
    if choice.protocol is None:
        found = main_columns(columns)
    else:
        attitude = any(column.protocol == "edit_success" for column in columns)
        found = [c for c in columns if c.protocol == protocol_for(choice.protocol, c.measure, attitude=attitude)]
    return [column for column in found if column.measure in choice.measures or not choice.measures]


def _table(
    name: str,
    group: SuiteGroup,
    place: tuple[str, str],
    scores: Scores,
    columns: Sequence[Column],
    rows: Sequence[str],
    choice: Choice,
) -> str:
    marks = scores.marks()
    ranks = {marks[column].get(row).rank for column in columns for row in rows}
    span = 2 if choice.intervals else 1
    form = r"S[table-format=3.1]" + (r"@{~}l" if choice.intervals else "")
    heads = " & ".join(rf"\multicolumn{{{span}}}{{c}}{{{_head(column)}}}" for column in columns)
    sizes = " & ".join(rf"\multicolumn{{{span}}}{{c}}{{\scriptsize {_n(scores, column, rows)}}}" for column in columns)
    lines = [
        *(f"% {line}" for line in _sources(group)),
        r"\begin{table}[tp]",
        r"\centering\small",
        rf"\caption{{{_caption(group, place, columns, ranks, choice)}}}",
        rf"\label{{tab:{name}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{l{form * len(columns)}}}",
        r"\toprule",
        rf"Editor & {heads} \\",
        rf" & {sizes} \\",
        r"\midrule",
    ]
    for row in rows:
        cells = [_cell(scores.means.get((column, row)), marks[column].get(row), choice) for column in columns]
        lines.append(" & ".join([escape(row_title(group.run, row)), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table}", ""])


def _head(column: Column) -> str:
    protocol = f" {short(column.protocol)}" if column.protocol == "edit_success" else ""
    return column.measure.capitalize() + protocol + (r"$^\dagger$" if column.derived else "")


def _n(scores: Scores, column: Column, rows: Sequence[str]) -> str:
    counts = [scores.means[column, row].n for row in rows if (column, row) in scores.means]
    low, high = min(counts, default=0), max(counts, default=0)
    return f"$n={low}$" if low == high else f"$n={low}$--${high}$"


def _cell(mean: SeedMean | None, mark: Mark, choice: Choice) -> str:
    if mean is None:
        return "{--}" + (" &" if choice.intervals else "")
    column = column_of(mean)
    value = _STYLES[mark.rank].format(column.number(mean.mean))
    if not choice.intervals:
        return value
    ends = "" if mean.low is None else interval(column, mean.low, mean.high)
    return rf"{value} & {{\footnotesize {ends}}}" if ends else f"{value} &"


def _caption(
    group: SuiteGroup, place: tuple[str, str], columns: Sequence[Column], ranks: Collection[int], choice: Choice
) -> str:
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
        _marks(ranks),
    ]
    text = escape(" ".join(parts))
    return text + (r" $^\dagger$Prompts made by a rule." if any(column.derived for column in columns) else "")


def _marks(ranks: Collection[int]) -> str:
    """Return what the marks of a table mean, or why it has none."""
    if not any(ranks):
        return "No editor is shown to be better than the others (paired tests over the same cases, Holm-adjusted)."
    second = "; italics: second, where shown to be better than the rest" if 2 in ranks else ""
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
