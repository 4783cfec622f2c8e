"""From a results folder to a submission: the files of its runs, and a manifest that says what they are."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from instructedit.benchmark.results.checkpoint import RECORD
from instructedit.benchmark.results.guard import Admission
from instructedit.benchmark.results.records import CaseRecord, RunFile, find_run, parse_record
from instructedit.benchmark.results.resources import ChunkTime, Usage
from instructedit.benchmark.results.suite_results import find_suite
from instructedit.editors.errors import InputError

from ..tables.sources import load
from .archive import MANIFEST, compress, write
from .base import BaseReader
from .manifest import Manifest, PackedFile, RunEntry, entry_of

L = TypeVar("L", ChunkTime, Usage)

WEIGHTS = "state.safetensors"
"""The trained network in the folder of its checkpoint."""


def pack(
    directory: Path,
    out: Path,
    *,
    name: str,
    authors: Sequence[str],
    notes: str = "",
    checkpoints: Path | None = None,
) -> Manifest:
    """Pack a run, or all runs of a suite, as a submission. The same files give the same bytes.

    Args:
        directory: A run's folder, the folder of all runs, or a suite in it.
        out: A new file, if its name ends in `.zip`, or a new folder.
        name: Name of the submission.
        authors: Who made it.
        notes: What they want to say.
        checkpoints: Folder of trained editors; by default `checkpoints` beside the runs.

    Raises:
        InputError: If a run is not finished or a file of it cannot be read, or the submission cannot be written.
    """
    if not name.strip() or not authors or not all(author.strip() for author in authors):
        raise InputError("A submission needs a name and its authors; an empty one was given.")
    files: dict[str, bytes] = {}
    entries = []
    for folder in _folders(directory):
        entry, own = _run(folder, checkpoints or folder.parent / "checkpoints")
        entries.append(entry)
        files |= own
    manifest = Manifest(
        name=name.strip(),
        authors=tuple(author.strip() for author in authors),
        notes=notes.strip(),
        runs=tuple(sorted(entries, key=lambda entry: entry.digest)),
        files={
            name: PackedFile(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
            for name, content in sorted(files.items())
        },
    )
    write({**files, MANIFEST: _json(manifest)}, out)
    return manifest


def _json(record: BaseModel) -> bytes:
    return (record.model_dump_json(indent=1) + "\n").encode()


def _folders(directory: Path) -> list[Path]:
    suite = find_suite(directory)
    if suite is None:
        return [find_run(directory)]
    out, index = suite
    return [out / digest for digest in dict.fromkeys(run.digest for run in index.runs)]


def _run(folder: Path, checkpoints: Path) -> tuple[RunEntry, dict[str, bytes]]:
    run, _ = load(folder)
    base, admission = BaseReader(run), Admission(run)
    records = _bytes(folder / "cases.jsonl")
    for number, line in enumerate(records.splitlines(), start=1):
        place = f"{folder / 'cases.jsonl'}, line {number}"
        base.take(admission.checked(parse_record(line, CaseRecord, place), place))
    times = _bytes(folder / "timings.jsonl")
    usage = _bytes(folder / "usage.jsonl") if (folder / "usage.jsonl").is_file() else None
    place = f"runs/{run.digest}"
    files = {
        f"{place}/run.json": _bytes(folder / "run.json"),
        f"{place}/summary.json": _bytes(folder / "summary.json"),
        f"{place}/cases.jsonl.gz": compress(records),
        f"{place}/timings.jsonl.gz": compress(times),
    }
    if usage is not None:
        files[f"{place}/usage.jsonl.gz"] = compress(usage)
    entry = entry_of(
        run,
        base.passes(),
        [parse_line(line, ChunkTime, str(folder / "timings.jsonl")) for line in times.splitlines()],
        [parse_line(line, Usage, str(folder / "usage.jsonl")) for line in (usage or b"").splitlines()],
        _weights(run, checkpoints),
    )
    return entry, files


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); a finished run has this file.") from error


def parse_line(line: bytes, kind: type[L], place: str) -> L:
    """Read a line of `timings.jsonl` or `usage.jsonl`.

    Raises:
        InputError: If it is none.
    """
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{place}: field '{key}': {first['msg']}.") from error


def _weights(run: RunFile, checkpoints: Path) -> dict[str, str]:
    """Return the sha256 of the trained networks that are on this machine, by checkpoint."""
    found = {}
    for name in sorted({row.training.checkpoint for row in run.spec.editors if row.training}):
        folder = checkpoints / name
        if (folder / RECORD).is_file() and (folder / WEIGHTS).is_file():
            with (folder / WEIGHTS).open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
