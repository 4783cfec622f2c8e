"""Own facts: a file read into edit cases, with what was understood of each row."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from instructedit.editors import EditCase, InputError

from ...results.records import TaskData
from ..audit import NO_SUBJECT, OTHER_TARGET, REPEATED_RECORD, repeated_edits
from ..base import TASKS, TaskCases
from ..fact_columns import COLUMNS, Columns, columns
from ..parse import TABLES
from .files import read_file
from .row import SAME_AS_OLD, FactRow, read_row

VERSION = "facts-1"
"""Version of the reader; a change that changes cases changes it."""
SOURCE = "file"
"""`TaskData.source` of own facts."""


@dataclass(frozen=True, slots=True)
class Facts:
    """A file of facts, and the task that its cases are of.

    `unread` has the number of rows with a column that is not read, by its name; `empty` that of rows without any text,
    which are left out.
    """

    path: Path
    task: str
    sha256: str
    layout: str
    columns: Columns
    unread: Mapping[str, int]
    rows: tuple[FactRow, ...]
    empty: int = 0

    @property
    def errors(self) -> tuple[str, ...]:
        """A sentence on each row that cannot be read; the file is usable if there is none."""
        return tuple(row.error for row in self.rows if row.error is not None)

    @property
    def cases(self) -> tuple[EditCase, ...]:
        """The cases of all rows that can be read."""
        return tuple(row.case for row in self.rows if row.case is not None)

    @property
    def counts(self) -> dict[str, int]:
        """What was left out, derived or found odd, by reason."""
        found = sum((row.counts for row in self.rows), Counter[str]())
        found.update({f"column '{name}' not read": count for name, count in self.unread.items()})
        if self.empty:
            found["row left out: empty"] = self.empty
        return dict(sorted(found.items()))

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on the file as a whole: columns that are not read, oddities, the name of the task."""
        notes = []
        if self.columns.unread:
            named = (f"'{name}'{f' ({hint})' if hint else ''}" for name, hint in self.columns.unread.items())
            known = (
                f"; the columns that are read are {', '.join(COLUMNS)}" if not all(self.columns.unread.values()) else ""
            )
            notes.append(f"{self.path} has columns that are not read: {', '.join(named)}{known}.")
        kinds = {OTHER_TARGET, REPEATED_RECORD, NO_SUBJECT, SAME_AS_OLD}
        if odd := [f"{text.partition(': ')[2]} ({n})" for text, n in self.counts.items() if text in kinds]:
            notes.append(f"{self.path}: {'; '.join(odd)}. `instructedit facts check` lists them by row.")
        if (plain := _plain_name(self.path)) != self.task:
            notes.append(f"{self.path}: there is a task '{plain}' already, so the facts are the task '{self.task}'.")
        return tuple(notes)


def facts_task(path: str | Path) -> str:
    """Return the name of the task that the facts of a file are: its stem in lower case, with `-` for other signs.

    Where a registered task has that name, `-facts` is appended.
    """
    name = _plain_name(path)
    return f"{name}-facts" if name in TASKS else name


def read_facts(path: str | Path) -> Facts:
    """Read a file of own facts: CSV, TSV, Parquet, JSON or JSON lines.

    Rows that cannot be read are kept with their error, so that all of them can be shown at once.

    Raises:
        InputError: If the file cannot be read or is broken, or has no column for prompt or target.
    """
    path = Path(path)
    file = read_file(path)
    names = dict.fromkeys(name for row in file.rows for name in row.fields)
    found = columns(names, str(path))
    task, split_bars = facts_task(path), path.suffix.lower() in TABLES
    rows = tuple(read_row(row, found, task, split_bars=split_bars) for row in file.rows)
    good = [(row, row.case) for row in rows if row.case is not None]
    for number, kind, first in repeated_edits([case for _, case in good]):
        other, case = good[first]
        same = f"the same fact as row {other.index}"
        contrary = f"contradicts row {other.index}, whose target is '{case.request.target}'"
        good[number][0].note(kind, same if kind == REPEATED_RECORD else contrary)
    unread = {name: sum(name in row.fields for row in file.rows) for name in found.unread}
    return Facts(path, task, file.sha256, file.layout, found, unread, rows, file.empty)


def load_facts(path: str | Path) -> TaskCases:
    """Return the cases of a file of own facts as those of a task; `InputError` on the first row that cannot be read."""
    facts = read_facts(path)
    if errors := facts.errors:
        more = f" {len(errors) - 1} more rows cannot be read: `instructedit facts check {path}`." if errors[1:] else ""
        raise InputError(errors[0] + more)
    data = TaskData(
        task=facts.task,
        version=VERSION,
        source=SOURCE,
        revision=None,
        sha256={facts.path.name: facts.sha256},
        licence="",
        citation="",
        rows=len(facts.rows) + facts.empty,
        cases=len(facts.cases),
        skipped=facts.counts,
    )
    return TaskCases(facts.cases, data, facts.notes)


def _plain_name(path: str | Path) -> str:
    return re.sub(r"[^a-z0-9]+", "-", Path(path).stem.casefold())[:60].strip("-") or "facts"
