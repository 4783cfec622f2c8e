"""A table by its name."""

from collections.abc import Sequence
from pathlib import Path

from instructedit.editors.errors import InputError

from ..render.sheet import Sheet
from .entries import SETTINGS
from .paper import paper_table
from .protocol_choice import protocol_for
from .run_tables import TABLES, run_table
from .sources import Choice, read_groups, read_runs


def make_table(
    name: str,
    directories: Sequence[Path],
    protocol: str | None = None,
    schedule: str | None = None,
    settings: tuple[str, ...] | None = None,
) -> Sheet:
    """Make a table from result files.

    Args:
        name: One of the paper's tables (`paper:table3`), or a table of runs: `tasks`, `subsets` or `protocols`.
        directories: Folders of runs, or of a run, or indices of suites.
        protocol: How answers are read, one of `reading.CHOICES`; None for exact match under teacher forcing.
        schedule: Which schedule; None for `single` of a folder of several runs.
        settings: Only runs of these settings.

    Raises:
        InputError: If there is no such table, protocol, or run, or the runs may not stand side by side.
    """
    if name not in (*SETTINGS, *TABLES):
        raise InputError(f"'{name}' is no table; one of {', '.join((*SETTINGS, *TABLES))} was expected.")
    protocol_for(protocol or "teacher_forced_exact", "reliability", attitude=False)
    if name in TABLES:
        return run_table(name, read_runs(directories, Choice(settings, schedule)), protocol)
    if settings is not None:
        raise InputError(f"--setting: {name} is made of {' and '.join(SETTINGS[name])}; no choice was expected.")
    groups, warnings = read_groups(directories, Choice(SETTINGS[name], schedule))
    return paper_table(name, groups, protocol or "teacher_forced_exact", warnings)
