"""Build a site from a folder of submissions: each is validated first, the refused ones are listed with the reasons."""

from pathlib import Path
from typing import NamedTuple

from instructedit.editors.errors import InputError

from .agreement import find_contradictions
from .archive import write_folder
from .entries import entries_of
from .pages import pages
from .ranks import table_of
from .reruns import read_rerun
from .validate import Verdict, reference_runs, validate


class Built(NamedTuple):
    """What a site was built from."""

    accepted: int
    """Number of submissions on it."""
    refused: tuple[Verdict, ...]
    tasks: int
    """Number of pages of a task."""
    remarks: tuple[str, ...] = ()
    """Sentences on records of re-runs that are ignored, and on submissions that contradict each other."""


def build(folder: Path, out: Path, data: str | None = None, against: Path | None = None) -> Built:
    """Build a site from the zip files and folders of a folder, except those whose names begin with a dot.

    The same submissions give the same bytes. `data` and `against` are as `validate` takes them.

    Raises:
        InputError: If there is no submission, `out` exists, or the site cannot be written.
    """
    if out.exists():
        raise InputError(f"{out}: is there already; a site is written to a new folder.")
    references = tuple(reference_runs(against)) if against is not None else ()
    accepted: dict[str, Verdict] = {}
    refused = []
    for path in _paths(folder):
        try:
            verdict = validate(path, data, references)
        except InputError as error:
            verdict = Verdict(path)
            verdict.findings.add(path.name, "content", "a readable submission", str(error).removesuffix("."))
        if verdict.accepted and verdict.id in accepted:
            verdict.findings.add(path.name, "manifest", "each submission once", f"'{verdict.author[0]}' once more")
        if verdict.accepted:
            accepted[verdict.id] = verdict
        else:
            refused.append(verdict)
    remarks = []
    for verdict in accepted.values():
        verdict.rerun, ignored = read_rerun(verdict)
        if ignored is not None:
            verdict.findings.note(ignored)
            remarks.append(ignored)
    find_contradictions(tuple(accepted.values()))
    remarks += [f"{v.path.name}: {sentence}" for v in accepted.values() for sentence in v.contradictions]
    tables = {board: table_of(board, entries) for board, entries in entries_of(accepted.values()).items()}
    files = dict(pages(tables, tuple(accepted.values()), tuple(refused)))
    try:
        write_folder(files, out)
    except OSError as error:
        raise InputError(f"{error.filename or out}: the site cannot be written ({error.strerror}).") from error
    tasks = sum(name.startswith("tasks/") and name.endswith(".html") for name in files)
    return Built(len(accepted), tuple(refused), tasks, tuple(remarks))


def _paths(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; a folder of submissions was expected.")
    found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    found = [path for path in found if path.is_dir() or path.suffix.lower() == ".zip"]
    if not found:
        raise InputError(
            f"{folder}: no submission in it; zip files or folders that `leaderboard pack` made were expected."
        )
    return found
