"""A LaTeX file for each table and figure that results support, and a `main.tex` of all of them."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from instructedit.editors.errors import InputError

from ..figures.results import read_results
from ..figures.write import NOTES, write_figures
from ..render.formats import write_text
from ..render.latex import escape
from ..tables.build import summarise_folder
from .table import Choice, PaperTable, paper_tables

_FIGURE = r"""\begin{{figure}}[tp]
\centering
\includegraphics[width=\linewidth]{{figures/{name}.pdf}}
\caption{{{caption}}}
\label{{fig:{name}}}
\end{{figure}}
"""


def write_paper(directory: Path, out: Path, choice: Choice | None = None) -> tuple[list[Path], dict[str, str]]:
    """Write `tables/NAME.tex`, `figures/NAME.pdf` and `.tex`, and `main.tex`.

    The same results give the same bytes. `directory` is as `instructedit report` takes it.

    Returns:
        The `.tex` files, `main.tex` first, and by name a sentence for each figure that lacks data.

    Raises:
        InputError: If there are no readable results, nothing of them is chosen, or nothing can be written.
    """
    folder = summarise_folder(directory)
    tables = _tables(directory, choice or Choice())
    paths = [write_text(out / "tables" / f"{table.name}.tex", table.text, folder=True) for table in tables]
    drawn, without = write_figures(directory, out / "figures", formats=("pdf",))
    figures = []
    for path in (path for path in drawn if path.suffix == ".md"):
        caption, _, notes = path.read_text(encoding="utf-8").partition(f"\n{NOTES}\n")
        _, *paragraphs = caption.strip().split("\n\n")
        comments = "".join(f"% {line}\n" for line in notes.split("\n") if line)
        text = comments + _FIGURE.format(name=path.stem, caption=escape(" ".join(paragraphs)))
        figures.append(write_text(path.with_suffix(".tex"), text))
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        block_start_string=r"\BLOCK{",
        block_end_string="}",
        variable_start_string=r"\VAR{",
        variable_end_string="}",
        comment_start_string=r"\#{",
        comment_end_string="}",
        trim_blocks=True,
        autoescape=False,  # noqa: S701 - LaTeX, escaped by `escape`
        keep_trailing_newline=True,
    )
    main = templates.get_template("main.tex").render(
        title=f"Tables and figures of {escape(folder.name)}",
        tables=[table.name for table in tables],
        figures=[path.stem for path in figures],
    )
    return [write_text(out / "main.tex", main), *paths, *figures], without


def _tables(directory: Path, choice: Choice) -> list[PaperTable]:
    groups = read_results(directory).groups
    found = [table for group in groups for table in paper_tables(group, choice)]
    rows = {editor.name for group in groups for editor in group.run.spec.editors}
    for row in choice.rows:
        if row not in rows:
            raise InputError(f"--row: found '{row}', expected rows of the results: {', '.join(sorted(rows))}.")
    if not found:
        raise InputError(f"{directory}: no number of these rows, measures and protocol.")
    return found
