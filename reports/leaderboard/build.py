"""Build a site from a folder of submissions: each is validated first, the refused ones are listed with the reasons."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from instructedit.editors.errors import InputError

from .archive import MANIFEST, document, open_archive, write_folder
from .base_pass import reference_runs
from .entries import Submission, entries_of
from .findings import Findings
from .pages import pages
from .ranks import table_of
from .validate import Verdict, validate


@dataclass(frozen=True)
class Built:
    """What a site was built from.

    Attributes:
        accepted: Number of submissions on it.
        refused: Submissions with failed checks.
        tables: Number of tables.
    """

    accepted: int
    refused: tuple[Verdict, ...]
    tables: int


def build(folder: Path, out: Path, data: str | None = None, against: Path | None = None) -> Built:
    """Build a site from the zip files and folders of a folder, except those whose names begin with a dot.

    The same submissions give the same bytes.

    Args:
        folder: The submissions.
        out: Folder of the site; must not exist.
        data: See `validate`.
        against: See `validate`.

    Raises:
        InputError: If there is no submission, or the site cannot be written.
    """
    if out.exists():
        raise InputError(f"{out}: is there already; a site is written to a new folder.")
    references = tuple(reference_runs(against)) if against is not None else ()
    accepted: dict[str, Submission] = {}
    refused = []
    for path in _paths(folder):
        try:
            verdict = validate(path, data, references)
        except InputError as error:
            verdict = Verdict(path)
            verdict.findings.add(path.name, "content", "a readable submission", str(error).removesuffix("."))
        submission = _submission(verdict) if verdict.accepted else None
        if submission is not None and (known := accepted.get(submission.id)):
            verdict.findings.add(path.name, "manifest", "each submission once", f"'{known.manifest.name}' once more")
        elif submission is not None:
            accepted[submission.id] = submission
        if not verdict.accepted:
            refused.append(verdict)
    tables = {board: table_of(board, entries) for board, entries in entries_of(accepted.values()).items()}
    try:
        write_folder(dict(pages(tables, tuple(accepted.values()), tuple(refused))), out)
    except OSError as error:
        raise InputError(f"{error.filename or out}: the site cannot be written ({error.strerror}).") from error
    return Built(len(accepted), tuple(refused), len(tables))


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


def _submission(verdict: Verdict) -> Submission:
    archive = open_archive(verdict.path, Findings())
    assert archive is not None
    assert verdict.manifest is not None
    name = hashlib.sha256(document(archive, MANIFEST)).hexdigest()[:12]
    return Submission(name, verdict.manifest, archive, verdict.runs, tuple(verdict.findings.notes))
