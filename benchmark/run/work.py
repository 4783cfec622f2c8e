"""A run that is being computed: which lines are missing, chunks of cases, and the lines of a finished chunk."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from instructedit.editors import EditCase, Editor, EditRequest, InputError, LanguageModel

from ..results.earlier import Earlier
from ..results.integrity import Key, key_of
from ..results.records import CaseRecord, RunFile, RunSpec
from ..results.resources import ChunkTime
from ..results.run_folder import RunFolder
from ..scoring.scoring import score_chunk
from ..setup.resolve import ResolvedRun, requests_of
from ..setup.settings import RowSpec
from .accumulated import AccumulatedEdit
from .out_of_memory import in_halves, is_exhausted, reason
from .progress import Progress

Lines = tuple[list[CaseRecord], list[ChunkTime]]
Score = Callable[[Sequence[EditCase], Sequence[RowSpec]], Lines]
"""Edits and scores some cases in some rows."""


@dataclass(frozen=True, slots=True)
class Work:
    """A run that is being computed: its trained editors by row, its folder, its lines on disk and other runs'."""

    model: LanguageModel
    run: ResolvedRun
    file: RunFile
    editors: Mapping[str, Editor[Any]]
    store: RunFolder
    done: set[Key]
    report: Callable[[str], None]
    progress: Progress
    earlier: Earlier = field(default_factory=Earlier)

    @property
    def spec(self) -> RunSpec:  # noqa: D102
        return self.file.spec

    @property
    def scoring(self) -> dict[str, Any]:
        """The arguments of scoring that all chunks have in common."""
        spec = self.spec
        return {
            "run": self.file.digest,
            "probes": self.run.probes,
            "seed": spec.seed,
            "generation": spec.generation,
            "fluency": spec.fluency,
        }

    def requests(self, row: RowSpec, cases: Sequence[EditCase]) -> list[EditRequest]:
        """Return the requests of cases as a row's editor receives them."""
        return requests_of(row.instruction, self.run.bank, cases, self.spec.seed)

    def lacks(self, row: RowSpec, cases: Sequence[EditCase], stage: str) -> bool:
        """Tell whether a line of these cases is missing, of those whose task the row evaluates."""
        keys = (Key(case.request.case_id, row.name, stage) for case in cases if case.request.task in row.tasks)
        return any(key not in self.done for key in keys)

    def unfinished_rows(self, cases: Sequence[EditCase], stage: str) -> list[RowSpec]:
        """Return the rows that lack a line of these cases."""
        return [row for row in self.run.rows if self.lacks(row, cases, stage)]

    def compute(self, cases: Mapping[str, Sequence[EditCase]], stage: str, score: Score) -> None:
        """Compute the missing lines of each task's cases in chunks.

        A chunk is computed as a whole even if some of its lines exist: which cases share a pass must not depend on a
        kill. Rows may be left out, since they share nothing but the passes of the unedited model. If memory runs out,
        a chunk is computed in halves, whose numbers are equal up to the rounding of another packing.

        Raises:
            InputError: If memory runs out for a half.
        """
        for task, own in cases.items():
            self.progress.task(task)
            for first in range(0, len(own), self.spec.chunk):
                chunk = own[first : first + self.spec.chunk]
                if rows := self.unfinished_rows(chunk, stage):
                    self._in_halves(chunk, rows, stage, score)

    def _in_halves(self, chunk: Sequence[EditCase], rows: Sequence[RowSpec], stage: str, score: Score) -> None:
        try:
            in_halves(chunk, lambda part: self.write(*score(part, rows)), self.report)
        except Exception as error:
            if not is_exhausted(error):
                raise
            half = (len(chunk) + 1) // 2
            raise InputError(
                f"out of memory on {self.model.device} ({reason(error)}), with {half} cases at a time too (chunk = "
                f"{self.spec.chunk}, passes of {self.model.pack_tokens} tokens); a smaller 'chunk', fewer rows, a "
                "smaller dtype or model, or a machine with more memory is needed. What is finished is on disk."
            ) from None

    def score(self, cases: Mapping[str, Sequence[EditCase]], stage: str, edits: Mapping[str, AccumulatedEdit]) -> None:
        """Score cases of each task that lack a line, each row under its one edit."""

        def under_edits(part: Sequence[EditCase], rows: Sequence[RowSpec]) -> Lines:
            made = {row.name: edits[row.name].made(self.requests(row, part)) for row in rows}
            return score_chunk(self.model, part, made, stage=stage, **self.scoring)

        self.compute(cases, stage, under_edits)

    def write(self, records: Sequence[CaseRecord], timings: Sequence[ChunkTime]) -> None:
        """Append the missing ones of the lines of a chunk of one task."""
        new = [record for record in records if key_of(record) not in self.done]
        self.store.append(new, timings)
        self.done.update(map(key_of, new))
        self.progress.add(len(new))
