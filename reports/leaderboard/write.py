"""From a folder of submissions to a site: each checked first, the refused ones listed with their reasons."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from instructedit.editors.errors import InputError
from instructedit.editors.files.atomic import whole_folder

from .archive import MANIFEST, document, open_archive
from .base import reference_runs
from .entries import Submission, entries_of
from .findings import Findings
from .pages import pages
from .ranks import table_of
from .validate import Verdict, validate


@dataclass(frozen=True, slots=True)
class Built:
    """What a site was made of.

    Attributes:
        accepted: Submissions on it.
        refused: Those that broke a law.
        tables: Its tables.
    """

    accepted: int
    refused: tuple[Verdict, ...]
    tables: int


def build(folder: Path, out: Path, data: str | None = None, against: Path | None = None) -> Built:
    """Make a site of the submissions in a folder: its zip files and its folders, those that begin with a dot aside.

    The same submissions give the same bytes.

    Args:
        folder: The submissions.
        out: Folder of the site; must not be there.
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
            verdict = Verdict(path, None, Findings())
            verdict.findings.add(path.name, "content", "a readable submission", str(error).removesuffix("."))
        submission = _submission(verdict) if verdict.accepted else None
        if submission is not None and (known := accepted.get(submission.id)):
            verdict.findings.add(path.name, "manifest", "each submission once", f"'{known.manifest.name}' once more")
            submission = None
        if submission is None:
            refused.append(verdict)
        else:
            accepted[submission.id] = submission
    tables = {board: table_of(board, entries) for board, entries in entries_of(accepted.values()).items()}
    _write(out, dict(pages(tables, tuple(accepted.values()), tuple(refused))))
    return Built(len(accepted), tuple(refused), len(tables))


def _paths(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; a folder of submissions was expected.")
    found = sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and (path.is_dir() or path.suffix.lower() == ".zip")
    )
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


def _write(out: Path, files: dict[str, bytes]) -> None:
    try:
        place = out.resolve()
        place.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(place) as part:
            for name, content in _safe(files):
                path = part / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    except OSError as error:
        raise InputError(f"{error.filename or out}: the site cannot be written ({error.strerror}).") from error


def _safe(files: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    for name in sorted(files):
        # Names are made of digests alone; this holds whoever changes that to it.
        assert ".." not in name, name
        assert not name.startswith("/"), name
        yield name, files[name]
