"""The schedules of a run: which cases are edited together, and when they are scored.

| schedule | edit | stages |
| --- | --- | --- |
| `single` | each case alone, on the clean model | `single` |
| `batch` | a joint edit of each batch of edited cases | `batch`: every case under the edit of its batch |
| `sequential` | edited cases one on top of the other | `after-edit`, `after-K`, `after-all` |

In `batch` and `sequential` the edited cases of all tasks form one stream, ordered by the sha256 of seed and case id:
every row receives the same requests in the same order. A row is scored on the tasks that it evaluates.
"""

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter

from instructedit.editors import EditCase

from ..results.records import Schedule
from ..results.resources import ChunkTime
from ..results.stages import AFTER_ALL, AFTER_EDIT, BATCH, SINGLE, after, batches, marks_of, place
from ..scoring.scoring import run_chunk, score_chunk
from ..setup.settings import RowSpec
from ..tasks.sampling import nested
from .accumulated import AccumulatedEdit, is_damaged
from .work import Lines, Work


def single(work: Work) -> None:
    """Edit each case alone, on the clean model, and score it.

    Cases are taken in the order of `nested`, so that a run with a larger limit has the same chunks and more, which are
    taken over.
    """

    def edited(part: Sequence[EditCase], rows: Sequence[RowSpec]) -> Lines:
        ids = [case.request.case_id for case in part]
        lines = {row.name: known for row in rows if (known := work.earlier.take(row.name, ids))}
        others = [row for row in rows if row.name not in lines]
        editors = {row.name: work.editors[row.name] for row in others}
        requests = {row.name: work.requests(row, part) for row in others}
        computed = run_chunk(work.model, part, editors, requests=requests, **work.scoring) if others else ([], [])
        for time in computed[1]:
            lines[time.editor] = [record for record in computed[0] if record.editor == time.editor], time
        ordered = [lines[row.name] for row in rows]
        return [record for records, _ in ordered for record in records], [time for _, time in ordered]

    work.compute({task: nested(cases) for task, cases in work.run.cases.items()}, SINGLE, edited)


def batch(work: Work) -> None:
    """Make a joint edit of each batch on the clean model, and score its cases under it, some of other tasks too."""
    cases = {case.request.case_id: case for own in work.run.cases.values() for case in own}
    totals = {row.name: AccumulatedEdit() for row in work.run.rows}
    first = 0
    for edited, scored_by_task in batches(work.spec, work.run.case_ids):
        stream = [cases[case_id] for case_id in edited]
        scored_cases = {task: [cases[case_id] for case_id in ids] for task, ids in scored_by_task.items()}
        rows = work.unfinished_rows([case for own in scored_cases.values() for case in own], BATCH)
        edits = {row.name: _joint_edit(work, row, stream, first) for row in rows}
        work.score(scored_cases, BATCH, edits)
        for name, edit in edits.items():
            totals[name].requests += edit.requests
            totals[name].failures |= edit.failures
        first += len(stream)
    _report_failures(work, totals)


def sequential(work: Work) -> None:
    """Edit the cases of the stream one on top of the other, and score along the way and at the end.

    Each case is scored right after its edit (`after-edit`), all cases so far after each number of edits in `at`
    (`after-K`), and all cases, edited or not, at the end (`after-all`).
    """
    cases = [case for task in work.run.edited for case in work.run.cases[task]]
    stream = sorted(cases, key=lambda case: place(case.request.case_id, work.spec.seed))
    marks = marks_of(work.spec, len(stream))
    rows = _rows_to_edit(work, stream, marks)
    edits = {row.name: _resumed(work, row, stream, marks) for row in rows}
    first = 0
    for stop in sorted({*range(work.spec.chunk, len(stream), work.spec.chunk), *marks, len(stream)}):
        _edit_next(work, [row for row in rows if edits[row.name].requests == first], edits, stream[first:stop])
        if stop in marks:
            so_far = {task: [case for case in stream[:stop] if case.request.task == task] for task in work.run.edited}
            work.score(so_far, after(stop), edits)
        first = stop
    _report_failures(work, edits)
    work.score(work.run.cases, AFTER_ALL, edits)


SCHEDULES: dict[Schedule, Callable[[Work], None]] = {"single": single, "batch": batch, "sequential": sequential}


def _joint_edit(work: Work, row: RowSpec, stream: Sequence[EditCase], first: int) -> AccumulatedEdit:
    """Return the edit of the batch that begins at `first`: the saved one, or a new one, which replaces it."""
    saved = AccumulatedEdit.load(work.store.folder, row.name, work.model, work.report)
    if saved is not None and saved.first == first:
        return saved
    started = perf_counter()
    requests = work.requests(row, stream)
    edit = AccumulatedEdit.together(work.model, work.editors[row.name], requests, work.spec.seed, first)
    edit.save(work.store.folder, row.name)
    time = ChunkTime(
        task=None,
        stage=BATCH,
        first_case=stream[0].request.case_id,
        editor=row.name,
        cases=len(stream),
        edit_seconds=perf_counter() - started,
        score_seconds=0.0,
    )
    work.store.append(timings=[time])
    return edit


def _lacks_before(work: Work, row: RowSpec, stream: Sequence[EditCase], marks: Sequence[int]) -> bool:
    """Tell whether a row lacks a line of the cases of `stream` that was scored before all edits were made."""
    return work.lacks(row, stream, AFTER_EDIT) or any(work.lacks(row, stream[:mark], after(mark)) for mark in marks)


def _rows_to_edit(work: Work, stream: Sequence[EditCase], marks: Sequence[int]) -> list[RowSpec]:
    """Return the rows that lack a line, then those whose saved edit is damaged; other programs read that."""
    every = [case for cases in work.run.cases.values() for case in cases]
    rows = work.run.rows
    lacking = [row for row in rows if _lacks_before(work, row, stream, marks) or work.lacks(row, every, AFTER_ALL)]
    others = [row for row in rows if row not in lacking]
    return lacking + [row for row in others if is_damaged(work.store.folder, row.name, work.model)]


def _resumed(work: Work, row: RowSpec, stream: Sequence[EditCase], marks: Sequence[int]) -> AccumulatedEdit:
    """Return a row's saved edit; an empty one if a line is missing that only an earlier state could give."""
    saved = AccumulatedEdit.load(work.store.folder, row.name, work.model, work.report)
    if saved is None:
        return AccumulatedEdit()
    earlier = [mark for mark in marks if mark < saved.requests]
    return AccumulatedEdit() if _lacks_before(work, row, stream[: saved.requests], earlier) else saved


def _edit_next(
    work: Work, rows: Sequence[RowSpec], edits: Mapping[str, AccumulatedEdit], cases: Sequence[EditCase]
) -> None:
    """Add some cases of the stream to the edits of rows, score each right after its edit, and save the edits."""
    requests = {row.name: work.requests(row, cases) for row in rows}
    for number, case in enumerate(cases if rows else ()):
        work.progress.task(case.request.task)
        made = {
            row.name: edits[row.name].add(
                work.model, work.editors[row.name], requests[row.name][number], work.spec.seed
            )
            for row in rows
        }
        lacking = {row.name: made[row.name] for row in rows if work.lacks(row, [case], AFTER_EDIT)}
        if lacking:
            work.write(*score_chunk(work.model, [case], lacking, stage=AFTER_EDIT, **work.scoring))
    # After the lines: a saved edit that is ahead of them could not give them.
    for row in rows:
        edits[row.name].save(work.store.folder, row.name)


def _report_failures(work: Work, edits: Mapping[str, AccumulatedEdit]) -> None:
    for row, edit in edits.items():
        if edit.failures:
            work.report(
                f"{row}: {len(edit.failures)} of {edit.requests} requests could not be edited in; the first: "
                f"{next(iter(edit.failures.values()))}"
            )
