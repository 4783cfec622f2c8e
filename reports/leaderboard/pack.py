"""Pack a results folder as a submission: the files of its runs, and a manifest that describes them."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import TypeVar

from instructedit.benchmark.results.checkpoint import RECORD
from instructedit.benchmark.results.integrity import read_finished
from instructedit.benchmark.results.records import Record, RunFile, check_fields, find_run
from instructedit.benchmark.results.resources import ChunkTime, Usage
from instructedit.benchmark.results.run_folder import RunFolder, record_text
from instructedit.benchmark.results.suite_results import find_suite
from instructedit.editors.errors import InputError
from instructedit.editors.files.jsonfile import parse_json

from .archive import MANIFEST, compress, write
from .base_pass import BaseReader
from .manifest import Manifest, PackedFile, RunEntry, entry_of

L = TypeVar("L", bound=Record)
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

    `directory` is a run's folder, the folder of all runs, or a suite in it; `out` a new zip file, or a new folder;
    `checkpoints` the folder of trained editors, by default `checkpoints` beside the runs.

    Raises:
        InputError: If a run is not finished or a file of it cannot be read, or the submission cannot be written.
    """
    if not name.strip() or not authors or not all(author.strip() for author in authors):
        raise InputError("A submission needs a name and its authors; an empty one was given.")
    suite = find_suite(directory)
    folders = [suite[0] / run.digest for run in suite[1].runs] if suite else [find_run(directory)]
    files: dict[str, bytes] = {}
    entries = []
    for folder in dict.fromkeys(folders):
        entry, of_run = _pack_run(folder, checkpoints or folder.parent / "checkpoints")
        entries.append(entry)
        files |= of_run
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
    write({**files, MANIFEST: (manifest.model_dump_json(indent=1) + "\n").encode()}, out)
    return manifest


def _pack_run(folder: Path, checkpoints: Path) -> tuple[RunEntry, dict[str, bytes]]:
    run, _ = read_finished(folder)
    if run.spec.rescored is not None:
        raise InputError(f"{folder}: holds rescored answers; expected the run they are from, {run.spec.rescored.run}.")
    contents = {}
    for name in ("run.json", "summary.json", "cases.jsonl", "timings.jsonl", "usage.jsonl"):
        try:
            contents[name] = (folder / name).read_bytes()
        except OSError as error:
            raise InputError(
                f"{folder / name}: cannot be read ({error.strerror}); a finished run has this file."
            ) from error
    program, *words = run.provenance.command or [""]
    if PurePath(program).is_absolute():
        # Where the program lies on this machine is nobody's business.
        origin = run.provenance.model_copy(update={"command": ["instructedit", *words]})
        contents["run.json"] = record_text(run.model_copy(update={"provenance": origin})).encode()
    entry = entry_of(
        run,
        BaseReader(run, RunFolder(folder).records(run)).passes(),
        parse_lines(enumerate(contents["timings.jsonl"].splitlines(), 1), ChunkTime, f"{folder / 'timings.jsonl'}, "),
        parse_lines(enumerate(contents["usage.jsonl"].splitlines(), 1), Usage, f"{folder / 'usage.jsonl'}, "),
        _weights(run, checkpoints),
    )
    home = f"runs/{run.digest}"
    lines = {f"{home}/{name}.gz": compress(text) for name, text in contents.items() if name.endswith(".jsonl")}
    return entry, lines | {f"{home}/{name}": text for name, text in contents.items() if name.endswith(".json")}


def parse_lines(numbered: Iterable[tuple[int, bytes]], kind: type[L], place: str = "") -> list[L]:
    """Parse the numbered lines of `timings.jsonl` or `usage.jsonl`.

    Raises:
        InputError: If a line is invalid; the message begins with `place`.
    """
    places = ((f"{place}line {number}", line) for number, line in numbered)
    return [check_fields(parse_json(line, where), kind, where) for where, line in places]


def _weights(run: RunFile, checkpoints: Path) -> dict[str, str]:
    """Return the sha256 of the trained networks that are on this machine, by checkpoint."""
    found = {}
    for name in sorted({row.training.checkpoint for row in run.spec.editors if row.training}):
        folder = checkpoints / name
        if (folder / RECORD).is_file() and (folder / WEIGHTS).is_file():
            with (folder / WEIGHTS).open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
