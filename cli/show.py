"""The command `show`: one case of a run."""

from pathlib import Path
from typing import Annotated

from typer import Argument


def show(
    directory: Annotated[Path, Argument(metavar="DIR", help="Folder of a run, or the folder of all runs.")],
    case: Annotated[str, Argument(metavar="CASE", help="Id of a case, e.g. counterfact/test/17.")],
) -> None:
    """Show one case: its prompts, and the model's answers before the edit and under each editor."""
    from rich.console import Console

    from instructedit.benchmark.results.records import find_run
    from instructedit.reports.tables.case import draw_case, load_case

    draw_case(load_case(find_run(directory), case), Console())
