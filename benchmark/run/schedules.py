"""The schedules of a run: what is edited together, and when it is scored.

| schedule | edit | stages |
| --- | --- | --- |
| `single` | each case by itself, on the clean model | `single` |
| `batch` | a joint edit of each batch of edited cases | `batch`: every case under that of its batch |
| `sequential` | edited cases one on top of the other | `after-edit`, `after-K`, `after-all` |

In `batch` and `sequential` the edited cases of all tasks make one stream, whose order follows from the seed and the
cases' ids: every row gets the same requests in the same order. A row is scored on the tasks it evaluates.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from tqdm import tqdm

from instructedit.editors import EditCase, Editor, EditRequest, InputError, LanguageModel

from ..results.guard import Key, key_of
from ..results.records import CaseRecord, RunFile, RunSpec, Schedule
from ..results.resources import ChunkTime
from ..results.run_folder import Store
from ..results.stages import AFTER_ALL, AFTER_EDIT, BATCH, SINGLE, after, batches, marks_of, place, scored
from ..scoring.scoring import Timing, run_chunk, score_chunk
from ..setup.resolve import Outline, requests_of
from ..setup.settings import RowSpec
from .exhausted import in_halves, is_exhausted, reason
from .sequential import Accumulated, is_damaged


@dataclass(frozen=True, slots=True)
class Work:
    """A run that is being computed.

    Attributes:
        model: The frozen model.
        outline: Rows and cases.
        file: What stands in `run.json`.
        editors: The editor of each row, all of them trained.
        store: The run's folder.
        done: Lines that are on disk.
        report: Takes sentences for the user.
        bar: Counts lines.
    """

    model: LanguageModel
    outline: Outline
    file: RunFile
    editors: Mapping[str, Editor[Any]]
    store: Store
    done: set[Key]
    report: Callable[[str], None]
    bar: "tqdm[Any]"

    @property
    def spec(self) -> RunSpec:
        """What decides the run's numbers."""
        return self.file.spec

    @property
    def common(self) -> dict[str, Any]:
        """What every chunk is scored with."""
        spec = self.spec
        return {
            "run": self.file.digest,
            "probes": self.outline.probes,
            "seed": spec.seed,
            "generation": spec.generation,
            "fluency": spec.fluency,
        }

    def requests(self, row: RowSpec, cases: Sequence[EditCase]) -> list[EditRequest]:
        """Return the requests of cases as a row's editor gets them."""
        return requests_of(row.instruction, self.outline.bank, cases, self.spec.seed)

    def lacks(self, row: RowSpec, cases: Sequence[EditCase], stage: str) -> bool:
        """Tell whether a line of these cases is missing."""
        return any(key not in self.done for key in _keys(row, cases, stage))

    def behind(self, cases: Sequence[EditCase], stage: str) -> list[RowSpec]:
        """Return the rows that lack a line of these cases."""
        return [row for row in self.outline.rows if self.lacks(row, cases, stage)]

    def chunks(
        self, cases: Mapping[str, Sequence[EditCase]], stage: str
    ) -> Iterator[tuple[Sequence[EditCase], list[RowSpec]]]:
        """Yield the chunks of which a line is missing, with the rows that miss it.

        A chunk is computed whole even where some of its lines exist: which cases share a pass must not depend on a
        kill. Rows may be left out, because they share nothing but what the unedited model says.
        """
        for task, own in cases.items():
            self.bar.set_description(task)
            for first in range(0, len(own), self.spec.chunk):
                part = own[first : first + self.spec.chunk]
                if rows := self.behind(part, stage):
                    yield part, rows

    def write(self, records: Sequence[CaseRecord], timings: Sequence[Timing], stage: str) -> None:
        """Append the lines of a chunk of one task that are missing."""
        new = [record for record in records if key_of(record) not in self.done]
        head = {"task": records[0].task, "stage": stage, "first_case": records[0].case_id}
        times = [
            ChunkTime(
                **head,
                editor=time.editor,
                cases=time.cases,
                edit_seconds=time.edit_seconds,
                score_seconds=time.score_seconds,
            )
            for time in timings
        ]
        self.store.append(new, times)
        self.done.update(map(key_of, new))
        self.bar.update(len(new))

    def divided(self, part: Sequence[EditCase], compute: Callable[[Sequence[EditCase]], None]) -> None:
        """Compute a chunk, or one half after the other where memory does not suffice for all of it.

        A case's numbers are equal in both up to the rounding of another packing; `timings.jsonl` shows the halves.

        Raises:
            InputError: If it does not suffice for a half.
        """
        try:
            in_halves(part, compute, self.report)
        except Exception as error:
            if not is_exhausted(error):
                raise
            half = (len(part) + 1) // 2
            raise InputError(
                f"out of memory on {self.model.device} ({reason(error)}), with {half} cases at a time too (chunk = "
                f"{self.spec.chunk}, passes of {self.model.pack_tokens} tokens); a smaller 'chunk', fewer rows, a "
                "smaller dtype or model, or a machine with more memory is needed. What is finished is on disk."
            ) from None

    def score(self, cases: Mapping[str, Sequence[EditCase]], stage: str, edits: Mapping[str, Accumulated]) -> None:
        """Score cases by task, each row under the one edit it has come to."""
        for chunk, rows in self.chunks(cases, stage):

            def compute(part: Sequence[EditCase], rows: Sequence[RowSpec] = rows) -> None:
                made = {row.name: edits[row.name].made(self.requests(row, part)) for row in rows}
                self.write(*score_chunk(self.model, part, made, stage=stage, **self.common), stage)

            self.divided(chunk, compute)


def single(work: Work) -> None:
    """Edit each case by itself, on the clean model, and score it."""
    for chunk, rows in work.chunks(work.outline.cases, SINGLE):

        def compute(part: Sequence[EditCase], rows: Sequence[RowSpec] = rows) -> None:
            found = run_chunk(
                work.model,
                part,
                {row.name: work.editors[row.name] for row in rows},
                requests={row.name: work.requests(row, part) for row in rows},
                **work.common,
            )
            work.write(*found, SINGLE)

        work.divided(chunk, compute)


def batch(work: Work) -> None:
    """Edit batch by batch, each on the clean model, and score its cases under it, some of other tasks too."""
    cases = {task: {case.request.case_id: case for case in own} for task, own in work.outline.cases.items()}
    every = {name: case for own in cases.values() for name, case in own.items()}
    told: dict[str, Accumulated] = {}  # what was edited in and what was not, in this start
    count = 0
    for carried, scored_under in batches(work.spec, {task: list(own) for task, own in cases.items()}):
        own = {task: [cases[task][name] for name in names] for task, names in scored_under.items()}
        stream = [every[name] for name in carried]
        rows = work.behind([case for some in own.values() for case in some], BATCH)
        edits = {row.name: _joint(work, row, stream, count) for row in rows}
        work.score(own, BATCH, edits)
        count += len(stream)
        for name, found in edits.items():
            total = told.setdefault(name, Accumulated())
            total.requests += found.requests
            total.failures |= found.failures
    for name, total in told.items():
        _tell(work, name, total)


def _joint(work: Work, row: RowSpec, stream: Sequence[EditCase], first: int) -> Accumulated:
    """Return the edit of a batch under a row: the one that is kept, or a new one, which then takes its place."""
    found = Accumulated.load(work.store.folder, row.name, work.model, work.report)
    if found is None or found.first != first:
        begun = perf_counter()
        requests = work.requests(row, stream)
        found = Accumulated.together(work.model, work.editors[row.name], requests, work.spec.seed, first)
        found.save(work.store.folder, row.name)
        time = ChunkTime(
            task=None,
            stage=BATCH,
            first_case=stream[0].request.case_id,
            editor=row.name,
            cases=len(stream),
            edit_seconds=perf_counter() - begun,
            score_seconds=0.0,
        )
        work.store.append([], [time])
    return found


def sequential(work: Work) -> None:
    """Edit the cases of the stream one on top of the other, and score along the way and at the end.

    Right after its edit each case is scored (`after-edit`); after `at` edits all cases edited so far; at the end all of
    them again, and the cases of the tasks that are never edited.
    """
    outline, spec = work.outline, work.spec
    stream = stream_of(outline, spec.seed)
    marks = marks_of(spec, len(stream))
    every = [case for cases in outline.cases.values() for case in cases]
    needed = [
        row
        for row in outline.rows
        if work.lacks(row, stream, AFTER_EDIT)
        or any(work.lacks(row, stream[:mark], after(mark)) for mark in marks)
        or work.lacks(row, every, AFTER_ALL)
    ]
    # the edits of a finished row stay for other programs
    needed += [row for row in outline.rows if row not in needed and is_damaged(work.store.folder, row.name, work.model)]
    edits = {row.name: _resumed(work, row, stream, marks) for row in needed}
    first = 0
    for stop in sorted({*range(spec.chunk, len(stream), spec.chunk), *marks, len(stream)}):
        going = [row for row in needed if edits[row.name].requests == first]
        _advance(work, going, edits, stream[first:stop])
        if stop in marks:
            so_far = {task: [case for case in stream[:stop] if case.request.task == task] for task in outline.edited}
            work.score(so_far, after(stop), edits)
        first = stop
    for row in needed:
        _tell(work, row.name, edits[row.name])
    work.score(outline.cases, AFTER_ALL, edits)


def _resumed(work: Work, row: RowSpec, stream: Sequence[EditCase], marks: Sequence[int]) -> Accumulated:
    """Return how far a row has come, or its beginning if a line is missing that only an earlier state could fill."""
    found = Accumulated.load(work.store.folder, row.name, work.model, work.report)
    if (
        found is None
        or work.lacks(row, stream[: found.requests], AFTER_EDIT)
        or any(work.lacks(row, stream[:mark], after(mark)) for mark in marks if mark < found.requests)
    ):
        return Accumulated()
    return found


def _advance(work: Work, rows: Sequence[RowSpec], edits: Mapping[str, Accumulated], cases: Sequence[EditCase]) -> None:
    """Take some cases of the stream into the edits of rows, and score each right after it was taken in."""
    if not rows:
        return
    requests = {row.name: work.requests(row, cases) for row in rows}
    for number, case in enumerate(cases):
        work.bar.set_description(case.request.task)
        made = {
            row.name: edits[row.name].take(
                work.model, work.editors[row.name], requests[row.name][number], work.spec.seed
            )
            for row in rows
        }
        lacking = {row.name: made[row.name] for row in rows if work.lacks(row, [case], AFTER_EDIT)}
        if lacking:
            work.write(*score_chunk(work.model, [case], lacking, stage=AFTER_EDIT, **work.common), AFTER_EDIT)
    # Behind the lines: a state that is ahead of them could not fill them.
    for row in rows:
        edits[row.name].save(work.store.folder, row.name)


def _tell(work: Work, row: str, edits: Accumulated) -> None:
    if edits.failures:
        reason = next(iter(edits.failures.values()))
        work.report(
            f"{row}: {len(edits.failures)} of {edits.requests} requests could not be edited in; the first: {reason}"
        )


def stream_of(outline: Outline, seed: int) -> list[EditCase]:
    """Return the edited cases of all tasks, ordered by the sha256 of seed and id."""
    cases = [case for task in outline.edited for case in outline.cases[task]]
    return sorted(cases, key=lambda case: place(case.request.case_id, seed))


def lines(outline: Outline, spec: RunSpec) -> int:
    """Return the number of lines that a finished run has."""
    stages = scored(spec, {task: [case.request.case_id for case in own] for task, own in outline.cases.items()})
    tasks = [task for row in outline.rows for task in row.tasks]
    return sum(len(cases.get(task, ())) for cases in stages.values() for task in tasks)


def _keys(row: RowSpec, cases: Sequence[EditCase], stage: str) -> Iterator[Key]:
    """Yield the lines that a row has of some cases: of those whose task it evaluates."""
    return (Key(case.request.case_id, row.name, stage) for case in cases if case.request.task in row.tasks)


SCHEDULES: dict[Schedule, Callable[[Work], None]] = {"single": single, "batch": batch, "sequential": sequential}
