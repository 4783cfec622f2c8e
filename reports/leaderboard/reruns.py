"""The record of a repetition: a file beside a submission that says how far a sample of it came out the same again.

`leaderboard rerun` writes it after it has computed the sample (`benchmark.run.rerun`). It is of one content of the
submission: the sha256 of the manifest, which has that of every other file. Anybody can write such a file, so it is
worth as much as the review of the folder that holds it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from instructedit.benchmark.results.integrity import key_of
from instructedit.benchmark.results.records import FileRecord, RunFile, digest_of, read_record
from instructedit.benchmark.results.run_folder import RunFolder, differences, write_record
from instructedit.editors.errors import InputError

from .agreement import Agreement, agreement
from .archive import MANIFEST, digest
from .findings import listed
from .validate import Verdict

SUFFIX = ".rerun.json"


class Rerun(FileRecord):
    """`SUBMISSION.rerun.json`."""

    submission: str
    """sha256 of its manifest."""
    date: str
    version: str
    """Of the program that computed the sample, with its commit."""
    device: str
    seed: int
    """Of the choice of the sample."""
    cases: dict[str, tuple[str, ...]]
    """Ids of the sampled cases by run."""
    changes: tuple[str, ...]
    """What numbers may depend on and is not as in the submission, e.g. the device; none: equal bytes are expected."""
    identical: int
    """Lines with equal bytes."""
    rows: dict[str, Agreement]
    """By row, over all sampled runs."""
    content: str = ""
    """Digest of all other fields."""

    @property
    def total(self) -> Agreement:
        """Agreement over all rows."""
        return sum(self.rows.values(), Agreement())

    @property
    def agrees(self) -> bool:
        """Whether every row agrees."""
        return all(row.agrees for row in self.rows.values())

    def __str__(self) -> str:
        """Return what was found in a sentence."""
        count, day = sum(map(len, self.cases.values())), self.date.partition("T")[0]
        text = f"{count} cases were run again on {day} by version {self.version} on {self.device}: {self.total}"
        if wrong := [f"{name} ({row})" for name, row in self.rows.items() if not row.agrees]:
            text += f"; too few of {', '.join(wrong)}"
        return f"{text}."


def place_of(submission: Path) -> Path:
    """Return the file of the record of a submission."""
    return submission.with_name(submission.name + SUFFIX)


def compare_rerun(verdict: Verdict, folders: Mapping[str, Path], seed: int) -> Rerun:
    """Compare new runs of a submission's cases, in a folder for each digest, with its lines.

    Raises:
        InputError: If a new run cannot be read.
    """
    rows: dict[str, Agreement] = {}
    cases, changes, identical, origin = {}, dict[str, None](), 0, None
    for run, folder in folders.items():
        file = read_record(folder / "run.json", RunFile)
        origin = file.provenance
        changes |= dict.fromkeys(differences(verdict.runs[run].provenance, origin))
        ours = {key_of(line): line for line in RunFolder(folder).records(file)}
        cases[run] = tuple(sorted({key.case for key in ours}))
        theirs = [line for line in verdict.records(run) if key_of(line) in ours]
        identical += sum(ours[key_of(line)] == line for line in theirs)
        for name, row in agreement(ours, theirs).items():
            rows[name] = rows.get(name, Agreement()) + row
    assert origin is not None
    found = Rerun(
        submission=digest(verdict.archive, MANIFEST),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        version=f"{origin.version} (git {origin.git_revision or 'unknown'})",
        device=origin.device,
        seed=seed,
        cases=cases,
        changes=tuple(changes),
        identical=identical,
        rows=rows,
    )
    return found.model_copy(update={"content": digest_of(found, {"content"})})


def write_rerun(found: Rerun, submission: Path) -> Path:
    """Write the record beside its submission, in place of an earlier one.

    Raises:
        StorageError: If it cannot be written.
    """
    return write_record(place_of(submission), found)


def read_rerun(verdict: Verdict) -> tuple[Rerun | None, str | None]:
    """Return the record beside an accepted submission, or a sentence why it is ignored; neither if there is none."""
    path = place_of(verdict.path)
    if not path.exists():
        return None, None
    try:
        found = read_record(path, Rerun)
    except InputError as error:
        why = str(error).removeprefix(f"{path}: ").removesuffix(".")
    else:
        ours = digest(verdict.archive, MANIFEST)
        if found.content != digest_of(found, {"content"}):
            why = "it was changed after it was written, its content has another digest than recorded"
        elif found.submission != ours:
            why = f"it is of a submission with the manifest {found.submission[:12]}, this one has {ours[:12]}"
        elif not found.rows or any(
            row.lines == 0 or row.equal_answers > row.answers or row.equal_scores > row.scores
            for row in found.rows.values()
        ):
            why = "it compares no line, or has more equal answers or scores than it compared"
        elif unknown := found.cases.keys() - verdict.runs.keys():
            why = f"it is of runs that the submission does not have, {listed(unknown)}"
        else:
            return found, None
    return None, f"{path.name} is ignored: {why}."
