"""From a run to its units: which cases are edited together, when they are scored, and what is still missing.

| schedule | edit | stages |
| --- | --- | --- |
| `single` | each case alone, on the clean model | `single` |
| `batch` | a joint edit of each batch of edited cases | `batch`: every case under the edit of its batch |
| `sequential` | edited cases one on top of the other | `after-edit`, `after-K`, `after-all` |

In `batch` and `sequential` the edited cases of all tasks form one stream, ordered by the sha256 of seed and case id:
every row receives the same requests in the same order. A row is scored on the tasks that it evaluates.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from instructedit.editors import EditCase

from ..results.integrity import Key
from ..results.records import RunSpec
from ..results.stages import AFTER_ALL, AFTER_EDIT, BATCH, SINGLE, after, batches, marks_of, stream_key
from ..setup.resolve import ResolvedRun
from ..setup.settings import RowSpec
from ..setup.training_sets import Training
from ..tasks.sampling import nested
from .accumulated import edit_file
from .prepare import Prepared, checkpoint_file
from .units import Kind, Unit


@dataclass(frozen=True, slots=True)
class Block:
    """Cases that are computed together, under every row; the lines of a run are those of its blocks, in this order."""

    kind: Kind
    cases: tuple[EditCase, ...]
    stage: str = ""
    first: int = 0
    after: int = 0

    def lines(self, rows: Sequence[RowSpec]) -> Iterator[Key]:
        """Yield the keys of its lines: row by row, but in a sequence of edits case by case."""
        pairs = ((row, case) for row in rows for case in self.cases)
        if self.kind == "sequence":
            pairs = ((row, case) for case in self.cases for row in rows)
        for row, case in pairs if self.stage else ():
            if case.request.task in row.tasks:
                yield Key(case.request.case_id, row.name, self.stage)


def blocks_of(run: ResolvedRun, spec: RunSpec) -> list[Block]:
    """Return the blocks of a run, in the order in which one process computes them."""
    return list({"single": _single, "batch": _batch, "sequential": _sequential}[spec.schedule](run, spec))


def lines_of(blocks: Sequence[Block], rows: Sequence[RowSpec]) -> list[Key]:
    """Return the keys of all lines of the finished run, in the order of `cases.jsonl`."""
    return list(chain.from_iterable(block.lines(rows) for block in blocks))


def units_of(
    prepared: Prepared,
    blocks: Sequence[Block],
    done: Collection[Key],
    is_saved: Callable[[str, int], bool],
    lanes: int = 1,
    untrained: Collection[str] = (),
) -> list[Unit]:
    """Return the units that a run lacks, in the order in which one process computes them, trainings first.

    A block is computed as a whole for each row that lacks one of its lines: which cases share a pass must not depend on
    a kill. Rows may be left out or divided among units, since they share nothing but the passes of the unedited model.

    Args:
        prepared: The run.
        blocks: All blocks of it.
        done: Keys of the lines that are there.
        is_saved: Tells whether the edit of a row after a number of edits is on disk and can be read.
        lanes: Number of workers; the rows of a sequence of edits are divided among them, and those of the last chunks.
        untrained: Rows that wait for a training; with several workers the others are computed meanwhile.
    """
    run, spec = prepared.resolved, prepared.file.spec
    checkpoints = {row: checkpoint_file(own) for row, own in prepared.checkpoint_of.items()}
    # other programs read the last edit of a sequence
    wanted = {(row.name, last_edit(run, spec)) for row in run.rows if spec.schedule == "sequential"}
    found: list[Unit] = []
    split = _last_round(run, blocks, done, lanes)
    for number, block in reversed(list(enumerate(blocks))):
        last = block.first + len(block.cases)
        rows = [row for row in run.rows if any(key not in done for key in block.lines([row]))]
        if block.kind in ("joint", "sequence"):
            lost = {name for name, edits in wanted if edits == last and not is_saved(name, last)}
            rows = [row for row in run.rows if row in rows or row.name in lost]
        parts = [rows]
        if block.kind == "joint":
            parts = [[row] for row in rows]
        elif block.kind == "single" and lanes > 1:
            ways = split.get(number, 1)
            kinds = [[row for row in rows if (row.name in untrained) == wait] for wait in (False, True)]
            parts = [own[way::ways] for own in kinds for way in range(ways)]
        elif block.kind == "sequence":
            parts = [[row for row in run.rows[lane::lanes] if row in rows] for lane in range(lanes)]
        for part in reversed([own for own in parts if own]):
            unit = _unit(block, [row.name for row in part], checkpoints)
            wanted |= {(row, edits) for row in unit.rows if (edits := unit.reads) is not None}
            found.append(unit)
    needed = {name for unit in found for name in unit.needs}
    trainings = [
        Unit(kind="training", rows=training.rows, gives=(checkpoints[training.rows[0]],))
        for training in sorted(run.trainings, key=_edits, reverse=True)  # a short one last, beside which others wait
        if checkpoints[training.rows[0]] in needed
    ]
    return [*trainings, *reversed(found)]


def _last_round(run: ResolvedRun, blocks: Sequence[Block], done: Collection[Key], lanes: int) -> dict[int, int]:
    """Return the places of the last chunks, too few for all workers, each with how many of these share its rows."""
    missing = [
        number
        for number, block in enumerate(blocks)
        if block.kind == "single" and any(key not in done for key in block.lines(run.rows))
    ]
    left = len(missing) % lanes
    return dict.fromkeys(missing[len(missing) - left :], lanes // left) if left else {}


def _edits(training: Training) -> int:
    """Return the number of requests that a training edits."""
    config = training.editor.config.training
    return int(config.steps * config.accumulate * config.batch * config.together)


def last_edit(run: ResolvedRun, spec: RunSpec) -> int:
    """Return the number of edits of the saved edits that a finished run keeps; 0 if it keeps none."""
    return sum(len(run.cases[task]) for task in run.edited) if spec.schedule != "single" else 0


def _unit(block: Block, rows: Sequence[str], checkpoints: Mapping[str, str]) -> Unit:
    last = block.first + len(block.cases)
    trained = () if block.kind == "score" else dict.fromkeys(checkpoints[row] for row in rows if row in checkpoints)
    unit = Unit(
        kind=block.kind,
        rows=tuple(rows),
        cases=tuple(case.request.case_id for case in block.cases),
        stage=block.stage,
        first=block.first,
        after=block.after,
    )
    saved = () if unit.reads is None else (edit_file(row, unit.reads) for row in rows)
    gives = tuple(edit_file(row, last) for row in rows) if block.kind in ("joint", "sequence") else ()
    return unit.model_copy(update={"needs": (*trained, *saved), "gives": gives})


def _single(run: ResolvedRun, spec: RunSpec) -> Iterator[Block]:
    """Yield each task's cases in the order of `nested`: a run with a larger limit has the same chunks and more."""
    yield from _chunks({task: nested(cases) for task, cases in run.cases.items()}, spec, kind="single", stage=SINGLE)


def _batch(run: ResolvedRun, spec: RunSpec) -> Iterator[Block]:
    """Yield the joint edit of each batch, and the cases that are scored under it, some of other tasks too."""
    cases = {case.request.case_id: case for own in run.cases.values() for case in own}
    first = 0
    for edited, scored in batches(spec, run.case_ids):
        yield Block("joint", tuple(cases[case] for case in edited), first=first)
        first += len(edited)
        own = {task: [cases[case] for case in ids] for task, ids in scored.items()}
        yield from _chunks(own, spec, kind="score", stage=BATCH, after=first)


def _sequential(run: ResolvedRun, spec: RunSpec) -> Iterator[Block]:
    """Yield the stream in chunks of edits, all cases so far after each number of `at`, and all cases at the end."""
    cases = [case for task in run.edited for case in run.cases[task]]
    stream = sorted(cases, key=lambda case: stream_key(case.request.case_id, spec.seed))
    marks = marks_of(spec, len(stream))
    first = 0
    for stop in sorted({*range(spec.chunk, len(stream), spec.chunk), *marks, len(stream)}):
        yield Block("sequence", tuple(stream[first:stop]), AFTER_EDIT, first=first)
        if stop in marks:
            so_far = {task: [case for case in stream[:stop] if case.request.task == task] for task in run.edited}
            yield from _chunks(so_far, spec, kind="score", stage=after(stop), after=stop)
        first = stop
    yield from _chunks(run.cases, spec, kind="score", stage=AFTER_ALL, after=len(stream))


def _chunks(
    cases: Mapping[str, Sequence[EditCase]], spec: RunSpec, *, kind: Kind, stage: str, after: int = 0
) -> Iterator[Block]:
    for own in cases.values():
        for first in range(0, len(own), spec.chunk):
            yield Block(kind, tuple(own[first : first + spec.chunk]), stage, after=after)
