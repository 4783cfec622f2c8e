"""Lines of finished runs that another run would compute to the same bytes, taken over instead.

Under the schedule `single` a line depends on its case, its row, and the cases of its chunk, which decide the rounding.
So a chunk is taken over if a finished run in the same folder has it whole, for the same row, on the same data and
model, made with the same versions on the same device. Runs that differ in `limit`, in their rows or in their tasks
share chunks, because the cases of a smaller limit are the first of a larger one's (`tasks.sampling.nested`).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

from instructedit.editors.errors import InputError

from .integrity import Key, read_finished, read_run
from .records import CaseRecord, EditorSpec, RunFile, RunSpec, digest_of, run_folders
from .resources import ChunkTime
from .run_folder import RunFolder, differences
from .stages import SINGLE


class _Chunk(NamedTuple):
    store: RunFolder
    offsets: tuple[int, ...]
    """Of its lines in that file, in bytes."""
    time: ChunkTime


@dataclass(slots=True)
class Earlier:
    """The chunks of a run that other runs have, by row and ids of their cases."""

    digest: str = ""
    """Of the run that takes them over."""
    counts: dict[str, int] = field(default_factory=dict)
    """Number of lines by the digest of the run that has them."""
    _chunks: dict[tuple[str, tuple[str, ...]], _Chunk] = field(default_factory=dict)

    @classmethod
    def find(
        cls,
        out: Path,
        run: RunFile,
        cases: Mapping[str, Sequence[str]],
        report: Callable[[str], None] = lambda _: None,
        among: Collection[str] | None = None,
    ) -> Self:
        """Look up the chunks of a run in the finished runs of a folder, or in those whose digests are `among`.

        `cases` has the ids of each task's cases, in the order in which they are cut into chunks; `report` receives a
        sentence on each run that has such lines and cannot be used.
        """
        found = cls(run.digest)
        if run.spec.schedule != "single":
            return found
        size = run.spec.chunk
        chunks = {task: [tuple(ids[at : at + size]) for at in range(0, len(ids), size)] for task, ids in cases.items()}
        for folder in run_folders(out):
            if folder.name != run.digest and (among is None or folder.name in among):
                found._add(folder, run, chunks, report)
        return found

    def _add(
        self, folder: Path, run: RunFile, chunks: Mapping[str, Sequence[tuple[str, ...]]], report: Callable[[str], None]
    ) -> None:
        try:
            if not (folder / "summary.json").is_file() or not (shared := _shared(read_run(folder / "run.json"), run)):
                return
            other, summary = read_finished(folder)
            if not summary.valid:
                return
            if changes := differences(other.provenance, run.provenance):
                report(f"note: results of run {other.digest} are not taken over, it was made with {changes[0]}.")
                return
            store = RunFolder(folder)
            offsets = store.offsets(other)
            lines_of_times = store.timings.read_text(encoding="utf-8").splitlines()
            measured = map(ChunkTime.model_validate_json, lines_of_times)
            # which cases shared a pass is known by the first one and their number
            times = {(t.editor, t.first_case, t.cases): t for t in measured if t.stage == SINGLE}
        except (InputError, OSError, ValueError):
            return  # what is wrong with another run does not concern this one
        for row, task in shared:
            order = [key.case for key in offsets if key.editor == row]
            at = {case: number for number, case in enumerate(order)}
            for chunk in chunks.get(task, ()):
                first = at.get(chunk[0], len(order))
                time = times.get((row, chunk[0], len(chunk)))
                if time is None or tuple(order[first : first + len(chunk)]) != chunk or (row, chunk) in self._chunks:
                    continue
                places = tuple(offsets[Key(case, row, SINGLE)] for case in chunk)
                time = time.model_copy(update={"run": time.run or other.digest})
                self._chunks[row, chunk] = _Chunk(store, places, time)
                self.counts[other.digest] = self.counts.get(other.digest, 0) + len(chunk)

    def take(self, row: str, cases: Sequence[str]) -> tuple[list[CaseRecord], ChunkTime] | None:
        """Return the lines of a chunk under a row as this run's own, and their time; None if no run has them."""
        found = self._chunks.get((row, tuple(cases)))
        if found is None:
            return None
        try:
            records = found.store.read(found.offsets)
        except InputError:  # removed or replaced since; it is computed
            return None
        return [record.model_copy(update={"run": self.digest}) for record in records], found.time


def _shared(other: RunFile, run: RunFile) -> list[tuple[str, str]]:
    theirs, ours = other.spec, run.spec
    if theirs.schedule != SINGLE or (None not in (theirs.joints, ours.joints) and theirs.joints != ours.joints):
        return []
    rows = {row.name: row for row in theirs.editors}
    return [
        (row.name, task)
        for row in ours.editors
        for task in ours.tasks
        if row.evaluates(task)
        and task in theirs.tasks
        and (other_row := rows.get(row.name)) is not None
        and other_row.evaluates(task)
        and _deciding(theirs, task, other_row) == _deciding(ours, task, row)
    ]


def _deciding(spec: RunSpec, task: str, row: EditorSpec) -> str:
    """Return the digest of what decides the lines of a row on a task; every field counts that is not left out here."""

    def of_task(fields: Mapping[str, object]) -> dict[str, object]:
        return {name: value for name, value in fields.items() if name == task}

    left_out = {"setting": "", "tasks": (task,), "limit": None, "edited": None, "joints": None}
    own = {name: of_task(getattr(spec, name)) for name in ("data", "readers", "task_options")}
    bank = {} if row.instruction else {"instructions": None}
    editors = (row.model_copy(update={"tasks": None}),)
    return digest_of(spec.model_copy(update={**left_out, **own, **bank, "editors": editors}))
