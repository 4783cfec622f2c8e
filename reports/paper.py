"""Results as LaTeX: a file for each table and figure that they support, and a `main.tex` of all of them."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from instructedit.benchmark.results.records import Measure
from instructedit.benchmark.results.suite_results import SuiteGroup
from instructedit.editors.errors import InputError

from .figures.results import read_results
from .figures.write import NOTES, write_figures
from .render.formats import write_text
from .render.latex import escape, floated
from .render.report import Table
from .tables.build import summarise_folder
from .tables.captions import DAGGER
from .tables.columns import Column
from .tables.overview import main_columns
from .tables.protocol_choice import WORDS, protocol_for, short
from .tables.scores import Scores, staged_scores
from .titles import model_title, row_title, task_title

_MAIN = r"""% Tables and figures of {title}. Made by `instructedit paper`; each table and figure is a file of its own.
\documentclass[11pt]{{article}}
\usepackage[T1]{{fontenc}}
\IfFileExists{{lmodern.sty}}{{\usepackage{{lmodern}}}}{{}} % outlines; the fonts of T1 alone may be pictures of letters
\usepackage[margin=2cm]{{geometry}}
\usepackage{{booktabs,graphicx}}
\setlength{{\abovecaptionskip}}{{6pt}}
\setlength{{\belowcaptionskip}}{{6pt}} % captions of tables are above them
\makeatletter\setlength{{\@fptop}}{{0pt}}\makeatother % pages of floats start at the top
\begin{{document}}
{inputs}
\end{{document}}
"""
_TOGETHER = 10
"""Number of tables after which a page is forced out; LaTeX queues only a few floats."""
_FIGURE = r"""\begin{{figure}}[tp]
\centering
\includegraphics[width=\linewidth]{{figures/{name}.pdf}}
\caption{{{caption}}}
\label{{fig:{name}}}
\end{{figure}}
"""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a table shows; empty: all rows, all measures, exact match or edit success."""

    rows: Collection[str] = ()
    measures: Collection[Measure] = ()
    protocol: str | None = None
    intervals: bool = True


def write_paper(directory: Path, out: Path, choice: Choice | None = None) -> tuple[list[Path], dict[str, str]]:
    """Write `tables/NAME.tex`, `figures/NAME.pdf` and `.tex`, and `main.tex`.

    The same results give the same bytes. `directory` is as `instructedit report` takes it.

    Returns:
        The `.tex` files, `main.tex` first, and by name a sentence for each figure that lacks data.

    Raises:
        InputError: If there are no readable results, nothing of them is chosen, or nothing can be written.
    """
    folder = summarise_folder(directory)
    results = read_results(directory)
    tables = _tables(directory, results.groups, choice or Choice())
    paths = [write_text(out / "tables" / f"{name}.tex", text, folder=True) for name, text in tables.items()]
    drawn, without = write_figures(results, out / "figures", formats=("pdf",))
    figures = []
    for path in (path for path in drawn if path.suffix == ".md"):
        caption, _, notes = path.read_text(encoding="utf-8").partition(f"\n{NOTES}\n")
        _, *paragraphs = caption.strip().split("\n\n")
        comments = "".join(f"% {line}\n" for line in notes.split("\n") if line)
        text = comments + _FIGURE.format(name=path.stem, caption=escape(" ".join(paragraphs)))
        figures.append(write_text(path.with_suffix(".tex"), text))
    inputs = []
    for count, name in enumerate(tables, start=1):
        inputs += [rf"\input{{tables/{name}}}", *([r"\clearpage"] if count % _TOGETHER == 0 else [])]
    inputs += [r"\clearpage", *(rf"\input{{figures/{path.stem}}}" for path in figures)]
    main = _MAIN.format(title=escape(folder.name), inputs="\n".join(inputs))
    return [write_text(out / "main.tex", main), *paths, *figures], without


def _tables(directory: Path, groups: Sequence[SuiteGroup], choice: Choice) -> dict[str, str]:
    found = dict(table for group in groups for table in paper_tables(group, choice))
    rows = {editor.name for group in groups for editor in group.run.spec.editors}
    for row in choice.rows:
        if row not in rows:
            raise InputError(f"--row: found '{row}', expected rows of the results: {', '.join(sorted(rows))}.")
    if not found:
        raise InputError(f"{directory}: no number of these rows, measures and protocol.")
    return found


def paper_tables(group: SuiteGroup, choice: Choice) -> Iterator[tuple[str, str]]:
    """Yield a table for each task and stage of a setting that has a chosen number: its name and its LaTeX."""
    for task in group.run.spec.tasks:
        for stage, _, scores in staged_scores(group, task):
            rows = [row for row in scores.rows if row in choice.rows or not choice.rows]
            if (columns := _columns(scores, choice)) and rows:
                name = f"{group.label}-{task}{'' if stage == 'single' else f'-{stage}'}"
                name = name.replace("_", "-").replace(" ", "-")
                table = _table(group, scores, columns, rows, intervals=choice.intervals)
                caption = _caption(group, (task, stage), columns, table, choice)
                lines = [*(f"% {line}" for line in _sources(group)), *floated(caption, [table], f"tab:{name}"), ""]
                yield name, "\n".join(lines)


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
